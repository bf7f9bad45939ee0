"""Properties that make a random projection usable, for every kind."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icons_repro.core.errors import ConfigError
from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.projections import RANDOM, Projection, build_projection
from icons_repro.gradients.projections.base import random_words

EXPECTED_WORDS = [17427071408323347834, 3475339389067380962, 9617031063399516043]
KINDS = sorted(RANDOM)
LAYOUT = ParameterLayout(
    ("a.weight", "b.weight", "c.bias", "d.weight"), ((3, 50), (40, 5), (17,), (20, 30))
)


def random_rows(n: int, seed: int = 0, dim: int = LAYOUT.dim) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix_of(projection: Projection) -> torch.Tensor:
    """Return P transposed, `[D, dim]`, by projecting the unit vectors."""
    return projection.project(torch.eye(projection.layout.dim, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_projection_is_linear(kind: str) -> None:
    projection = build_projection(LAYOUT, kind, dim=64)
    rows = random_rows(5)
    torch.testing.assert_close(projection.project(rows), rows @ matrix_of(projection))


@pytest.mark.parametrize("kind", KINDS)
def test_the_sum_over_parameters_in_any_order_is_the_whole(kind: str) -> None:
    projection = build_projection(LAYOUT, kind, dim=48)
    rows = random_rows(4)
    parts = rows.split(LAYOUT.sizes, dim=1)
    backwards = projection.begin(4, dtype=torch.float64)
    for index in reversed(range(len(parts))):
        backwards.add(index, parts[index])
    alone = sum(
        projection.project([p if i == j else torch.zeros_like(p) for j, p in enumerate(parts)])
        for i in range(len(parts))
    )
    whole = projection.project(rows)
    torch.testing.assert_close(backwards.finish()[0], whole)
    torch.testing.assert_close(alone, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_inner_products_are_unbiased(kind: str) -> None:
    x, y = random_rows(2, seed=3)
    x, y = x / x.norm(), y / y.norm() + x / x.norm()
    products, squares = [], []
    for seed in range(300):
        px, py = build_projection(LAYOUT, kind, dim=32, seed=seed).project(torch.stack([x, y]))
        products.append(float(px @ py))
        squares.append(float(px @ px))
    for values, truth in ((products, float(x @ y)), (squares, 1.0)):
        found = torch.tensor(values)
        error = float(found.std()) / len(values) ** 0.5
        assert abs(float(found.mean()) - truth) < 4 * error


@pytest.mark.parametrize(
    ("kind", "tolerance"), [(k, 0.5 if k == "kronecker" else 0.2) for k in KINDS]
)
def test_distances_are_preserved(kind: str, tolerance: float) -> None:
    layout = ParameterLayout(("a", "b"), ((8, 700), (900, 8)))
    rows = random_rows(12, seed=5, dim=layout.dim)
    projected = build_projection(layout, kind, dim=1024).project(rows)
    ratio = torch.pdist(projected) / torch.pdist(rows)
    assert float((ratio - 1).abs().max()) < tolerance


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(min_value=0, max_value=2**31),
    dim=st.integers(min_value=1, max_value=80),
)
def test_the_same_seed_is_the_same_matrix(kind: str, seed: int, dim: int) -> None:
    one, two = (build_projection(LAYOUT, kind, dim, seed) for _ in range(2))
    rows = random_rows(2)
    assert torch.equal(one.project(rows), two.project(rows))
    assert one.project(rows).shape == (2, dim)
    assert one.identity() == two.identity()


@pytest.mark.parametrize("kind", KINDS)
def test_identity_tells_seed_dimension_kind_and_parameters_apart(kind: str) -> None:
    renamed = ParameterLayout(("a.weight", "b.weight", "c.bias", "e.weight"), LAYOUT.shapes)
    first = build_projection(LAYOUT, kind, 64, 0).identity()
    for other in (
        build_projection(LAYOUT, kind, 64, 1),
        build_projection(LAYOUT, kind, 32, 0),
        build_projection(renamed, kind, 64, 0),
        build_projection(LAYOUT, "srht" if kind != "srht" else "rademacher", 64, 0),
    ):
        assert other.identity() != first
    assert build_projection(LAYOUT, kind, 64, 1).identity()["probe"] != first["probe"]


@pytest.mark.parametrize("kind", KINDS)
def test_float32_rows_agree_with_float64_rows(kind: str) -> None:
    projection = build_projection(LAYOUT, kind, dim=64)
    rows = random_rows(3)
    single = projection.project(rows.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), projection.project(rows), rtol=1e-4, atol=1e-4)


def test_count_sketch_without_a_cache_is_the_same_matrix() -> None:
    from icons_repro.gradients.projections.count_sketch import CountSketch

    rows = random_rows(3)
    without = CountSketch(LAYOUT, 16, cache_bytes=0)
    assert torch.equal(without.project(rows), CountSketch(LAYOUT, 16).project(rows))
    assert not without._cache


def test_count_sketch_puts_one_coordinate_of_a_block_into_each_bucket() -> None:
    matrix = matrix_of(build_projection(LAYOUT, "count_sketch", dim=50))
    assert bool((matrix.abs().sum(dim=1) == 1).all())
    for block in matrix[: LAYOUT.dim // 50 * 50].split(50):
        assert bool((block.abs().sum(dim=0) == 1).all())


def test_unprojected_rows_are_the_gradients_themselves() -> None:
    rows = random_rows(3)
    assert torch.equal(build_projection(LAYOUT, "none").project(rows), rows)


def test_random_words_never_change() -> None:
    """These numbers define every stored projection; another NumPy must give the same."""
    words = random_words(7, (3, 1), 3).tolist()
    assert words == EXPECTED_WORDS


@pytest.mark.parametrize(
    ("kind", "dim", "seed"), [("dense", 8, 0), ("srht", 0, 0), ("srht", 8, -1)]
)
def test_bad_settings_are_refused(kind: str, dim: int, seed: int) -> None:
    with pytest.raises(ConfigError, match="projection"):
        build_projection(LAYOUT, kind, dim, seed)


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="967"):
        build_projection(LAYOUT, "srht", 8).project(torch.zeros(1, 10))

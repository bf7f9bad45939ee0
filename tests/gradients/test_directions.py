"""Adam's direction follows LESS, holds its moments, and refuses moments that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.gradients.directions import (
    AdamDirection,
    SgdDirection,
    SignDirection,
    build_direction,
)
from icons_repro.gradients.layout import ParameterLayout

LAYOUT = ParameterLayout(("a", "b"), ((2, 3), (4,)))


def moments(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in zip(LAYOUT.names, LAYOUT.shapes, strict=True):
        found[f"{name}.exp_avg"] = torch.randn(shape, generator=generator)
        found[f"{name}.exp_avg_sq"] = torch.rand(shape, generator=generator)
    return found


def saved(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file(state, folder / "optimizer.safetensors")
    return folder / "optimizer.safetensors"


def test_adam_is_the_formula_of_less(tmp_path: Path) -> None:
    state = moments()
    direction = AdamDirection.load(saved(tmp_path, state), LAYOUT)
    g = torch.randn(5, 2, 3)
    m, v = state["a.exp_avg"], state["a.exp_avg_sq"]
    expected = (0.9 * m + 0.1 * g) / torch.sqrt(0.999 * v + 0.001 * g**2 + 1e-8)
    torch.testing.assert_close(direction(0, g), expected)


def test_adam_rows_do_not_depend_on_what_came_before(tmp_path: Path) -> None:
    direction = AdamDirection.load(saved(tmp_path, moments()), LAYOUT)
    first, second = torch.randn(3, 4), torch.randn(3, 4)
    before = direction(1, second)
    identity = direction.identity()
    direction(1, first)
    assert torch.equal(direction(1, second), before)
    assert direction.identity() == identity


def test_the_sign_is_minus_one_zero_or_one() -> None:
    g = torch.tensor([[-2.0, 0.0, 5.0]])
    assert SignDirection()(0, g).tolist() == [[-1.0, 0.0, 1.0]]
    assert SgdDirection()(0, g) is g


def test_identities_tell_features_and_checkpoints_apart(tmp_path: Path) -> None:
    one = build_direction("adam", LAYOUT, saved(tmp_path, moments(0))).identity()
    two = build_direction("adam", LAYOUT, saved(tmp_path, moments(1))).identity()
    names = [build_direction(kind, LAYOUT).identity()["kind"] for kind in ("sgd", "sign")]
    assert [*names, one["kind"]] == ["sgd", "sign", "adam"]
    assert one != two


def test_moments_that_are_missing_or_of_another_shape_are_named(tmp_path: Path) -> None:
    state = moments()
    del state["b.exp_avg_sq"]
    with pytest.raises(DataError, match=r"b\.exp_avg_sq is missing; expected \[4\]"):
        AdamDirection.load(saved(tmp_path, state), LAYOUT)
    state = moments()
    state["a.exp_avg"] = torch.zeros(3, 2)
    with pytest.raises(DataError, match=r"a\.exp_avg is of shape \[3, 2\]; expected \[2, 3\]"):
        AdamDirection.load(saved(tmp_path, state), LAYOUT)
    with pytest.raises(DataError, match="no optimizer state"):
        AdamDirection.load(tmp_path / "nowhere.safetensors", LAYOUT)


def test_unknown_features_are_refused() -> None:
    with pytest.raises(ConfigError, match="sgd, adam or sign"):
        build_direction("delta", LAYOUT)
    with pytest.raises(ConfigError, match=r"optimizer\.safetensors"):
        build_direction("adam", LAYOUT)


@pytest.mark.parametrize(
    ("names", "shapes"), [((), ()), (("b", "a"), ((1,), (1,))), (("a", "a"), ((1,), (1,)))]
)
def test_a_layout_must_be_sorted_and_distinct(names: tuple, shapes: tuple) -> None:
    with pytest.raises(ValueError, match="parameters"):
        ParameterLayout.of([(n, torch.zeros(s)) for n, s in zip(names, shapes, strict=True)])

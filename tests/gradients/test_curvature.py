"""K-FAC and EK-FAC against loops over samples and tokens, in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gradient_models import MIXED, batch_of, small_llava, with_adapter
from safetensors.torch import save_file

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.gradients.curvature.direction import CurvedDirection
from icons_repro.gradients.curvature.factors import Covariances, Eigenvalues
from icons_repro.gradients.curvature.jobs import drawn_rows
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.models.lora import gradient_parameters


@pytest.fixture(scope="module")
def taken() -> tuple:
    """Gradients of a batch with padding, what the layers saw, and both kinds of factors."""
    model = with_adapter(small_llava())
    gradients = PerSampleGradients(model, gradient_parameters(model, "lora"))
    batch = batch_of(MIXED, padding=3)
    seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    covariances = Covariances()
    covariances.mask = batch["attention_mask"].bool()

    def observe(layer: str, x: torch.Tensor, gradient: torch.Tensor) -> None:
        seen.setdefault(layer, []).append((x.detach().clone(), gradient.detach().clone()))
        covariances.observe(layer, x, gradient)

    rows: dict[int, torch.Tensor] = {}
    with gradients.observing(observe):
        gradients.stream(batch, rows.__setitem__)
    factors = covariances.factors(gradients.layout)
    eigenvalues = Eigenvalues(factors, gradients.layout.names)
    gradients.stream(batch, eigenvalues.add)
    eigenvalues.samples = len(MIXED)
    return gradients.layout, batch, seen, rows, factors, eigenvalues.factors()


def test_factors_are_the_mean_outer_products_of_the_tokens_that_are_no_padding(taken) -> None:
    layout, batch, seen, _, factors, _ = taken
    name = layout.names[0]
    ((x, gradient),) = seen[name.rpartition(".")[0]]
    inputs, outputs, tokens = 0.0, 0.0, 0
    for i in range(len(x)):
        for t in range(int(batch["attention_mask"][i].sum())):
            inputs = inputs + torch.outer(x[i, t], x[i, t])
            outputs = outputs + torch.outer(gradient[i, t], gradient[i, t])
            tokens += 1
    left, right = factors[f"{name}.left"].double(), factors[f"{name}.right"].double()
    s, a = torch.linalg.eigvalsh(outputs / tokens), torch.linalg.eigvalsh(inputs / tokens)
    torch.testing.assert_close(
        factors[f"{name}.values"].double(), torch.outer(s.clamp_min(0), a.clamp_min(0)),
        rtol=1e-4, atol=1e-9,
    )  # fmt: skip
    torch.testing.assert_close(
        left @ torch.diag(s) @ left.T, outputs / tokens, rtol=1e-4, atol=1e-8
    )
    torch.testing.assert_close(
        right @ torch.diag(a) @ right.T, inputs / tokens, rtol=1e-4, atol=1e-5
    )


def test_ekfacs_eigenvalues_are_mean_squares_of_each_samples_rotated_gradient(taken) -> None:
    layout, _, _, rows, factors, measured = taken
    for index, name in enumerate(layout.names[:4]):
        left, right = factors[f"{name}.left"].double(), factors[f"{name}.right"].double()
        expected = sum((left.T @ g @ right) ** 2 for g in rows[index]) / len(rows[index])
        torch.testing.assert_close(measured[f"{name}.values"].double(), expected)


@pytest.mark.parametrize("kind", ["kfac", "ekfac"])
def test_a_preconditioned_gradient_solves_the_dense_damped_system(
    taken, kind: str, tmp_path: Path
) -> None:
    layout, _, _, rows, kfac, ekfac = taken
    factors = kfac if kind == "kfac" else ekfac
    save_file({n: t.contiguous() for n, t in factors.items()}, tmp_path / "c.safetensors")
    direction = CurvedDirection.load(tmp_path / "c.safetensors", layout, damping=0.1, power=-1.0)
    for index, name in enumerate(layout.names[:3]):
        left, right = factors[f"{name}.left"].double(), factors[f"{name}.right"].double()
        values = factors[f"{name}.values"].double()
        basis = torch.kron(left, right)  # of gradients laid out row by row
        dense = basis @ torch.diag(values.flatten() + 0.1 * values.mean()) @ basis.T
        found = direction(index, rows[index])
        for one, g in zip(found, rows[index], strict=True):
            expected = torch.linalg.solve(dense, g.flatten())
            torch.testing.assert_close(one.flatten(), expected, rtol=2e-3, atol=1e-6)


def test_the_root_on_both_sides_is_the_inverse_on_one(taken, tmp_path: Path) -> None:
    layout, _, _, rows, _, ekfac = taken
    save_file({n: t.contiguous() for n, t in ekfac.items()}, tmp_path / "c.safetensors")
    whole = CurvedDirection.load(tmp_path / "c.safetensors", layout, 0.1, -1.0)
    root = CurvedDirection.load(tmp_path / "c.safetensors", layout, 0.1, -0.5)
    for index in range(3):
        one = (rows[index] * whole(index, rows[index])).sum()
        both = root(index, rows[index]).square().sum()
        torch.testing.assert_close(one, both, rtol=1e-4, atol=1e-8)
    assert whole.identity() != root.identity()


def test_curvature_of_other_weights_is_refused(taken, tmp_path: Path) -> None:
    layout, _, _, _, _, ekfac = taken
    rest = {n: t for n, t in ekfac.items() if not n.startswith(layout.names[0])}
    save_file({n: t.contiguous() for n, t in rest.items()}, tmp_path / "c.safetensors")
    with pytest.raises(DataError, match="has no curvature of"):
        CurvedDirection.load(tmp_path / "c.safetensors", layout, 0.1, -1.0)


def test_a_loop_has_no_layers_to_look_into() -> None:
    model = with_adapter(small_llava())
    loop = PerSampleGradients(model, gradient_parameters(model, "lora"), "loop")
    with pytest.raises(ConfigError, match="per_sample=batched"), loop.observing(lambda *a: None):
        pass


def test_rows_are_drawn_by_content_whatever_their_order() -> None:
    keys = np.array([f"{i:032x}".encode() for i in range(50)], dtype="S32")
    usable = np.ones(50, dtype=bool)
    usable[3] = False
    rows = drawn_rows(keys, usable, 10, seed=1)
    order = np.random.default_rng(0).permutation(50)
    other = drawn_rows(keys[order], usable[order], 10, seed=1)
    assert set(keys[rows]) == set(keys[order][other])
    assert 3 not in rows
    assert len(drawn_rows(keys, usable, 1000, seed=1)) == 49

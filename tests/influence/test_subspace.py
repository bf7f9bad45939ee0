"""GIST's subspace is the SVD's."""

from __future__ import annotations

import torch

from icons_repro.influence.subspace.svd import subspace, unit


def test_directions_and_rows_are_the_leading_part_of_the_svd() -> None:
    g = torch.randn(12, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, s, vt = torch.linalg.svd(g, full_matrices=False)
    found = subspace(g, rank=5)
    signs = torch.sign((found.directions.double() * vt[:5]).sum(dim=1, keepdim=True))
    torch.testing.assert_close(found.directions.double() * signs, vt[:5], rtol=1e-4, atol=1e-6)
    expected = u[:, :5] * s[:5] * signs.T
    torch.testing.assert_close(found.rows.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        g @ found.directions.double().T, found.rows.double(), rtol=1e-4, atol=1e-4
    )


def test_cosines_in_the_whole_subspace_are_those_of_the_projected_rows() -> None:
    g = torch.randn(6, 50, generator=torch.Generator().manual_seed(1))
    found = subspace(g, rank=99)
    assert found.directions.shape == (6, 50)
    torch.testing.assert_close(
        unit(found.rows) @ unit(found.rows).T, unit(g) @ unit(g).T, rtol=1e-4, atol=1e-5
    )


def test_directions_without_weight_are_left_out() -> None:
    one = torch.randn(1, 40, generator=torch.Generator().manual_seed(2))
    assert subspace(torch.cat([one, 2 * one, -one]), rank=9).directions.shape == (1, 40)


def test_a_row_of_zeros_has_no_direction() -> None:
    assert unit(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2

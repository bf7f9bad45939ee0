"""Random projections with an identity, one file a kind."""

from __future__ import annotations

from icons_repro.core.errors import ConfigError
from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.projections.base import Accumulator, Projection
from icons_repro.gradients.projections.count_sketch import CountSketch
from icons_repro.gradients.projections.kronecker import Kronecker
from icons_repro.gradients.projections.rademacher import Rademacher
from icons_repro.gradients.projections.srht import Srht
from icons_repro.gradients.projections.unprojected import Unprojected

RANDOM: dict[str, type[Projection]] = {
    projection.kind: projection for projection in (CountSketch, Rademacher, Srht, Kronecker)
}


def build_projection(
    layout: ParameterLayout, kind: str = "count_sketch", dim: int | None = 5120, seed: int = 0
) -> Projection:
    """Return the projection of that name for rows of this layout.

    Args:
        layout: the parameters whose gradients make a row.
        kind: `count_sketch`, `rademacher`, `srht`, `kronecker` or `none`.
        dim: length of a projected row; ignored by `none`.
        seed: which matrix; the same seed gives the same matrix on every machine.

    Raises:
        ConfigError: an unknown kind or a dimension that is not positive.
    """
    if kind == Unprojected.kind:
        return Unprojected(layout)
    if kind not in RANDOM:
        names = ", ".join([*RANDOM, Unprojected.kind])
        raise ConfigError(f"projection.kind={kind!r}: choose one of {names}")
    if dim is None or dim < 1 or seed < 0:
        raise ConfigError(f"projection.dim={dim}, seed={seed}: dim >= 1 and seed >= 0 are needed")
    return RANDOM[kind](layout, dim, seed)


__all__ = [
    "RANDOM",
    "Accumulator",
    "CountSketch",
    "Kronecker",
    "Projection",
    "Rademacher",
    "Srht",
    "Unprojected",
    "build_projection",
]

"""Random projections with an identity, one file a kind."""

from __future__ import annotations

from icons_repro.core.errors import ConfigError
from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.projectors.base import Accumulator, Projector
from icons_repro.gradients.projectors.count_sketch import CountSketch
from icons_repro.gradients.projectors.kronecker import Kronecker
from icons_repro.gradients.projectors.rademacher import Rademacher
from icons_repro.gradients.projectors.srht import Srht
from icons_repro.gradients.projectors.unprojected import Unprojected

RANDOM: dict[str, type[Projector]] = {
    projector.kind: projector for projector in (CountSketch, Rademacher, Srht, Kronecker)
}


def build_projector(
    layout: ParameterLayout, kind: str = "count_sketch", dim: int | None = 5120, seed: int = 0
) -> Projector:
    """Return the projector of that name for rows of this layout.

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
        raise ConfigError(f"projector.kind={kind!r}: choose one of {names}")
    if dim is None or dim < 1 or seed < 0:
        raise ConfigError(f"projector.dim={dim}, seed={seed}: dim >= 1 and seed >= 0 are needed")
    return RANDOM[kind](layout, dim, seed)


__all__ = [
    "RANDOM",
    "Accumulator",
    "CountSketch",
    "Kronecker",
    "Projector",
    "Rademacher",
    "Srht",
    "Unprojected",
    "build_projector",
]

"""What each step would cost, by its kind: the model's work that it asks for, by arithmetic.

Reading, scoring, clustering and evaluation are no work of the model that is selected with, and are
left out. A step of another package costs nothing until it registers with `cost`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

from icons_repro.core.settings import TrainSettings
from icons_repro.core.step import Step
from icons_repro.data.stage import Pool
from icons_repro.features.stage import (
    AttentionPass,
    ClipPass,
    CoincidePass,
    ForwardPass,
    ImagePass,
    LlavaPass,
    QuestionPass,
    SelfFilter,
    TargetClipPass,
    TargetForwardPass,
    VisionTokenPass,
)
from icons_repro.gradients.stage import (
    Curvature,
    Gradients,
    PoolGradients,
    TargetGradients,
)
from icons_repro.influence.cascade.stage import Candidates
from icons_repro.influence.stage import DirectInfluence, SubspaceGradients
from icons_repro.preflight.cost import BYTES, Counts, StageCost
from icons_repro.training.stage import FineTune, FullRunWarmUp, LoraTraining, SliceWarmUp

COINCIDE_LAYERS = 5
"""Layers that COINCIDE reads where no setting names them."""


@dataclass(frozen=True)
class Sizes:
    """What the arithmetic multiplies: rows, a row's tokens, weights."""

    rows: int
    target_rows: int
    tasks: int
    tokens: float
    """A row's mean, after image expansion."""
    image_share: float
    patches: int
    """Of an image, in the vision tower."""
    layers: int
    hidden: int
    chooser: Counts
    """Weights of the model that is selected with."""
    trained: Counts
    """Weights of the model that is fine-tuned."""

    def image(self, n: Counts) -> float:
        """Operations of the vision tower, a row."""
        return 2.0 * n.vision * self.patches * self.image_share

    def forward(self, n: Counts) -> float:
        """Operations of a forward pass, a row."""
        return 2.0 * (n.language + n.adapter) * self.tokens + self.image(n)

    def gradient(self, n: Counts, share: float = 1.0, recomputed: bool = False) -> float:
        """Operations of a row's own gradient, through the last `share` of the layers."""
        back = (2.0 + 2.0 * recomputed) * n.language + 4.0 * n.adapter
        return self.forward(n) + share * back * self.tokens

    def training(self, n: Counts, recipe: TrainSettings, every_weight: bool = False) -> float:
        """Operations of a training step, a row."""
        passes = 2 + recipe.gradient_checkpointing + every_weight
        own = n.projector + (0 if every_weight else n.adapter)
        return (2.0 * passes * n.language + 6.0 * own) * self.tokens + self.image(n)

    def seen_by(self, pool: Pool) -> int:
        """Rows of a pool; of a cascade's candidates, at most."""
        if isinstance(pool, Candidates):
            return min(self.rows, round(pool.share * self.tasks * self.rows))
        return self.rows


def costs_of(work: Iterable[tuple[Step, Sizes]]) -> list[StageCost]:
    """Return the cost of each kind of step, in the order of work; what costs nothing is left out.

    Steps of one kind, such as the gradients after each epoch, are one line.
    """
    found: dict[str, StageCost] = {}
    for step, sizes in work:
        new = cost(step, sizes)
        if new is not None:
            old = found.get(new.stage)
            found[new.stage] = new if old is None else _together(old, new)
    return list(found.values())


def _together(a: StageCost, b: StageCost) -> StageCost:
    steps = None if a.steps is None or b.steps is None else a.steps + b.steps
    return replace(
        a,
        samples=a.samples + b.samples,
        steps=steps,
        petaflops=a.petaflops + b.petaflops,
        disk_bytes=a.disk_bytes + b.disk_bytes,
    )


@singledispatch
def cost(step: Step, sizes: Sizes) -> StageCost | None:
    """Return what a step's model work costs; None if it has none."""
    return None


@cost.register
def _(step: LoraTraining, sizes: Sizes) -> StageCost:
    s, recipe = sizes, step.train
    n = s.trained if isinstance(step, FineTune) else s.chooser
    rows = passes = s.rows
    name = step.stage
    if isinstance(step, FineTune):
        name = f"{step.stage}, {step.selection.method}"
        rows = int(float(step.selection.budget) * s.rows)
        passes = s.rows if recipe.regime == "same_steps" else rows
    elif isinstance(step, SliceWarmUp):
        rows = passes = round(step.fraction * s.rows)
    rows, passes = (min(count, recipe.rows or count) for count in (rows, passes))
    steps = recipe.epochs * -(-passes // recipe.batch_size)
    seen = recipe.epochs * passes
    if isinstance(step, FullRunWarmUp):
        steps = min(steps, step.stop_after)
        seen = min(seen, steps * recipe.batch_size)
    disk = 12.0 * (n.adapter + n.projector)  # weights and two moments, float32
    return StageCost(name, rows, steps, seen * s.training(n, recipe) / 1e15, disk)


@cost.register
def _(step: SelfFilter, sizes: Sizes) -> StageCost:
    recipe = step.settings.train
    seen = recipe.epochs * sizes.rows
    each = sizes.training(sizes.chooser, recipe, every_weight=step.lora is None)
    steps = recipe.epochs * -(-sizes.rows // recipe.batch_size)
    return StageCost(step.stage, sizes.rows, steps, seen * each / 1e15)


def _gradients(step: Gradients, sizes: Sizes, rows: int, stored: bool) -> StageCost:
    recipe = step.recipe
    _, _, last = recipe.parameters.partition(":last")
    share = int(last) / sizes.layers if last else 1.0
    each = sizes.gradient(sizes.chooser, share, recipe.gradient_checkpointing)
    wide = recipe.projection.get("dim") or sizes.chooser.adapter
    disk = rows * wide * BYTES[recipe.dtype] if stored else 0.0
    bounded = isinstance(getattr(step, "pool", None), Candidates)
    name = f"{step.stage}, at most" if bounded else step.stage
    return StageCost(name, rows, None, rows * each / 1e15, disk)


@cost.register
def _(step: PoolGradients, sizes: Sizes) -> StageCost:
    return _gradients(step, sizes, sizes.seen_by(step.pool), stored=True)


@cost.register
def _(step: TargetGradients, sizes: Sizes) -> StageCost:
    return _gradients(step, sizes, sizes.target_rows, stored=True)


@cost.register(DirectInfluence)
@cost.register(SubspaceGradients)
def _(step: DirectInfluence | SubspaceGradients, sizes: Sizes) -> StageCost:
    rows = sizes.seen_by(step.pool) + sizes.target_rows
    return _gradients(step, sizes, rows, stored=False)


@cost.register
def _(step: Curvature, sizes: Sizes) -> StageCost:
    rows = min(step.samples, sizes.rows)
    return StageCost(step.stage, rows, None, rows * sizes.gradient(sizes.chooser) / 1e15)


def _pass(step: Step, sizes: Sizes, rows: int, each: float, vectors: int = 0) -> StageCost:
    """Return the cost of a forward pass that keeps so many hidden states of each row."""
    kept: Any = getattr(step, "dtype", "float32")
    disk = float(rows) * vectors * sizes.hidden * BYTES[kept]
    return StageCost(step.stage, rows, None, rows * each / 1e15, disk)


@cost.register
def _(step: LlavaPass, sizes: Sizes) -> StageCost:
    vectors = 3 if isinstance(step, ForwardPass) else 0
    if isinstance(step, CoincidePass):
        vectors = COINCIDE_LAYERS if step.layers is None else len(step.layers)
    each = sizes.forward(sizes.chooser)
    return _pass(step, sizes, sizes.seen_by(step.pool), each, vectors)


@cost.register
def _(step: VisionTokenPass, sizes: Sizes) -> StageCost:
    n = sizes.chooser
    each = 2.0 * n.language / sizes.layers * sizes.tokens + sizes.image(n)
    return _pass(step, sizes, sizes.seen_by(step.pool), each)


@cost.register
def _(step: QuestionPass, sizes: Sizes) -> StageCost:
    fraction = step.warmup.fraction if isinstance(step.warmup, SliceWarmUp) else 1.0
    rows = round(fraction * sizes.image_share * sizes.rows)
    return _pass(step, sizes, rows, 2 * sizes.forward(sizes.chooser))


@cost.register
def _(step: AttentionPass, sizes: Sizes) -> StageCost:
    return _pass(step, sizes, sizes.seen_by(step.pool), sizes.forward(sizes.chooser))


@cost.register
def _(step: TargetForwardPass, sizes: Sizes) -> StageCost:
    return _pass(step, sizes, sizes.target_rows, sizes.forward(sizes.chooser), vectors=3)


@cost.register(ClipPass)
@cost.register(ImagePass)
def _(step: ClipPass | ImagePass, sizes: Sizes) -> StageCost:
    return _pass(step, sizes, sizes.seen_by(step.pool), sizes.image(sizes.chooser))


@cost.register
def _(step: TargetClipPass, sizes: Sizes) -> StageCost:
    return _pass(step, sizes, sizes.target_rows, sizes.image(sizes.chooser))

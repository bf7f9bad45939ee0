"""How fast is it on this device? Figures, each beside the floor that it cannot go under."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from icons_repro.gpu_check.lines import Check, Found
from icons_repro.gpu_check.model import Rig
from icons_repro.gpu_check.passes import (
    Extraction,
    answers,
    forward_backward,
    median_seconds,
    taker,
    train,
)
from icons_repro.gpu_check.shapes import Shape
from icons_repro.gradients.store import GradientStore
from icons_repro.gradients.writer import open_writer, seal
from icons_repro.influence.stream import multiply

BATCHES = 2
"""Batches of one timed pass."""
TASKS = 10
NEW_TOKENS = 16
BERGSON = 13_000
"""Tokens a second of EleutherAI/bergson's `build` for Pythia-6.9B on one GH200: theirs, read off
the plot of its published benchmark to about 10%."""


def rows_in(shape: Shape, budget: int) -> int:
    """Return how many usual rows a batch of so many tokens holds, 1 at least."""
    return max(1, budget // shape.tokens)


def floor(rig: Rig, budget: int) -> Found:
    """Forward and backward alone, no gradient kept apart, nothing stored."""
    gradients = taker(rig, rig.adapted())
    batch = rig.rows((rig.shape.text,) * rows_in(rig.shape, budget))
    seconds = median_seconds(rig, partial(forward_backward, rig, gradients, batch))
    return Found(batch["input_ids"].numel() / seconds, "tokens/s", note=f"{_size(batch)}")


def extraction(rig: Rig, budget: int) -> Found:
    """Per-sample gradients, count-sketch and the store, beside the floor of the same batches."""
    passes = Extraction(rig, rig.adapted())
    n = rows_in(rig.shape, budget)
    batches = [rig.rows((rig.shape.text,) * n, seed=i) for i in range(BATCHES)]
    for i, batch in enumerate(batches):
        batch["positions"] += i * n
    tokens = sum(batch["input_ids"].numel() for batch in batches)

    def alone() -> None:
        for batch in batches:
            forward_backward(rig, passes.gradients, batch)

    with (
        tempfile.TemporaryDirectory() as name,
        passes.writer(Path(name) / "store", BATCHES * n) as writer,
    ):
        rig.reset_peak()
        ours = median_seconds(rig, partial(passes.into, writer, batches))
        memory = rig.peak()
    rig.tokens_per_second[budget] = tokens / ours
    least = median_seconds(rig, alone)
    note = f"{tokens / ours:,.0f} tokens/s, the floor {tokens / least:,.0f}; {_size(batches[0])}"
    if memory:
        note += f"; {memory / 2**30:.0f} GiB at most"
    return Found(least / ours, "of the floor's speed", note=note)


def beside_bergson(rig: Rig) -> Found:
    """Extraction's best speed beside a published one of another program on another machine."""
    if not rig.tokens_per_second:
        raise RuntimeError("no extraction was timed")
    budget, speed = max(rig.tokens_per_second.items(), key=lambda item: item[1])
    note = f"at {budget:,}; bergson's own figure, one GH200, 6.9B model: about {BERGSON:,} tokens/s"
    if rig.size != "7b":
        note += " (this model is another size: no comparison)"
    return Found(speed, "tokens/s", note=note)


def training(rig: Rig, micro_batch: int, deterministic: bool = True) -> Found:
    """A step of LoRA training with AdamW, layers recomputed where the recipe does."""
    batch = rig.rows((rig.shape.text,) * micro_batch)
    steps = rig.shape.rounds + 1
    seconds = train(rig, rig.trainable(), batch, steps, deterministic).seconds
    note = f"{seconds:.3g} s a step"
    return Found(batch["input_ids"].numel() / seconds, "tokens/s", note=note)


def scoring(rig: Rig) -> Found:
    """Scoring a store on ten tasks, beside reading its file: both from the page cache."""
    shape, threads = rig.shape, min(8, torch.get_num_threads())
    with tempfile.TemporaryDirectory() as name:
        store = _random_store(Path(name) / "store", shape.stored_rows, shape.dim)
        vectors = torch.randn(TASKS, shape.dim, generator=torch.Generator().manual_seed(0))
        score = median_seconds(rig, partial(multiply, store, vectors, threads=threads))
        buffer = bytearray((store.folder / "rows.bin").stat().st_size)

        def read() -> None:
            with (store.folder / "rows.bin").open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass

        least = median_seconds(rig, read)
    rate = shape.stored_rows / score
    note = f"{rate:,.0f} rows/s of {shape.dim}, {TASKS} tasks, {threads} threads, on the CPU"
    return Found(score / least, "times reading it", note=note)


def _random_store(folder: Path, n_rows: int, dim: int) -> GradientStore:
    generator = torch.Generator().manual_seed(0)
    with open_writer(folder, n_rows=n_rows, dim=dim, identities={}) as writer:
        for start in range(0, n_rows, 1024):
            n = min(1024, n_rows - start)
            rows = torch.nn.functional.normalize(torch.randn(n, dim, generator=generator))
            writer.write(range(start, start + n), rows, torch.ones(n), [1] * n)
    seal(folder)
    return GradientStore.open(folder)


def answering(rig: Rig, batch: int) -> Found:
    """Questions with an image answered in a second, by how many are asked at once."""
    model, prompts = rig.base(), rig.prompts((40,) * batch)
    seconds = median_seconds(rig, partial(answers, model, prompts, NEW_TOKENS))
    note = f"{NEW_TOKENS} new tokens each"
    return Found(batch / seconds, "answers/s", note=note)


def _size(batch: dict[str, torch.Tensor]) -> str:
    return " x ".join(map(str, batch["input_ids"].shape))


def checks(shape: Shape) -> list[Check]:
    """Return the lines, in an order in which neighbours use the same model."""
    usual = shape.budgets[len(shape.budgets) // 2]
    asked: dict[str, Callable[[Rig], Found]] = {}
    asked[f"forward + backward alone, {usual:,} tokens"] = partial(floor, budget=usual)
    for budget in shape.budgets:
        name = f"extraction, projection, store, {budget:,} tokens"
        asked[name] = partial(extraction, budget=budget)
    asked["extraction beside bergson's"] = beside_bergson
    for micro_batch in shape.micro_batches:
        asked[f"training step, micro-batch {micro_batch}"] = partial(
            training, micro_batch=micro_batch
        )
    most = max(shape.micro_batches)
    asked[f"training step, micro-batch {most}, trainer.deterministic=false"] = partial(
        training, micro_batch=most, deterministic=False
    )
    for batch in shape.answers:
        asked[f"answering, {batch} at once"] = partial(answering, batch=batch)
    asked[f"scoring {shape.stored_rows:,} rows"] = scoring
    return [Check("speed", name, run) for name, run in asked.items()]

"""What the evaluate step does: which benchmarks, in which slices, by which model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icons_repro.core.device import require_device
from icons_repro.core.step import Counts
from icons_repro.core.work import Work
from icons_repro.data.dataset import mean_colour
from icons_repro.data.images import pad_to_square
from icons_repro.evaluation.answerer import Answerer
from icons_repro.evaluation.runner import Evaluation
from icons_repro.evaluation.settings import BenchmarkSettings, benchmarks_from_config
from icons_repro.evaluation.stage import Evaluate
from icons_repro.evaluation.tasks import (
    benchmark_files,
    local_benchmarks,
    write_local_tasks,
)
from icons_repro.models.families import family_of
from icons_repro.models.llava import load_processor

TASKS = "tasks"
"""Folder of lmms-eval tasks for local benchmarks."""


def part_names(step: Evaluate, work: Work) -> list[str]:
    """Name the slices, `NAME@PART-of-N`, largest share of work first as the config has it."""
    if _is_local(step):
        write_local_tasks(_files(step, work), work.out / TASKS, step.only)
    return [
        f"{name}@{part}-of-{work.chunks}"
        for name in _benchmarks(step, work)
        for part in range(work.chunks)
    ]


def fill(step: Evaluate, work: Work, parts: Iterator[str]) -> None:
    """Answer the slices that come; a benchmark in one slice is scored at once."""
    require_device(step.trainer)
    evaluation: Evaluation | None = None
    benchmarks = _benchmarks(step, work)
    for name in parts:
        evaluation = evaluation or _evaluation(step, work)
        benchmark, _, slice_ = name.partition("@")
        part, of = (int(number) for number in slice_.split("-of-"))
        if of == 1:
            evaluation.score(benchmarks[benchmark])
        else:
            evaluation.answer(benchmarks[benchmark], part, of)


def finish(step: Evaluate, work: Work) -> Counts:
    """Score what is not scored yet, and return each benchmark's status."""
    evaluation = _evaluation(step, work)
    results = {
        name: evaluation.score(benchmark) for name, benchmark in _benchmarks(step, work).items()
    }
    evaluation.close()
    shutil.rmtree(work.out / "slices", ignore_errors=True)
    return {name: result["status"] for name, result in results.items()}


def _is_local(step: Evaluate) -> bool:
    return step.world is not None or step.folder is not None


def _files(step: Evaluate, work: Work) -> Path:
    return benchmark_files(work.path(step.world) if step.world else None, step.folder)


def _benchmarks(step: Evaluate, work: Work) -> dict[str, BenchmarkSettings]:
    if _is_local(step):
        found = local_benchmarks(_files(step, work), step.only)
    else:
        found = benchmarks_from_config({k: v or {} for k, v in step.tasks.items()})
    return {benchmark.name: benchmark for benchmark in found}


def _evaluation(step: Evaluate, work: Work) -> Evaluation:
    base = work.path(step.base)
    answerer = Answerer(
        base,
        work.path(step.adapter),
        step.batch_size,
        step.trainer.device,
        step.trainer.model_dtype,
        image_transform(base, step.aspect_ratio),
    )
    return Evaluation(answerer, work.out / TASKS if _is_local(step) else None, work.out)


def image_transform(base: Path, aspect_ratio: str) -> Any:
    """Return what training does to an image before the processor, or None.

    Only LLaVA-1.5's recipe does anything; other families' processors take images as they are.
    """
    if aspect_ratio != "pad" or not family_of(base).squared:
        return None
    colour = mean_colour(load_processor(base))
    return lambda image: pad_to_square(image, colour)

"""Evaluate: an adapter's score on every benchmark, by lmms-eval."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from icons_repro.core.artifacts import Step, Workspace
from icons_repro.core.errors import ConfigError
from icons_repro.core.provenance import file_fingerprint
from icons_repro.core.settings import BenchmarkGroup, DataSettings, TrainerSettings
from icons_repro.stages.prepare import existing


def evaluate(
    group: BenchmarkGroup,
    data: DataSettings,
    trainer: TrainerSettings,
    base: Step,
    adapter: Step,
    world: Step | None,
    index: Path,
) -> Step:
    """One score for each benchmark, and the answers behind it."""
    folder = existing(group.folder, "benchmarks.folder") if group.local and not world else None

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.evaluation.runner import evaluate as run
        from icons_repro.evaluation.settings import benchmarks_from_config
        from icons_repro.evaluation.tasks import write_local_tasks

        include = ws.out / "tasks" if group.local else None
        if include:
            parquet = folder or ws.inputs["world"] / "benchmarks"
            chosen = write_local_tasks(parquet, include, group.only)
        else:
            chosen = benchmarks_from_config({k: v or {} for k, v in named(group).items()})
        results = run(
            ws.inputs["base"],
            ws.inputs["adapter"],
            chosen,
            include,
            ws.out,
            batch_size=group.batch_size,
            device=trainer.device,
            dtype=trainer.model_dtype,
            image_transform=image_transform(ws.inputs["base"], data),
        )
        return {name: result["status"] for name, result in results.items()}

    config = asdict(group) | {"aspect_ratio": data.aspect_ratio, "dtype": trainer.model_dtype}
    config.pop("batch_size")
    if folder:
        files = sorted(folder.glob("*.parquet"))
        config["files"] = {p.name: file_fingerprint(p, index) for p in files}
    inputs = {"base": base, "adapter": adapter}
    if world and group.local:
        inputs["world"] = world
    return Step("evaluate", build, config, inputs, resumable=True, label=adapter.label)


def named(group: BenchmarkGroup) -> dict[str, Any]:
    """Return the entries of `tasks` that `only` names. Raises `ConfigError` for an unknown one."""
    unknown = sorted(set(group.only or ()) - set(group.tasks))
    if unknown:
        raise ConfigError(f"benchmarks.only names {unknown}; known: {sorted(group.tasks)}.")
    return {k: v for k, v in group.tasks.items() if group.only is None or k in group.only}


def image_transform(base: Path, data: DataSettings) -> Any:
    """Return what training does to an image before the processor, or None."""
    if data.aspect_ratio != "pad":
        return None
    from icons_repro.data.dataset import mean_colour
    from icons_repro.data.images import pad_to_square
    from icons_repro.models.llava import load_processor

    colour = mean_colour(load_processor(base))
    return lambda image: pad_to_square(image, colour)

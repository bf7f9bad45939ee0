"""One function for each stage: what it reads, what it writes, and how it is named.

Each returns a `Step`; nothing runs until the cache is asked for it. Heavy packages are imported
inside the builds, so that planning a run takes no time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate

from icons_repro.core.artifacts import Step, Workspace
from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.provenance import file_fingerprint
from icons_repro.core.settings import (
    DataSettings,
    LoraSettings,
    ModelSettings,
    PoolSettings,
    RecordPolicy,
    TargetSettings,
    TrainerSettings,
    TrainSettings,
    WarmupSettings,
)

TINY_BASE = Path(__file__).parent / "models" / "tiny_base"


def part_of(settings: Any, kind: type) -> Any:
    """Return the `kind` dataclass that a larger settings object contains the fields of."""
    return kind(**{f.name: getattr(settings, f.name) for f in fields(kind)})


def link(target: Path, name: Path) -> None:
    """Make `name` a symbolic link to the existing `target`."""
    if not target.exists():
        raise DataError(f"{target} does not exist; set its path in the config.")
    name.symlink_to(target.resolve())


# prepare -----------------------------------------------------------------------------------------


def world(settings: Mapping[str, Any]) -> Step:
    """The tiny world: pool, images, target tasks, benchmark files."""
    from icons_repro.data.tiny.settings import WorldSettings

    try:
        chosen = WorldSettings(**settings)
    except TypeError as error:
        raise ConfigError(f"data.world: {error}.") from error

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.data.tiny.world import build_world

        return build_world(ws.out, chosen)

    return Step("world", build, asdict(chosen))


def pool(settings: PoolSettings, world: Step | None, index: Path) -> Step:
    """The pool as an Arrow table, and a link to its images."""
    policy = part_of(settings, RecordPolicy)

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.data.records import build_records

        if "world" in ws.inputs:
            source, images = ws.inputs["world"] / "pool.json", ws.inputs["world"] / "images"
        else:
            source, images = Path(str(settings.json)), Path(str(settings.images))
        link(images, ws.out / "images")
        return build_records(source, images, ws.out, policy)

    if world:
        return Step("pool", build, asdict(policy), {"world": world})
    source = existing(settings.json, "data.json")
    config = {
        **asdict(policy),
        "pool": file_fingerprint(source, index),
        "images": str(existing(settings.images, "data.images")),
    }
    return Step("pool", build, config)


def existing(path: str | None, key: str) -> Path:
    """Return a configured path, or raise `ConfigError` naming its key."""
    if path is None:
        raise ConfigError(f"{key} is not set, and this setup has no world of its own.")
    if not Path(path).exists():
        raise ConfigError(f"{key}={path}: no such file or folder.")
    return Path(path)


def targets(
    settings: TargetSettings, policy: RecordPolicy, world: Step | None, index: Path
) -> Step:
    """One folder of validation records for each target task."""

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.data.target_tasks import build_targets, find_tasks

        if "world" in ws.inputs:
            folder, images = ws.inputs["world"] / "targets", ws.inputs["world"] / "images"
        else:
            folder, images = Path(str(settings.folder)), Path(str(settings.images))
        link(images, ws.out / "images")
        tasks = find_tasks(folder, settings.tasks)
        return build_targets(folder, images, tasks, ws.out, policy)

    config: dict[str, Any] = {**asdict(policy), "tasks": settings.tasks}
    if settings.folder is None and world:
        return Step("targets", build, config, {"world": world})
    folder = existing(settings.folder, "targets.folder")
    config["images"] = str(existing(settings.images, "targets.images"))
    config["files"] = {p.name: file_fingerprint(p, index) for p in sorted(folder.glob("*.json"))}
    return Step("targets", build, config)


def base_model(settings: ModelSettings, index: Path) -> Step:
    """The base model's folder: the tiny base written out, or links to a local one."""
    if settings.folder is None:

        def write(ws: Workspace) -> None:
            from icons_repro.models.tiny import write_tiny_base

            write_tiny_base(ws.out)

        shipped = [p for p in sorted(TINY_BASE.iterdir()) if p.is_file()]
        return Step("base", write, {p.name: file_fingerprint(p, index) for p in shipped})

    folder = existing(settings.folder, "model.folder")

    def link_files(ws: Workspace) -> None:
        for path in sorted(folder.iterdir()):
            if path.is_file():
                link(path, ws.out / path.name)

    files = [p for p in sorted(folder.iterdir()) if p.is_file()]
    return Step("base", link_files, {p.name: file_fingerprint(p, index) for p in files})


# warmup and finetune -----------------------------------------------------------------------------


def warmup(
    settings: WarmupSettings,
    lora: LoraSettings,
    data: DataSettings,
    trainer: TrainerSettings,
    base: Step,
    pool: Step,
) -> Step:
    """LoRA on a small random slice of the pool: the point that gradients are taken at."""

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.data.records import RecordTable
        from icons_repro.selection.base import budget_to_k

        usable = np.flatnonzero(RecordTable(ws.inputs["pool"] / "records.arrow").usable)
        rng = np.random.default_rng(settings.seed)
        k = budget_to_k(settings.fraction, len(usable))
        np.save(ws.out / "positions.npy", np.sort(rng.choice(usable, size=k, replace=False)))
        return train(ws, settings.train, lora, data, trainer, settings.seed)

    config = {
        **training_config(settings.train, lora, data, trainer, settings.seed),
        "fraction": settings.fraction,
    }
    return Step("warmup", build, config, {"base": base, "pool": pool}, resumable=True)


def finetune(
    settings: TrainSettings,
    lora: LoraSettings,
    data: DataSettings,
    trainer: TrainerSettings,
    seed: int,
    base: Step,
    pool: Step,
    selection: Step,
) -> Step:
    """LoRA on a selection, from the base model, with the same recipe for every method."""

    def build(ws: Workspace) -> dict[str, Any]:
        np.save(ws.out / "positions.npy", np.load(ws.inputs["selection"] / "positions.npy"))
        return train(ws, settings, lora, data, trainer, seed)

    config = training_config(settings, lora, data, trainer, seed)
    inputs = {"base": base, "pool": pool, "selection": selection}
    return Step("finetune", build, config, inputs, resumable=True)


def training_config(
    settings: TrainSettings,
    lora: LoraSettings,
    data: DataSettings,
    trainer: TrainerSettings,
    seed: int,
) -> dict[str, Any]:
    """Return what decides a training run's result, and no more."""
    recipe = asdict(settings)
    recipe.pop("checkpoint_every_steps")
    return {
        "train": recipe,
        "lora": asdict(lora),
        "data": encoding_config(data),
        "trainer": asdict(trainer),
        "seed": seed,
    }


def encoding_config(data: DataSettings) -> dict[str, Any]:
    """Return the data settings that change tensors."""
    config = asdict(data)
    config.pop("num_workers")
    return config


def train(
    ws: Workspace,
    settings: TrainSettings,
    lora: LoraSettings,
    data: DataSettings,
    trainer: TrainerSettings,
    seed: int,
) -> dict[str, Any]:
    """Run the training loop on `ws.out/positions.npy`."""
    from icons_repro.data.records import RecordTable
    from icons_repro.training.fit import FitJob, fit

    records = ws.inputs["pool"]
    job = FitJob(
        model_dir=str(ws.inputs["base"]),
        records=str(records),
        image_root=str(records / "images"),
        positions=str(ws.out / "positions.npy"),
        seed=seed,
        steps_as_rows=int(RecordTable(records / "records.arrow").usable.sum()),
        lora=lora,
        train=settings,
        data=data,
        trainer=trainer,
    )
    summary = fit(job, ws.out, ws.on_metrics)
    return {key: summary[key] for key in ("rows", "steps", "trained_parameters")}


# select ------------------------------------------------------------------------------------------


def make_selector(config: Mapping[str, Any]) -> Any:
    """Instantiate a selector from its config; raise `ConfigError` for arguments it lacks."""
    try:
        return instantiate(config)
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, ConfigError):
            raise cause from None
        raise ConfigError(f"selector {config.get('_target_')}: {cause}") from error


def select(
    config: Mapping[str, Any],
    budget: float,
    seed: int,
    pool: Step,
    features: Mapping[str, Step],
) -> Step:
    """The rows that a selector keeps."""
    from icons_repro.selection.base import budget_to_k

    selector = make_selector(config)
    budget_to_k(budget, 1)  # refuse an impossible budget before anything runs

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.core.types import Pool
        from icons_repro.data.records import RecordTable
        from icons_repro.data.subset import write_subset
        from icons_repro.features.load import load_feature
        from icons_repro.selection.artifact import spread, write_selection

        table = RecordTable(ws.inputs["pool"] / "records.arrow")
        usable = table.usable
        seen = Pool(
            keys=table.keys[usable],
            sources=table.sources[usable],
            words=table.words[usable],
            has_image=table.image_counts[usable] > 0,
            features={n: load_feature(n, ws.inputs[n], usable) for n in features},
        )
        k = budget_to_k(budget, len(seen))
        chosen = selector.select(seen, k, np.random.default_rng(seed))
        selection = spread(chosen, usable)
        write_selection(selection, table.keys, ws.out)
        write_subset(table, selection.positions, ws.out / "subset.json")
        counts = by_source(table.sources, selection.positions)
        (ws.out / "sources.json").write_text(json.dumps(counts, indent=2) + "\n")
        return {"rows": len(table), "usable": len(seen), "selected": len(selection.positions)}

    identity = {"selector": dict(config), "budget": str(budget), "seed": seed}
    return Step("select", build, identity, {"pool": pool, **features})


def by_source(sources: np.ndarray, positions: np.ndarray) -> dict[str, dict[str, int]]:
    """Count rows by source, in the pool and among the chosen."""
    counts: dict[str, dict[str, int]] = {}
    for name, rows in (("pool", sources), ("selected", sources[positions])):
        for source, count in zip(*np.unique(rows, return_counts=True), strict=True):
            if source:
                counts.setdefault(str(source), {"pool": 0, "selected": 0})[name] = int(count)
    return counts

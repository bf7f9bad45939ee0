"""Prepare: the world, the pool's records, the target tasks, the base model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from icons_repro.core.artifacts import Step, Workspace
from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.provenance import file_fingerprint
from icons_repro.core.settings import ModelSettings, PoolSettings, RecordPolicy, TargetSettings

TINY_BASE = Path(__file__).parents[1] / "models" / "tiny_base"


def part_of(settings: Any, kind: type) -> Any:
    """Return the `kind` dataclass that a larger settings object contains the fields of."""
    return kind(**{f.name: getattr(settings, f.name) for f in fields(kind)})


def link(target: Path, name: Path) -> None:
    """Make `name` a symbolic link to the existing `target`."""
    if not target.exists():
        raise DataError(f"{target} does not exist; set its path in the config.")
    name.symlink_to(target.resolve())


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

"""Prepare: the world, the pool's records, the target tasks, the base model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from icons_repro.core.artifacts import Step, Workspace
from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.provenance import file_fingerprint
from icons_repro.core.settings import ModelSettings, PoolSettings, RecordPolicy, TargetSettings

log = logging.getLogger(__name__)
TINY_BASE = Path(__file__).parents[1] / "models" / "tiny_base"
TINY_NARROW = TINY_BASE.parent / "tiny_narrow"


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
        return build_records(source, images, ws.out, policy, settings.blocks)

    if world:
        return Step("pool", build, asdict(policy), {"world": world})
    source = existing(settings.json, "data.json")
    config = {
        **asdict(policy),
        "pool": file_fingerprint(source, index),
        "images": str(existing(settings.images, "data.images")),
        **({"blocks": list(settings.blocks.items())} if settings.blocks else {}),
    }
    return Step("pool", build, config)


def existing(path: str | None, key: str) -> Path:
    """Return a configured path, or raise `ConfigError` naming its key."""
    if path is None:
        raise ConfigError(f"{key} is not set, and this setup has no world of its own.")
    if not Path(path).exists():
        raise ConfigError(f"{key}={path}: no such file or folder.")
    return Path(path)


def drawn_targets(settings: TargetSettings) -> Step:
    """Target rows drawn from the benchmarks' own dev or train splits, with statements on them."""
    from icons_repro.data.targets.build import build_task, choose_tasks
    from icons_repro.data.targets.builders import BUILDERS

    sources = Path(str(settings.sources))
    tasks = choose_tasks(settings.build, settings.test_rows)
    tasks = [task for task in tasks if settings.tasks is None or task in settings.tasks]
    left_out = sorted(set(settings.tasks or settings.build) - set(tasks))
    if not tasks:
        raise ConfigError(
            f"no target is left of {left_out}: they publish test rows alone. targets.test_rows "
            "takes these all the same; see docs/running_the_paper.md."
        )

    def build(ws: Workspace) -> dict[str, Any]:
        statements = {}
        (ws.out / "targets").mkdir()
        for task in tasks:
            count = settings.build[task]
            statements[task] = build_task(task, count, settings.seed, sources, ws.out / "targets")
        (ws.out / "images").symlink_to("targets/images")
        if left_out:
            log.warning(
                "targets not built: %s. Their benchmarks publish test rows alone; "
                "targets.test_rows=[%s] takes these, as the paper did.",
                *(", ".join(left_out), ",".join(left_out)),
            )
        return {"tasks": statements, "not_built": left_out}

    def here(task: str) -> Any:
        source = BUILDERS[task].rows
        return {p.name: p.stat().st_size for p in source.files(sources)} or source.name

    rows = {task: {"rows": settings.build[task], "from": here(task)} for task in tasks}
    return Step("drawn_targets", build, {"tasks": rows, "seed": settings.seed})


def targets(settings: TargetSettings, policy: RecordPolicy, made: Step | None, index: Path) -> Step:
    """One folder of validation records for each target task.

    `made` is the tiny world, or the step that draws rows from benchmarks; `targets.folder` has the
    last word.
    """

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.data.target_tasks import build_targets, find_tasks

        if "made" in ws.inputs:
            folder, images = ws.inputs["made"] / "targets", ws.inputs["made"] / "images"
        else:
            folder, images = Path(str(settings.folder)), Path(str(settings.images))
        link(images, ws.out / "images")
        # of those asked for, the drawn ones are there
        tasks = find_tasks(folder, None if settings.draws else settings.tasks)
        return build_targets(folder, images, tasks, ws.out, policy)

    config: dict[str, Any] = {**asdict(policy), "tasks": settings.tasks}
    if settings.folder is None and made:
        return Step("targets", build, config, {"made": made}, version=2)
    folder = existing(settings.folder, "targets.folder")
    config["images"] = str(existing(settings.images, "targets.images"))
    config["files"] = {p.name: file_fingerprint(p, index) for p in sorted(folder.glob("*.json"))}
    return Step("targets", build, config, version=2)


def base_model(settings: ModelSettings, index: Path) -> Step:
    """The base model's folder: the tiny base, a LLaVA that exists, or one put together."""
    if settings.kind == "tiny":
        return tiny_base(settings, index)
    needed = {"folder": ("folder",), "assembled": ("language", "vision", "projector")}
    names = {part: getattr(settings, part) for part in needed[settings.kind]}
    unset = [part for part, name in names.items() if name is None]
    if unset:
        raise ConfigError(f"model.{unset[0]} is not set, and model.kind={settings.kind} needs it.")
    if settings.kind == "assembled" and settings.template is None:
        raise ConfigError("model.template is not set: v1 for Vicuna, llama3 or qwen.")
    config: dict[str, Any] = {part: source_identity(name, index) for part, name in names.items()}
    config["template"] = settings.template

    def build(ws: Workspace) -> None:
        from icons_repro.models.hub import fetch

        patterns = {"projector": ["*.bin"]}
        found = {
            part: fetch(name, patterns[part]) if part in patterns else fetch(name)
            for part, name in names.items()
        }
        if settings.kind == "assembled":
            from icons_repro.models.assemble import assemble

            parts = found["language"], found["vision"], found["projector"]
            assemble(*parts, ws.out, template=str(settings.template))
        else:
            link_model(found["folder"], settings.template, ws.out)

    return Step("base", build, config)


def tiny_base(settings: ModelSettings, index: Path) -> Step:
    """The base that ships with the package, written out."""
    if settings.folder:
        raise ConfigError("model.folder is set, but the model is the tiny one: add model=local.")

    def write(ws: Workspace) -> None:
        from icons_repro.models.tiny import write_tiny_base

        write_tiny_base(ws.out, settings.width)

    shipped = {p.name: p for p in sorted(TINY_BASE.iterdir()) if p.is_file()}
    if settings.width != ModelSettings.width:
        shipped |= {p.name: p for p in sorted(TINY_NARROW.iterdir())}
    return Step("base", write, {name: file_fingerprint(p, index) for name, p in shipped.items()})


def source_identity(name: str, index: Path) -> Any:
    """Return what a checkpoint is: its files' hashes, or its name on the hub."""
    path = Path(name)
    if path.is_file():
        return file_fingerprint(path, index)
    if path.is_dir():
        files = [p for p in sorted(path.iterdir()) if p.is_file()]
        return {p.name: file_fingerprint(p, index) for p in files}
    return {"hub": name}


def link_model(folder: Path, template: str | None, out: Path) -> None:
    """Link a model folder's files to `out`; with `template`, write its processor anew."""
    from icons_repro.models.llava import load_processor
    from icons_repro.models.template import chat_template

    processor = load_processor(folder) if template else None
    if processor and template:
        processor.chat_template = chat_template(template, processor.tokenizer)
        processor.save_pretrained(out)
    for path in sorted(folder.iterdir()):
        if path.is_file() and not (out / path.name).exists():
            link(path, out / path.name)

"""From Hydra's config tree to typed settings, with errors that name the key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import PurePath
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from pydantic import TypeAdapter, ValidationError

from icons_repro.core.bounds import REFUSED, Count, Filled, Name, Seed, Share
from icons_repro.core.errors import ConfigError
from icons_repro.core.invocation import command
from icons_repro.core.names import nearest, new_name
from icons_repro.core.settings import (
    BenchmarkGroup,
    ExecutorSettings,
    FeatureSettings,
    GradientSettings,
    LoggerSettings,
    LoraSettings,
    ModelSettings,
    PathSettings,
    PoolSettings,
    PretrainSettings,
    ProjectionSettings,
    Scale,
    TargetSettings,
    TrainerSettings,
    TrainSettings,
    WarmupSettings,
)
from icons_repro.core.trees import TARGET, targets
from icons_repro.engine.resources import Resources, check_table
from icons_repro.evaluation.settings import BenchmarkSettings
from icons_repro.selection.resolve import build_selector
from icons_repro.tiny.settings import WorldSettings

Stage = Literal[
    "preflight",
    "prepare",
    "warmup",
    "extract",
    "score",
    "select",
    "finetune",
    "evaluate",
    "export",
    "report",
    "pretrain",
]
NOT_RESULTS = (
    *("plan", "verify", "logger", "paths", "stages", "hydra", "executor", "workers", "resources"),
)
"""Keys that do not change what a run finds; they stay out of its directory's name."""
USED_DEVICES: Mapping[str, bool | None] = {
    "prepare": None,
    "warmup": True,
    "extract": False,
    "features": False,
    "score": None,
    "select": False,
    "finetune": True,
    "evaluate": False,
    "export": None,
    "pretrain": True,
}
"""Kinds of work, the keys of `resources`: those that take all of the trainer's devices (True), one
device (False), none (None)."""

FOLDER_OF_RUNS = "the output folder's runs/"
LONGEST_NAME = 100
LONGEST = 60
"""Characters of a wrong value that an error repeats."""


@dataclass(frozen=True)
class Names:
    """The choices of config groups, as the user named them."""

    setup: Name
    experiment: Name
    selector: Name
    influence: Name = "gradients"


@dataclass(frozen=True)
class RunConfig:
    """One run, whole. The fields are the keys of `conf/config.yaml`."""

    names: Names
    scale: Scale
    budget: Share
    seed: Seed
    selection_seed: Seed | None
    """Seed of random selection alone; None: `seed`, which fine-tuning has too."""
    stages: Annotated[list[Stage], Filled]
    plan: bool
    verify: bool
    """Read the content of every finished artifact that is used, before work starts."""
    reference: Literal["compute", "reuse", "none"]
    paths: PathSettings
    model: ModelSettings
    selection_model: ModelSettings | None
    """The model that warm-up, gradients and features are of; None: `model`, which is trained."""
    data: PoolSettings
    targets: TargetSettings
    benchmarks: BenchmarkGroup
    lora: LoraSettings
    warmup: WarmupSettings
    pretrain: PretrainSettings
    finetune: TrainSettings
    gradients: GradientSettings
    projection: dict[str, Any]
    """The random projection of gradients."""
    features: FeatureSettings
    influence: dict[str, Any]
    """What influence is measured with; see influence/sources/."""
    selector: dict[str, Any]
    references: dict[str, dict[str, Any]]
    """Selectors of the reference runs: `random` and `full`."""
    trainer: TrainerSettings
    logger: LoggerSettings
    executor: ExecutorSettings
    workers: Count | None
    """Processes of `executor=local`; None: one for each GPU, or each core."""
    resources: dict[str, Resources]
    """What each kind of work asks of the machine; see engine/resources.py."""


def typed(config: DictConfig) -> RunConfig:
    """Resolve and check the composed config.

    Raises `ConfigError` naming the first unknown or ill-typed key, with the nearest right one.
    """
    return checked(as_dict(config, resolve=True))


def checked(tree: Mapping[str, Any]) -> RunConfig:
    """Check a config that is plain mappings by now; see `typed`."""
    _refuse_classes(tree)
    _refuse_unknown(tree, RunConfig, "")
    settings: RunConfig = checked_part(RunConfig, tree, "")
    _check_parts(settings)
    return replace(settings, scale=scale_of(settings))


def scale_of(settings: RunConfig) -> Scale:
    """Return the scale that a run's numbers may be called by, whatever its config says.

    The tiny model on somebody's data is no run of the paper's, nor is a foreign pool the tiny
    world's.
    """
    if settings.data.world is not None and settings.model.kind == "tiny":
        return settings.scale
    mixed = settings.data.world is not None or settings.model.kind == "tiny"
    return "own" if mixed or settings.scale == "tiny" else settings.scale


def setup_name(chosen: str, *, _root_: DictConfig) -> str:
    """Return the setup's name, for folders: a foreign pool is not in the tiny world's."""
    foreign = chosen == "tiny" and OmegaConf.select(_root_, "data.world") is None
    return "own" if foreign else chosen


def _check_parts(settings: RunConfig) -> None:
    """Check what other packages define: plain mappings in the config, typed where they are used."""
    projection = checked_part(ProjectionSettings, settings.projection, "projection")
    if projection.kind != "none" and projection.dim is None:
        raise ConfigError(
            f"projection.dim is not set, and projection.kind={projection.kind} needs it."
        )
    for name, entry in settings.benchmarks.tasks.items():
        named = {"name": name, **(entry or {})}
        checked_part(BenchmarkSettings, named, f"benchmarks.tasks.{name}")
    check_table(settings.resources, USED_DEVICES)
    for selector in (settings.selector, *settings.references.values()):
        build_selector(selector)


def checked_part(kind: type, tree: Any, prefix: str) -> Any:
    """Return the settings that a part of a config holds. Raises `ConfigError` naming the key."""
    if prefix and isinstance(tree, Mapping):
        _refuse_unknown(tree, kind, f"{prefix}.")
    try:
        return _adapter(kind).validate_python(tree)
    except ValidationError as error:
        raise ConfigError(_complaint(error, prefix)) from error


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _complaint(error: ValidationError, prefix: str) -> str:
    """Say of the first thing that is wrong: key, value, and what it must be."""
    first = error.errors()[0]
    key = ".".join([*([prefix] if prefix else []), *map(str, first["loc"])])
    if first["type"] == "missing":
        return f"{key} is not set."
    given = repr(first["input"])
    given = given if len(given) <= LONGEST else f"{given[:LONGEST]}..."
    colon = "" if first["type"] == REFUSED else ":"
    return f"{key}={given}{colon} {first['msg'][:1].lower()}{first['msg'][1:]}."


def _refuse_classes(tree: Mapping[str, Any]) -> None:
    """Refuse a `_target_` anywhere but where a selector or a source is chosen: configs are data."""
    for key in targets(tree):
        if not re.fullmatch(r"(selector|influence|references\.\w+)\..+", key):
            raise ConfigError(
                f"{key}: only selector.{TARGET} and influence.{TARGET} name a class; "
                "see docs/trust.md."
            )


def _refuse_unknown(tree: Mapping[str, Any], settings: type, prefix: str) -> None:
    hints = get_type_hints(settings)
    names = [f.name for f in fields(settings)]
    for key, value in tree.items():
        if key not in names:
            raise ConfigError(_unknown(f"{prefix}{key}", str(key), names))
        inner = [t for t in (hints[key], *get_args(hints[key])) if is_dataclass(t)]
        if not inner or not isinstance(value, Mapping):
            continue
        named = {key: value}
        if get_origin(hints[key]) is dict:
            named = {f"{key}.{name}": entry for name, entry in value.items()}
        for name, entry in named.items():
            if isinstance(entry, Mapping):
                _refuse_unknown(entry, inner[0], f"{prefix}{name}.")  # type: ignore[arg-type]


def _unknown(key: str, word: str, known: Iterable[str]) -> str:
    """Say that there is no `key`; `known` are the right words that `word` may be meant as."""
    renamed = new_name(key)
    hint = f"; it is {renamed} now." if renamed else nearest(word, known)
    return f"unknown key {key}{hint}"


def explain_override(message: str, config: DictConfig) -> str:
    """Add the nearest right key to Hydra's message about a key it does not know."""
    match = re.search(r"Could not override '([^']+)'", message)
    keys = list(leaf_keys(config))
    known = keys + sorted({key.rsplit(".", 1)[0] for key in keys if "." in key})
    if not match or match[1] in known:
        return message
    return _unknown(match[1], match[1], known)


def as_dict(config: DictConfig, resolve: bool = False) -> dict[str, Any]:
    """Return a config as plain dicts and lists."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=resolve))


def yaml_of(config: DictConfig) -> str:
    """Return a config as YAML, resolved."""
    return OmegaConf.to_yaml(config, resolve=True)


def leaf_keys(config: DictConfig, prefix: str = "") -> Iterable[str]:
    """Yield the dotted names of a config's leaves."""
    stack = [(prefix, as_dict(config))]
    while stack:
        path, node = stack.pop()
        for key, value in node.items():
            if isinstance(value, dict) and value:
                stack.append((f"{path}{key}.", value))
            else:
                yield f"{path}{key}"


def config_hash(*, _root_: DictConfig) -> str:
    """Hash what changes a run's result; used by `${config_hash:}` in the run directory's name.

    Hydra makes that directory before the config is typed, so what its path is made of is checked
    here: raises `ConfigError`.
    """
    _check_place(_root_)
    kept = {k: v for k, v in as_dict(_root_).items() if k not in NOT_RESULTS}
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _check_place(root: DictConfig) -> None:
    """Refuse an empty output folder, and names that would lead out of it."""
    if not str(OmegaConf.select(root, "paths.output") or "").strip():
        raise ConfigError(
            "paths.output is empty: unset ICONS_OUTPUT, or name the folder that results go to."
        )
    for key in ("names.setup", "names.experiment", "names.selector"):
        name = str(OmegaConf.select(root, key))
        path = PurePath(name)
        if not name.isprintable() or path.is_absolute() or not {".", ".."}.isdisjoint(path.parts):
            raise ConfigError(f"{key}={name!r} is no name for a folder below {FOLDER_OF_RUNS}.")
        if not name.strip() or len(name) > LONGEST_NAME:
            raise ConfigError(f"{key} must be a name of 1 to {LONGEST_NAME} characters.")
    for key in ("budget", "seed"):
        value = OmegaConf.select(root, key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{key}={value!r} is no number.")


def defaults_of(settings: type) -> dict[str, Any]:
    """Return the defaults of a settings dataclass, nested ones included, as a plain dict."""
    hints = get_type_hints(settings)
    tree: dict[str, Any] = {}
    for field in fields(settings):
        if field.default is not MISSING:
            tree[field.name] = field.default
        elif field.default_factory is not MISSING:
            made = field.default_factory()
            plain = is_dataclass(made) and not isinstance(made, type)
            tree[field.name] = asdict(made) if plain else made
        elif is_dataclass(hints[field.name]):
            tree[field.name] = defaults_of(hints[field.name])
    return tree


@cache
def register() -> None:
    """Tell Hydra `${config_hash:}`, `${command:}` and the settings' defaults, once.

    The defaults are the config named `settings`, first in `conf/config.yaml`'s list, so that any
    key can be set on the command line and no YAML file repeats a default.
    """
    OmegaConf.register_new_resolver("config_hash", config_hash)
    OmegaConf.register_new_resolver("command", command)
    OmegaConf.register_new_resolver("setup_name", setup_name)
    ConfigStore.instance().store(
        group="data/world", name="settings", node=defaults_of(WorldSettings)
    )
    table = {kind: defaults_of(Resources) for kind in USED_DEVICES}
    ConfigStore.instance().store(
        name="settings", node={**defaults_of(RunConfig), "resources": table}
    )

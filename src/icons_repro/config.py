"""From Hydra's config tree to typed settings, with errors that name the key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from pydantic import TypeAdapter, ValidationError

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
    TargetSettings,
    TrainerSettings,
    TrainSettings,
    WarmupSettings,
)
from icons_repro.core.trees import TARGET, targets
from icons_repro.engine.resources import Resources
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


@dataclass(frozen=True)
class Names:
    """The choices of config groups, as the user named them."""

    setup: str
    experiment: str
    selector: str
    influence: str = "gradients"


@dataclass(frozen=True)
class RunConfig:
    """One run, whole. The fields are the keys of `conf/config.yaml`."""

    names: Names
    scale: Literal["tiny", "paper"]
    budget: float
    seed: int
    selection_seed: int | None
    """Seed of random selection alone; None: `seed`, which fine-tuning has too."""
    stages: list[Stage]
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
    workers: int | None
    """Processes of `executor=local`; None: one for each GPU, or each core."""
    resources: dict[str, Resources]
    """What each kind of work asks of the machine; see engine/resources.py."""


def typed(config: DictConfig) -> RunConfig:
    """Resolve and check the composed config.

    Raises `ConfigError` naming the first unknown or ill-typed key, with the nearest right one.
    """
    tree = as_dict(config, resolve=True)
    _refuse_classes(tree)
    _refuse_unknown(tree, RunConfig, "")
    try:
        return _adapter().validate_python(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{key}={first['input']!r}: {first['msg'].lower()}.") from error


@cache
def _adapter() -> TypeAdapter[RunConfig]:
    """Return what checks a config; made once, since a sweep checks hundreds."""
    return TypeAdapter(RunConfig)


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
            _refuse_unknown(entry, inner[0], f"{prefix}{name}.")  # type: ignore[arg-type]


def _unknown(key: str, word: str, known: Iterable[str]) -> str:
    """Say that there is no `key`; `known` are the right words that `word` may be meant as."""
    renamed = new_name(key)
    hint = f"; it is {renamed} now." if renamed else nearest(word, known)
    return f"unknown key {key}{hint}"


def explain_override(message: str, config: DictConfig) -> str:
    """Add the nearest right key to Hydra's message about a key it does not know."""
    match = re.search(r"Could not override '([^']+)'", message)
    if not match:
        return message
    keys = list(leaf_keys(config))
    known = keys + sorted({key.rsplit(".", 1)[0] for key in keys if "." in key})
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
    """Hash what changes a run's result; used by `${config_hash:}` in the run directory's name."""
    kept = {k: v for k, v in as_dict(_root_).items() if k not in NOT_RESULTS}
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


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
    ConfigStore.instance().store(
        group="data/world", name="settings", node=defaults_of(WorldSettings)
    )
    table = {kind: defaults_of(Resources) for kind in USED_DEVICES}
    ConfigStore.instance().store(
        name="settings", node={**defaults_of(RunConfig), "resources": table}
    )

"""The config tree says choices only: no default twice, no value of another world's, no code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from graphs import NOWHERE
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from icons_repro.config.checks import typed
from icons_repro.config.register import register
from icons_repro.config.run import USED_DEVICES, RunConfig
from icons_repro.core.errors import ConfigError
from icons_repro.core.trees import flatten, targets
from icons_repro.core.typed import defaults_of
from icons_repro.engine.resources import Resources
from icons_repro.evaluation.settings import BenchmarkSettings
from icons_repro.tiny.settings import WorldSettings

CONF = Path(__file__).parents[1] / "conf"
SETUPS = sorted(path.stem for path in (CONF / "setup").glob("*.yaml"))
WHOLE = ("setup", "experiment")
"""Groups whose files are laid over the whole config."""
FILES = sorted(path for path in CONF.glob("*/*.yaml") if path.parent.name != "local")
OF_NO_WORLD = {
    *("gradients", "projection", "influence", "selector", "selector@references.random"),
    *("selector@references.full", "logger", "executor", "experiment", "local"),
}
"""Groups whose choice is as good in any world."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a graph looks up is remembered in the run's cache: not in the clone's."""
    monkeypatch.chdir(tmp_path)


def label(path: Path) -> str:
    return f"{path.parent.name}={path.stem}"


def loaded(path: Path) -> dict[str, Any]:
    tree = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def composed(*overrides: str, hydra: bool = False) -> DictConfig:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=hydra)


def named(config: DictConfig) -> DictConfig:
    """Fill in what only a run knows."""
    config.names = {"setup": "tiny", "experiment": "test", "selector": "test"}
    config.paths = {"output": f"{NOWHERE}", "cache": f"{NOWHERE}/cache", "run": f"{NOWHERE}/run"}
    return config


def defaults(group: str) -> dict[str, Any]:
    """Return the defaults of a group's settings, by dotted key within the group."""
    if group == "resources":
        return {f"{kind}.{k}": v for kind in USED_DEVICES for k, v in asdict(Resources()).items()}
    tree = defaults_of(RunConfig).get(group, {})
    found = dict(flatten(tree))
    if group == "data":
        found |= {f"world.{key}": value for key, value in asdict(WorldSettings()).items()}
    return found


def benchmark_defaults(tree: Mapping[str, Any]) -> dict[str, Any]:
    plain = {k: v for k, v in asdict(BenchmarkSettings("x")).items() if k not in ("name", "task")}
    return {
        f"tasks.{name}.{key}": value
        for name in tree.get("tasks", {})
        for key, value in (plain | {"task": name}).items()
    }


def repeated(values: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
    for key, value in flatten(values):
        if key in known and known[key] == value and type(known[key]) is type(value):
            yield f"{key}: {value}"


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name not in WHOLE], ids=label)
def test_no_value_repeats_a_default(path: Path) -> None:
    values = {k: v for k, v in loaded(path).items() if k != "defaults"}
    known = defaults(path.parent.name)
    if path.parent.name == "benchmarks":
        known |= benchmark_defaults(values)
    assert not list(repeated(values, known)), f"{label(path)} repeats what the settings say"


def test_every_group_with_settings_is_compared() -> None:
    """So that a renamed group does not slip out of the comparison."""
    with_settings = {group for group in defaults_of(RunConfig) if (CONF / group).is_dir()}
    without = {path.parent.name for path in FILES} - with_settings - set(WHOLE)
    assert without == {"projection", "influence", "selector", "resources"}
    assert all(defaults(group) for group in with_settings | {"resources"})


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name in WHOLE], ids=label)
def test_no_setup_and_no_experiment_says_what_holds_without_it(path: Path) -> None:
    """Scalars of the root may be named (an experiment of 20% says 20%); settings may not."""
    values = loaded(path)
    chosen = [
        f"{group.removeprefix('override /')}={choice}"
        for entry in values.pop("defaults", [])
        if isinstance(entry, dict)  # else another experiment, which is looked at by itself
        for group, choice in entry.items()
        if group.startswith("override /")
    ]
    settings = {k: v for k, v in values.items() if isinstance(v, dict) and k != "hydra"}
    setups = SETUPS if path.parent.name == "experiment" else [path.stem]
    said: set[str] | None = None
    for setup in sorted(setups, key="tiny".__ne__):
        here = set(repeated(settings, without(setup, chosen)))
        said = here if said is None else said & here
        if not said:
            break
    assert not said, label(path)


def without(setup: str, chosen: list[str]) -> dict[str, Any]:
    """Return the leaves of a setup's config, with the same choices but no experiment."""
    config = composed(f"setup={setup}", "~experiment", *chosen)
    tree = OmegaConf.to_container(config, resolve=False)
    assert isinstance(tree, dict)
    return dict(flatten({str(key): value for key, value in tree.items()}))


def test_a_setup_takes_no_choice_of_the_tiny_world() -> None:
    """`setup=custom` had its features: a CLIP and a score net's recipe for 32 pixels."""
    tiny = dict(composed(hydra=True).hydra.runtime.choices)
    groups = {group for group in tiny if not group.startswith("hydra/")} - OF_NO_WORLD - {"setup"}
    assert groups >= {"model", "data", "targets", "benchmarks", "features", "trainer", "resources"}
    for setup in set(SETUPS) - {"tiny"}:
        choices = dict(composed(f"setup={setup}", hydra=True).hydra.runtime.choices)
        same = {group for group in groups if choices.get(group) == tiny[group]}
        assert not same, f"setup={setup} takes over {same}"


def test_nested_defaults_are_those_of_their_owner() -> None:
    """The score net's passes are its settings' own, not those of any training."""
    train = composed("setup=custom").features.self_filter.train
    assert (train.epochs, train.group_by_length) == (3, False)
    assert composed().features.self_filter.train.epochs == 1


def test_a_shipped_file_names_a_class_only_where_a_selector_or_a_source_is_chosen() -> None:
    for path in FILES:
        found = list(targets(loaded(path)))
        names_one = path.parent.name in ("selector", "influence")
        assert found == (["_target_"] if names_one else []), label(path)


CALL = "{_target_: os.mkdir, path: ran}"


@pytest.mark.parametrize(
    "override",
    [
        *("+data._target_=os.mkdir", "+trainer._target_=os.mkdir"),
        *(f"{key}={CALL}" for key in ("projection.dim", "finetune.epochs")),
        "+data.world._target_=os.mkdir",
        *(f"+{key}={CALL}" for key in ("executor.more.comment", "benchmarks.tasks.mine")),
        f"+benchmarks.tasks.mine={{options: {{metric_list: [{CALL}]}}}}",
        f"selection_model={CALL}",
        f"+resources.extract.more={CALL}",
        f"targets.tasks=[{CALL}]",
    ],
)
def test_a_class_named_anywhere_else_is_refused_and_never_called(
    override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"_target_: only selector\._target_ and influence\._target_"
    ):
        typed(named(composed(override)))
    assert not (tmp_path / "ran").exists()

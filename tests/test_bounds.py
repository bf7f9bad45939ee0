"""Every setting refuses what is impossible, in a line that names the key and what is possible."""

import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from icons_repro.config.checks import checked
from icons_repro.config.place import config_hash
from icons_repro.config.register import register
from icons_repro.config.run import RunConfig
from icons_repro.core.errors import ConfigError
from icons_repro.core.parts import keys_of, settings_in
from icons_repro.core.settings import ProjectionSettings, TrainerSettings, TrainSettings
from icons_repro.graph.graph import Graph
from icons_repro.selection.resolve import build_selector
from icons_repro.tiny.settings import WorldSettings
from icons_repro.training.stage import check_batch

CONF = Path(__file__).parents[1] / "conf"
NAMED = [
    "names.setup=tiny",
    "names.experiment=icons_20pct",
    "names.selector=icons",
    "names.influence=gradients",
]
SELECTORS = sorted(path.stem for path in (CONF / "selector").glob("*.yaml"))
IMPOSSIBLE: dict[Any, tuple[Any, ...]] = {
    int: (-1, 10**30, 2.5, float("nan"), "many", True, [1], {"a": 1}),
    float: (-2.0, float("inf"), float("nan"), "many", True, [0.5], {"a": 1}),
    bool: (7, "maybe", [True], {"a": 1}),
    str: ("", "  ", 7, ["a"], {"a": 1}),
    list: ([], "a", 7, {"a": 1}),
    dict: (7, "a", ["a"]),
    Literal: ("nothing like it", "", -1, [1], {"a": 1}),
}
"""What no setting of a type can be."""


@cache
def composed() -> dict[str, Any]:
    """Return the main job's config, whole and plain."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=["paths.run=run", *NAMED])
    found = OmegaConf.to_container(config, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def kinds_of(hint: Any) -> set[Any]:
    """Return the plain types that a hint allows; any `Literal` is `Literal`."""
    origin = get_origin(hint)
    if origin in (list, dict, Literal):
        return {origin}
    if origin is None:
        return {hint} - {type(None)}
    return set().union(*(kinds_of(part) for part in get_args(hint)))


def leaves(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, hint in keys_of(kind).items():
        inner = settings_in(hint)
        if inner is None:
            yield f"{prefix}{name}", hint
        elif get_origin(hint) is dict:
            yield from leaves(inner, f"{prefix}{name}.extract.")
        elif name != "selection_model":  # as `model`, and mostly not there
            yield from leaves(inner, f"{prefix}{name}.")


LEAVES = {
    **dict(leaves(RunConfig)),
    **dict(leaves(ProjectionSettings, "projection.")),
    **dict(leaves(WorldSettings, "data.world.")),
}
MAPPINGS = {"selector", "influence", "references", "projection", "executor.more", "data.world",
            "benchmarks.tasks", "benchmarks.options"}  # fmt: skip
"""Checked entry by entry, or the reader's own."""
MAY_BE_EMPTY = {"data.pretraining_sources", "targets.subtasks", "targets.unreleased_subtasks",
                "targets.test_rows"}  # fmt: skip
PLAIN = {path: hint for path, hint in LEAVES.items() if path not in MAPPINGS}
NUMBERS = [path for path, hint in PLAIN.items() if kinds_of(hint) & {int, float}]


def with_value(path: str, value: Any) -> dict[str, Any]:
    """Return the config with one value changed, the rest shared."""

    def changed(node: dict[str, Any], keys: list[str]) -> dict[str, Any]:
        rest = keys[1:]
        return {**node, keys[0]: changed(node[keys[0]], rest) if rest else value}

    return changed(composed(), path.split("."))


def refusal(path: str, value: Any) -> str:
    """Return what a config with this value is refused with; other exceptions go through."""
    try:
        Graph(checked(with_value(path, value))).world  # noqa: B018 (the wiring checks the world)
    except ConfigError as error:
        return str(error)
    return ""


def test_the_walk_reaches_every_group() -> None:
    assert len(LEAVES) > 100
    groups = {path.partition(".")[0] for path in LEAVES}
    assert groups == {f.name for f in fields(RunConfig)} - {"selection_model"}


@pytest.mark.parametrize("path", PLAIN)
def test_a_setting_refuses_what_is_impossible_and_names_itself(path: str) -> None:
    for kind in kinds_of(PLAIN[path]):
        for value in IMPOSSIBLE[kind]:
            if value == [] and path in MAY_BE_EMPTY:
                continue
            said = refusal(path, value)
            assert said.startswith(f"{path}="), f"{path}={value!r}: {said or 'taken'}"
            assert "\n" not in said


@pytest.mark.parametrize("path", NUMBERS)
def test_a_number_is_told_its_range(path: str) -> None:
    for value in (-2, "many"):
        said = refusal(path, value)
        assert re.search(r" (outside|integer in|number in) [\[(]-?[\d.]+, [\w.]+[\])]", said), said


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(("finetune.epochs", 0), ("finetune.learning_rate", -1), ("finetune.learning_rate", 0)),
        *(("finetune.warmup_ratio", 5), ("finetune.warmup_ratio", 1), ("finetune.batch_size", 0)),
        *(("data.max_length", -1), ("data.max_length", 0), ("lora.alpha", -5), ("lora.rank", 0)),
        *(("lora.dropout", 2), ("lora.dropout", 1.0), ("targets.tasks", []), ("seed", -1)),
        *(("benchmarks.only", []), ("projection.dim", "abc"), ("projection.dim", 0), ("budget", 0)),
        *(("projection.kind", "hash"), ("trainer.precision", "half"), ("seed", 2**32)),
        *(("trainer.accelerator", "abacus"), ("trainer.strategy", "hope"), ("data", None)),
        *(("trainer.devices", 0), ("trainer.model_dtype", "int3"), ("stages", [])),
        *(("gradients.parameters", "["), ("features.instance_parameters", "(")),
        *(("features.coincide_layers", [-1]), ("resources.extract", 5), ("workers", 0)),
        *(("warmup.fraction", 0), ("warmup.fraction", 1.2), ("targets.build", {"gqa": 0})),
        *(("benchmarks.tasks", {"vqa": {"multiplier": "x"}}), ("data.world.pool_size", 3)),
        *(("data.world.test_rows", "x"), ("data.blocks", {"a": 0}), ("executor.hours", 0)),
    ],
)
def test_values_that_once_passed_or_crashed_are_refused(path: str, value: Any) -> None:
    said = refusal(path, value)
    assert said.startswith(path), said or "taken"
    assert "\n" not in said


@pytest.mark.parametrize("choice", SELECTORS)
def test_a_selectors_arguments_have_bounds(choice: str) -> None:
    config = OmegaConf.to_container(OmegaConf.load(CONF / "selector" / f"{choice}.yaml"))
    assert isinstance(config, dict)
    given = {str(k): v for k, v in config.items() if not str(v).startswith("${")}
    for key in given.keys() - {"_target_"}:
        for wrong in (-2, float("inf"), float("nan"), [], {"a": 1}, ""):
            with pytest.raises(ConfigError, match=rf"selector\.{key}="):
                build_selector(given | {key: wrong})


def test_a_batch_that_does_not_divide_is_refused_before_anything_runs() -> None:
    check_batch("finetune", TrainSettings(batch_size=32, micro_batch=8), TrainerSettings(devices=4))
    with pytest.raises(ConfigError, match=r"finetune.batch_size=32 .* a multiple of 24"):
        check_batch(
            "finetune", TrainSettings(batch_size=32, micro_batch=8), TrainerSettings(devices=3)
        )


@pytest.mark.parametrize(
    ("override", "key"),
    [
        *(("paths.output=''", "paths.output"), ("names.selector=../../x", "names.selector")),
        *(("names.setup=/tmp/x", "names.setup"), ("budget=../../x", "budget")),
        *(("names.experiment=''", "names.experiment"), ("seed=[1]", "seed")),
        ("names.selector=" + "x" * 300, "names.selector"),
    ],
)
def test_a_runs_folder_is_below_the_output_folder(override: str, key: str) -> None:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[*NAMED, override])
    with pytest.raises(ConfigError, match=key):
        config_hash(_root_=config)

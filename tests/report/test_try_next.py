"""What a run suggests is its own command, changed: it can be typed, and means what it says."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from icons_repro.config.checks import typed
from icons_repro.config.register import register
from icons_repro.config.run import RunConfig
from icons_repro.report.try_next import CommandLine, try_next

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def config() -> RunConfig:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = compose("config", overrides=["paths.run=run"])
    found.names = OmegaConf.create({"setup": "tiny", "experiment": "e", "selector": "icons"})
    return typed(found)


def words(command: str) -> list[str]:
    return shlex.split(command)


def test_setup_data_and_the_configs_folder_are_kept(config: RunConfig) -> None:
    given = ["run.py", "--config-dir", "mine/conf", "setup=custom", "data.json=my pool.json",
             "selector=icons", "budget=0.3", "seed=4"]  # fmt: skip
    for command in try_next(config, given):
        assert words(command)[:4] == ["python", "run.py", "--config-dir", "mine/conf"]
        assert "setup=custom" in words(command)
        assert "data.json=my pool.json" in words(command)
    sweep, steps, plan = map(words, try_next(config, given))
    assert {"-m", "selector=icons,random", "budget=0.05,0.1,0.4", "seed=0,1"} <= set(sweep)
    assert not {"budget=0.3", "seed=4", "selector=icons"} & set(sweep)
    assert {"budget=0.3", "seed=4", "finetune.regime=same_steps"} <= set(steps)
    assert plan[-1] == "plan=true"


def test_a_selectors_own_arguments_are_not_given_to_another(config: RunConfig) -> None:
    sweep = words(try_next(config, ["run.py", "selector.rule=mean"])[0])
    assert "selector.rule=mean" in sweep
    assert not [word for word in sweep if word.startswith("selector=")]


def test_what_was_asked_for_once_is_not_asked_for_again(config: RunConfig) -> None:
    given = ["run.py", "stages=[select]", "reference=none", "finetune.regime=same_steps"]
    steps = replace(config, finetune=replace(config.finetune, regime="same_steps"))
    sweep, other, plan = try_next(steps, given)
    assert "stages" not in sweep
    assert "finetune.regime=same_epochs" in other
    assert "stages=[select]" in plan


def test_full_data_is_followed_by_a_selection(config: RunConfig) -> None:
    full = replace(config, names=replace(config.names, selector="full"))
    first = words(try_next(full, ["run.py", "experiment=full"])[0])
    assert {"selector=icons", "budget=0.2"} <= set(first)
    assert "experiment=full" not in first


def test_a_selector_from_outside_brings_its_path(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "my code")
    own = replace(config, selector={"_target_": "maximin.Maximin"})
    assert try_next(own, ["run.py"])[0].startswith("PYTHONPATH='my code' python run.py")
    assert try_next(config, ["run.py"])[0].startswith("python run.py")


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("run.py", "python run.py"),
        ("/usr/bin/icons-repro", "icons-repro"),
        ("/x/icons_repro/__main__.py", "python -m icons_repro"),
    ],
)
def test_the_program_is_called_as_it_was(name: str, program: str) -> None:
    assert CommandLine.of([name, "-m", "seed=0,1"]).but() == f"{program} seed=0,1"

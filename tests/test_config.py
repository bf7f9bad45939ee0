import io
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from forked import run_forked
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.icons_engine import compose_once_for_both
from icons_repro.config.checks import typed
from icons_repro.config.place import config_hash
from icons_repro.config.register import register
from icons_repro.config.run import USED_DEVICES
from icons_repro.config.trees import explain_override, leaf_keys
from icons_repro.core import progress
from icons_repro.core.errors import ConfigError
from icons_repro.core.names import RENAMED, new_name
from icons_repro.core.settings import TrainSettings
from icons_repro.core.trees import flatten
from icons_repro.graph.graph import Graph

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
GROUPS = sorted(p.name for p in CONF.iterdir() if p.is_dir() and p.name != "hydra")
CHOICES = [(g, p.stem) for g in GROUPS for p in sorted((CONF / g).glob("*.yaml"))]


def composed(*overrides: str) -> DictConfig:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=list(overrides), return_hydra_config=True)
    config.hydra.runtime.choices.update(
        {"setup": "tiny", "experiment": "icons_20pct", "selector": "icons"}
    )
    return config


def settings(*overrides: str):  # type: ignore[no-untyped-def]
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    config = composed(*overrides)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return typed(config)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_shipped_choice_composes_and_is_well_typed(group: str, choice: str) -> None:
    settings(f"{group}={choice}")


@pytest.mark.parametrize("setup", [name for group, name in CHOICES if group == "setup"])
def test_no_key_of_a_setup_hides_behind_a_reference(setup: str) -> None:
    """Hydra sets no key below `train: ${finetune}`: each has its own reference."""
    plain = OmegaConf.to_container(composed(f"setup={setup}"), resolve=False)
    assert isinstance(plain, dict)
    leaves = dict(flatten(plain))
    for key, value in leaves.items():
        if name := re.fullmatch(r"\$\{([\w.]+)\}", str(value)):
            assert not any(leaf.startswith(f"{name[1]}.") for leaf in leaves), key


def test_the_papers_warm_up_follows_the_fine_tuning_but_for_what_it_is_told() -> None:
    found = settings("setup=llava_665k", "warmup.train.epochs=4", "finetune.micro_batch=2")
    assert (found.warmup.train.epochs, found.finetune.epochs) == (4, 1)
    assert (found.warmup.train.micro_batch, found.finetune.micro_batch) == (2, 2)


def test_a_warm_up_by_the_fine_tuning_recipe_refers_to_each_of_its_keys() -> None:
    recipe = OmegaConf.load(CONF / "warmup" / "llava15.yaml").train
    keys = [field.name for field in fields(TrainSettings)]
    assert list(recipe) == keys
    for key in keys:
        assert recipe._get_node(key)._value() == f"${{finetune.{key}}}"


def test_llavas_recipe_cuts_no_gradient_in_any_of_its_trainings() -> None:
    found = settings("setup=llava_665k")
    trainings = (found.finetune, found.warmup.train, found.features.self_filter.train)
    assert [training.max_grad_norm for training in trainings] == [None, None, None]


def test_budget_and_seed_touch_nothing_before_the_selection() -> None:
    a, b = Graph(settings("budget=0.1", "seed=3")), Graph(settings("budget=0.4", "seed=4"))
    for name in ("pool", "targets", "base", "warmup", "influence"):
        assert getattr(a, name).fingerprint == getattr(b, name).fingerprint, name
    c = a.config
    one = a.selection(c.selector, 0.1, 3).fingerprint
    assert one != a.selection(c.selector, 0.4, 3).fingerprint


def test_training_recipes_touch_nothing_before_training() -> None:
    a, b = Graph(settings()), Graph(settings("finetune.learning_rate=1e-5"))
    first, second = (g.selection(g.config.selector, 0.2, 0) for g in (a, b))
    assert first.fingerprint == second.fingerprint
    assert a.results.adapter(first, 0).fingerprint != b.results.adapter(second, 0).fingerprint


def test_the_run_directory_follows_what_changes_the_result() -> None:
    plain = config_hash(_root_=composed())
    assert plain == config_hash(_root_=composed("plan=true", "logger=[csv]", "stages=[select]"))
    assert plain != config_hash(_root_=composed("finetune.learning_rate=1e-5"))


@pytest.mark.parametrize("setup", ["tiny", "llava_665k"])
def test_each_kind_of_work_can_be_given_resources_on_the_command_line(setup: str) -> None:
    asked = (f"resources.{kind}={{gpus: 2, memory_gb: 64}}" for kind in USED_DEVICES)
    found = settings(f"setup={setup}", *asked)
    for kind in USED_DEVICES:
        assert (found.resources[kind].gpus, found.resources[kind].memory_gb) == (2, 64)


def select_with(override: str) -> None:
    config = settings(override)
    Graph(config).selection(config.selector, config.budget, config.seed)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget=0", r"budget=0 is outside \(0, 1\]"),
        ("budget=1.5", r"budget=1.5 is outside \(0, 1\]"),
        ("finetune.epochs=many", r"finetune.epochs='many'.*integer"),
        ("data.on_bad_row=ignore", r"data.on_bad_row='ignore'.*'error' or 'skip'"),
        ("+data.on_bad_rows=skip", r"unknown key data.on_bad_rows; did you mean on_bad_row\?"),
        ("+finetune.steps=same_steps", r"unknown key finetune.steps; it is finetune.regime now"),
        ("data.world.pool_size=3", r"data.world.pool_size=3 is outside \[100, "),
        ("selector.percentile=120", r"percentile"),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        select_with(override)


def test_a_misspelt_key_on_the_command_line_names_the_nearest_one(tmp_path: Path) -> None:
    result = run_forked(["finetune.learning_rat=3"], tmp_path, os.environ, light=True)
    assert result.returncode == 1
    assert "did you mean finetune.learning_rate?" in result.stderr
    assert "Traceback" not in result.stderr


def test_no_right_key_is_named_as_the_one_that_was_meant() -> None:
    """What Hydra cannot override may still be a key, or a group."""
    config = OmegaConf.create({"selector": {"rule": "vote"}, "seed": 0})
    for key in ("selector", "selector.rule", "seed"):
        message = f"Could not override '{key}'. It is no leaf."
        assert explain_override(message, config) == message
    assert "did you mean seed?" in explain_override("Could not override 'sed'.", config)


@pytest.mark.parametrize(
    "override",
    [
        "projector=srht",
        "projector.dim=64",
        "finetune.steps=same_steps",
        "gradients.val_feature=sgd",
    ],
)
def test_a_renamed_key_on_the_command_line_names_its_new_name(override: str) -> None:
    with pytest.raises(HydraException) as refused:
        composed(override)
    key = override.partition("=")[0]
    said = explain_override(str(refused.value), composed())
    assert said == f"unknown key {key}; it is {new_name(key)} now."


def test_the_new_name_of_every_renamed_key_is_a_key() -> None:
    leaves = set(leaf_keys(composed()))
    for old, new in RENAMED.items():
        assert any(key == new or key.startswith(f"{new}.") for key in leaves), new
        assert not any(key == old or key.startswith(f"{old}.") for key in leaves), old


def test_help_shows_commands_and_choices(tmp_path: Path) -> None:
    result = run_forked(["--help"], tmp_path, os.environ, light=True)
    assert result.returncode == 0
    assert f"{ROOT / 'run.py'} plan=true" in result.stdout  # as it was started
    assert "selector: " in result.stdout


def test_planning_imports_nothing_heavy() -> None:
    code = (
        "import sys; from icons_repro import pipeline; "
        "sys.exit(','.join(m for m in ('torch', 'transformers', 'lightning', 'lmms_eval', 'wandb')"
        " if m in sys.modules) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("program", ["run.py", "src/icons_repro/__main__.py"])
def test_a_process_of_executor_local_imports_nothing_for_the_program_it_belongs_to(
    program: str,
) -> None:
    """It reads the file that the user started, as multiprocessing has it."""
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__mp_main__'); "
        "sys.exit(','.join(m for m in ('hydra', 'numpy', 'torch') if m in sys.modules) or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / program)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_hydras_check_and_the_engine_compose_a_job_once_between_them() -> None:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
        compose_one, calls = loader.load_sweep_config, []

        def counted(master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
            calls.append(sweep_overrides)
            return compose_one(master_config, sweep_overrides)

        loader.load_sweep_config = counted
        compose_once_for_both(loader)
        checked = loader.load_sweep_config(master, ["seed=1"])
        assert loader.load_sweep_config(master, ["seed=1"]) is checked
        assert loader.load_sweep_config(master, ["seed=2"]).seed == 2
        assert calls == [["seed=1"], ["seed=2"]]
        again = loader.load_sweep_config(master_config=master, sweep_overrides=["seed=1"])
        assert again is not checked, "whoever had it may have changed it"


def test_jobs_are_counted_on_a_terminal_while_they_are_composed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "DELAY", 0)
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
        composing = compose_once_for_both(loader)
        for seed in (1, 2, 2):
            loader.load_sweep_config(master, [f"seed={seed}"])
        shown = terminal.getvalue()
        composing.close()
    assert "composing the jobs: 2 jobs" in shown
    assert terminal.getvalue().endswith(" \r"), "nothing is left of it"

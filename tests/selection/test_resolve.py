"""A config names one selector and its arguments; it runs nothing else."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from forked import run_forked

from icons_repro.core.errors import ConfigError
from icons_repro.selection.base import BudgetedSelector, RankingSelector
from icons_repro.selection.icons import Icons
from icons_repro.selection.resolve import build_selector

ICONS = "icons_repro.selection.icons.Icons"
COINCIDE = "icons_repro.selection.coincide.Coincide"
EL2N = "icons_repro.selection.el2n.EL2N"


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


class Strict(RankingSelector):
    """A selector of a user's own, with one argument that must be given."""

    name = "strict"

    def __init__(self, share: float, other: Any = None) -> None:
        if share > 1:
            raise ValueError("share is above 1")
        self.share = share

    def scores(self, pool: Any, rng: Any) -> Any:
        raise NotImplementedError


class Halfway(RankingSelector):
    name = "halfway"


class Nameless(Strict):
    name = None  # type: ignore[assignment]


HERE = __name__


def test_arguments_reach_the_selector() -> None:
    built = build_selector({"_target_": ICONS, "percentile": 70, "tasks": ["a"], "rule": "mean"})
    assert built == Icons(percentile=70.0, tasks=["a"], rule="mean")
    assert build_selector({"_target_": ICONS, "percentile": "budget"}) == Icons(percentile="budget")
    own = build_selector({"_target_": f"{HERE}.Strict", "share": 1, "other": {"any": ["thing"]}})
    assert isinstance(own, BudgetedSelector)


@pytest.mark.parametrize("where", ["value", "list", "deep"])
def test_a_nested_target_is_refused_and_not_called(where: str, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    call = {"_target_": "torch.load", "f": str(tmp_path / "p"), "weights_only": False}
    value: Any = {"value": call, "list": ["a", call], "deep": {"x": [{"y": call}]}}[where]
    with pytest.raises(ConfigError, match=r"selector\.tasks.*\._target_: arguments are plain"):
        build_selector({"_target_": ICONS, "tasks": value})
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_target_": "os.mkdir", "path": "{tmp}/ran"}, r"this is no selector\. A selector is"),
        ({"_target_": "subprocess.Popen", "args": ["true"]}, "this is no selector"),
        ({"_target_": "icons_repro.selection.base.Ranking"}, "this is no selector"),
        ({"_target_": "icons_repro.selection.base.RankingSelector"}, r"does not say scores"),
        ({"_target_": f"{HERE}.Halfway"}, r"does not say scores"),
        ({"_target_": f"{HERE}.Nameless", "share": 0.1}, r"has no `name`"),
        ({"_target_": "icons_repro.selection.icons.Icon"}, r"has no Icon; did you mean Icons\?"),
        (
            {"_target_": "icons_repro.selection.icon.Icons"},
            r"did you mean icons_repro\..*icons",
        ),
        ({"_target_": "nowhere.Mine"}, r"no module nowhere\. A module .* on PYTHONPATH"),
        ({"_target_": "Icons"}, r"module\.Class"),
        ({"_target_": 3}, r"module\.Class"),
        ({}, r"module\.Class"),
        ({"_target_": ICONS, "percentil": 3}, r"unknown key selector\.percentil; did .*percentile"),
        ({"_target_": ICONS, "_partial_": True}, r"unknown key selector\._partial_"),
        ({"_target_": EL2N, "keep": "hihg"}, r"selector\.keep='hihg': .*; did you mean high\?"),
        ({"_target_": ICONS, "percentile": "bugdet"}, r"percentile.*; did you mean budget\?"),
        ({"_target_": COINCIDE, "clusters": "many"}, r"selector\.clusters='many': .*integer"),
        ({"_target_": COINCIDE, "iterations": True}, r"selector\.iterations=True: .*integer"),
        ({"_target_": COINCIDE, "tau": [1]}, r"selector\.tau=\[1\]: .*number"),
        ({"_target_": ICONS, "tasks": "mme"}, r"selector\.tasks='mme': "),
        ({"_target_": f"{HERE}.Strict"}, r"selector\.share is not set, and Strict"),
        ({"_target_": f"{HERE}.Strict", "share": 2}, r"selector Strict: share is above 1"),
        ({"_target_": ICONS, "percentile": 120}, "percentile"),
    ],
)
def test_a_config_that_makes_no_selector_says_what_to_change(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = {k: v.format(tmp=tmp_path) if isinstance(v, str) else v for k, v in config.items()}
    with pytest.raises(ConfigError, match=message):
        build_selector(config)
    assert not (tmp_path / "ran").exists()


def test_a_module_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text("x = 1 / 0\n")
    (tmp_path / "lacking_module.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"broken_module cannot be imported: ZeroDivisionError"):
        build_selector({"_target_": "broken_module.Mine"})
    with pytest.raises(ConfigError, match=r"lacking_module needs no_such_package"):
        build_selector({"_target_": "lacking_module.Mine"})


def test_planning_a_run_calls_nothing_that_the_config_names(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    target = f"{{_target_: torch.load, f: '{tmp_path / 'p'}', weights_only: false}}"
    environment = os.environ | {"ICONS_OUTPUT": str(tmp_path / "out"), "WANDB_MODE": "offline"}
    words = ["plan=true", f"selector.tasks={target}"]
    result = run_forked(words, tmp_path, environment, light=True)
    assert result.returncode == 1
    assert "selector.tasks._target_: arguments are plain values" in result.stdout + result.stderr
    assert not (tmp_path / "ran").exists()

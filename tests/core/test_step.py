"""A step is a value: its name follows from what it is, and it reads back in any process."""

import json
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from steps import Number, Settings, Shared

from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.core.step import added, identity_of, ordered
from icons_repro.core.step_json import from_json, to_json


def tree() -> Number:
    one = Number(value=1, settings=Settings(depth=2, inner={"a": 1}))
    two = Number(value=2, reads=(one,))
    return Number(value=3, reads=(one, two), more={"named": two})


def test_the_fingerprint_follows_identity_and_inputs_and_no_placement() -> None:
    plain = Number(value=1)
    assert plain.fingerprint == Number(value=1).fingerprint
    assert plain.fingerprint == Number(value=1, seconds=3.0, fails="user").fingerprint
    assert plain.fingerprint == Number(value=1, settings=Settings(threads=8)).fingerprint
    others = [
        Number(value=2),
        Number(value=1, settings=Settings(depth=2)),
        Number(value=1, settings=Settings(inner={"a": 1})),
        Number(value=1, reads=(plain,)),
        Number(value=1, reads=(Number(value=2),)),
        Number(value=1, more={"x": plain}),
    ]
    assert len({step.fingerprint for step in (plain, *others)}) == 1 + len(others)


@dataclass(frozen=True)
class Before:
    depth: int = 1


@dataclass(frozen=True)
class After:
    depth: int = 1
    later: int | None = added(None)


def test_a_setting_that_comes_later_renames_nothing_until_it_is_set() -> None:
    assert identity_of(After()) == identity_of(Before())
    assert identity_of(After(later=0)) == {"depth": 1, "later": 0}


def test_inputs_are_named_by_field_number_and_key() -> None:
    assert list(tree().inputs) == ["reads_1", "reads_2", "named"]
    assert [step.label for step in ordered([tree(), Number(value=1)])] == ["1", "2", "3", "1"]


@pytest.mark.parametrize("way", ["json", "pickle"])
def test_a_step_reads_back_whole(way: str) -> None:
    step = tree()
    back = from_json(to_json(step)) if way == "json" else pickle.loads(pickle.dumps(step))
    assert back.fingerprint == step.fingerprint
    assert back.settings == step.settings
    assert isinstance(back.reads, tuple)
    assert {k: v.fingerprint for k, v in back.inputs.items()} == {
        k: v.fingerprint for k, v in step.inputs.items()
    }


def test_placement_travels_too() -> None:
    assert from_json(to_json(Number(value=1, seconds=0.5))).seconds == 0.5


def test_a_shared_input_stands_once_in_the_json() -> None:
    assert len(json.loads(to_json(tree()))["steps"]) == 3


def test_json_of_another_version_or_of_no_step_is_refused() -> None:
    text = to_json(tree())
    with pytest.raises(ConfigError, match="another version of this program"):
        from_json(text.replace('"depth": 2', '"depth": 7'))
    for bad in ("", "[]", '{"goal": "x", "steps": {}}', text.replace("steps:Number", "os:system")):
        with pytest.raises(ConfigError, match=r"not the JSON of a step|is no step"):
            from_json(bad)


def run_alone(step: Number | Shared, tmp_path: Path, *more: str) -> subprocess.CompletedProcess:
    file = tmp_path / "step.json"
    file.write_text(to_json(step))
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "icons_repro.step",
            str(file),
            "--cache",
            str(tmp_path / "c"),
            *more,
        ],
        env={"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[2] / 'src'}"},
        capture_output=True,
        text=True,
    )


def test_a_step_runs_alone_from_its_json(tmp_path: Path) -> None:
    result = run_alone(tree(), tmp_path)
    assert result.returncode == 1
    assert "3" in result.stderr
    assert "reads number (1), which is not finished" in result.stderr
    assert run_alone(tree(), tmp_path, "--all").returncode == 0
    assert (obtain(tree(), Cache(tmp_path / "c")) / "number").read_text() == "10"


def test_a_step_that_fails_says_why_on_the_last_line_and_exits_1(tmp_path: Path) -> None:
    result = run_alone(Number(value=4, fails="user"), tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "Error: number 4 is bad; choose another"
    assert "Traceback" not in result.stderr
    result = run_alone(Number(value=4, fails="bug"), tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "Error: ZeroDivisionError: by zero"

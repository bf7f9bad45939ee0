"""Why a step would run, as a plan says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.files import read_json
from icons_repro.core.step import Counts, Step, placement
from icons_repro.core.work import Work
from icons_repro.preflight import missing
from icons_repro.preflight.missing import why_missing
from icons_repro.preflight.plan import print_plan


@dataclass(frozen=True, eq=False, kw_only=True)
class Choice(Step):
    """What one of several classes chooses."""

    stage = "target_gradients"
    group = "prepare"

    chooser: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 3
    name: str = placement("icons 0.2, seed 0")

    @property
    def label(self) -> str:
        return self.name

    def run(self, work: Work) -> Counts:
        (work.out / "rows").write_text("1 2 3")
        return {}


def choice(name: str, **settings: object) -> Choice:
    return Choice(chooser={"_target_": f"package.{name}", **settings})


def why(step: Step, cache: Cache) -> str:
    return why_missing([step], cache)[step.fingerprint]


def test_the_changed_key_is_named_with_both_values(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert why(Choice(rows=1), cache) == "never computed"
    obtain(Choice(rows=1), cache)
    assert why(Choice(rows=2), cache) == "rows: 1 -> 2"


def test_another_method_is_no_change_of_a_finished_one(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    obtain(choice("Random", seed=0), cache)
    assert why(choice("Icons", rule="vote"), cache) == "never computed"
    obtain(choice("Icons", rule="vote"), cache)
    assert why(choice("Icons", rule="mean"), cache) == "chooser.rule: vote -> mean"
    assert why(choice("Random", seed=1), cache) == "chooser.seed: 0 -> 1"


def test_the_most_similar_one_is_compared_and_at_most_three_keys_are_named(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    obtain(choice("Icons", a=1, b=1, c=1, d=1, e=1), cache)
    said = why(choice("Icons", a=2, b=2, c=2, d=2, e=2), cache)
    assert said == "chooser.a: 1 -> 2; chooser.b: 1 -> 2; chooser.c: 1 -> 2; 2 more"
    obtain(choice("Icons", a=2, b=2, c=2, d=2, e=3), cache)
    assert why(choice("Icons", a=2, b=2, c=2, d=2, e=2), cache) == "chooser.e: 3 -> 2"


def test_damage_is_the_reason_whatever_else_is_there(tmp_path: Path) -> None:
    (obtain(choice("Icons"), Cache(tmp_path)) / "rows").unlink()
    obtain(choice("Icons", rule="mean"), Cache(tmp_path))
    assert why(choice("Icons"), Cache(tmp_path)).startswith("damaged: ")


def test_each_manifest_is_read_once_however_many_steps_are_asked_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    for seed in range(4):
        obtain(choice("Random", seed=seed), cache)
    read: list[Path] = []

    def counted(path: Path) -> Any:
        read.append(path)
        return read_json(path)

    monkeypatch.setattr(missing, "read_json", counted)
    assert len(why_missing([choice("Random", seed=9 + i) for i in range(20)], cache)) == 20
    assert len(read) == 4


@pytest.mark.parametrize(
    "name", ["icons 0.2, seed 0", "round_robin, influence=forward 0.05, seed 11"]
)
def test_a_plan_of_eighty_columns_loses_no_letter(name: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    obtain(choice("Icons", rule="vote", fraction=0.05), cache)
    step = replace(choice("Icons", rule="mean", fraction=0.3), name=name)
    shown = Console(width=80, record=True, file=StringIO())
    print_plan([step], cache, shown)
    text = shown.export_text()
    said = f"{step.stage}{name}{step.fingerprint}run{why(step, cache)}"
    assert sorted(letters(said)) == sorted(letters(text.split("\u2500\n")[1].rsplit("\n", 2)[0]))
    assert (name in text) == (name == "icons 0.2, seed 0")


def letters(text: str) -> str:
    return "".join(text.split())

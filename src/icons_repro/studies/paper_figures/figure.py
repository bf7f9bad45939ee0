"""One of the paper's figures on the tiny world: what `figures.yaml` says of it, and its rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from icons_repro.core.errors import UserError
from icons_repro.report.lines import RANDOM
from icons_repro.studies.analysis import Findings, analyse
from icons_repro.studies.plan_file import read_plan
from icons_repro.studies.rows import FILE, Row, read
from icons_repro.studies.sweeps import REFERENCES, jobs_of, methods_in

SETTINGS = "figures.yaml"
Kind = Literal["curve", "ranking", "benchmarks", "overlap"]
KEYS = {"title", "kind", "x", "split", "default", "names", "groups", "sweeps", "of"}


@dataclass(frozen=True)
class Figure:
    """What is run for one figure, and how it is drawn."""

    folder: Path
    name: str
    title: str
    kind: Kind
    """`curve` over `x`; `ranking` of the methods; `benchmarks`, a grid of methods by benchmarks;
    `overlap`, the rows that methods share."""
    pools: tuple[int, ...]
    """`data.world.seed` of each pool."""
    sweeps: tuple[tuple[str, ...], ...] = ()
    """Overrides of each sweep of a pool; those of all sweeps come first."""
    x: str = "budget"
    """The setting along the axis of a curve."""
    split: tuple[str, ...] = ()
    """Settings that make methods of one selector; their values are the methods' names."""
    default: str = ""
    """The name where a run has none of these settings."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What some values are called instead."""
    groups: Mapping[str, tuple[str, ...]] | None = None
    """Benchmarks that are averaged apart; None averages all."""
    of: str = ""
    """For `overlap`: the figure whose runs are looked at."""

    @property
    def results(self) -> Path:
        """The file of its rows."""
        return self.folder / self.name / FILE

    @property
    def vary(self) -> tuple[str, ...]:
        """The settings that its rows keep beside the selector's own."""
        return tuple(key for key in (self.x, *self.split) if "." in key)

    def rows(self) -> list[Row]:
        """Return the rows that it has."""
        return read(self.results)

    def first(self, pools: int | None) -> Figure:
        """Return the figure with its first pools alone."""
        return replace(self, pools=self.pools[:pools])

    def jobs(self) -> int:
        """Return how many methods each pool has when it is done."""
        return sum(map(jobs_of, self.sweeps))

    def missing(self) -> list[int]:
        """Return the pools that lack a method."""
        rows = self.rows()
        done = {p: methods_in(row for row in rows if row.pool_seed == p) for p in self.pools}
        return [pool for pool in self.pools if done[pool] < self.jobs()]

    def label(self, row: Row) -> str:
        """Return how tables and charts call a row's method, without what is along the axis."""
        if row.selector in REFERENCES:
            return row.selector
        settings = json.loads(row.settings)
        words = [_word(settings[key]) for key in self.split if key in settings]
        return ", ".join(self.names.get(w, w) for w in words) or self.default or row.selector

    def place(self, row: Row) -> float | None:
        """Return where along the axis a row stands; None for one that is the same everywhere."""
        if self.x == "budget":
            return row.budget
        found = json.loads(row.settings).get(self.x) if row.settings else None
        return None if found is None else float(found)

    def found(self) -> dict[str, Findings]:
        """Analyse the rows by group of benchmarks.

        A method at one place of the axis is one method: `by_name` tells which.
        """
        rows = [replace(row, selector=self.called(row), settings="") for row in self.rows()]
        groups: Mapping[str, tuple[str, ...] | None] = self.groups or {"": None}
        return {
            group: analyse([_only(row, names) for row in rows], [RANDOM])
            for group, names in groups.items()
        }

    def called(self, row: Row) -> str:
        """Return the label and the place on the axis, unless that is the budget."""
        place = None if self.x == "budget" else self.place(row)
        at = "" if place is None or self.kind != "curve" else f" at {place:g}"
        return f"{self.label(row)}{at}"


def figures_of(folder: Path) -> list[Figure]:
    """Read `figures.yaml`. Raises `UserError` naming the file and what is wrong."""
    path = folder / SETTINGS
    tree = read_plan(path, "figures")
    if not isinstance(tree, dict) or {"pools", "overrides", "figures"} - set(tree):
        raise UserError(f"{path} wants pools, overrides and figures.")
    pools = tuple(map(int, tree["pools"]))
    common = tuple(map(str, tree["overrides"]))
    return [_figure(folder, name, told, pools, common) for name, told in tree["figures"].items()]


def _figure(
    folder: Path, name: str, told: Any, pools: tuple[int, ...], common: Sequence[str]
) -> Figure:
    where = f"{folder / SETTINGS}, {name}"
    if not isinstance(told, dict) or set(told) - KEYS or {"title", "kind"} - set(told):
        raise UserError(f"{where} wants title and kind, and may have {', '.join(sorted(KEYS))}.")
    if told["kind"] not in get_args(Kind):
        raise UserError(f"{where}: kind is one of {', '.join(get_args(Kind))}.")
    sweeps = tuple((*common, *map(str, sweep)) for sweep in told.get("sweeps", []))
    groups = told.get("groups")
    return Figure(
        folder, name, str(told["title"]), told["kind"], pools, sweeps,
        x=str(told.get("x", "budget")), split=tuple(map(str, told.get("split", []))),
        default=str(told.get("default", "")),
        names={str(value): str(name) for value, name in told.get("names", {}).items()},
        groups={k: tuple(names) for k, names in groups.items()} if groups else None,
        of=str(told.get("of", "")),
    )  # fmt: skip


def _only(row: Row, names: Iterable[str] | None) -> Row:
    if names is None:
        return row
    return replace(row, scores=tuple((n, score) for n, score in row.scores if n in set(names)))


def _word(value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    return " ".join(str(v).removeprefix("tiny_") for v in values)

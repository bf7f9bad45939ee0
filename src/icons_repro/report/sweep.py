"""The tables of a sweep: every method over seeds, and what it is compared with."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from icons_repro.core.errors import UserError
from icons_repro.core.trees import flatten
from icons_repro.evaluation.relative import mean_interval
from icons_repro.report.lines import FULL
from icons_repro.report.results import FILE, RunResults, find_results, read_results

if TYPE_CHECKING:
    from rich.table import Table

Interval = tuple[float, float, float]
"""Mean, low, high over seeds (Student's t, 95%); NaN ends for one seed."""
Settings = Mapping[str, Any]
"""A run's settings as flat names, without those that tell seeds and places apart."""

NOT_METHOD = ("seed", "budget", "names", "experiment", "plan", "reference", "references", "logger",
              "paths", "stages", "scale", "hydra")  # fmt: skip
DASH = "-"
BLIND = "blind"


@dataclass(frozen=True)
class SweepRun:
    """One finished run, and the settings that make it a method of its own."""

    results: RunResults
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class SweepRow:
    """One method at one budget, over seeds."""

    setup: str
    scale: str
    method: str
    """The selector, with what tells it from the others of that name: "icons, rule=mean"."""
    budget: float | None
    seeds: tuple[int, ...]
    relative: Interval | None
    above_blind: Interval | None
    benchmarks: Mapping[str, Interval]
    """Scores, for benchmarks that every seed could score."""


def collect(roots: Iterable[Path]) -> list[SweepRun]:
    """Read every run below some folders, oldest first. Raises `UserError` if there is none."""
    folders = list(roots)
    found = sorted(find_results(folders), key=lambda path: path.stat().st_mtime)
    if not found:
        named = ", ".join(str(folder) for folder in folders)
        raise UserError(f"no {FILE} below {named}: run an experiment first.")
    return [
        SweepRun(read_results(path), settings_of(path.parent / "config.yaml")) for path in found
    ]


def settings_of(config: Path) -> Settings:
    """Return the flat settings of a run's `config.yaml`; empty where there is none.

    Settings without a value are left out, so that a key added later splits no sweep.
    """
    if not config.is_file():
        return {}
    tree = yaml.safe_load(config.read_text())
    kept = {key: value for key, value in tree.items() if key not in NOT_METHOD}
    return {key: value for key, value in flatten(kept) if value is not None}


def sweep_rows(runs: Sequence[SweepRun]) -> list[SweepRow]:
    """Return one row for each method and budget, best first, between full data and blind.

    Runs that differ in a setting other than the seed are methods of their own. Of runs that came to
    the same adapter, and of those with the same settings and seed, the last one counts, so that a
    repeated run narrows no interval.
    """
    distinct = {_same(run.results) or place: run for place, run in enumerate(runs)}
    groups: dict[tuple[Any, ...], dict[int, SweepRun]] = defaultdict(dict)
    for run in distinct.values():
        r = run.results
        key = (r.scale, r.setup, r.selector, float(r.budget), frozen(run.settings))
        groups[key][r.seed] = run
    rows = []
    for place in dict.fromkeys(key[:2] for key in groups):
        here = {key: list(by.values()) for key, by in groups.items() if key[:2] == place}
        methods = [_row(members, _label(key, here)) for key, members in here.items()]
        methods.sort(key=lambda row: -row.relative[0] if row.relative else math.inf)
        everyone = [run.results for members in here.values() for run in members]
        rows += [*_reference(FULL, everyone), *methods, *_reference(BLIND, everyone)]
    return rows


def _same(r: RunResults) -> tuple[Any, ...] | None:
    """Return what two runs of one trained model share; None for a run without a model."""
    return (r.scale, r.setup, r.selector, r.budget, r.seed, r.adapter) if r.adapter else None


def frozen(settings: Settings) -> frozenset[tuple[str, str]]:
    """Return settings as something that can be a key."""
    return frozenset((key, str(value)) for key, value in settings.items())


def _label(key: tuple[Any, ...], groups: Iterable[tuple[Any, ...]]) -> str:
    """Name a group by its selector and the settings that others of that name have otherwise."""
    same_name = [other[4] for other in groups if other[:4] == key[:4]]
    common = frozenset.intersection(*same_name)
    own = sorted(key[4] - common)
    return ", ".join([key[2], *(f"{k.removeprefix('selector.')}={v}" for k, v in own)])


def _row(members: Sequence[SweepRun], method: str) -> SweepRow:
    results = [run.results for run in members]
    first = results[0]
    return SweepRow(
        setup=first.setup,
        scale=first.scale,
        method=method,
        budget=float(first.budget),
        seeds=tuple(sorted(r.seed for r in results)),
        relative=_over_seeds([r.relative for r in results]),
        above_blind=_over_seeds([(r.relative or {}).get("above_blind") for r in results]),
        benchmarks=_means([{n: _score(b) for n, b in r.benchmarks.items()} for r in results]),
    )


def _reference(name: str, results: Sequence[RunResults]) -> list[SweepRow]:
    """Return the row of full data or of blind answers, if every run was compared with one such."""
    found: dict[int, Mapping[str, float | None]] = {}
    for r in results:
        scores = (r.relative or {}).get("compared_with", {}).get(name)
        if not scores or found.setdefault(r.seed, scores) != scores:
            return []
    first, whole = results[0], (100.0, math.nan, math.nan)
    return [
        SweepRow(
            setup=first.setup,
            scale=first.scale,
            method=name,
            budget=1.0 if name == FULL else None,
            seeds=tuple(sorted(found)),
            relative=whole if name == FULL else None,
            above_blind=whole if name == FULL else (0.0, math.nan, math.nan),
            benchmarks=_means(list(found.values())),
        )
    ]


def _score(result: Mapping[str, Any]) -> float | None:
    return result["score"] if result["status"] == "ok" else None


def _over_seeds(found: Sequence[Mapping[str, Any] | None]) -> Interval | None:
    values = [f["value"] for f in found if f is not None]
    return mean_interval(values) if len(values) == len(found) else None


def _means(scores: Sequence[Mapping[str, float | None]]) -> dict[str, Interval]:
    means = {}
    for name in dict.fromkeys(name for one in scores for name in one):
        values = [one.get(name) for one in scores]
        if all(value is not None for value in values):
            means[name] = mean_interval([value for value in values if value is not None])
    return means


@dataclass(frozen=True)
class Cells:
    """A table as text: one for each setup, so that tiny and paper numbers never share one."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> Table:
        """Return it for the terminal."""
        from rich.table import Table

        table = Table(title=self.title, title_justify="left", header_style="bold")
        for i, heading in enumerate(self.headings):
            table.add_column(heading, justify="right" if i else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """Return it for a page."""
        lines = [self.headings, ("---", *("---:" for _ in self.headings[1:])), *self.rows]
        return "\n".join([f"{self.title}:", "", *("| " + " | ".join(c) + " |" for c in lines)])


def sweep_tables(rows: Sequence[SweepRow]) -> list[Cells]:
    """Return one table for each setup."""
    tables = []
    for scale, setup in dict.fromkeys((row.scale, row.setup) for row in rows):
        members = [row for row in rows if (row.scale, row.setup) == (scale, setup)]
        names = list(dict.fromkeys(name for row in members for name in row.benchmarks))
        tables.append(
            Cells(
                f"{setup} ({scale} scale), mean ± half-width of the 95% interval over seeds",
                ("method", "budget", "seeds", "Rel. %", "above blind %", *names),
                tuple(_cells(row, names) for row in members),
            )
        )
    return tables


def _cells(row: SweepRow, names: Sequence[str]) -> tuple[str, ...]:
    return (
        row.method,
        DASH if row.budget is None else f"{row.budget:g}",
        str(len(row.seeds)),
        mean_text(row.relative),
        mean_text(row.above_blind),
        *(mean_text(row.benchmarks.get(name)) for name in names),
    )


def mean_text(interval: Interval | None) -> str:
    """Return "97.2 ±1.4"; no half-width for one seed."""
    if interval is None:
        return DASH
    mean, _, high = interval
    return f"{mean:.1f}" if high != high else f"{mean:.1f} ±{high - mean:.1f}"

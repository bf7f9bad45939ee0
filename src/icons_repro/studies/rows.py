"""`results.csv` of a study: one row for each trained model and each reference, on each pool."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json, write_text
from icons_repro.report.lines import FULL, RANDOM, THIS_RUN
from icons_repro.report.runs import BLIND, SOURCE, SweepRun

FILE = "results.csv"
MADE = ("world", "pool", "pool_seed", "seed", "selector", "settings", "budget", "regime", "commit")
"""The columns before the benchmarks' scores."""
VARIES = ("seed", "regime")
"""Of a training's settings: what rows of one study may differ in."""


@dataclass(frozen=True)
class Row:
    """The scores of one model, in percent, and what made it."""

    world: str
    """A hash of the world's settings and version, the base and the recipe, seeds apart; rows of two
    worlds are never compared."""
    pool: str
    """The pool's fingerprint."""
    pool_seed: int
    seed: int
    selector: str
    """The method, or "full" or "blind"."""
    settings: str
    """The selector's own settings, and the source of influence if it is not the usual, as JSON."""
    budget: float
    regime: str
    """How long it trained: "same_epochs", "same_steps"; "" for a reference that has one length."""
    commit: str
    scores: tuple[tuple[str, float], ...]
    """By benchmark, in the order of their names."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What two rows of one model share."""
        return (self.world, self.pool, self.seed, self.selector, self.settings, self.budget,
                self.regime)  # fmt: skip


def rows_of(run: SweepRun) -> Iterator[Row]:
    """Yield the row of a run and those of what it was compared with.

    A run without scores yields nothing. Raises `DataError` if it has no `config.yaml`.
    """
    if not run.scores:
        return
    if run.settings is None:
        raise DataError(f"{run.name} has no config.yaml: it cannot be told what made its scores.")
    settings, found = run.settings, run.results
    own = {k: v for k, v in settings.items() if k.startswith(("selector.", f"{SOURCE}."))}
    own |= {SOURCE: settings[SOURCE]} if SOURCE in settings else {}
    regime = str(settings.get("finetune.regime", ""))
    lines = [(found.selector, own, found.budget, regime, run.scores)]
    for name, budget, length in ((FULL, 1.0, ""), (RANDOM, found.budget, regime), (BLIND, 0.0, "")):
        if scores := run.scores_of(name):
            lines.append((name, {}, budget, length, scores))
    for selector, options, budget, length, scores in lines:
        yield Row(
            world=world_of(run),
            pool=run.replicate.pool,
            pool_seed=int(settings.get("data.world.seed", 0)),
            seed=found.seed,
            selector=selector,
            settings=_text(selector, options),
            budget=float(budget),
            regime=length,
            commit=str(_manifest(run, found.selection).get("commit", ""))[:10],
            scores=tuple(sorted(scores.items())),
        )


def world_of(run: SweepRun) -> str:
    """Return a hash of what all runs of a study have in common.

    Raises `DataError` if the artifacts that tell it are gone.
    """
    training = _manifest(run, run.results.adapter)
    evaluation = _manifest(run, run.results.evaluations.get(THIS_RUN))
    cache = run.located(run.results.selection).parent.parent
    world = _manifest(run, str(cache / "world" / evaluation["inputs"]["world"]))
    told = {
        "scale": run.results.scale,
        "base": training["inputs"]["base"],
        "recipe": _without_seeds(training["config"]),
        "world": [world["version"], _without_seeds(world["config"])],
    }
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=6).hexdigest()


def _manifest(run: SweepRun, folder: str | None) -> dict[str, Any]:
    path = run.located(folder or "") / "manifest.json"
    found = read_json(path)
    if not isinstance(found, dict):
        raise DataError(f"{run.name}: {path} is gone, so it cannot be told what made its scores.")
    return found


def _without_seeds(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_seeds(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in VARIES
    }


def _text(selector: str, options: Mapping[str, Any]) -> str:
    if selector in (FULL, RANDOM, BLIND):
        return ""
    short = {k.removeprefix("selector."): v for k, v in options.items() if "_target_" not in k}
    return json.dumps(short, sort_keys=True)


def read(path: Path) -> list[Row]:
    """Read a `results.csv`; none gives no rows. Raises `DataError` naming file and line."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        if missing := sorted(set(MADE) - set(names)):
            raise DataError(f"{path} lacks the columns {', '.join(missing)}.")
        benchmarks = sorted(name for name in names if name not in MADE)
        return [_parsed(line, benchmarks, f"{path}:{n}") for n, line in enumerate(reader, start=2)]


def _parsed(line: dict[str, Any], benchmarks: Sequence[str], place: str) -> Row:
    try:
        scores = tuple((name, float(line[name])) for name in benchmarks if line[name])
        row = Row(
            line["world"], line["pool"], int(line["pool_seed"]), int(line["seed"]),
            line["selector"], line["settings"], float(line["budget"]), line["regime"],
            line["commit"], scores,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise DataError(f"{place}: {error}. Mend the line or delete it.") from error
    if not all(math.isfinite(value) for _, value in scores):
        raise DataError(f"{place}: a score is not a number. Mend the line or delete it.")
    return row


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Return old and new rows, sorted; of equal ones (but for the commit) the older stays."""
    found = {(row.key, row.scores): row for row in (*new, *reversed(list(old)))}
    return sorted(found.values(), key=lambda r: (r.world, r.pool_seed, r.selector, r.key, r.scores))


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write rows whole or not at all; a benchmark that a row lacks is left empty."""
    benchmarks = sorted({name for row in rows for name, _ in row.scores})
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*MADE, *benchmarks])
    for row in rows:
        scores = {name: f"{value:.6g}" for name, value in row.scores}
        made = [str(getattr(row, name)) for name in MADE]
        lines.writerow([*made, *(scores.get(name, "") for name in benchmarks)])
    write_text(path, text.getvalue())

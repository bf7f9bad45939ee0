"""Other selections from a run's pool: what another method chose instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from icons_repro.core.cache import Cache
from icons_repro.core.errors import DataError
from icons_repro.core.step import Step, ordered
from icons_repro.report.lines import FULL
from icons_repro.report.results import FILE, read_results
from icons_repro.selection.stage import Select


def rival_selections(
    own: Select, goals: Sequence[Step], cache: Cache, runs: Path
) -> dict[str, Path]:
    """Return finished selections from the same pool, by "METHOD BUDGET, seed N".

    They are those of the same sweep, and of finished runs in the folder `runs`. Those of the same
    budget come first; all of the pool is no choice and is left out.
    """
    found = [*_of_sweep(own, goals, cache), *_on_disk(own, runs)]
    distinct = {path.resolve(): (name, path) for name, path in reversed(found)}
    distinct.pop(cache.path(own).resolve(), None)
    budget = f" {float(own.budget):g},"
    named: dict[str, Path] = {}
    for name, path in sorted(distinct.values(), key=lambda entry: (budget not in entry[0], entry)):
        named[name if name not in named else f"{name} ({path.name[:6]})"] = path
    return named


def _of_sweep(own: Select, goals: Sequence[Step], cache: Cache) -> Iterator[tuple[str, Path]]:
    for step in ordered(goals):
        if not isinstance(step, Select) or step.method == FULL:
            continue
        if step.pool.fingerprint == own.pool.fingerprint and cache.is_ready(step):
            yield step.label, cache.path(step)


def _on_disk(own: Select, runs: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(runs.glob(f"*/{FILE}")):
        try:
            results = read_results(path)
        except (DataError, TypeError):  # another program's; the sweep's page lists it
            continue
        folder = Path(results.selection)
        known = results.pool == own.pool.fingerprint and (folder / "positions.npy").is_file()
        if known and results.selector != FULL:
            yield f"{results.selector} {results.budget:g}, seed {results.seed}", folder

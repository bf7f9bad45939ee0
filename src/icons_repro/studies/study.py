"""A study's folder: `study.yaml` says what to run, `results.csv` what came out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icons_repro.core.errors import UserError
from icons_repro.report.lines import FULL
from icons_repro.report.runs import collect
from icons_repro.studies.plan_file import read_plan
from icons_repro.studies.rows import FILE, Row, merged, read, write
from icons_repro.studies.sweeps import rows_below, sweep

log = logging.getLogger(__name__)

SETTINGS = "study.yaml"
KEYS = {"experiment", "against", "pools", "overrides", "sweeps"}


@dataclass(frozen=True)
class Study:
    """What a folder of `experiments/` runs."""

    folder: Path
    experiment: str
    """The name of an experiment config."""
    against: tuple[str, ...]
    """The methods that every other one is compared with."""
    pools: tuple[int, ...]
    """`data.world.seed` of each pool; one sweep each, so that an interrupted study goes on."""
    overrides: tuple[str, ...]
    """More for every command line, such as who does the work."""
    sweeps: tuple[tuple[str, ...], ...] = ((),)
    """What each sweep of a pool adds to that: methods that one product of choices cannot name."""

    @classmethod
    def of(cls, folder: Path) -> Study:
        """Read a folder's `study.yaml`. Raises `UserError` naming the file and what is wrong."""
        path = folder / SETTINGS
        tree = read_plan(path, "study")
        if not isinstance(tree, dict) or set(tree) - KEYS or {"experiment", "pools"} - set(tree):
            raise UserError(
                f"{path} wants experiment and pools, and may have against, overrides, sweeps."
            )
        return cls(
            folder,
            str(tree["experiment"]),
            tuple(map(str, tree.get("against", ["random"]))),
            tuple(map(int, tree["pools"])),
            tuple(map(str, tree.get("overrides", []))),
            tuple(tuple(map(str, each)) for each in tree.get("sweeps", [[]])),
        )

    @property
    def results(self) -> Path:
        """The file of its rows."""
        return self.folder / FILE

    def rows(self) -> list[Row]:
        """Return the rows that it has. Raises `DataError` for a damaged file."""
        return read(self.results)

    def add(self, runs: Path) -> int:
        """Take in every run below a folder; return how many rows are new.

        A run whose cache is gone is named and left out.
        """
        old = self.rows()
        rows = merged(old, rows_below(collect([runs])))
        write(self.results, rows)
        return len(rows) - len(old)

    def missing(self) -> list[int]:
        """Return the pools that have no row of full data yet."""
        done = {row.pool_seed for row in self.rows() if row.selector == FULL}
        return [pool for pool in self.pools if pool not in done]

    def run(self, output: Path, again: bool, more: Sequence[str] = ()) -> None:
        """Run the sweeps of every missing pool (`again`: of every pool), adding rows after each.

        Raises `UserError` at the end if a sweep failed somewhere; what its other jobs scored is
        added, and the other pools are run all the same.
        """
        failed = []
        for pool in self.pools if again else self.missing():
            told = [f"experiment={self.experiment}", f"data.world.seed={pool}", *self.overrides]
            codes = [sweep([*told, *each, *more]) for each in self.sweeps]
            failed += [str(pool)] if any(codes) else []
            runs = output / "runs" / "tiny" / self.experiment
            if runs.is_dir():
                log.info("pool %d: %d rows are new", pool, self.add(runs))
        if failed:
            raise UserError(
                f"sweeps of pools {', '.join(failed)} did not end well: see their last lines. "
                "--run --again goes on with what they lack."
            )

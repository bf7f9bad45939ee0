"""A cascade, as steps: the rows that come through, and what is known of all of them in the end."""

from __future__ import annotations

from dataclasses import dataclass

from icons_repro.core.step import Counts, Step
from icons_repro.core.work import Work
from icons_repro.data.stage import Pool
from icons_repro.influence.stage import RowSource


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidates(Pool):
    """The rows of a pool that are among the best of some task: a smaller pool, in its order.

    Whatever takes a pool takes them, and so never reads another row.
    """

    stage = "candidates"
    group = "score"
    version = 1
    light = False

    of: Pool
    scores: Step
    """Leaves `influence.parquet`: the cheap source's."""
    share: float
    """Share of the rows that come through for each task."""

    def run(self, work: Work) -> Counts:
        """Write `records.arrow` and `positions.npy`, int64 in the whole pool; link `images`."""
        from icons_repro.influence.cascade import jobs

        return jobs.candidates(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class CascadedInfluence(Step):
    """The influence of the candidates, with every other row of the pool below them."""

    stage = "influence"
    group = "score"

    pool: Pool
    candidates: Candidates
    influence: Step
    """Leaves the candidates' `influence.parquet`."""

    def run(self, work: Work) -> Counts:
        """Write `influence.parquet` of all rows, with the column `measured`."""
        from icons_repro.influence.cascade import jobs

        return jobs.cascaded(self, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class CascadedRows(RowSource):
    """The candidates' influence by validation row; the other rows have none."""

    candidates: Candidates
    rows: Step
    """Leaves the candidates' rows, as `influence/rows/files.py` reads them."""

    def run(self, work: Work) -> Counts:
        """Write `columns.json` and where each row of the pool stands among the candidates."""
        from icons_repro.influence.cascade import jobs

        return jobs.cascaded_rows(self, work)

"""Cascade: gradients of the rows alone that a cheap source finds best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from icons_repro.core.bounds import Name, Share
from icons_repro.core.step import Step
from icons_repro.influence.cascade.stage import Candidates, CascadedInfluence, CascadedRows
from icons_repro.influence.sources.base import Source, Wiring
from icons_repro.influence.sources.gradients import Gradients
from icons_repro.influence.sources.named import named_source


@dataclass(frozen=True)
class Cascade(Source):
    """Gradients' influence for each task's best rows by another source; the rest below them.

    Formula: C = union over tasks k of the best `share` of rows by `first`'s influence on k
    (sub-tasks by their maximum); a row of C has the influence of `influence=gradients` as
    `gradients` says; any other usable row stands below all of C for every task, in `first`'s order,
    and has no vote. Percentiles are over all rows, so a vote is what the full computation would
    give it where the cheap source has lost none of a task's best. By validation row, rows outside C
    have no influence and are nobody's first choice. Source: ours; rescoring a cheap method's best
    by an expensive one is retrieval's cascade (Wang, Lin and Metzler 2011). Cost: `first`'s over
    all rows; forward and backward, and a stored row, for those of C alone, which the union makes
    more than `share`: benchmarks/README.md has both, and the recall.
    """

    name: ClassVar[str] = "cascade"

    first: Name = "bm25"
    """The cheap source: a name of `conf/influence/`, or module.Class."""
    share: Share = 0.2
    """Of the rows that `first` scores, for each task."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `first`."""

    def __post_init__(self) -> None:
        named_source(self.first, self.options, "first")

    def influence(self, wiring: Wiring) -> Step:
        """The candidates' gradients, and where that leaves the others."""
        some = self._candidates(wiring)
        return CascadedInfluence(
            pool=wiring.pool,
            candidates=some,
            influence=Gradients().influence(wiring.within(some)),
        )

    def by_validation_row(self, wiring: Wiring) -> Step | None:
        """The candidates' gradients; None where they are taken directly."""
        some = self._candidates(wiring)
        rows = Gradients().by_validation_row(wiring.within(some))
        if rows is None:
            return None
        return CascadedRows(
            pool=wiring.pool,
            targets=wiring.targets,
            subtasks=wiring.config.targets.subtasks,
            candidates=some,
            rows=rows,
        )

    def remedy(self, wiring: Wiring) -> str:
        """As of gradients."""
        return Gradients().remedy(wiring)

    def _candidates(self, wiring: Wiring) -> Candidates:
        first = named_source(self.first, self.options, "first")
        return Candidates(
            policy=wiring.pool.policy,
            of=wiring.pool,
            scores=first.influence(wiring),
            share=self.share,
        )

"""A pool, or target tasks, from files in other formats, as a step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from icons_repro.core.step import Counts, SharedStep
from icons_repro.core.work import Work
from icons_repro.data.formats.base import SourceSpec
from icons_repro.data.stage import MadeData


@dataclass(frozen=True, eq=False, kw_only=True)
class Converted(MadeData, SharedStep):
    """`pool.json`, or `targets/TASK.json`, with the images beside it, from any known format.

    A part is a file of a source, so a killed run goes on at the file it was at, and several workers
    share the files. A row keeps its place: row i is row i of the sources put end to end.
    """

    stage = "converted"
    group = "prepare"
    light = True
    natural_parts = 4
    weight = 5.0

    sources: tuple[SourceSpec, ...]
    follow_symlinks: bool = False
    """As the pool's: take images through links that leave their folder."""
    seed: int = 0
    """Draws the rows of sources whose weight is no whole number."""
    targets: bool = False
    """Each source is a target task, named by it."""

    @property
    def label(self) -> str:
        """Its sources, by name, or by what they are called where they lie."""
        return ", ".join(source.name or Path(source.where).name for source in self.sources)

    def parts(self, work: Work) -> list[str]:
        """Name the files of all sources."""
        from icons_repro.data.formats import jobs

        return jobs.part_names(self)

    def fill(self, work: Work, parts: Iterator[str]) -> None:
        """Turn the rows of the files that come."""
        from icons_repro.data.formats import jobs

        for part in parts:
            jobs.fill(self, work.out, part)

    def finish(self, work: Work) -> Counts:
        """Put the files' rows end to end."""
        from icons_repro.data.formats import jobs

        return jobs.finish(self, work.out)

"""What the select step does: hand a selector its arrays, and write what it chose."""

from __future__ import annotations

import logging

import numpy as np

from icons_repro.core.files import write_json
from icons_repro.core.step import Counts
from icons_repro.core.types import Pool
from icons_repro.core.work import Work
from icons_repro.data.records import RecordTable
from icons_repro.data.subset import write_subset
from icons_repro.features.extra import pool_feature
from icons_repro.selection.artifact import spread, write_selection
from icons_repro.selection.base import budget_to_k
from icons_repro.selection.resolve import build_selector
from icons_repro.selection.stage import Select

log = logging.getLogger(__name__)


def select(step: Select, work: Work) -> Counts:
    """Choose among the usable rows."""
    table = RecordTable(work.path(step.pool) / "records.arrow")
    usable = table.usable
    seen = Pool(
        keys=table.keys[usable],
        sources=table.sources[usable],
        words=table.words[usable],
        has_image=table.image_counts[usable] > 0,
        features={n: pool_feature(n).load(work.path(s), usable) for n, s in step.features.items()},
        device=device_here(step.device),
    )
    k = budget_to_k(float(step.budget), len(seen))
    chosen = build_selector(step.selector).select(seen, k, np.random.default_rng(step.seed))
    selection = spread(chosen, usable)
    write_selection(selection, table.keys, work.out)
    write_subset(table, selection.positions, work.out / "subset.json")
    write_json(work.out / "sources.json", by_source(table.sources, selection.positions))
    return {"rows": len(table), "usable": len(seen), "selected": len(selection.positions)}


def device_here(wanted: str) -> str:
    """Return the device if this process has one, else "cpu", where any selection can be made."""
    if wanted == "cpu":
        return wanted
    from icons_repro.features.on_device import has_device  # imports torch

    found = wanted if has_device(wanted) else "cpu"
    log.info("clusters and neighbours are found on %s (asked for: %s)", found, wanted)
    return found


def by_source(sources: np.ndarray, positions: np.ndarray) -> dict[str, dict[str, int]]:
    """Count rows by source, in the pool and among the chosen."""
    counts: dict[str, dict[str, int]] = {}
    for name, rows in (("pool", sources), ("selected", sources[positions])):
        for source, count in zip(*np.unique(rows, return_counts=True), strict=True):
            if source:
                counts.setdefault(str(source), {"pool": 0, "selected": 0})[name] = int(count)
    return counts

"""Select: the rows that a method keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from icons_repro.core.artifacts import Step, Workspace


def make_selector(config: Mapping[str, Any]) -> Any:
    """Build a selector from its config; see `build_selector`."""
    from icons_repro.selection.resolve import build_selector

    return build_selector(config)


def select(
    config: Mapping[str, Any],
    budget: float,
    seed: int,
    pool: Step,
    features: Mapping[str, Step],
) -> Step:
    """The rows that a selector keeps."""
    from icons_repro.selection.base import budget_to_k

    selector = make_selector(config)
    budget_to_k(budget, 1)  # refuse an impossible budget before anything runs

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.core.types import Pool
        from icons_repro.data.records import RecordTable
        from icons_repro.data.subset import write_subset
        from icons_repro.features.load import load_feature
        from icons_repro.selection.artifact import spread, write_selection

        table = RecordTable(ws.inputs["pool"] / "records.arrow")
        usable = table.usable
        seen = Pool(
            keys=table.keys[usable],
            sources=table.sources[usable],
            words=table.words[usable],
            has_image=table.image_counts[usable] > 0,
            features={n: load_feature(n, ws.inputs[n], usable) for n in features},
        )
        k = budget_to_k(budget, len(seen))
        chosen = selector.select(seen, k, np.random.default_rng(seed))
        selection = spread(chosen, usable)
        write_selection(selection, table.keys, ws.out)
        write_subset(table, selection.positions, ws.out / "subset.json")
        counts = by_source(table.sources, selection.positions)
        (ws.out / "sources.json").write_text(json.dumps(counts, indent=2) + "\n")
        return {"rows": len(table), "usable": len(seen), "selected": len(selection.positions)}

    identity = {"selector": dict(config), "budget": str(budget), "seed": seed}
    label = f"{selector.name} {budget:g}, seed {seed}"
    return Step("select", build, identity, {"pool": pool, **features}, label=label)


def by_source(sources: np.ndarray, positions: np.ndarray) -> dict[str, dict[str, int]]:
    """Count rows by source, in the pool and among the chosen."""
    counts: dict[str, dict[str, int]] = {}
    for name, rows in (("pool", sources), ("selected", sources[positions])):
        for source, count in zip(*np.unique(rows, return_counts=True), strict=True):
            if source:
                counts.setdefault(str(source), {"pool": 0, "selected": 0})[name] = int(count)
    return counts

"""Make the rows of the pool and the truth about them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from icons_repro.tiny.sampling import Sampler
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.sources import SOURCES, Draft, Source
from icons_repro.tiny.streams import image_digest, stream


@dataclass(frozen=True)
class PoolRow:
    """One row of the pool with what only its maker knows."""

    record: dict[str, Any]
    """The row in LLaVA's schema."""
    draft: Draft
    source: str
    on_target: bool
    mislabelled: bool


def make_pool(settings: WorldSettings) -> list[PoolRow]:
    """Draw every row of the pool, source by source, in contiguous blocks."""
    counts = source_counts(settings)
    return [row for source in SOURCES for row in _block(source, counts[source.name], settings)]


def source_counts(settings: WorldSettings) -> dict[str, int]:
    """Return the rows of each source; they sum to `pool_size` and keep `target_share`."""
    on_target = round(settings.target_share * settings.pool_size)
    totals = {True: on_target, False: settings.pool_size - on_target}
    counts: dict[str, int] = {}
    for serves, total in totals.items():
        sources = [source for source in SOURCES if source.on_target == serves]
        weights = np.array([source.weight for source in sources])
        edges = np.round(np.cumsum(weights) / weights.sum() * total).astype(int)
        rows = np.diff(edges, prepend=0)
        counts |= {source.name: int(n) for source, n in zip(sources, rows, strict=True)}
    return counts


def record_of(draft: Draft, source: str, number: int) -> dict[str, Any]:
    """Return a draft in LLaVA's schema; rows about one image share its id, as in LLaVA-665K."""
    turns: list[dict[str, str]] = []
    for i, question in enumerate(draft.turns):
        tag = "<image>\n" if i == 0 and draft.pixels is not None else ""
        turns.append({"from": "human", "value": f"{tag}{question.text}"})
        turns.append({"from": "gpt", "value": question.answer})
    if draft.pixels is None:
        return {"id": f"{source}_{number:05d}", "conversations": turns}
    name = image_digest(draft.pixels)[:12]
    return {"id": name, "image": f"{source}/{name}.png", "conversations": turns}


def _block(source: Source, rows: int, settings: WorldSettings) -> list[PoolRow]:
    """Draw one source's rows; wrong labels have their own stream, so their share moves no row."""
    seed, name = settings.seed, source.name
    rng, spoil = stream(seed, "pool", name), stream(seed, "pool", name, "mislabelled")
    sampler = Sampler("pool", stream(seed, "pool", name, "scenes"))
    share = settings.mislabelled_share if source.on_target else 0.0
    made: list[PoolRow] = []
    for number in range(rows):
        draft, wrong = source.make(sampler, rng), bool(spoil.random() < share)
        if wrong:
            draft = replace(draft, turns=tuple(turn.mislabelled(spoil) for turn in draft.turns))
        record = record_of(draft, name, number)
        made.append(PoolRow(record, draft, name, source.on_target, wrong))
    return made

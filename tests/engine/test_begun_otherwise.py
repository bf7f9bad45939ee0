"""A pass that was begun with other batches is gone on with, and no row is lost on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import graph

from icons_repro.core.build import Options, build, obtain
from icons_repro.core.cache import Cache
from icons_repro.core.settings import DataSettings
from icons_repro.core.step import SharedStep
from icons_repro.core.work import Work
from icons_repro.data.datamodule import PassPlan, open_dataset
from icons_repro.features.catalogue import FEATURES
from icons_repro.gradients.store import GradientStore, RowStatus

SMALL = (
    *("data.world.pool_size=160", "data.world.validation_rows=8", "data.world.test_rows=8"),
    *("warmup.fraction=0.1", "finetune.epochs=1"),
)


class DiedError(Exception):
    """What ends a worker here."""


def begin(step: SharedStep, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what a worker leaves that dies after the first of three parts."""
    for read in step.inputs.values():
        obtain(read, cache)
    fill = type(step).fill

    def one(self: Any, work: Work, parts: Iterator[str]) -> None:
        def first() -> Iterator[str]:
            yield next(parts)
            next(parts)
            raise DiedError

        fill(self, work, first())

    with monkeypatch.context() as patch:
        patch.setattr(type(step), "fill", one)
        with pytest.raises(DiedError):
            build(step, cache, Options(chunks=3))


BUDGETS = pytest.mark.parametrize(("begun", "goes_on"), [(2000, 300), (300, 2000)])


@BUDGETS
def test_no_row_of_a_gradient_store_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: int, goes_on: int
) -> None:
    cache = Cache(tmp_path)
    first, then = (graph(*SMALL, f"gradients.token_budget={n}") for n in (begun, goes_on))
    begin(first.train_gradients(first.config.gradients), cache, monkeypatch)
    store = GradientStore.open(obtain(then.train_gradients(then.config.gradients), cache))
    assert (np.asarray(store.status) == RowStatus.ok).all()


def test_rows_that_no_part_has_brought_are_taken_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, g = Cache(tmp_path), graph(*SMALL)
    step = g.train_gradients(g.config.gradients)
    begin(step, cache, monkeypatch)
    notes = Work(cache.shared_attempt(step), cache).notes
    for name in json.loads((notes / "parts.json").read_text()):
        (notes / f"{name}.done").write_text("{}")
    store = GradientStore.open(obtain(step, cache))
    assert (np.asarray(store.status) == RowStatus.ok).all()


@BUDGETS
def test_no_row_of_a_feature_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: int, goes_on: int
) -> None:
    cache = Cache(tmp_path)
    first, then = (graph(*SMALL, f"features.token_budget={n}") for n in (begun, goes_on))
    begin(first.feature("forward_stats"), cache, monkeypatch)
    made = obtain(then.feature("forward_stats"), cache)
    found = FEATURES["forward_stats"].load(made, np.ones(160, dtype=bool))
    assert np.isfinite(found["loss"]).all()


@pytest.mark.parametrize(("now", "longest"), [(300, 300), (4000, 2000)])
def test_a_chunk_keeps_its_rows_and_its_batches_fit_a_lower_budget(
    tiny_base: Path, small_world: Path, now: int, longest: int
) -> None:
    place = (small_world / "pool", small_world / "images", tiny_base, DataSettings())
    dataset, collate = open_dataset(*place)
    rows = np.flatnonzero(dataset.table.usable)
    table = dataset.table
    length = table.words + table.image_counts * dataset.encoder.image_length
    begun = PassPlan.of(dataset, collate, rows, 2000)
    plan = PassPlan.of(dataset, collate, rows, now, begun_with=2000)
    assert plan.chunk_names(3) == begun.chunk_names(3)
    for name in plan.chunk_names(3):
        before, after = (list(p.loader(name).batch_sampler or []) for p in (begun, plan))
        assert np.array_equal(np.concatenate(before), np.concatenate(after))
        sizes = [len(batch) * length[batch].max() for batch in after]
        assert max(sizes) <= longest

from itertools import chain

import numpy as np
import pytest

from icons_repro.core.errors import ConfigError
from icons_repro.data.batching import modality_length_batches, token_budget_batches
from icons_repro.data.datamodule import training_schedule


def plan(n: int, **changes: object) -> list[list[int]]:
    rng = np.random.default_rng(0)
    arguments: dict[str, object] = {
        "batch_size": 8,
        "micro_batch": 4,
        "epochs": 1,
        "max_steps": None,
        "group_by_length": True,
        "seed": 0,
    }
    schedule = training_schedule(
        np.arange(n) * 10,
        rng.integers(1, 50, n),
        rng.random(n) < 0.7,
        **(arguments | changes),  # type: ignore[arg-type]
    )
    return [batch.tolist() for batch in schedule.batches]


def test_every_row_occurs_once_an_epoch() -> None:
    for n in (1, 5, 8, 61):
        rows = list(chain.from_iterable(plan(n, micro_batch=8)))
        assert sorted(rows) == [10 * i for i in range(n)]


def test_whole_batches_hold_one_modality_and_the_longest_first() -> None:
    rng = np.random.default_rng(1)
    words, has_image = rng.integers(1, 50, 100), rng.random(100) < 0.6
    batches = modality_length_batches(words, has_image, 8, rng)
    for batch in batches[: len(batches) - 2]:
        assert len(set(has_image[batch])) == 1
        assert (np.diff(words[batch]) <= 0).all()


def test_ranks_share_each_global_batch() -> None:
    whole = plan(64, micro_batch=8)
    ranks = [plan(64, micro_batch=2, world_size=2, rank=r) for r in range(2)]
    assert len(ranks[0]) == len(ranks[1]) == 2 * len(whole)
    for step, batch in enumerate(whole):
        parts = [ranks[r][2 * step + m] for r in range(2) for m in range(2)]
        assert sorted(chain.from_iterable(parts)) == sorted(batch)


def test_same_steps_repeats_the_subset() -> None:
    batches = plan(16, micro_batch=8, max_steps=7)
    assert len(batches) == 7
    assert sorted(batches[0] + batches[1]) == sorted(batches[2] + batches[3])


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not divide"):
        plan(16, micro_batch=3)


def test_token_budget_holds_for_all_but_single_rows() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, 500)
    batches = token_budget_batches(lengths, 256)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    for batch in batches:
        assert len(batch) == 1 or lengths[batch].max() * len(batch) <= 256

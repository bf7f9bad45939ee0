"""ICONS as a selector: percentiles, ties, specialists, coverage, presets."""

from __future__ import annotations

import numpy as np
import pytest

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.types import InfluenceMatrix, Pool
from icons_repro.selection.icons import RULES, Icons

RNG = np.random.default_rng(0)


def make_pool(values, tasks=None, keys=None, **features) -> Pool:
    values = np.asarray(values, dtype=np.float32)
    n, t = values.shape
    if keys is None:
        keys = np.array([f"{i:032x}".encode() for i in range(n)], dtype="S32")
    tasks = tasks or tuple(f"task{j}" for j in range(t))
    return Pool(
        keys,
        np.array(["s"] * n),
        np.ones(n, dtype=np.int64),
        np.ones(n, dtype=bool),
        {"influence": InfluenceMatrix(values, tasks, keys), **features},
    )


def test_vote_takes_the_rows_that_most_tasks_want_and_says_who_wanted_them():
    values = np.zeros((10, 3))
    values[2] = 9  # wanted by all three
    values[7, 0] = values[7, 1] = 8  # by two
    values[4, 2] = 8  # by one
    chosen = Icons().select(make_pool(values), 2, RNG)
    assert chosen.positions.tolist() == [2, 7]
    assert chosen.columns["votes"].tolist() == [0, 0, 3, 0, 1, 0, 0, 2, 0, 0]
    assert chosen.columns["influence/task1"][7] == 8
    assert (chosen.ties.threshold, chosen.ties.tied) == (2.0, 1)
    assert chosen.notes["coverage"] == {"task0": 1.0, "task1": 1.0, "task2": 0.5}


def test_equal_votes_go_to_the_higher_mean_percentile_rank_then_to_the_lower_key():
    values = np.array([[1.0, 3], [4, 4], [5, 5], [2, 1], [2, 1]])
    keys = np.array([b"e", b"d", b"c", b"b", b"a"], dtype="S32")
    pool = make_pool(values, keys=keys)
    everybody_votes = {"percentile": 0, "comparison": ">="}
    chosen = Icons(**everybody_votes).select(pool, 4, RNG)
    # Average ranks: 1, 4, 5, 2.5, 2.5 and 3, 4, 5, 1.5, 1.5: rows 0, 3 and 4 all have 4 in sum.
    assert chosen.columns["mean_percentile_rank"].tolist() == [0.3, 0.7, 0.9, 0.3, 0.3]
    assert chosen.positions.tolist() == [1, 2, 3, 4]
    assert (chosen.ties.above, chosen.ties.tied, chosen.ties.taken_of_tied) == (0, 5, 4)
    by_key = Icons(**everybody_votes, tie_rule="key").select(pool, 1, RNG)
    assert by_key.positions.tolist() == [4]


def test_the_vote_percentile_does_not_move_with_the_budget_unless_asked():
    values = np.random.default_rng(1).standard_normal((50, 4))
    pool = make_pool(values)
    fixed = [Icons().select(pool, k, RNG).columns["votes"] for k in (5, 40)]
    np.testing.assert_array_equal(*fixed)
    tied = Icons(percentile="budget").select(pool, 40, RNG).columns["votes"]
    np.testing.assert_array_equal(tied, Icons(percentile=20).select(pool, 40, RNG).columns["votes"])


def test_one_task_alone_is_its_specialist():
    values = np.random.default_rng(2).standard_normal((40, 3))
    for rule in RULES:
        if rule == "direct_merge":
            continue
        chosen = Icons(rule=rule, tasks=["task1"]).select(make_pool(values), 8, RNG)
        assert chosen.positions.tolist() == np.sort(np.argsort(values[:, 1])[-8:]).tolist()
        assert chosen.notes["coverage"] == {"task1": 1.0}


def test_excluded_rows_are_counted_and_taken_only_when_nothing_else_is_left():
    values = np.random.default_rng(3).standard_normal((10, 3))
    values[[0, 5]] = np.nan
    pool = make_pool(values, validation_counts={f"task{j}": 5 for j in range(3)})
    for rule in RULES:
        chosen = Icons(rule=rule).select(pool, 8, RNG)
        assert not {0, 5} & set(chosen.positions.tolist()), rule
        assert chosen.notes["excluded_rows"] == 2
        full = Icons(rule=rule).select(pool, 9, RNG)
        assert len(full.positions) == 9
        assert full.notes["excluded_rows_taken"] == 1


def test_the_floor_keeps_its_share_of_every_specialist():
    rng = np.random.default_rng(4)
    values = np.repeat(rng.standard_normal((200, 1)), 5, axis=1)
    values[:, 4] = rng.standard_normal(200)  # four tasks agree, the fifth is starved
    pool = make_pool(values)
    plain = Icons().select(pool, 40, RNG).notes["coverage"]["task4"]
    held = Icons(rule="vote_with_floor", floor=0.5).select(pool, 40, RNG)
    assert held.notes["coverage"]["task4"] >= 0.5 > plain
    assert min(held.notes["coverage"].values()) >= 0.5


def test_raw_max_follows_the_task_with_the_largest_scale_and_calibration_undoes_it():
    values = np.random.default_rng(5).standard_normal((100, 2))
    values[:, 0] *= 1000
    pool = make_pool(values)
    raw = Icons(rule="max").select(pool, 10, RNG).notes["coverage"]
    even = Icons(rule="max", calibration="rank").select(pool, 10, RNG).notes["coverage"]
    assert raw["task0"] == 1.0
    assert even["task1"] >= 0.4


def test_direct_merge_is_the_mean_over_the_union_of_all_validation_rows():
    """A merged task once had the maximum of its sub-tasks, weighed as all of its rows."""
    rows = {"vqa": 3, "mme/ocr": 1, "mme/n": 5, "mme": 2}  # the last: MME's rows without a sub-task
    rng = np.random.default_rng(8)
    cosines = {name: rng.standard_normal((50, n)) for name, n in rows.items()}
    values = np.column_stack([c.mean(axis=1) for c in cosines.values()])
    counts = {"vqa": 3, "mme": 8, "mme/ocr": 1, "mme/n": 5}
    pool = make_pool(values, tuple(cosines), validation_counts=counts)
    union = np.concatenate(list(cosines.values()), axis=1).mean(axis=1)
    for subtasks in ("max", "mean", "separate"):
        chosen = Icons(rule="direct_merge", subtasks=subtasks).select(pool, 10, RNG)
        np.testing.assert_allclose(chosen.scores, union, atol=1e-6)
        assert chosen.positions.tolist() == np.sort(np.argsort(union)[-10:]).tolist()


def test_direct_merge_weighs_a_task_that_is_scored_whole_by_all_of_its_rows():
    values = np.array([[1.0, 0], [0, 1]])
    counts = {"vqa": 1, "mme": 3, "mme/ocr": 1, "mme/n": 2}
    pool = make_pool(values, ("vqa", "mme"), validation_counts=counts)
    assert Icons(rule="direct_merge").select(pool, 1, RNG).scores.tolist() == [0.25, 0.75]


def test_a_subtask_left_out_neither_votes_nor_weighs():
    values = np.array([[1.0, 0, 9], [0, 3, 0], [2, 1, 0]])
    columns, counts = ("vqa", "mme/ocr", "mme/artwork"), {"vqa": 1, "mme/ocr": 1, "mme/artwork": 9}
    pool = make_pool(values, columns, validation_counts=counts)
    without = Icons(leave_out=["mme/artwork"]).select(pool, 1, RNG)
    assert without.columns["influence/mme"].tolist() == [0, 3, 1]
    merged = Icons(rule="direct_merge", leave_out=["mme/artwork"]).select(pool, 1, RNG)
    assert merged.scores.tolist() == [0.5, 1.5, 1.5]
    with pytest.raises(ConfigError, match=r"'mme/art'; known are mme/ocr, mme/artwork"):
        Icons(leave_out=["mme/art"]).select(pool, 1, RNG)
    other = make_pool(values[:, :1], ("vqa",))
    assert Icons(leave_out=["mme/artwork"]).select(other, 1, RNG).positions.tolist() == [2]


def test_the_released_preset_reads_its_own_influence():
    values = np.array([[1.0, 0], [0, 1], [3, 3]])
    pool = make_pool(values)
    released = InfluenceMatrix(-values.astype(np.float32), ("task0", "task1"), pool.keys)
    features = {**pool.features, "influence_as_released": released}
    pool = Pool(pool.keys, pool.sources, pool.words, pool.has_image, features)
    chosen = Icons(influence="influence_as_released")
    assert chosen.requires == {"influence_as_released"}
    assert 2 not in chosen.select(pool, 2, RNG).positions


def test_released_ties_are_numpys():
    values = np.random.default_rng(6).integers(0, 3, (30, 3)).astype(float)
    chosen = Icons(comparison=">=", percentile="budget", tie_rule="numpy_argsort").select(
        make_pool(values), 7, RNG
    )
    votes = chosen.columns["votes"].astype(np.int64)
    assert chosen.positions.tolist() == sorted(np.argsort(votes)[-7:].tolist())


def test_influence_of_another_pool_is_refused():
    pool = make_pool(np.ones((3, 2)))
    shuffled = Pool(pool.keys[::-1], pool.sources, pool.words, pool.has_image, pool.features)
    with pytest.raises(DataError, match=r"rerun stages=\[score\]"):
        Icons().select(shuffled, 1, RNG)


def test_wrong_settings_name_the_key():
    for bad in ({"rule": "votes"}, {"comparison": "<"}, {"tie_rule": "x"}, {"subtasks": "sum"}):
        with pytest.raises(ConfigError, match=f"selector.{next(iter(bad))}"):
            Icons(**bad)
    with pytest.raises(ConfigError, match="percentile"):
        Icons(percentile="p80").select(make_pool(np.ones((3, 2))), 1, RNG)

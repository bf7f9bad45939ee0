"""Rules that are classes: equal to literal code, blind to order, deaf to excluded rows."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.types import InfluenceMatrix, Pool
from icons_repro.influence.rows.blocks import ByRow
from icons_repro.selection.icons import Icons
from icons_repro.selection.resolve import build_selector
from icons_repro.selection.rules.named import NAMED
from icons_repro.selection.rules.neighbours import Neighbours
from icons_repro.selection.rules.round_robin_rows import RoundRobinRows
from icons_repro.selection.rules.transport import Transport

RNG = np.random.default_rng(0)
RULES = sorted(NAMED)

HALF_BEST = """
import numpy as np

from dataclasses import dataclass

from icons_repro.selection.base import Ranking
from icons_repro.selection.rules.base import Rule


@dataclass(frozen=True)
class HalfBest(Rule):
    name = "half_best"

    share: float = 0.5

    def choose(self, seen, k):
        return Ranking(np.quantile(seen.values, self.share, axis=1), seen.mean_rank)
"""


def pool_of(values: np.ndarray, groups: np.ndarray, seed: int = 0) -> Pool:
    """A pool whose influence by validation row is `values` `[N, V]`."""
    n = len(values)
    drawn = np.random.default_rng(seed).permutation(10 * n)[:n]
    keys = np.array([f"{i:032x}".encode() for i in drawn], dtype="S32")
    tasks = tuple(f"task{t}" for t in range(groups.max() + 1))
    means = np.column_stack([values[:, groups == t].mean(axis=1) for t in range(len(tasks))])
    features = {
        "influence": InfluenceMatrix(means.astype(np.float32), tasks, keys),
        "influence_rows": ByRow.of(values.astype(np.float32), tasks, groups),
    }
    plain = np.ones(n, dtype=np.int64), np.ones(n, dtype=bool)
    return Pool(keys, np.array(["s"] * n), *plain, features)


def drawn(seed: int, n: int, v: int = 6, tasks: int = 2, bad: float = 0.0, ties: bool = False):
    rng = np.random.default_rng(seed)
    values = np.clip(rng.standard_normal((n, v)) / 3, -1, 1).astype(np.float32)
    if ties:
        values = np.round(values * 2) / 2
    values[rng.random(n) < bad] = np.nan
    if np.isnan(values).all():
        values[0] = 0.5
    return values, np.arange(v) % tasks


def select(pool: Pool, k: int, rule: str, **options: Any):
    return Icons(rule=rule, options=options).select(pool, k, RNG)


@pytest.mark.parametrize("rule", RULES)
@given(
    seed=st.integers(0, 10**6), n=st.integers(2, 40), share=st.floats(0.05, 1),
    bad=st.sampled_from([0.0, 0.3]), ties=st.booleans(),
)  # fmt: skip
@settings(max_examples=12, deadline=None)
def test_the_same_rows_whatever_their_order_and_excluded_ones_last(
    rule, seed, n, share, bad, ties
) -> None:
    if rule == "uot":
        pytest.importorskip("ot")
    values, groups = drawn(seed, n, bad=bad, ties=ties)
    pool, k = pool_of(values, groups, seed), max(1, int(share * n))
    chosen = select(pool, k, rule)
    assert len(np.unique(chosen.positions)) == k
    excluded = np.isnan(values[:, 0])
    assert excluded[chosen.positions].sum() == max(0, k - (~excluded).sum())
    order = np.random.default_rng(seed).permutation(n)
    mixed = Pool(
        pool.keys[order], pool.sources, pool.words, pool.has_image,
        {
            "influence": InfluenceMatrix(
                pool.features["influence"].values[order],
                pool.features["influence"].tasks,
                pool.keys[order],
            ),
            "influence_rows": ByRow.of(
                values[order], pool.features["influence"].tasks, groups
            ),
        },
    )  # fmt: skip
    other = select(mixed, k, rule)
    assert set(pool.keys[chosen.positions]) == set(mixed.keys[other.positions])


def test_doubly_greedy_is_the_public_codes_argsort_of_maxima() -> None:
    values, groups = drawn(1, 50)
    expected = np.argsort(-values.T.max(axis=0))[:9]
    assert set(select(pool_of(values, groups), 9, "doubly_greedy").positions) == set(expected)


def literal_round_robin(similarity: np.ndarray, count: int) -> list[int]:
    """`[V, N]`: each validation row in turn takes its best free row."""
    used: list[int] = []
    for i in cycle(range(len(similarity))):
        if len(used) == count:
            return used
        row = similarity[i].copy()
        row[used] = -np.inf
        used.append(int(np.argmax(row)))
    raise AssertionError


@pytest.mark.parametrize("depth", [1, 256])
def test_round_robin_of_one_task_is_the_public_codes(
    depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icons_repro.selection.rules.round_robin_rows.FIRST_DEPTH", depth)
    values, _ = drawn(2, 120, v=7, tasks=1)
    values[:, 1:3] = values[:, :1]  # three that want the same rows
    pool = pool_of(values, np.zeros(7, dtype=int))
    chosen = select(pool, 60, "round_robin_rows")
    taken = literal_round_robin(values.T, 60)
    assert set(chosen.positions) == set(taken)
    assert np.argsort(-chosen.scores[taken], kind="stable").tolist() == list(range(60))


def test_round_robin_gives_every_task_the_same_number_of_turns() -> None:
    values, groups = drawn(3, 90, v=10)
    groups = np.array([0] * 9 + [1])  # nine rows of one task do not outvote one of the other
    chosen = select(pool_of(values, groups), 10, "round_robin_rows")
    own = np.argsort(-values[:, 9])[:5]
    assert np.isin(own, chosen.positions).all()


def test_round_robin_of_maxima_is_rds_plus_of_several_tasks() -> None:
    values, groups = drawn(4, 60)
    best = np.column_stack([values[:, groups == t].max(axis=1) for t in (0, 1)])
    chosen = select(pool_of(values, groups), 12, "round_robin_rows", within="max")
    assert set(chosen.positions) == set(literal_round_robin(best.T, 12))


def test_round_robin_ends_when_every_usable_row_is_taken() -> None:
    values, groups = drawn(5, 12)
    values[3:] = np.nan
    rows = ByRow.of(values, ("a", "b"), groups)
    seen = type("Seen", (), {"by_row": rows, "keys": pool_of(values, groups).keys})
    assert sorted(RoundRobinRows().choose(seen, 8).tolist()) == [0, 1, 2]


def literal_neighbours(values: np.ndarray, alpha: float, scale: float, most: int) -> np.ndarray:
    """TSDS with uniform shares, as a while loop over K."""
    distances = 1.0 - values.T.astype(np.float64)
    order = np.argsort(distances, axis=1, kind="stable")
    d = np.take_along_axis(distances, order, axis=1)[:, :most]
    k, m = 1, len(d)
    while k < d.shape[1]:
        gaps = sum(d[i, k] - d[i, j] for i in range(m) for j in range(k))
        if alpha / scale * gaps >= (1 - alpha) * m:
            break
        k += 1
    share = np.zeros(len(values))
    for i in range(m):
        share[order[i, :k]] += 1.0 / (k * m)
    return share


@pytest.mark.parametrize(("alpha", "most"), [(0.01, 5000), (0.5, 40), (0.9, 40), (0.5, 6)])
def test_neighbour_shares_are_the_public_codes(alpha: float, most: int) -> None:
    values, groups = drawn(6, 80)
    chosen = select(pool_of(values, groups), 9, "knn", alpha=alpha, scale=1.0, most=most)
    expected = literal_neighbours(values, alpha, 1.0, min(most, 80))
    np.testing.assert_allclose(chosen.scores, expected, rtol=1e-9)
    assert 1 <= chosen.notes["neighbours"] <= min(most, 80)


def test_the_number_of_neighbours_grows_with_less_weight_on_diversity() -> None:
    distances = np.sort(np.random.default_rng(0).random((5, 200)), axis=1)
    counts = [Neighbours(alpha=a, scale=1.0).count(distances) for a in (0.05, 0.5, 0.95)]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 3


def literal_sinkhorn(cost: np.ndarray, eps: float, relaxation: float, steps: int) -> np.ndarray:
    """Unbalanced Sinkhorn (Chizat et al. 2018, arXiv:1607.05816), rows held, columns relaxed."""
    v, n = cost.shape
    a, b = np.full(v, 1.0 / v), np.full(n, 1.0 / n)
    kernel = np.exp(-cost / eps) * np.outer(a, b)
    left, right = np.ones(v), np.ones(n)
    for _ in range(steps):
        left = a / (kernel @ right)
        right = (b / (kernel.T @ left)) ** (relaxation / (relaxation + eps))
    return (left[:, None] * kernel * right[None, :]).sum(axis=0)


def test_transport_is_unbalanced_sinkhorn() -> None:
    pytest.importorskip("ot")
    values, groups = drawn(7, 60)
    rule = Transport(epsilon=0.05, relaxation=0.02)
    found = rule.arriving(values.T.astype(np.float64))
    expected = literal_sinkhorn((1 - values.T.astype(np.float64)) / 2, 0.05, 0.02, 3000)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    chosen = select(pool_of(values, groups), 6, "uot", epsilon=0.05, relaxation=0.02)
    assert set(chosen.positions) == set(np.argsort(-expected)[:6])


def test_transport_without_its_library_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("icons_repro.selection.rules.transport.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"uot needs POT: pip install"):
        Icons(rule="uot")


def test_transport_that_does_not_fit_says_how_many_rows_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ot")
    monkeypatch.setattr("icons_repro.selection.rules.transport.MAX_PAIRS", 300)
    values, groups = drawn(8, 60)
    with pytest.raises(ConfigError, match=r"60 x 6 doubles .*rows_per_task=2"):
        select(pool_of(values, groups), 6, "uot")
    assert len(select(pool_of(values, groups), 6, "uot", rows_per_task=2).positions) == 6


def test_a_rule_by_validation_row_says_what_it_reads() -> None:
    assert Icons(rule="knn").requires == {"influence", "influence_rows"}
    assert Icons(rule="doubly_greedy", influence="influence_less").requires == {
        "influence_less", "influence_less_rows",
    }  # fmt: skip
    assert Icons(rule="vote").requires == {"influence"}


def test_a_rule_of_ones_own_is_one_file_and_one_yaml(tmp_path, monkeypatch) -> None:
    (tmp_path / "half_best.py").write_text(HALF_BEST)
    monkeypatch.syspath_prepend(tmp_path)
    config = {"_target_": "icons_repro.selection.icons.Icons", "rule": "half_best.HalfBest"}
    values, groups = drawn(9, 30)
    pool = pool_of(values, groups)
    chosen = build_selector({**config, "options": {"share": 1.0}}).select(pool, 5, RNG)
    top = np.argsort(-pool.features["influence"].values.max(axis=1))[:5]
    assert set(chosen.positions) == set(top)
    with pytest.raises(ConfigError, match=r"unknown key selector\.shar; did you mean share"):
        build_selector({**config, "options": {"shar": 1}})
    with pytest.raises(ConfigError, match="this is no rule"):
        build_selector({**config, "rule": "half_best.Ranking"})


def test_an_unknown_rule_or_option_is_named() -> None:
    with pytest.raises(ConfigError, match=r"selector.rule='knnn'.*knn"):
        Icons(rule="knnn")
    with pytest.raises(ConfigError, match="rule=vote has none"):
        Icons(rule="vote", options={"alpha": 1.0})


def test_rows_of_another_pool_are_refused() -> None:
    values, groups = drawn(10, 30)
    pool = pool_of(values, groups)
    other = {
        **pool.features,
        "influence_rows": pool_of(values[:9], groups).features["influence_rows"],
    }
    pool = Pool(pool.keys, pool.sources, pool.words, pool.has_image, other)
    with pytest.raises(DataError, match="9 rows but the pool has 30"):
        select(pool, 3, "knn")

"""Unbalanced optimal transport from validation rows to pool rows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

import numpy as np

from icons_repro.core.errors import ConfigError
from icons_repro.features.rows import one_threaded_blas
from icons_repro.influence.rows.blocks import ByRow
from icons_repro.selection.base import Ranking, canonical_order
from icons_repro.selection.rules.base import Rule, Seen, to_cosines

MAX_PAIRS = 2 * 10**8
"""Entries of the plan; POT holds some four arrays of doubles of its size."""


@dataclass(frozen=True)
class Transport(Rule):
    """Take the rows that most mass arrives at when the validation rows are carried to the pool.

    Formula: the plan P minimises <P, C> + eps KL(P, a b^T) + r_1 KL(P 1, a) + r_2 KL(P^T 1, b)
    with C = (1 - A) / 2, a and b uniform, r_1 infinite; s_i = sum_j P_ji, high first. Source:
    arXiv:2602.14696, dcml-lab/targeted-instruction-selection, selection/uot.py:6-38 and
    sim_subset.py:41-43; solved by POT (Flamary et al. 2021), `ot.unbalanced.sinkhorn_unbalanced`.
    Influence that is no cosine is divided by its largest absolute value. Complexity: O(N V) for
    each of at most `iterations` steps, and 32 N V bytes; `rows_per_task` takes the first
    validation rows of each task.
    """

    name: ClassVar[str] = "uot"
    needs_rows: ClassVar[bool] = True

    epsilon: float = 0.01
    """Weight of the entropy."""
    relaxation: float = 1e-4
    """r_2: how dear it is that pool rows get other than equal mass."""
    iterations: int = 1000
    rows_per_task: int | None = None

    def __post_init__(self) -> None:
        if find_spec("ot") is None:  # said before anything runs
            raise ConfigError(
                "selector.rule=uot needs POT: pip install 'icons-repro[transport]', or POT itself."
            )

    def choose(self, seen: Seen, k: int) -> Ranking:
        """The mass that arrives at each row; ties by mean percentile rank, then key."""
        rows = seen.by_row.first_rows(self.rows_per_task)
        self._require_room(rows)
        values = rows.whole()
        order = canonical_order(seen.keys)
        order = order[~np.isnan(values[order, 0])]
        mass = np.full(len(values), np.nan)
        if len(order):
            mass[order] = self.arriving(values[order].T.astype(np.float64))
        return Ranking(mass, seen.mean_rank)

    def arriving(self, influence: np.ndarray) -> np.ndarray:
        """Return the mass that arrives at each pool row: `[N]` from influence `[V, N]`."""
        from ot.unbalanced import sinkhorn_unbalanced

        cost = (1.0 - to_cosines(influence, float(np.abs(influence).max()))) / 2.0
        v, n = cost.shape
        with one_threaded_blas(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it stopped at `iterations`, as the source's does
            plan = sinkhorn_unbalanced(
                np.full(v, 1.0 / v),
                np.full(n, 1.0 / n),
                cost,
                reg=self.epsilon,
                reg_m=(float("inf"), self.relaxation),
                reg_type="kl",
                numItermax=self.iterations,
            )
        return np.asarray(plan).sum(axis=0)

    def _require_room(self, rows: ByRow) -> None:
        n, v = rows.shape
        if n * v > MAX_PAIRS:
            fits = max(1, MAX_PAIRS // (n * len(rows.tasks)))
            raise ConfigError(
                f"selector.rule=uot holds {n:,} x {v:,} doubles several times over, "
                f"{32 * n * v / 1e9:.0f} GB: +selector.options.rows_per_task={fits} takes so many "
                "validation rows of each task."
            )

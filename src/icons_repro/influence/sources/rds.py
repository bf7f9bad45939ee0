"""RDS+: hidden states, weighted by position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from icons_repro.core.step import Step
from icons_repro.influence.sources.base import RowSource, Wiring
from icons_repro.influence.stage import EmbeddingRows


@dataclass(frozen=True)
class Rds(RowSource):
    """cos of the hidden states after the last layer, weighted by the tokens' position.

    Formula (pooling=weighted_mean): r = sum_t t h_t / sum_t t over a row's n tokens, t = 1 .. n;
    influence is the mean of cos(r, r'). Source: Ivison et al. 2025, arXiv:2503.01807; the weights
    are SGPT's (arXiv:2202.08904), hamishivi/automated-instruction-selection,
    minimal_multitask/compute_influence_cosinesim.py:111-117, 136. That code pairs it with round
    robin: `round_robin_rows` over one task's validation rows (get_top_influences.py), and over
    several tasks the maximum within each, tasks in turn (get_top_aggregated_influences.py:76-125).
    Cost: one forward pass, shared with perplexity, EL2N and the others that read hidden states.
    Differs: the whole conversation with its image tokens, at the warm-up model
    (`features.model=base` for the paper's untuned one).
    """

    name: ClassVar[str] = "rds"

    pooling: Literal["weighted_mean", "mean", "last"] = "weighted_mean"
    """`mean` and `last` are the paper's alternatives."""

    def rows(self, wiring: Wiring) -> Step:
        """The pool's and the targets' hidden states."""
        pool, targets = wiring.forward_passes()
        array = {"weighted_mean": "hidden_weighted", "mean": "hidden_mean", "last": "hidden_last"}
        return EmbeddingRows(
            pool=wiring.pool,
            targets=wiring.targets,
            subtasks=wiring.config.targets.subtasks,
            rows=pool,
            validation=targets,
            arrays=(array[self.pooling],),
        )

"""For-Value: the output layer's gradient, by a forward pass alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from icons_repro.core.step import Step
from icons_repro.features.stage import ValuePass
from icons_repro.influence.sources.base import Source, Wiring
from icons_repro.influence.stage import MadeRows, MeanInfluence


@dataclass(frozen=True)
class Forward(Source):
    """<S, S'> with S = sum_t (onehot(y_t) - softmax_t) h_t^T over a row's answer tokens.

    Formula: the inner product of two rows' gradients at the output layer; influence is the mean
    over a task's validation rows. Source: Deng et al. 2026, arXiv:2508.10180, equation 1;
    vengdeng/For-Value-Efficient-Forward-Only-Data-Valuation-for-finetuning,
    forvalue_VL_optimized.py:225-262 and 289-300 (no lengths are divided out, so long answers weigh
    more). Cost: one forward pass over pool and validation rows, and for each row one more product
    the size of the output layer, times the number of tasks. By validation row it keeps a
    matrix of [vocabulary, width] for each of them, so it needs a small model. Differs: all of the
    vocabulary, where that code takes the tokens that occur; supervised tokens alone, where it
    takes everything behind the prompt; the warm-up model (`features.model=base` for the other).
    """

    name: ClassVar[str] = "forward"

    def influence(self, wiring: Wiring) -> Step:
        """The mean S of each task is all that is needed."""
        return MeanInfluence(pool=wiring.pool, rows=self._rows(wiring, by_row=False))

    def by_validation_row(self, wiring: Wiring) -> Step:
        """The S of every validation row."""
        return self._rows(wiring, by_row=True)

    def _rows(self, wiring: Wiring, by_row: bool) -> Step:
        passed, _ = wiring.forward_passes()
        subtasks = wiring.config.targets.subtasks
        made = ValuePass(
            base=passed.base,
            warmup=passed.warmup,
            encoding=passed.encoding,
            trainer=passed.trainer,
            dtype="float32",
            token_budget=passed.token_budget,
            pool=wiring.pool,
            targets=wiring.targets,
            subtasks=subtasks,
            by_row=by_row,
        )
        return MadeRows(
            pool=wiring.pool, targets=wiring.targets, subtasks=subtasks, made=made, kind="matrix"
        )

"""The linear datamodelling score (Park et al. 2023, section 2) of one target task:

    LDS_t = Spearman over random subsets S of ( sum_{i in S} I_t(i),  -loss_t(model trained on S) )

loss_t is the mean answer cross-entropy of the task's validation rows, averaged over training seeds.
The same subsets trained by another seed say how much of it is luck, and so how much a perfect score
would reach.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from icons_repro.core.errors import DataError
from icons_repro.report.cells import DASH, Cells
from icons_repro.studies.counterfactual.chosen import Chosen, chosen_tables
from icons_repro.studies.counterfactual.losses import Loss
from icons_repro.studies.counterfactual.predictions import Predicted

RESAMPLES = 1000
FEWEST = 10
"""Subsets below which no correlation is shown."""

Key = tuple[str, str]
"""A subset's selection and a task."""


@dataclass(frozen=True)
class Line:
    """The score of one source: of each task `[T]`, and its bootstrap replicates `[R, T]`."""

    name: str
    tasks: np.ndarray
    draws: np.ndarray

    @property
    def mean(self) -> str:
        """Return "+0.31 ±0.10": the mean over tasks and half of its interval."""
        return f"{self.tasks.mean():+.2f} ±{_half(self.draws):.2f}"

    def minus(self, other: Line) -> str:
        """Return the difference of the means, over the same drawn subsets; starred if clear."""
        draws = self.draws - other.draws
        low, high = np.nanquantile(draws.mean(axis=1), (0.025, 0.975))
        star = "*" if low > 0 or high < 0 else ""
        return f"{self.tasks.mean() - other.tasks.mean():+.2f} ±{_half(draws):.2f}{star}"

    def ceiling(self, seeds: int) -> Line:
        """Return what a score without error would reach, if these are two trainings' correlations.

        sqrt(n r / (1 + (n - 1) r)): the square root of the reliability of the mean of n trainings
        (Spearman 1910, Brown 1910).
        """

        def reached(r: np.ndarray) -> np.ndarray:
            kept = np.clip(r, 0.0, 1.0)
            return np.sqrt(seeds * kept / (1 + (seeds - 1) * kept))

        return Line("ceiling: a perfect score", reached(self.tasks), reached(self.draws))


def _half(draws: np.ndarray) -> float:
    return float(np.ptp(np.nanquantile(draws.mean(axis=1), (0.025, 0.975))) / 2)


def findings(
    losses: Sequence[Loss], predicted: Sequence[Predicted], chosen: Sequence[Chosen] = ()
) -> list[Cells]:
    """Return each source's score, beside the ceiling, and what its choice did to the losses.

    Each is shown in the mean over tasks, and by task. Raises `DataError` where pools are mixed.
    """
    pools = sorted({r.pool for r in losses} | {r.pool for r in chosen})
    if len(pools) > 1:
        raise DataError(f"lines of {len(pools)} pools ({', '.join(pools)}): keep those of one.")
    seeds = sorted({r.train_seed for r in losses})
    if not seeds:
        raise DataError("no model has been measured yet: use --add.")
    truth = [_by_key(r for r in losses if r.train_seed == seed) for seed in seeds]
    tasks = sorted({r.task for r in losses})
    mean_loss = _mean_loss(truth)
    sources = []
    for source in dict.fromkeys(p.source for p in predicted):
        sums = {(p.selection, p.task): p.sum for p in predicted if p.source == source}
        sources.append(_line(source, sums, mean_loss, tasks))
    sources.sort(key=lambda line: -line.tasks.mean())
    bounds = []
    if len(seeds) > 1:
        other = {key: -value for key, value in truth[1].items()}
        twin = _line("the same, by another seed", other, truth[0], tasks)
        bounds = [twin.ceiling(len(seeds)), twin]
    usual = next((line for line in sources if line.name == "gradients"), None)
    count = len({r.selection for r in losses})
    notes = (
        f"{count} random subsets, losses averaged over training seeds {seeds}",
        "± is half of the 95% interval over subsets (bootstrap); * leaves out zero",
    )
    means = (
        *((line.name, line.mean, DASH) for line in bounds),
        *((line.name, line.mean, line.minus(usual) if usual else DASH) for line in sources),
    )
    each = tuple(
        (line.name, *(f"{value:+.2f}" for value in line.tasks)) for line in [*bounds, *sources]
    )
    heads = ("source", *(task.removeprefix("tiny_") for task in tasks))
    columns = ("source", "mean of the tasks", "minus gradients")
    return [
        Cells("linear datamodelling score", columns, means, notes),
        Cells("linear datamodelling score by task", heads, each),
        *chosen_tables(chosen, losses, {line.name: line.tasks.mean() for line in sources}),
    ]


def _by_key(losses: Iterable[Loss]) -> dict[Key, float]:
    return {(r.selection, r.task): r.loss for r in losses}


def _mean_loss(truth: Sequence[Mapping[Key, float]]) -> dict[Key, float]:
    found: dict[Key, list[float]] = defaultdict(list)
    for one in truth:
        for key, value in one.items():
            found[key].append(value)
    return {key: float(np.mean(values)) for key, values in found.items()}


def _line(
    name: str, predicted: Mapping[Key, float], losses: Mapping[Key, float], tasks: Sequence[str]
) -> Line:
    """Return each task's Spearman; the draws of subsets are the same for all lines."""
    subsets = sorted({s for s, _ in predicted} & {s for s, _ in losses})
    if len(subsets) < FEWEST:
        raise DataError(f"{len(subsets)} subsets have both a prediction and a loss: too few.")
    score = np.array([[predicted[s, t] for t in tasks] for s in subsets])
    gain = np.array([[-losses[s, t] for t in tasks] for s in subsets])
    drawn = np.random.default_rng(0).integers(0, len(subsets), (RESAMPLES, len(subsets)))
    draws = np.array([spearman(score[rows], gain[rows]) for rows in drawn])
    return Line(name, spearman(score, gain), draws)


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the rank correlation of each column of `[S, T]` with the other's: `[T]`."""
    from scipy.stats import rankdata

    x, y = (rankdata(values, axis=0) for values in (a, b))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return (x * y).sum(axis=0) / np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))

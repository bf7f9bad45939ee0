"""What training on the rows that a source chose did to each target task, one line of `chosen.csv`:

    difference_t = loss_t(model trained on the chosen rows) - mean over random subsets of loss_t

A score may follow the losses of random subsets and still choose badly: what is chosen is far from
random, and the rule that chooses is not a sum.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from icons_repro.core.errors import DataError
from icons_repro.report.cells import DASH, Cells
from icons_repro.report.compare_tables import p_text
from icons_repro.studies.counterfactual.losses import Loss

FILE = "chosen.csv"
RULE = "selector.rule"
NOISE = "random"
FEWEST = 4
"""Sources below which the order of losses is not held against that of scores."""


@dataclass(frozen=True)
class Chosen:
    """What one training on a source's rows did to one target task."""

    pool: str
    source: str
    rule: str
    selection: str
    """Fingerprint of the subset."""
    train_seed: int
    task: str
    loss: float


@dataclass(frozen=True)
class Randoms:
    """The losses of random subsets, `[S, seeds, T]`."""

    losses: np.ndarray

    @classmethod
    def of(cls, losses: Sequence[Loss], seeds: Sequence[int], tasks: Sequence[str]) -> Randoms:
        """Take the subsets that every seed trained. Raises `DataError` where there are none."""
        known = {(r.selection, r.train_seed, r.task): r.loss for r in losses}
        whole = [
            [[known[name, seed, task] for task in tasks] for seed in seeds]
            for name in sorted({r.selection for r in losses})
            if all((name, seed, task) in known for seed in seeds for task in tasks)
        ]
        if not whole:
            raise DataError(f"no random subset was trained by all of the seeds {list(seeds)}.")
        return cls(np.array(whole))

    @property
    def mean(self) -> np.ndarray:
        """Each task's mean loss, `[T]`."""
        return np.asarray(self.losses.mean(axis=(0, 1)))

    def half_width(self) -> float:
        """Return half of a 95% interval of "chosen minus random" in the mean over tasks.

        The chosen set is one and is trained by each seed; how much two trainings of one set differ
        is taken from the random sets. With one seed alone that is not known: NaN.
        """
        from scipy import stats

        means = self.losses.mean(axis=2)
        subsets, seeds = means.shape
        if seeds < 2:
            return float("nan")
        luck = means.var(axis=1, ddof=1).mean() / seeds
        drawn = means.mean(axis=1).var(ddof=1) / subsets if subsets > 1 else 0.0
        return float(stats.t.ppf(0.975, subsets * (seeds - 1)) * np.sqrt(luck + drawn))


def chosen_tables(
    chosen: Sequence[Chosen], losses: Sequence[Loss], scores: Mapping[str, float]
) -> list[Cells]:
    """Return each source's loss by rule, and by task; nothing where no chosen set was trained.

    `scores` are the sources' linear datamodelling scores, in the order that is wanted.
    """
    if not chosen:
        return []
    seeds = sorted({r.train_seed for r in losses})
    tasks = sorted({r.task for r in losses})
    randoms = Randoms.of(losses, seeds, tasks)
    found = _differences(chosen, seeds, tasks, randoms)
    rules = list(dict.fromkeys(rule for _, rule in found))
    sources = sorted(
        dict.fromkeys(source for source, _ in found), key=lambda name: -scores.get(name, -np.inf)
    )
    half = randoms.half_width()
    rows = tuple(
        (
            source,
            f"{scores[source]:+.2f}" if source in scores else DASH,
            *(
                _starred(found[source, rule].mean(), half) if (source, rule) in found else DASH
                for rule in rules
            ),
        )
        for source in sources
    )
    notes = (
        f"mean over tasks, in nats; random subsets: {randoms.mean.mean():.3f}; less is better",
        f"±{half:.3f} for each: two trainings of one set; * leaves out zero",
        *_agreements(found, rules, scores),
    )
    heads = ("source, rule", *(task.removeprefix("tiny_") for task in tasks))
    each = tuple(
        (f"{source}, {rule}", *(f"{value:+.2f}" for value in found[source, rule]))
        for source in sources
        for rule in rules
        if (source, rule) in found
    )
    return [
        Cells("loss of what is chosen, minus random", ("source", "score", *rules), rows, notes),
        Cells("loss of what is chosen, minus random, by task", heads, each),
    ]


def _differences(
    chosen: Sequence[Chosen], seeds: Sequence[int], tasks: Sequence[str], randoms: Randoms
) -> dict[tuple[str, str], np.ndarray]:
    """Return each source and rule's difference by task; only of sets that every seed trained.

    Raises `DataError` where one source and rule has several sets, by other settings of the rule.
    """
    sets: dict[tuple[str, str], set[str]] = defaultdict(set)
    for r in chosen:
        sets[r.source, r.rule].add(r.selection)
    for (source, rule), names in sets.items():
        if len(names) > 1:
            raise DataError(
                f"{FILE}: {source}, {rule} chose {len(names)} sets ({', '.join(sorted(names))}): "
                "keep the lines of one."
            )
    known = {(r.source, r.rule, r.train_seed, r.task): r.loss for r in chosen}
    found = {}
    for source, rule in sets:
        own = [[known.get((source, rule, seed, task)) for task in tasks] for seed in seeds]
        if all(value is not None for line in own for value in line):
            found[source, rule] = np.array(own, float).mean(axis=0) - randoms.mean
    return found


def _starred(value: float, half: float) -> str:
    return f"{value:+.3f}" + ("*" if abs(value) > half else "")


def _agreements(
    found: Mapping[tuple[str, str], np.ndarray], rules: Sequence[str], scores: Mapping[str, float]
) -> list[str]:
    """Say for each rule whether sources with a higher score choose rows that train better.

    Variants of one source (named with a setting) would count it several times; noise is a control.
    """
    from scipy.stats import spearmanr

    said = []
    for rule in rules:
        plain = [s for s, r in found if r == rule and s in scores and "," not in s and s != NOISE]
        if len(plain) >= FEWEST:
            gained = [-found[source, rule].mean() for source in plain]
            r, p = spearmanr([scores[source] for source in plain], gained)
            said.append(f"{rule}: rank correlation with the score {r:+.2f}, p {p_text(float(p))}")
    if said:
        said.append("over sources without variants, and without noise")
    return said

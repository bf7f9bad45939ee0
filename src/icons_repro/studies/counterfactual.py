"""Does the score of a row predict what training on it does?

    LDS_t = Spearman over random subsets S of ( sum_{i in S} I_t(i),  -loss_t(model trained on S) )

the linear datamodelling score (Park et al. 2023, section 2) of one target task; loss_t is the mean
answer cross-entropy of the task's validation rows, averaged over training seeds. The same subsets
trained by another seed say how much of it is luck, and so how much a perfect score would reach.

python -m icons_repro.studies.counterfactual FOLDER [--add RUNS]
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from tqdm import tqdm

from icons_repro.core.commands import errors_in_a_line, parser_of
from icons_repro.core.errors import DataError, UserError
from icons_repro.core.files import read_json, write_text
from icons_repro.core.screen import quiet_third_parties
from icons_repro.core.types import InfluenceMatrix
from icons_repro.influence.consensus import merge_subtasks
from icons_repro.report.cells import DASH, Cells
from icons_repro.report.runs import SOURCE, SweepRun, collect
from icons_repro.studies.csv_rows import read_rows, write_rows

LOSSES, SCORES, TABLES = "losses.csv", "predicted.csv", "results.md"
RESAMPLES = 1000
FEWEST = 10
"""Subsets below which no correlation is shown."""

Key = tuple[str, str]
"""A subset's selection and a task."""


@dataclass(frozen=True)
class Loss:
    """What one training did to one target task."""

    pool: str
    selection: str
    """Fingerprint of the subset."""
    train_seed: int
    task: str
    loss: float


@dataclass(frozen=True)
class Predicted:
    """What one source of scores says of one subset."""

    pool: str
    source: str
    selection: str
    task: str
    sum: float


def measure(run: SweepRun, targets: Path, device: str = "cpu") -> dict[str, float]:
    """Return the mean answer loss of each target task under a run's model, in nats.

    `targets` is a finished step's folder with one records folder for each task.
    """
    import torch

    from icons_repro.core.settings import DataSettings
    from icons_repro.data.datamodule import PassPlan, open_dataset
    from icons_repro.models.answers import answer_losses
    from icons_repro.models.llava import load_model
    from icons_repro.models.lora import load_adapter

    adapter = run.located(run.results.adapter or "")
    made: Any = read_json(adapter / "manifest.json")
    base = adapter.parent.parent / "base" / made["inputs"]["base"]
    encoding = DataSettings(**made["config"]["encoding"])
    dtype = getattr(torch, made["config"]["trainer"]["model_dtype"])
    model = load_adapter(load_model(base, dtype, device), adapter).eval()
    found = {}
    for task in sorted(path.parent for path in targets.glob("*/records.arrow")):
        dataset, collate = open_dataset(task, targets / "images", base, encoding)
        rows = np.flatnonzero(dataset.table.usable)
        batches = PassPlan.of(dataset, collate, rows, token_budget=8192)
        with torch.inference_mode():
            losses = [answer_losses(model, b) for b in batches.loader("00000-of-00001")]
        found[task.name] = float(torch.cat(losses).double().mean())
    return found


def add(folder: Path, runs: Path) -> None:
    """Measure every model that is new below `runs`, and let every influence matrix predict it.

    A run that has neither an adapter nor an influence matrix says nothing here.
    """
    found = collect([runs])
    scored = [run for run in found if run.results.influence]
    if not scored:
        raise UserError(
            f"no run below {runs} has an influence matrix: run python run.py stages=[select]."
        )
    subsets = [run for run in found if run.results.adapter and _drawn(run)]
    losses = read_rows(folder / LOSSES, Loss)
    known = {(r.selection, r.train_seed) for r in losses}
    for run in tqdm([r for r in subsets if _named(r) not in known], "losses", unit="model"):
        targets = _targets(next((s for s in scored if s.results.pool == run.results.pool), None))
        losses += [
            Loss(str(run.results.pool), *_named(run), task, value)
            for task, value in measure(run, targets).items()
        ]
        write_rows(folder / LOSSES, losses, Loss)
    old = read_rows(folder / SCORES, Predicted)
    write_rows(folder / SCORES, predictions(scored, subsets, old), Predicted)


def _drawn(run: SweepRun) -> bool:
    return run.results.selector == "random" and run.results.budget < 1


def _named(run: SweepRun) -> tuple[str, int]:
    return Path(run.results.selection).name, run.results.seed


def _targets(run: SweepRun | None) -> Path:
    if run is None:
        raise DataError("a subset's pool has no influence matrix: score it first.")
    step = run.located(str(run.results.influence)).parent
    manifest: Any = read_json(step / "manifest.json")
    return step.parent.parent / "targets" / str(manifest["inputs"]["targets"])


def predictions(
    scored: Sequence[SweepRun], subsets: Iterable[SweepRun], old: Iterable[Predicted]
) -> list[Predicted]:
    """Sum every source's scores over every subset of its pool; excluded rows add 0."""
    found = {(p.pool, p.source, p.selection, p.task): p for p in old}
    named = {Path(r.results.selection).name: r for r in subsets}
    for run, source in zip(scored, names_of(scored), strict=True):
        matrix = InfluenceMatrix.load(run.located(str(run.results.influence)))
        values, tasks = merge_subtasks(np.nan_to_num(matrix.values), matrix.tasks, "mean")
        for name, subset in named.items():
            if subset.results.pool != run.results.pool:
                continue
            rows = np.load(subset.located(subset.results.selection) / "positions.npy")
            for task, total in zip(tasks, values[rows].sum(axis=0, dtype=float), strict=True):
                made = Predicted(str(run.results.pool), source, name, task, float(total))
                found[made.pool, source, name, task] = made
    return [found[key] for key in sorted(found)]


def names_of(scored: Sequence[SweepRun]) -> list[str]:
    """Name the sources, each with the settings in which it is not as most of them are."""
    skip = ("selector.", "finetune.", f"{SOURCE}.")
    settings = [
        {k: str(v) for k, v in run.method.items() if not k.startswith(skip)} for run in scored
    ]
    usual = {
        key: Counter(own.get(key) for own in settings).most_common(1)[0][0]
        for key in sorted({key for own in settings for key in own} - {SOURCE})
    }
    return [
        ", ".join(
            [
                own.get(SOURCE, "gradients"),
                *(f"{key}={own.get(key)}" for key in usual if own.get(key) != usual[key]),
            ]
        )
        for own in settings
    ]


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


def findings(losses: Sequence[Loss], predicted: Sequence[Predicted]) -> list[Cells]:
    """Return each source's score, beside the ceiling: the mean over tasks, and by task."""
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


def main(arguments: list[str]) -> None:
    """Take in runs, and show what is known."""
    parser = parser_of("studies.counterfactual", __doc__)
    parser.add_argument("folder", type=Path, help="where losses.csv and predicted.csv are kept")
    parser.add_argument("--add", type=Path, metavar="RUNS", help="measure the runs below a folder")
    options = parser.parse_args(arguments)
    quiet_third_parties()
    with errors_in_a_line():
        if options.add:
            options.folder.mkdir(parents=True, exist_ok=True)
            add(options.folder, options.add)
        found = findings(
            read_rows(options.folder / LOSSES, Loss),
            read_rows(options.folder / SCORES, Predicted),
        )
    for table in found:
        table.show(Console())
    write_text(options.folder / TABLES, "\n".join(table.markdown() for table in found))


if __name__ == "__main__":
    main(sys.argv[1:])

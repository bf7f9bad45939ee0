"""Does the score of a row predict what training on it does? Its tables, and the runs behind them.

python -m icons_repro.studies.counterfactual FOLDER [--add RUNS]
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from tqdm import tqdm

from icons_repro.core.commands import errors_in_a_line, parser_of
from icons_repro.core.errors import DataError, UserError
from icons_repro.core.files import read_json, write_text
from icons_repro.core.screen import quiet_third_parties
from icons_repro.report.runs import SweepRun, collect, frozen
from icons_repro.studies.counterfactual.chosen import FILE as CHOSEN
from icons_repro.studies.counterfactual.chosen import RULE, Chosen
from icons_repro.studies.counterfactual.losses import FILE as LOSSES
from icons_repro.studies.counterfactual.losses import Loss, measure
from icons_repro.studies.counterfactual.predictions import FILE as PREDICTED
from icons_repro.studies.counterfactual.predictions import Predicted, names_of, predict
from icons_repro.studies.counterfactual.score import findings
from icons_repro.studies.csv_rows import read_rows, write_rows

T = TypeVar("T")
TABLES = "results.md"
TRAINING = ("finetune.", "trainer.", "lora.")
"""Settings that say how a subset is trained."""


def add(folder: Path, runs: Path, console: Console) -> None:
    """Measure every model that is new below `runs`, and let every influence matrix predict it.

    A run that has neither an adapter nor an influence matrix says nothing here; one that was
    trained otherwise than most is counted and left out.
    """
    found = collect([runs])
    matrices = {run.results.influence: run for run in found if run.results.influence}
    scored = list(matrices.values())
    if not scored:
        raise UserError(
            f"no run below {runs} has an influence matrix: run python run.py stages=[select]."
        )
    trained = [run for run in found if run.results.adapter and (_drawn(run) or _chose(run))]
    alike = _alike(trained)
    if len(alike) < len(trained):
        left = next(run for run in trained if run not in alike)
        console.print(
            f"{len(trained) - len(alike)} of {len(trained)} models had another budget, world or "
            f"training than most, and are left out; {left.name} is one.",
            markup=False,
        )
    subsets = [run for run in alike if _drawn(run)]
    losses = read_rows(folder / LOSSES, Loss)
    known = {(r.selection, r.train_seed) for r in losses}
    for run in tqdm([r for r in subsets if _named(r) not in known], "losses", unit="model"):
        losses += _measured(run, scored, Loss)
        write_rows(folder / LOSSES, losses, Loss)
    sources = dict(zip(matrices, names_of(scored), strict=True))
    own = [
        (run, sources[str(run.results.influence)], str(run.method[RULE]))
        for run in alike
        if _chose(run)
    ]
    chosen = read_rows(folder / CHOSEN, Chosen)
    seen = {(r.source, r.rule, r.selection, r.train_seed) for r in chosen}
    new = [(run, *by) for run, *by in own if (*by, *_named(run)) not in seen]
    for run, source, rule in tqdm(new, "losses of the chosen", unit="model"):
        chosen += _measured(run, scored, partial(Chosen, source=source, rule=rule))
        write_rows(folder / CHOSEN, chosen, Chosen)
    old = read_rows(folder / PREDICTED, Predicted)
    write_rows(folder / PREDICTED, predict(scored, subsets, old), Predicted)


def _drawn(run: SweepRun) -> bool:
    return run.results.selector == "random" and run.results.budget < 1


def _chose(run: SweepRun) -> bool:
    return bool(run.results.influence) and RULE in run.method and run.results.budget < 1


def _alike(runs: Sequence[SweepRun]) -> list[SweepRun]:
    """Return the runs that were trained as the random subsets were, or as most were."""

    def trained(run: SweepRun) -> Hashable:
        own = {k: v for k, v in run.method.items() if k.startswith(TRAINING)}
        return run.world, float(run.results.budget), frozen(own)

    most = Counter(trained(run) for run in [r for r in runs if _drawn(r)] or runs).most_common(1)
    return [run for run in runs if trained(run) == most[0][0]]


def _measured(run: SweepRun, scored: Sequence[SweepRun], line: Callable[..., T]) -> list[T]:
    """Return one line for each target task of what a run's model makes of its rows."""
    name, seed = _named(run)
    return [
        line(pool=str(run.results.pool), selection=name, train_seed=seed, task=task, loss=loss)
        for task, loss in measure(run, _targets(run, scored)).items()
    ]


def _named(run: SweepRun) -> tuple[str, int]:
    return Path(run.results.selection).name, run.results.seed


def _targets(run: SweepRun, scored: Sequence[SweepRun]) -> Path:
    """Return the folder of validation rows that belongs to a run's pool."""
    other = next((s for s in scored if s.results.pool == run.results.pool), None)
    if other is None:
        raise DataError("a subset's pool has no influence matrix: score it first.")
    step = other.located(str(other.results.influence)).parent
    manifest: Any = read_json(step / "manifest.json")
    return step.parent.parent / "targets" / str(manifest["inputs"]["targets"])


def main(arguments: list[str]) -> None:
    """Take in runs, and show what is known."""
    parser = parser_of("studies.counterfactual", __doc__)
    parser.add_argument("folder", type=Path, help="where the measured lines are kept")
    parser.add_argument("--add", type=Path, metavar="RUNS", help="measure the runs below a folder")
    options = parser.parse_args(arguments)
    quiet_third_parties()
    console = Console()
    with errors_in_a_line():
        if options.add:
            options.folder.mkdir(parents=True, exist_ok=True)
            add(options.folder, options.add, console)
        found = findings(
            read_rows(options.folder / LOSSES, Loss),
            read_rows(options.folder / PREDICTED, Predicted),
            read_rows(options.folder / CHOSEN, Chosen),
        )
    for table in found:
        table.show(console)
    write_text(options.folder / TABLES, "\n".join(table.markdown() for table in found))


if __name__ == "__main__":
    main(sys.argv[1:])

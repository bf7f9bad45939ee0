"""Does the score of a row predict what training on it does? Its tables, and the runs behind them.

python -m icons_repro.studies.counterfactual FOLDER [--add RUNS]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from tqdm import tqdm

from icons_repro.core.commands import errors_in_a_line, parser_of
from icons_repro.core.errors import DataError, UserError
from icons_repro.core.files import read_json, write_text
from icons_repro.core.screen import quiet_third_parties
from icons_repro.report.runs import SweepRun, collect
from icons_repro.studies.counterfactual.losses import FILE as LOSSES
from icons_repro.studies.counterfactual.losses import Loss, measure
from icons_repro.studies.counterfactual.predictions import FILE as PREDICTED
from icons_repro.studies.counterfactual.predictions import Predicted, predict
from icons_repro.studies.counterfactual.score import findings
from icons_repro.studies.csv_rows import read_rows, write_rows

TABLES = "results.md"


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
    old = read_rows(folder / PREDICTED, Predicted)
    write_rows(folder / PREDICTED, predict(scored, subsets, old), Predicted)


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
            read_rows(options.folder / PREDICTED, Predicted),
        )
    for table in found:
        table.show(Console())
    write_text(options.folder / TABLES, "\n".join(table.markdown() for table in found))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Table of the fresh-pool experiment: paired scores of every method, pool by pool, both regimes.

    python experiments/fresh_pools/summarise.py [RUNS_FOLDER]

Reads the `results.json` and `config.yaml` of `experiment=fresh_pools` and the scores of each run's
references, and prints Markdown. "Above blind" is (score - blind) / (full - blind), in percent,
averaged over benchmarks; "Rel." is score / full.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import yaml

from icons_repro.evaluation.relative import blind_scores, mean_interval
from icons_repro.evaluation.runner import read_scores

Scores = dict[str, float]
METHODS = ("full", "random", "icons", "oracle")


def scores_in(folder: Path) -> Scores:
    """Return the score of each benchmark that an evaluate directory holds."""
    return {name: result["score"] for name, result in read_scores(folder).items()}


def read(runs: Path) -> dict[tuple[str, int], dict[str, Scores]]:
    """Return `{(regime, pool seed): {method: scores}}`; "blind" is one of the methods."""
    found: dict[tuple[str, int], dict[str, Scores]] = defaultdict(dict)
    for run in sorted(path.parent for path in runs.glob("*/results.json")):
        results = json.loads((run / "results.json").read_text())
        config = yaml.safe_load((run / "config.yaml").read_text())
        cache = Path(config["paths"]["cache"])
        cell = found[config["finetune"]["steps"], config["data"]["world"]["seed"]]
        cell[results["selector"]] = {n: r["score"] for n, r in results["benchmarks"].items()}
        for name in ("full", "random"):
            step = results["stages"].get(f"evaluate_{name}")
            if step:
                cell[name] = scores_in(cache / "evaluate" / step["fingerprint"])
        for path in cache.glob("world/*/world.json"):
            if json.loads(path.read_text())["settings"] == config["data"]["world"]:
                cell["blind"] = blind_scores(path)
    return found


def mean(values: list[float]) -> float:
    """Return the arithmetic mean."""
    return sum(values) / len(values)


def relative(scores: Scores, full: Scores, blind: Scores | None = None) -> float:
    """Return 100 x mean of (score - blind) / (full - blind); without `blind`, of score / full."""
    floor = blind or dict.fromkeys(full, 0.0)
    return 100 * mean([(scores[b] - floor[b]) / (full[b] - floor[b]) for b in full])


def cell_text(values: list[float]) -> str:
    """Return "mean ± half-width (each value)"."""
    centre, low, _ = mean_interval(values)
    each = " ".join(f"{value:.1f}" for value in values)
    return f"{centre:.1f} ± {centre - low:.1f} ({each})"


def main() -> None:
    """Print the tables."""
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/runs/tiny/fresh_pools")
    found = read(runs)
    for regime in sorted({regime for regime, _ in found}):
        cells = [cell for (r, _), cell in sorted(found.items()) if r == regime]
        print(
            f"\n**{regime}**, {len(cells)} pools: mean ± half-width of the 95% interval (by pool)\n"
        )
        print("| method | mean score | Rel. % | above blind % |\n|---|---|---|---|")
        for method in METHODS:
            with_it = [cell for cell in cells if method in cell]
            if not with_it:
                continue
            columns = (
                [mean(list(cell[method].values())) for cell in with_it],
                [relative(cell[method], cell["full"]) for cell in with_it],
                [relative(cell[method], cell["full"], cell["blind"]) for cell in with_it],
            )
            print(f"| {method} | {' | '.join(cell_text(column) for column in columns)} |")
        pairs = [
            relative(c["icons"], c["full"], c["blind"])
            - relative(c["random"], c["full"], c["blind"])
            for c in cells
            if {"icons", "random"} <= c.keys()
        ]
        print(f"\nICONS minus random, above blind, paired by pool: {cell_text(pairs)}")
        print("\n| benchmark | blind | full | random | icons | oracle |\n|---|---|---|---|---|---|")
        for benchmark in cells[0]["full"]:
            values = [
                mean([cell[method][benchmark] for cell in cells if method in cell])
                for method in ("blind", *METHODS)
            ]
            print(f"| {benchmark} | {' | '.join(f'{value:.1f}' for value in values)} |")


if __name__ == "__main__":
    main()

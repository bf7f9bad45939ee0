"""Finished runs on disk, with answers and selections, for tables over many runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from icons_repro.evaluation.answers import write_rows
from icons_repro.report.results import RunResults, write_results

Right = Mapping[str, Sequence[float]]
"""By benchmark: whether each question was answered rightly."""
PICTURES = 3
"""Questions about one picture."""
POOL_ROWS = 50


def write_scores(out: Path, right: Right, questions: str = "q") -> dict[str, dict[str, Any]]:
    """Write an evaluate directory and return its results."""
    results = {}
    (out / "metrics").mkdir(parents=True)
    for name, values in right.items():
        rows = [
            {"question_id": str(i), "question": f"{questions}{i}", "score": float(v),
             "cluster": f"picture {i // PICTURES}"}
            for i, v in enumerate(values)
        ]  # fmt: skip
        write_rows(out / "answers" / f"{name}.jsonl", rows)
        results[name] = {
            "score": 100 * float(np.mean(values)), "metric": "exact_match", "n": len(values),
            "stderr": 100 * float(np.std(values) / np.sqrt(len(values))),
            "higher_is_better": True, "status": "ok",
        }  # fmt: skip
        settings = {"statistic": "mean", "multiplier": 100.0}
        metrics = {"result": results[name], "settings": settings}
        (out / "metrics" / f"{name}.json").write_text(json.dumps(metrics))
    return results


def write_selection(out: Path, positions: Sequence[int], pool: str) -> Path:
    """Write the files of a selection that a comparison reads."""
    out.mkdir(parents=True)
    np.save(out / "positions.npy", np.asarray(positions, dtype=np.int64))
    (out / "keys.txt").write_text("".join(f"{pool}-{i}\n" for i in positions))
    chosen = sum(i < POOL_ROWS // 2 for i in positions)
    counts = {
        "shapes": {"pool": POOL_ROWS // 2, "selected": chosen},
        "chat": {"pool": POOL_ROWS // 2, "selected": len(positions) - chosen},
    }
    (out / "sources.json").write_text(json.dumps(counts))
    return out


def write_run(
    folder: Path,
    right: Right | None,
    full: Right | None = None,
    random: Right | None = None,
    blind: Mapping[str, float] | None = None,
    selector: str = "icons",
    seed: int = 0,
    pool: str = "pool0",
    positions: Sequence[int] = range(10),
    config: Mapping[str, Any] | None = None,
    questions: str = "q",
    **changes: Any,
) -> Path:
    """Write a run directory; what it was compared with lies beside its own answers."""
    evaluations, compared = {}, {}
    benchmarks: dict[str, Any] = {}
    for name, answers in (("this run", right), ("full", full), ("random", random)):
        if answers is None:
            continue
        out = folder / "evaluate" / name.replace(" ", "_")
        results = write_scores(out, answers, questions)
        evaluations[name] = str(out)
        compared[name] = {b: r["score"] for b, r in results.items()}
        if name == "this run":
            benchmarks = results
    compared.pop("this run", None)
    compared |= {"blind": dict(blind)} if blind else {}
    selection = write_selection(folder / "selection", positions, pool)
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed": seed, **(config or {})}))
    fields: dict[str, Any] = {
        "experiment": "x", "setup": "tiny", "scale": "tiny", "selector": selector, "budget": 0.2,
        "seed": seed, "n_pool": POOL_ROWS, "n_selected": len(positions),
        "selection": str(selection), "adapter": str(folder / "adapter") if right else None,
        "pool": pool, "evaluations": evaluations, "benchmarks": benchmarks,
        "relative": {"value": 0.0, "compared_with": compared} if right else None,
    }  # fmt: skip
    write_results(folder, RunResults(**(fields | changes)))
    return folder


def coins(share: float, seed: int, count: int = 120) -> list[float]:
    """Answers of which a share is right; pictures are right or wrong together, mostly."""
    rng = np.random.default_rng(seed)
    pictures = np.repeat(rng.random(count // PICTURES), PICTURES)
    own = rng.random(count)
    return [float(v) for v in np.where(rng.random(count) < 0.7, pictures, own) < share]


def nearly(answers: Sequence[float], flips: int, seed: int) -> list[float]:
    """The same answers with some wrong ones put right."""
    rng = np.random.default_rng(seed)
    found = np.array(answers)
    wrong = np.flatnonzero(found == 0)
    found[rng.choice(wrong, flips, replace=False)] = 1.0
    return [float(v) for v in found]

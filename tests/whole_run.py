"""A finished run with all that a page reads, without training: a real pool, selection and stores.

Influence and answers are drawn, with some structure; everything else is what the program writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import yaml
from run_files import benchmark_result

from icons_repro.core.settings import RecordPolicy
from icons_repro.core.types import InfluenceMatrix, Pool
from icons_repro.data.records import RecordTable, build_records
from icons_repro.evaluation.answers import write_rows
from icons_repro.gradients.store import RowStatus
from icons_repro.gradients.writer import open_writer, seal
from icons_repro.report.results import RunResults, write_results
from icons_repro.selection.artifact import write_selection
from icons_repro.selection.base import BudgetedSelector
from icons_repro.selection.icons import Icons
from icons_repro.selection.jobs import by_source
from icons_repro.selection.random import Random

TASKS = ("tiny_gqa", "tiny_pope", "tiny_vqa")
DIM = 32
SHARE = {"icons": 0.62, "random": 0.5, "full": 0.75}
"""How many answers of a model are right."""


@dataclass(frozen=True)
class Cache:
    """Where the parts of the runs are."""

    root: Path

    @classmethod
    def fill(cls, root: Path, world: Path) -> Cache:
        """Take a world's pool, targets and benchmarks, and draw gradients."""
        cache = cls(root)
        (root / "pool").mkdir(parents=True)
        (root / "world").mkdir()
        (root / "world" / "w0").symlink_to(world)
        pool = root / "pool" / "p0"
        pool.mkdir()
        (pool / "images").symlink_to(world / "images")
        policy = RecordPolicy(check_images="exists")
        build_records(world / "pool.json", world / "images", pool, policy)
        targets = root / "targets" / "t0"
        for task in TASKS:
            (targets / task).mkdir(parents=True)
            rows = world / "targets" / f"{task}.json"
            build_records(rows, world / "images", targets / task, policy)
        (targets / "images").symlink_to(world / "images")
        cache._gradients()
        return cache

    @property
    def table(self) -> RecordTable:
        """The pool."""
        return RecordTable(self.root / "pool" / "p0" / "records.arrow")

    def _gradients(self) -> None:
        rng = np.random.default_rng(3)
        rows = [_write_store(self.root / "gradients" / "g0", len(self.table), self.table.keys, rng)]
        values = []
        for task in TASKS:
            table = RecordTable(self.root / "targets" / "t0" / task / "records.arrow")
            folder = self.root / "target_gradients" / "v0" / task
            own = _write_store(folder, len(table), table.keys, rng)
            values.append(rows[0] @ own.mean(axis=0))
        folder = self.root / "influence" / "i0"
        folder.mkdir(parents=True)
        matrix = InfluenceMatrix(np.column_stack(values), TASKS, self.table.keys)
        matrix.save(folder / "influence.parquet")
        inputs = {"pool": "p0", "targets": "t0", "train": "g0", "validation": "v0"}
        write_manifest(folder, inputs)

    def select(self, name: str, budget: float, seed: int) -> Path:
        """Choose rows as a run does."""
        table = self.table
        influence = InfluenceMatrix.load(self.root / "influence" / "i0" / "influence.parquet")
        pool = Pool(
            table.keys, table.sources, table.words, table.image_counts > 0, {"influence": influence}
        )
        selector: BudgetedSelector = Icons() if name == "icons" else Random()
        k = int(budget * len(pool))
        chosen = selector.select(pool, k, np.random.default_rng(seed))
        out = self.root / "select" / f"{name}-{budget:g}-{seed}"
        out.mkdir(parents=True)
        write_selection(chosen, table.keys, out)
        (out / "sources.json").write_text(json.dumps(by_source(table.sources, chosen.positions)))
        write_manifest(out, {"pool": "p0"}, {"selector": {"percentile": 80, "comparison": ">"}})
        return out

    def evaluate(self, name: str, seed: int) -> tuple[Path, dict[str, Any]]:
        """Answer the world's benchmarks, some rightly."""
        out = self.root / "evaluate" / f"{name}-{seed}"
        results = {}
        rng = np.random.default_rng([seed, *name.encode()])
        files = sorted((self.root / "world" / "w0" / "benchmarks").glob("*.parquet"))
        for path in files[:3]:
            table = pq.read_table(path, columns=["question_id", "question", "answer"])
            right = rng.random(table.num_rows) < SHARE[name]
            rows = [
                {"position": i, **asked, "score": float(ok), "cluster": None,
                 "prediction": asked["answer"] if ok else "no idea"}
                for i, (asked, ok) in enumerate(zip(table.to_pylist(), right, strict=True))
            ]  # fmt: skip
            write_rows(out / "answers" / f"{path.stem}.jsonl", rows)
            (out / "metrics").mkdir(exist_ok=True)
            results[path.stem] = benchmark_result(100 * float(right.mean()), n=len(rows))
            settings = {"statistic": "mean", "multiplier": 100.0}
            metrics = {"result": results[path.stem], "settings": settings}
            (out / "metrics" / f"{path.stem}.json").write_text(json.dumps(metrics))
        write_manifest(out, {"world": "w0"})
        return out, results


def write_manifest(
    folder: Path, inputs: Mapping[str, str], config: Mapping[str, Any] | None = None
) -> None:
    (folder / "manifest.json").write_text(json.dumps({"inputs": inputs, "config": config or {}}))


def _write_store(folder: Path, n: int, keys: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows = rng.standard_normal((n, DIM)) + rng.standard_normal(DIM) * 0.3
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    folder.mkdir(parents=True)
    writer = open_writer(
        folder, n_rows=n, dim=DIM, dtype="float32", identities={"model": "m"}, keys=keys
    )
    with writer:
        writer.write(np.arange(n), torch.tensor(rows).float(), torch.ones(n), [RowStatus.ok] * n)
    seal(folder)
    return rows


def write_whole_run(
    runs: Path, cache: Cache, name: str = "icons", budget: float = 0.2, seed: int = 0
) -> Path:
    """Write one run's folder, as `results.json` and the page's inputs have it."""
    folder = runs / f"{name}-b{budget:g}-s{seed}"
    folder.mkdir(parents=True)
    selection = cache.root / "select" / f"{name}-{budget:g}-{seed}"
    selection = selection if selection.is_dir() else cache.select(name, budget, seed)
    evaluations, scores = {}, {}
    for line, model in (("this run", name), ("full", "full"), ("random", "random")):
        if line != "this run" and model == name:
            continue
        out = cache.root / "evaluate" / f"{model}-{seed}"
        path, results = cache.evaluate(model, seed) if not out.is_dir() else (out, _read(out))
        evaluations[line], scores[line] = str(path), results
    compared = {
        line: {b: r["score"] for b, r in found.items()}
        for line, found in scores.items()
        if line != "this run"
    }
    compared["blind"] = dict.fromkeys(scores["this run"], 20.0)
    results = RunResults(
        experiment="demo", setup="tiny", scale="tiny", selector=name, budget=budget, seed=seed,
        n_pool=len(cache.table), n_selected=int(budget * len(cache.table)),
        selection=str(selection), adapter=str(cache.root / "finetune" / f"{name}{budget}{seed}"),
        influence=str(cache.root / "influence" / "i0" / "influence.parquet")
        if name == "icons" else None,
        pool="p0", evaluations=evaluations, benchmarks=scores["this run"],
        relative={"value": 90.0, "low": 85.0, "high": 95.0, "reference": "full",
                  "compared_with": compared},
        stages={
            "warmup": {"fingerprint": "aa", "cached": False, "seconds": 6.0},
            "select": {"fingerprint": f"s{name}{budget}{seed}", "cached": False, "seconds": 0.5},
            "finetune": {"fingerprint": f"f{name}{budget}{seed}", "cached": False, "seconds": 9.0},
        },
    )  # fmt: skip
    write_results(folder, results)
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed": seed, "finetune": {"epochs": 1}}))
    return folder


def _read(out: Path) -> dict[str, Any]:
    return {p.stem: json.loads(p.read_text())["result"] for p in (out / "metrics").glob("*.json")}

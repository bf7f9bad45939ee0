"""Write ordinary lmms-eval YAML tasks: local parquet benchmarks, and overrides of upstream tasks.

A YAML names functions by import path (`!function package.module.function`, lmms-eval 0.7.3), so
nothing has to be copied beside it, and stock lmms-eval runs the folder too:
`lmms-eval --include_path FOLDER --tasks tiny_vqa ...`.
"""

from __future__ import annotations

import glob
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from icons_repro.core import plugins
from icons_repro.core.errors import DataError
from icons_repro.core.refs import Ref
from icons_repro.evaluation.benchmark_files import answers_yes_or_no
from icons_repro.evaluation.settings import BenchmarkSettings

log = logging.getLogger(__name__)

FUNCTION = "!function "
YES_NO = "pope_accuracy"
OVERRIDE_SUFFIX = "_icons"
CACHE = "cache"
"""Folder beside the tasks where `datasets` keeps its copies."""


def benchmark_files(world: Path | None, folder: Ref | None) -> Path:
    """Return the folder of benchmark files: a made world's, or the user's own."""
    if world:
        return world / "benchmarks"
    assert folder is not None
    return Path(folder.path)


def local_benchmarks(
    parquet_dir: Path, names: Iterable[str] | None = None
) -> list[BenchmarkSettings]:
    """Return one benchmark for each `<name>.parquet` (or those of `names`).

    Rows need `question_id`, `image` (`{bytes, path}` or null), `question`, `answer`. A benchmark
    whose answers are all yes or no is scored by POPE's code, any other by exact match.
    Raises `DataError` for a missing file and what `answers_yes_or_no` finds in one.
    """
    wanted = list(names) if names is not None else _parquet_names(parquet_dir)
    return [
        BenchmarkSettings(
            name=name,
            metric=YES_NO if answers_yes_or_no(parquet_dir / f"{name}.parquet") else "exact_match",
        )
        for name in wanted
    ]


def write_local_tasks(
    parquet_dir: Path, include_path: Path, names: Iterable[str] | None = None
) -> list[BenchmarkSettings]:
    """Write one lmms-eval task for each local benchmark, and return their settings."""
    include_path.mkdir(parents=True, exist_ok=True)
    benchmarks = local_benchmarks(parquet_dir, names)
    cache = include_path / CACHE
    for benchmark in benchmarks:
        name, parquet = benchmark.name, parquet_dir / f"{benchmark.name}.parquet"
        text = _template("yes_no" if benchmark.metric == YES_NO else "short_answer") + (
            f"task: {name}\n"
            "dataset_kwargs:\n"
            f"  data_files: {{test: {json.dumps(glob.escape(str(parquet.resolve())))}}}\n"
            f"  cache_dir: {json.dumps(str(cache.resolve()))}\n"
        )
        (include_path / f"{name}.yaml").write_text(text)
    return benchmarks


def write_override(
    benchmark: BenchmarkSettings, base: Path, include_path: Path
) -> BenchmarkSettings:
    """Write a task that includes the upstream YAML `base` and changes `benchmark.options` in it.

    It gets a name of its own (`<task>_icons`), so that nobody takes its score for the plain one.
    """
    name = benchmark.task + OVERRIDE_SUFFIX
    include_path.mkdir(parents=True, exist_ok=True)
    lines = [f"include: {json.dumps(str(base))}", f"task: {name}"]
    lines += [f"{key}: {_flow(value)}" for key, value in benchmark.options.items()]
    (include_path / f"{name}.yaml").write_text("\n".join(lines) + "\n")
    return replace(benchmark, task=name)


def plugin_tasks() -> list[str]:
    """Return the folders of lmms-eval tasks that other installed packages bring."""
    return [str(folder) for folder in plugins.folders("tasks").values()]


def _parquet_names(parquet_dir: Path) -> list[str]:
    names = sorted(path.stem for path in parquet_dir.glob("*.parquet"))
    if not names:
        raise DataError(f"{parquet_dir} holds no benchmark (*.parquet): run the prepare stage.")
    return names


def _template(name: str) -> str:
    return (resources.files(__package__) / "local_tasks" / f"{name}.yaml").read_text()


def _flow(value: Any) -> str:
    """Return `value` in YAML's flow style; a string "!function a.b" becomes that tag."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_flow(v) for v in value) + "]"
    if isinstance(value, str) and value.startswith(FUNCTION):
        return value
    return json.dumps(value)

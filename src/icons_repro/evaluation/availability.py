"""Which benchmarks could be scored here, asked before any GPU hour is spent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from icons_repro.evaluation.isolation import contained
from icons_repro.evaluation.preflight import dataset_problem, judge_problem
from icons_repro.evaluation.settings import BenchmarkSettings
from icons_repro.evaluation.tasks import plugin_tasks


def unavailable(benchmarks: Sequence[BenchmarkSettings], log: Path) -> dict[str, str]:
    """Return why each benchmark that cannot be scored cannot be.

    Imports lmms-eval (seconds); what it says goes to the file `log`.
    """
    with contained(log):
        from lmms_eval.tasks import TaskManager

        manager = TaskManager(include_path=plugin_tasks())
    problems = {}
    for benchmark in benchmarks:
        problem = judge_problem(benchmark)
        if problem is None and benchmark.task not in manager.all_tasks:
            problem = f"lmms-eval has no task {benchmark.task!r}"
        if problem is None:
            config = {**manager._get_config(benchmark.task), **benchmark.options}
            problem = dataset_problem(config["dataset_path"], config.get("dataset_kwargs"))
        if problem is not None:
            problems[benchmark.name] = problem
    return problems

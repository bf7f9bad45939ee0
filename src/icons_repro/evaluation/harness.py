"""Drive lmms-eval 0.7.3: find a task, load its data, answer, score. Imported only to evaluate."""

from __future__ import annotations

import difflib
import logging
import shutil
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import lmms_eval.evaluator
from lmms_eval.api.task import Task
from lmms_eval.tasks import TaskManager, get_task_dict
from PIL import Image

from icons_repro.core.progress import bar
from icons_repro.evaluation.answerer import Answerer
from icons_repro.evaluation.answers import AnswerSlices, answer_rows, judge_gave_up, write_rows
from icons_repro.evaluation.availability import dataset_problem
from icons_repro.evaluation.isolation import Overheard, contained
from icons_repro.evaluation.lmms_model import LlavaLmms, SliceAnswered
from icons_repro.evaluation.result import not_available
from icons_repro.evaluation.settings import BenchmarkSettings
from icons_repro.evaluation.statistics import standard_error, units_of
from icons_repro.evaluation.tasks import CACHE, plugin_tasks, write_override

log = logging.getLogger(__name__)


class UnavailableError(Exception):
    """A benchmark cannot be scored here; the message says why."""


class Harness:
    """One model and lmms-eval, for several benchmarks."""

    def __init__(
        self,
        include_path: Path | None,
        out: Path,
        answerer: Answerer | None,
        limit: int | None,
        seed: int,
    ) -> None:
        """Remember the model; it is loaded when first needed, and `pictures` needs none."""
        self.include_path = include_path
        self.out = out
        self.limit = limit
        self.seed = seed
        self._answerer = answerer

    @cached_property
    def model(self) -> LlavaLmms:
        """The model, loaded once."""
        assert self._answerer is not None
        return LlavaLmms(**vars(self._answerer))

    def run(self, benchmark: BenchmarkSettings, count: str = "") -> dict[str, Any]:
        """Return `result`, and for a scored benchmark `metrics`, `seconds` and more.

        Errors while the model answers are raised; whatever keeps lmms-eval from finding, loading or
        scoring the benchmark makes it "not available".
        """
        started = time.perf_counter()
        try:
            with contained(self.out / "lmms_eval.log") as overheard:
                task = self._load(benchmark)
                self.model.answered, pictures = self._slices(benchmark).read()
                self.model.pictures[task.config.task] = pictures
                report = self._answer_and_score(task, f"{benchmark.name} {count}".strip())
            outcome = self._outcome(benchmark, task, report, overheard)
        except UnavailableError as problem:
            return {"result": not_available(benchmark, str(problem))}
        if not self.model.known.enough:
            outcome["unknown_words"] = str(self.model.known)
            log.warning("%s: the model cannot read all: %s.", benchmark.name, self.model.known)
        outcome["seconds"] = round(time.perf_counter() - started, 3)
        return outcome

    def answer(self, benchmark: BenchmarkSettings, part: int, of: int) -> None:
        """Answer slice `part` of `of`, and leave the answers for `run`.

        A benchmark that cannot be loaded leaves none: `run` will say why.
        """
        slices = self._slices(benchmark)
        if slices.has(part, of):
            return
        try:
            with contained(self.out / "lmms_eval.log"):
                task = self._load(benchmark)
                self.model.slice = (part, of)
                self._answer_and_score(task, f"{benchmark.name} {part + 1}/{of}")
        except SliceAnswered as answered:
            slices.write(part, of, answered.texts, answered.pictures)
        except UnavailableError as problem:
            log.warning("%s: %s", benchmark.name, problem)
        finally:
            self.model.slice = None

    def pictures(
        self, benchmark: BenchmarkSettings
    ) -> Iterator[tuple[str, Image.Image | Exception]]:
        """Yield each question's pictures, with a name; or what went wrong as they were opened.

        Raises `UnavailableError` where the benchmark cannot be loaded.
        """
        with contained(self.out / "lmms_eval.log"):
            task = self._load(benchmark)
            documents = task.eval_docs
        for number in range(len(documents)):
            try:
                shown = task.doc_to_visual(documents[number]) or []
            except Exception as error:  # whatever a task's own code or a decoder raises
                yield f"question {number}", error
                continue
            for picture in shown:
                if isinstance(picture, Image.Image):  # and no video
                    yield f"question {number}", picture

    def _slices(self, benchmark: BenchmarkSettings) -> AnswerSlices:
        return AnswerSlices(self.out / "slices" / benchmark.name)

    def close(self) -> None:
        """Remove the copies of local benchmarks that `datasets` made."""
        if self.include_path:
            shutil.rmtree(self.include_path / CACHE, ignore_errors=True)

    def _load(self, benchmark: BenchmarkSettings) -> Task:
        """Return the task with its data. Raises `UnavailableError`."""
        manager = self._manager_with(benchmark.task)
        try:
            config = {**manager._get_config(benchmark.task), **benchmark.options}
            kind = config.get("output_type", "generate_until")
            if kind != "generate_until":
                raise UnavailableError(
                    f"{benchmark.task} wants {kind}; this model only generates text"
                )
            if problem := dataset_problem(config["dataset_path"], config.get("dataset_kwargs")):
                raise UnavailableError(problem)
            if benchmark.options:
                benchmark, manager = self._overridden(benchmark, manager)
            task = get_task_dict([benchmark.task], manager, "chat")[benchmark.task]
            if benchmark.cluster_key:
                task.config.cluster_key = benchmark.cluster_key
            return task
        except UnavailableError:
            raise
        except Exception as error:  # whatever a task's own code or a dataset's loader raises
            reason = f"{benchmark.task} cannot be loaded: {_cause(error)}"
            raise UnavailableError(reason) from error

    def _answer_and_score(self, task: Task, label: str) -> dict[str, Any]:
        """Run lmms-eval's evaluator on one task."""
        name = task.config.task
        total = min(len(task.eval_docs), self.limit or len(task.eval_docs))
        answered = 0

        def count(questions: int) -> None:
            nonlocal answered
            answered += questions
            shown.update(questions)

        with bar(label, total, "question") as shown:
            self.model.progress = count
            try:
                report: dict[str, Any] = lmms_eval.evaluator.simple_evaluate(
                    model=self.model,
                    tasks=[task],
                    task_manager=self._local_manager,
                    limit=self.limit,
                    bootstrap_iters=0,
                    verbosity="ERROR",
                    process_docs_parallel=1,
                    random_seed=self.seed,
                    cli_args=Namespace(output_path=str(self.out), process_with_media=False),
                )
            except SliceAnswered:
                raise
            except Exception as error:
                if answered < total:
                    raise
                raise UnavailableError(f"scoring {name} failed: {_cause(error)}") from error
        return report

    def _outcome(
        self,
        benchmark: BenchmarkSettings,
        task: Task,
        report: dict[str, Any],
        overheard: Overheard,
    ) -> dict[str, Any]:
        """Turn lmms-eval's report into our result, and write the answers."""
        name = task.config.task
        numbers = report["results"][name]
        samples = _of_filter(report["samples"][name], numbers, benchmark)
        rows = answer_rows(samples, benchmark.metric, self.model.pictures.pop(name, {}))
        write_rows(self.out / "answers" / f"{benchmark.name}.jsonl", rows)
        if benchmark.needs_server:
            raise UnavailableError(
                "scored by a test server: send it the file in submissions/, beside the answers"
            )
        self._refuse_made_up(benchmark, report["samples"][name], overheard)
        value = numbers.get(f"{benchmark.metric},{benchmark.filter}")
        if not isinstance(value, int | float):
            have = sorted(k for k, v in numbers.items() if isinstance(v, int | float))
            raise UnavailableError(
                f"{name} gave no {benchmark.metric},{benchmark.filter}; it has {have}"
            )
        return {
            "result": _result(benchmark, float(value), rows),
            "metrics": {k: float(v) for k, v in numbers.items() if isinstance(v, int | float)},
            "task": {"name": name, "version": str(task.VERSION), "prompt": _first_prompt(report)},
        }

    @staticmethod
    def _refuse_made_up(
        benchmark: BenchmarkSettings, samples: list[dict[str, Any]], overheard: Overheard
    ) -> None:
        gave_up = judge_gave_up(samples, benchmark.metric)
        if overheard.judge_failures or gave_up:
            first = (overheard.judge_failures or ["no verdict"])[0]
            raise UnavailableError(
                f"judge: {max(gave_up, len(overheard.judge_failures))} calls failed ({first}); "
                "lmms-eval would put a random or zero score there"
            )

    @cached_property
    def _local_manager(self) -> TaskManager:
        paths = [str(self.include_path)] if self.include_path else []
        return TaskManager("ERROR", include_path=paths, include_defaults=False)

    def _manager_with(self, task: str) -> TaskManager:
        if task in self._local_manager.all_tasks:
            return self._local_manager
        upstream = upstream_tasks()
        if task in upstream.all_tasks:
            return upstream
        near = difflib.get_close_matches(task, upstream.all_tasks, n=3)
        raise UnavailableError(f"lmms-eval has no task {task!r}; the nearest are {near}")

    def _overridden(
        self, benchmark: BenchmarkSettings, manager: TaskManager
    ) -> tuple[BenchmarkSettings, TaskManager]:
        folder = self.out / "overrides"
        base = Path(manager._get_yaml_path(benchmark.task))
        changed = write_override(benchmark, base, folder)
        return changed, TaskManager("ERROR", include_path=[str(folder)], include_defaults=False)


@cache
def upstream_tasks() -> TaskManager:
    """Return lmms-eval's own tasks and plugins': reading 2,000 YAML files takes seconds."""
    return TaskManager("ERROR", include_path=plugin_tasks())


def _result(
    benchmark: BenchmarkSettings, value: float, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Scale the score; add a standard error where the answers reproduce the score."""
    units = units_of(benchmark.statistic, rows)
    if units is not None and abs(units.score() - value) > 1e-6 * max(1.0, abs(value)):
        log.warning(
            "%s: the answers give %g where lmms-eval says %g; no interval for it.",
            benchmark.name, units.score(), value,
        )  # fmt: skip
        units = None
    return {
        "score": value * benchmark.multiplier,
        "metric": benchmark.metric,
        "n": len(rows),
        "stderr": None if units is None else standard_error(units) * benchmark.multiplier,
        "higher_is_better": benchmark.higher_is_better,
        "status": "ok",
    }


def _of_filter(
    samples: list[dict[str, Any]], numbers: Mapping[str, Any], benchmark: BenchmarkSettings
) -> list[dict[str, Any]]:
    """Return the samples of one filter: lmms-eval logs each question once for every filter."""
    keys = [key.split(",", 1)[1] for key in numbers if "," in key]
    filters = list(dict.fromkeys(keys))
    if len(filters) < 2 or benchmark.filter not in filters:
        return samples
    each = len(samples) // len(filters)
    start = filters.index(benchmark.filter) * each
    return samples[start : start + each]


def _first_prompt(report: Mapping[str, Any]) -> str:
    samples = next(iter(report["samples"].values()))
    return str((samples[0].get("arguments") or [""])[0]) if samples else ""


def _cause(error: BaseException) -> str:
    """Return the root error in one line; lmms-eval wraps it in a retry error."""
    attempt = getattr(error, "last_attempt", None)
    inner = attempt.exception() if attempt is not None else None
    error = inner or error
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"

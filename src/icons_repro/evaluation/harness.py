"""Drive lmms-eval 0.7.3: one model answers, lmms-eval scores. Imported only to evaluate."""

from __future__ import annotations

import logging
import shutil
import time
from argparse import Namespace
from functools import cached_property
from pathlib import Path
from typing import Any

import lmms_eval.evaluator
from lmms_eval.api.task import Task

from icons_repro.core.progress import bar
from icons_repro.evaluation.answerer import Answerer
from icons_repro.evaluation.answers import AnswerSlices
from icons_repro.evaluation.isolation import contained
from icons_repro.evaluation.lmms_model import LlavaLmms, SliceAnswered
from icons_repro.evaluation.loading import LOG, TaskLoader, cause
from icons_repro.evaluation.outcome import outcome_of
from icons_repro.evaluation.result import UnavailableError, not_available
from icons_repro.evaluation.settings import BenchmarkSettings
from icons_repro.evaluation.tasks import CACHE

log = logging.getLogger(__name__)


class Harness:
    """One model and lmms-eval, for several benchmarks."""

    def __init__(
        self,
        include_path: Path | None,
        out: Path,
        answerer: Answerer,
        limit: int | None,
        seed: int,
    ) -> None:
        """Remember the model; it is loaded when first needed."""
        self.include_path = include_path
        self.loader = TaskLoader(include_path, out)
        self.out = out
        self.limit = limit
        self.seed = seed
        self._answerer = answerer

    @cached_property
    def model(self) -> LlavaLmms:
        """The model, loaded once."""
        return LlavaLmms(**vars(self._answerer))

    def run(self, benchmark: BenchmarkSettings, count: str = "") -> dict[str, Any]:
        """Return `result`, and for a scored benchmark `metrics`, `seconds` and more.

        Errors while the model answers are raised; whatever keeps lmms-eval from finding, loading or
        scoring the benchmark makes it "not available".
        """
        started = time.perf_counter()
        try:
            with contained(self.out / LOG) as overheard:
                task = self.loader.load(benchmark)
                self.model.answered, known = self._slices(benchmark).read()
                self.model.pictures[task.config.task] = known
                report = self._answer_and_score(task, f"{benchmark.name} {count}".strip())
            pictures = self.model.pictures.pop(task.config.task, {})
            path = self.out / "answers" / f"{benchmark.name}.jsonl"
            outcome = outcome_of(benchmark, task, report, pictures, overheard, path)
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
            with contained(self.out / LOG):
                task = self.loader.load(benchmark)
                self.model.slice = (part, of)
                self._answer_and_score(task, f"{benchmark.name} {part + 1}/{of}")
        except SliceAnswered as answered:
            slices.write(part, of, answered.texts, answered.pictures)
        except UnavailableError as problem:
            log.warning("%s: %s", benchmark.name, problem)
        finally:
            self.model.slice = None

    def _slices(self, benchmark: BenchmarkSettings) -> AnswerSlices:
        return AnswerSlices(self.out / "slices" / benchmark.name)

    def close(self) -> None:
        """Remove the copies of local benchmarks that `datasets` made."""
        if self.include_path:
            shutil.rmtree(self.include_path / CACHE, ignore_errors=True)

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
                    task_manager=self.loader.own,
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
                raise UnavailableError(f"scoring {name} failed: {cause(error)}") from error
        return report

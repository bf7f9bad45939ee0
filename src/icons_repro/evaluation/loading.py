"""An lmms-eval task with its data: found, loaded, its pictures looked through.

Imports lmms-eval 0.7.3, which takes seconds.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path

from lmms_eval.api.task import Task
from lmms_eval.tasks import TaskManager, get_task_dict
from PIL import Image

from icons_repro.core.errors import DataError
from icons_repro.evaluation.availability import LOCAL_BUILDERS, dataset_problem
from icons_repro.evaluation.isolation import contained
from icons_repro.evaluation.result import UnavailableError
from icons_repro.evaluation.settings import BenchmarkSettings
from icons_repro.evaluation.tasks import plugin_tasks, write_override

LOG = "lmms_eval.log"
"""What lmms-eval says, beside the results."""


class TaskLoader:
    """lmms-eval's own tasks, those of plugins, and those of one folder, which come first."""

    def __init__(self, include_path: Path | None, out: Path) -> None:
        """`include_path` has tasks of our own; `out` takes the log and changed tasks."""
        self._include_path = include_path
        self._out = out

    @cached_property
    def own(self) -> TaskManager:
        """The tasks of the folder alone."""
        paths = [str(self._include_path)] if self._include_path else []
        return TaskManager("ERROR", include_path=paths, include_defaults=False)

    def load(self, benchmark: BenchmarkSettings) -> Task:
        """Return the task with its data.

        Raises `UnavailableError`; `DataError` for a file of ours that cannot be read.
        """
        manager = self._manager_with(benchmark.task)
        ours = False
        try:
            config = {**manager._get_config(benchmark.task), **benchmark.options}
            ours = manager is self.own and config["dataset_path"] in LOCAL_BUILDERS
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
            reason = f"{benchmark.task} cannot be loaded: {cause(error)}"
            raise (DataError if ours else UnavailableError)(reason) from error

    def pictures(
        self, benchmark: BenchmarkSettings
    ) -> Iterator[tuple[str, Image.Image | Exception]]:
        """Yield each question's pictures, with a name; or what went wrong as they were opened.

        Raises `UnavailableError` where the benchmark cannot be loaded.
        """
        with contained(self._out / LOG):
            task = self.load(benchmark)
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

    def _manager_with(self, task: str) -> TaskManager:
        if task in self.own.all_tasks:
            return self.own
        upstream = upstream_tasks()
        if task in upstream.all_tasks:
            return upstream
        near = difflib.get_close_matches(task, upstream.all_tasks, n=3)
        raise UnavailableError(f"lmms-eval has no task {task!r}; the nearest are {near}")

    def _overridden(
        self, benchmark: BenchmarkSettings, manager: TaskManager
    ) -> tuple[BenchmarkSettings, TaskManager]:
        folder = self._out / "overrides"
        base = Path(manager._get_yaml_path(benchmark.task))
        changed = write_override(benchmark, base, folder)
        return changed, TaskManager("ERROR", include_path=[str(folder)], include_defaults=False)


@cache
def upstream_tasks() -> TaskManager:
    """Return lmms-eval's own tasks and plugins': reading 2,000 YAML files takes seconds."""
    return TaskManager("ERROR", include_path=plugin_tasks())


def cause(error: BaseException) -> str:
    """Return the root error in one line; lmms-eval wraps it in a retry error."""
    attempt = getattr(error, "last_attempt", None)
    inner = attempt.exception() if attempt is not None else None
    error = inner or error
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"

"""Run lmms-eval without letting it change the process or write to the screen.

lmms-eval 0.7.3 prints category scores, opens a progress bar for each internal step, logs to stdout,
and replaces filelock's constructor for the whole process. Everything it says goes to a log file.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Overheard:
    """What lmms-eval logged while it ran."""

    judge_failures: list[str] = field(default_factory=list)
    """Messages about judge calls that failed; the score after them is made up."""


JUDGE_FAILURES = (
    "GPT API failed",
    "Failed to obtain answer",
    "failed to get a score",
    "thus randomly generate",
    "GPT output includes",
    "Error for Question ID",
)


@contextlib.contextmanager
def contained(log_file: Path) -> Iterator[Overheard]:
    """Send lmms-eval's output to `log_file`; undo its changes to the process on exit."""
    import datasets
    import filelock._api
    import lmms_eval.api.task
    import lmms_eval.evaluator
    from loguru import logger
    from transformers.utils import logging as hf_logging

    overheard = Overheard()
    with contextlib.ExitStack() as stack:
        for module in (lmms_eval.api.task, lmms_eval.evaluator):
            stack.enter_context(_replaced(module, "tqdm", _silent(module.tqdm)))
        constructor = filelock._api.FileLockMeta.__call__
        stack.enter_context(_replaced(filelock._api.FileLockMeta, "__call__", constructor))
        patch = lmms_eval.evaluator._enable_reentrant_filelocks
        stack.enter_context(_replaced(patch, "_patched", False))  # it patches once a process
        if not datasets.are_progress_bars_disabled():
            datasets.disable_progress_bars()
            stack.callback(datasets.enable_progress_bars)
        if hf_logging.is_progress_bar_enabled():
            hf_logging.disable_progress_bar()
            stack.callback(hf_logging.enable_progress_bar)
        log = stack.enter_context(log_file.open("a", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(log))
        logger.remove()
        logger.add(log, level="INFO", format="{time:HH:mm:ss} {level} {name}: {message}")
        stack.callback(logger.remove)
        logger.add(functools.partial(_listen, overheard), level="INFO", format="{message}")
        yield overheard


def _silent(bar: Callable[..., Any]) -> Callable[..., Any]:
    def silent(*args: Any, **kwargs: Any) -> Any:
        return bar(*args, **(kwargs | {"disable": True}))

    return silent


def _listen(overheard: Overheard, message: Any) -> None:
    text = str(message).strip()
    if any(sign in text for sign in JUDGE_FAILURES):
        overheard.judge_failures.append(text)


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set `owner.name` for the while; whatever happens to it, put the first value back."""
    before = getattr(owner, name, None)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)

"""Prepare the next piece of work while this one is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prepared_ahead(prepare: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Yield each item with what `prepare` makes of it, in order; one item is prepared ahead.

    A thread prepares the next item while the caller works on this one, and never two at once.
    What `prepare` raises is raised where its item would have been yielded.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="prepare") as thread:
        waiting: tuple[T, Future[R]] | None = None
        for item in items:
            following = (item, thread.submit(prepare, item))
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting is not None:
            yield waiting[0], waiting[1].result()

"""Imports that take seconds, a fifth of them Python's garbage collector's, which finds nothing."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

MANY = 100_000
"""New objects from which on they are worth keeping out of the collector's sight."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Import something large in here: the collector waits, and never looks at what was made.

    torch, Lightning and PEFT make a million objects that all stay, and the collector would look
    through them again and again as they become more (`benchmarks/starting.py` measures it).
    """
    was = gc.isenabled()
    gc.collect()  # or what is garbage by now would stay, too: perhaps a model on a GPU
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > MANY:
            gc.freeze()
            atexit.register(gc.unfreeze)  # or bindings say at the end that they have leaked
        if was:
            gc.enable()


def bring(module: str) -> None:
    """Import a module that takes long, if it is not there yet. Raises `ImportError`."""
    if module not in sys.modules:
        with uncollected():
            import_module(module)

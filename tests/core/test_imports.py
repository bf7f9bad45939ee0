"""Imports without the garbage collector, and what each kind of step imports that way."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

import icons_repro
from icons_repro.core.imports import MANY, uncollected
from icons_repro.core.step import Step


def test_the_collector_waits_and_goes_on() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_it_never_looks_at_what_was_imported_and_lets_it_go_at_the_end() -> None:
    code = f"""if True:
        import atexit, gc
        from icons_repro.core.imports import uncollected
        atexit.register(lambda: print(gc.get_freeze_count()))  # runs after what comes later
        with uncollected():
            few = [[] for _ in range(100)]
        assert not gc.get_freeze_count()
        with uncollected():
            many = [[] for _ in range({MANY} + 1000)]
        assert gc.get_freeze_count() > {MANY}
    """
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.stdout, found.stderr) == ("0\n", "")


def test_garbage_of_before_is_not_kept_for_ever() -> None:
    class Kept: ...

    with uncollected():
        pass  # the collector has looked at all there was
    gc.disable()
    kept = Kept()
    kept.itself = kept  # type: ignore[attr-defined]
    seen = weakref.ref(kept)
    del kept
    gc.enable()
    with uncollected():
        assert seen() is None


def kinds(of: type[Step] = Step) -> Iterator[type[Step]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_step_that_is_not_light_knows_what_to_import() -> None:
    for module in pkgutil.walk_packages(icons_repro.__path__, "icons_repro."):
        if module.name.endswith(".stage"):
            importlib.import_module(module.name)
    heavy = {
        kind
        for kind in kinds()
        if kind.__module__.startswith("icons_repro.") and hasattr(kind, "stage") and not kind.light
    }
    assert len(heavy) > 20
    without = {
        kind.__name__
        for kind in heavy
        if kind.load is Step.load and not find_spec(f"{kind.__module__.rpartition('.')[0]}.jobs")
    }
    assert not without


def test_a_step_whose_jobs_cannot_be_imported_says_so_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from icons_repro.evaluation.stage import Evaluate

    monkeypatch.delitem(sys.modules, "icons_repro.evaluation.jobs", raising=False)
    monkeypatch.setitem(sys.modules, "icons_repro.evaluation.runner", None)
    Evaluate.load(object.__new__(Evaluate))
    assert "icons_repro.evaluation.jobs" not in sys.modules

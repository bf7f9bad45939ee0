"""What an earlier run found of pictures that the tests share with what this run would read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from icons_repro.config.run import RunConfig
from icons_repro.core.cache import Cache
from icons_repro.experiment import Experiment
from icons_repro.preflight.findings import Finding

WHAT = "leakage"


def shared_pictures(config: RunConfig, cache: Cache) -> Iterator[Finding]:
    """Say what is known; looking takes reading every picture, and is left to the run."""
    step = Experiment(config, cache).leakage
    if step is None:
        return
    if not cache.is_ready(step):
        yield Finding("ok", WHAT, "pictures that tests share with the rest: the run will look")
        return
    counts = cache.manifest(step)["counts"]
    same, near = (_shared(counts, how) for how in ("same", "near"))
    text = (
        f"test pictures that are the same in the pool: {same[0]:,}, near: {near[0]:,}; validation "
        f"pictures that are the same in a test: {same[1]:,}, near: {near[1]:,}"
    )
    remedy = "leave these rows out of the pool or the targets: the run's page shows pairs"
    yield Finding("warning", WHAT, text, remedy) if any(same) else Finding("ok", WHAT, text)
    for name, reason in counts["not_checked"].items():
        yield Finding("warning", WHAT, f"{name} is not checked: {reason}")


def _shared(counts: Mapping[str, Any], how: str) -> tuple[int, int]:
    """Return how many pictures, of tests in the pool and of validation in tests."""
    kinds = ("tests_in_pool", "targets_in_tests")
    first, second = (
        sum(crossing[how] for row in counts[kind].values() for crossing in row.values())
        for kind in kinds
    )
    return first, second

"""Why a step would run: what was damaged, or what it has otherwise than a finished one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache as once
from typing import Any

from icons_repro.core.cache import Cache
from icons_repro.core.files import read_json
from icons_repro.core.integrity import MANIFEST
from icons_repro.core.step import Step
from icons_repro.core.trees import TARGET, flatten

NEVER = "never computed"
MOST_NAMED = 3
Identity = Mapping[str, Any]


def why_missing(steps: Iterable[Step], cache: Cache) -> dict[str, str]:
    """Say of each step, by fingerprint, how it differs from the most similar finished one.

    Another method is no change of a finished one: only steps of the same class are compared, whose
    settings name the same classes.
    """

    @once
    def finished(stage: str) -> list[Identity]:
        found = [read_json(path) for path in sorted((cache.root / stage).glob(f"*/{MANIFEST}"))]
        return [manifest for manifest in found if isinstance(manifest, dict)]

    return {step.fingerprint: _why(step, cache, finished(step.stage)) for step in steps}


def _why(step: Step, cache: Cache, finished: Iterable[Identity]) -> str:
    if problem := cache.damage(cache.path(step)):
        return f"damaged: {problem}"
    kind = _kind(step.identity)
    differences = [_differences(old, step.identity) for old in finished if _kind(old) == kind]
    if not differences:
        return NEVER
    nearest = min(differences, key=len)
    more = [f"{len(nearest) - MOST_NAMED} more"] if len(nearest) > MOST_NAMED else []
    return "; ".join(nearest[:MOST_NAMED] + more)


def _kind(identity: Identity) -> tuple[Any, ...]:
    """Return the classes that do the work: the step's, and those that its settings name."""
    settings = flatten(identity.get("config") or {})
    named = [(key, value) for key, value in settings if key.rpartition(".")[2] == TARGET]
    return identity.get("step"), *sorted(named)


def _differences(old: Identity, new: Identity) -> list[str]:
    """List what changed between two identities, as `key: old -> new`."""
    before = dict(flatten({k: old.get(k) for k in ("version", "config")}))
    after = dict(flatten({k: new[k] for k in ("version", "config")}))
    changed = [
        f"{key.removeprefix('config.')}: {before.get(key)} -> {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    inputs = sorted(old.get("inputs", {}).keys() | new["inputs"].keys())
    return changed + [
        f"new {name}"
        for name in inputs
        if old.get("inputs", {}).get(name) != new["inputs"].get(name)
    ]

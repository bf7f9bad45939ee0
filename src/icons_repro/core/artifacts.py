"""One directory for each result, named by what made it.

A `Step` says what it would compute: its stage, its config, the steps it reads. Its fingerprint
follows from those alone, so it is known before anything runs. `ArtifactCache.get` returns its
directory, computing it, and whatever it needs, if it is not there:

    <root>/<stage>/<fingerprint>/        complete: it has a manifest.json
    <root>/<stage>/<fingerprint>.part/   being made, or left by a killed process
    <root>/<stage>/<fingerprint>.lock    held by the process that makes it; others wait

Deleting any of it is always safe.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from icons_repro.core.provenance import provenance
from icons_repro.core.trees import flatten

log = logging.getLogger(__name__)

OnMetrics = Callable[[dict[str, float]], None]
OnStepMetrics = Callable[["Step", dict[str, float]], None]
FINGERPRINT_LENGTH = 16


@dataclass(frozen=True)
class Workspace:
    """What a stage function gets: where to write, and where its inputs are."""

    out: Path
    """The `.part` directory to fill."""
    inputs: Mapping[str, Path]
    """Directories of the finished steps it reads, by name."""
    on_metrics: OnMetrics | None = None
    """Called with each line of training metrics as it is made."""


@dataclass(frozen=True, eq=False)
class Step:
    """One piece of work with a name that says exactly what it is."""

    stage: str
    build: Callable[[Workspace], Mapping[str, Any] | None]
    """Fills `Workspace.out`; may return counts for the manifest."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """JSON values that change the result, and no others."""
    inputs: Mapping[str, Step] = field(default_factory=dict)
    version: int = 1
    """Raise it when the code changes what the same config means."""
    resumable: bool = False
    """The build goes on from what a killed process left in its `.part` directory."""
    label: str = ""
    """What a person calls it ("icons 0.2, seed 0"); not part of the fingerprint."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of stage, version, config and the inputs' fingerprints, 16 hexadecimal digits."""
        text = json.dumps(self.identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_LENGTH]

    @property
    def name(self) -> str:
        """Stage and label, for people."""
        return f"{self.stage} ({self.label})" if self.label else self.stage

    @property
    def identity(self) -> dict[str, Any]:
        """What the fingerprint is a hash of."""
        return {
            "stage": self.stage,
            "version": self.version,
            "config": json.loads(json.dumps(self.config)),
            "inputs": {name: step.fingerprint for name, step in sorted(self.inputs.items())},
        }


@dataclass(frozen=True)
class Artifact:
    """A finished step."""

    step: Step
    path: Path
    cached: bool
    """True if this process did not have to compute it."""
    seconds: float
    """Time its computation took, whenever that was."""


class ArtifactCache:
    """Finds or makes artifacts under one root folder, safely among concurrent processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.used: dict[str, Artifact] = {}
        """Artifacts this process asked for, by fingerprint."""

    def path(self, step: Step) -> Path:
        """Return where the finished step is, or will be."""
        return self.root / step.stage / step.fingerprint

    def is_ready(self, step: Step) -> bool:
        """Return whether the step is finished."""
        return (self.path(step) / "manifest.json").is_file()

    def manifest(self, step: Step) -> dict[str, Any]:
        """Return the manifest of a finished step."""
        manifest: dict[str, Any] = json.loads((self.path(step) / "manifest.json").read_text())
        return manifest

    def get(self, step: Step, on_metrics: OnStepMetrics | None = None) -> Artifact:
        """Return the step's artifact, computing it and its inputs where they are missing.

        `on_metrics` is called with the step and each line of metrics it makes.
        """
        if step.fingerprint in self.used:
            return self.used[step.fingerprint]
        cached = self.is_ready(step)
        if not cached:
            inputs = {name: self.get(s, on_metrics).path for name, s in step.inputs.items()}
            with self._lock(step):
                cached = self.is_ready(step)
                if not cached:
                    self._make(step, inputs, on_metrics)
        artifact = Artifact(step, self.path(step), cached, self.manifest(step)["seconds"])
        self.used[step.fingerprint] = artifact
        return artifact

    def _make(
        self, step: Step, inputs: Mapping[str, Path], on_metrics: OnStepMetrics | None
    ) -> None:
        part = self.path(step).with_suffix(".part")
        if part.exists() and not step.resumable:
            shutil.rmtree(part)
        part.mkdir(parents=True, exist_ok=True)
        log.info("%s ...", step.name)
        started = time.perf_counter()
        tell = partial(on_metrics, step) if on_metrics else None
        counts = step.build(Workspace(part, inputs, tell))
        manifest = {
            **step.identity,
            "fingerprint": step.fingerprint,
            "counts": dict(counts or {}),
            "seconds": round(time.perf_counter() - started, 3),
            **provenance(),
        }
        write_json(part / "manifest.json", manifest)
        os.replace(part, self.path(step))
        log.info("%s: %.1f s", step.name, manifest["seconds"])

    @contextmanager
    def _lock(self, step: Step) -> Iterator[None]:
        """Hold the step's lock; say so if another process has it."""
        path = self.path(step).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0.1)
        except Timeout:
            log.info("%s: another process is computing it; waiting", step.name)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def why_missing(self, step: Step) -> str:
        """Say how the step differs from the most similar finished one of its stage."""
        manifests = sorted((self.root / step.stage).glob("*/manifest.json"))
        finished = [json.loads(path.read_text()) for path in manifests]
        if not finished:
            return "never computed"
        differences = [_differences(m, step.identity) for m in finished]
        nearest = min(differences, key=len)
        return "; ".join(nearest[:3]) + (f"; {len(nearest) - 3} more" if len(nearest) > 3 else "")


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
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


def write_text(path: Path, text: str) -> None:
    """Write text so that a reader sees the old file or the whole new one."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the whole new one."""
    write_text(path, json.dumps(value, indent=2) + "\n")

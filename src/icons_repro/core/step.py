"""A piece of work as a value: what it reads, what it is, and where it may run.

A step is a frozen dataclass in the package that does the work. Its fields are of three kinds:

    inputs       fields that hold other steps, tuples of them, or mappings to them
    identity     what decides the result: settings, names, hashes of files
                 (with `added()`, only where it is not the default)
    placement    marked with `placement()`: where and how it runs (devices, threads, batch sizes
                 that change no number); settings dataclasses mark their own fields in the same way

The fingerprint is a hash of identity and inputs alone, so that it is known before anything runs and
says nothing about the machine. A step pickles, and reads from JSON in another process
(`step_json.py`).
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import Field, dataclass, field, fields, is_dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from icons_repro.core.imports import bring

if TYPE_CHECKING:
    from icons_repro.core.cache import Cache
    from icons_repro.core.work import Work

FINGERPRINT_LENGTH = 16
PLACEMENT = "placement"
NAMED_UNLESS = "named unless"
Counts = Mapping[str, Any]
"""What a step counted, for its manifest; JSON-ready."""


def placement(default: Any = ...) -> Any:
    """Return a dataclass field that says where or how, and is no part of any fingerprint."""
    if default is ...:
        return field(metadata={PLACEMENT: True})
    return field(default=default, metadata={PLACEMENT: True})


def added(default: Any) -> Any:
    """Return a dataclass field that is part of a name only where it differs from `default`.

    For settings that came later: what was computed before them keeps its name.
    """
    return field(default=default, metadata={NAMED_UNLESS: default})


@dataclass(frozen=True, eq=False)
class Step:
    """One piece of work with a name that says exactly what it is."""

    stage: ClassVar[str]
    """Folder of the cache that its results are in."""
    group: ClassVar[str]
    """The user's name for this kind of work: a key of `stages` and of `resources`."""
    version: ClassVar[int] = 1
    """Raise it when the code changes what the same fields mean."""
    resumable: ClassVar[bool] = False
    """`run` goes on from what a killed attempt left in its folder."""
    weight: ClassVar[float] = 1.0
    """Effort of a typical step of this kind, some seconds on the tiny world."""
    light: ClassVar[bool] = False
    """Needs no torch: a fresh process starts in no time."""
    on_device: ClassVar[bool] = True
    """Has use for the GPUs that its kind of work is given."""

    def load(self) -> None:
        """Import what does the work: `jobs`, if one is beside the module that declares the step.

        What cannot be imported is said by `run`, which knows what it is for.
        """
        package = type(self).__module__.rpartition(".")[0]
        if not self.light and package and find_spec(jobs := f"{package}.jobs"):
            with suppress(ImportError):
                bring(jobs)

    @abstractmethod
    def run(self, work: Work) -> Counts | None:
        """Fill `work.out`."""

    def join(self, cache: Cache) -> None:
        """Take part, as a further process of one launch, in the attempt that rank 0 makes.

        Only steps that train do anything here.
        """

    @property
    def label(self) -> str:
        """What a person calls it ("icons 0.2, seed 0")."""
        return ""

    @property
    def effort(self) -> float:
        """How much work it is beside other steps, roughly; decides what is begun first."""
        return self.weight

    @property
    def name(self) -> str:
        """Stage and label, for people."""
        return f"{self.stage} ({self.label})" if self.label else self.stage

    @cached_property
    def inputs(self) -> dict[str, Step]:
        """The steps it reads: by field; of a mapping, by key; of a tuple, numbered from 1."""
        found: dict[str, Step] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Step):
                found[f.name] = value
            elif _is_input(self, f.name):
                numbered = {f"{f.name}_{n}": step for n, step in enumerate(value, 1)}
                found |= value if isinstance(value, Mapping) else numbered
        return found

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the fingerprint is a hash of."""
        return {
            "stage": self.stage,
            "step": type(self).__name__,
            "version": self.version,
            "config": {k: v for k, v in identity_of(self).items() if not _is_input(self, k)},
            "inputs": {name: step.fingerprint for name, step in sorted(self.inputs.items())},
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the identity, 16 hexadecimal digits."""
        text = json.dumps(self.identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_LENGTH]


class SharedStep(Step):
    """A step whose work falls into parts that any number of workers fill in one folder.

    Who filled a part leaves no trace in the result. Parts are named once, by the worker that comes
    first; each is claimed by one worker at a time, and taken over if that one dies.
    """

    natural_parts: ClassVar[int] = 1
    """About how many parts there are without any chunks (tasks, benchmarks)."""

    @abstractmethod
    def parts(self, work: Work) -> list[str]:
        """Reserve what all workers write to, and name the parts; called once for an attempt."""

    @abstractmethod
    def fill(self, work: Work, parts: Iterator[str]) -> None:
        """Do the parts that come; a part is done when the next one is asked for."""

    @abstractmethod
    def finish(self, work: Work) -> Counts | None:
        """Close the whole, when every part is done."""

    def run(self, work: Work) -> Counts | None:
        """Fill what is left of the parts; see `core.build`, which shares them out."""
        raise TypeError("a shared step is filled part by part")


def _is_input(step: Step, name: str) -> bool:
    value = getattr(step, name)
    held = value.values() if isinstance(value, Mapping) else value
    held = held if isinstance(value, (tuple, Mapping)) else (value,)
    return any(isinstance(v, Step) for v in held)


def identity_of(value: Any) -> Any:
    """Return a value as JSON without its placement fields; steps are left as they are."""
    if is_dataclass(value) and not isinstance(value, type):
        kept = {f: getattr(value, f.name) for f in fields(value) if not f.metadata.get(PLACEMENT)}
        named = {f.name: held for f, held in kept.items() if not _as_before(f, held)}
        return {name: identity_of(held) for name, held in named.items()}
    if isinstance(value, Mapping):
        return {str(key): identity_of(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [identity_of(item) for item in value]
    return value


def _as_before(field: Field[Any], value: Any) -> bool:
    return NAMED_UNLESS in field.metadata and bool(value == field.metadata[NAMED_UNLESS])


def ordered(goals: Sequence[Step]) -> list[Step]:
    """Return the goals and all they read, inputs first, each once."""
    seen: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.fingerprint in seen:
            return
        for upstream in step.inputs.values():
            visit(upstream)
        seen.setdefault(step.fingerprint, step)

    for goal in goals:
        visit(goal)
    return list(seen.values())

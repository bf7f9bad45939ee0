"""Steps as JSON: written by one process, read by another that does the work.

Every step of a graph stands once, under its fingerprint; a field that holds a step names it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from icons_repro.core.errors import ConfigError
from icons_repro.core.step import Step, ordered

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def to_json(step: Step) -> str:
    """Return the step, and all it reads, as JSON that `from_json` reads in any process."""
    table = {s.fingerprint: {"type": _type_name(s), "fields": _plain(s)} for s in ordered([step])}
    return json.dumps({"goal": step.fingerprint, "steps": table}, indent=1) + "\n"


def from_json(text: str) -> Step:
    """Read what `to_json` wrote.

    Raises `ConfigError` if it is no step's JSON, or another version of the program wrote it: its
    steps would then have other names.
    """
    made: dict[str, Step] = {}
    try:
        raw = json.loads(text)
        for fingerprint, entry in raw["steps"].items():
            made[fingerprint] = _revive(entry["type"], entry["fields"], made)
            if made[fingerprint].fingerprint != fingerprint:
                raise ConfigError(
                    f"the step {entry['type']} {fingerprint} was written by another version of "
                    "this program: give the command that made it again."
                )
        return made[raw["goal"]]
    except (ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise ConfigError(f"this is not the JSON of a step of this program: {error!r}") from error


def _type_name(step: Step) -> str:
    return f"{type(step).__module__}:{type(step).__qualname__}"


def _plain(value: Any) -> Any:
    """Return all fields as JSON, steps by their fingerprints."""
    if isinstance(value, Mapping):
        return {str(key): _reference(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_reference(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _reference(getattr(value, f.name)) for f in fields(value)}
    return value


def _reference(value: Any) -> Any:
    return {"$step": value.fingerprint} if isinstance(value, Step) else _plain(value)


def _revive(type_name: str, raw: Mapping[str, Any], made: Mapping[str, Step]) -> Step:
    module, _, name = type_name.partition(":")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, Step)):
        raise ConfigError(f"{type_name} is no step.")
    adapters = _adapters(type_name, found)
    return found(**{key: _value(adapters[key], value, made) for key, value in raw.items()})


def _value(adapter: TypeAdapter[Any] | None, raw: Any, made: Mapping[str, Step]) -> Any:
    if adapter is None:
        return _referred(raw, made)
    try:
        return adapter.validate_python(raw)
    except ValueError as error:  # pydantic's own is one
        raise ValueError(str(error)) from error


def _referred(raw: Any, made: Mapping[str, Step]) -> Any:
    """Return the step, tuple of steps or mapping to steps that `raw` names."""
    if isinstance(raw, list):
        return tuple(_referred(item, made) for item in raw)
    if isinstance(raw, dict):
        inner = {key: _referred(item, made) for key, item in raw.items() if key != "$step"}
        return made[raw["$step"]] if "$step" in raw else inner
    return raw


_ADAPTERS: dict[str, dict[str, TypeAdapter[Any] | None]] = {}


def _adapters(name: str, kind: type[Step]) -> dict[str, TypeAdapter[Any] | None]:
    """Return what reads each field that holds no step."""
    from pydantic import TypeAdapter  # who only makes steps needs none of it

    if name not in _ADAPTERS:
        hints = get_type_hints(kind)
        _ADAPTERS[name] = {
            f.name: None if _holds_steps(hints[f.name]) else TypeAdapter(hints[f.name])
            for f in fields(kind)
        }
    return _ADAPTERS[name]


def _holds_steps(hint: Any) -> bool:
    inner = getattr(hint, "__args__", ())
    if isinstance(hint, type) and issubclass(hint, Step):
        return True
    return any(_holds_steps(part) for part in inner)

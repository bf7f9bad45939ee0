"""From a config with a `_target_` to an object: one class, of a stated kind, with plain arguments.

Hydra's `instantiate` calls whatever a config names, however deep, so a config could run any code.
Here `_target_` stands once, at the top, and must name a subclass of the kind's base. Its module
is imported, so a selector, a source or a rule is code: see docs/trust.md.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from icons_repro.core.errors import ConfigError
from icons_repro.core.names import nearest
from icons_repro.core.trees import TARGET, targets

STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)
T = TypeVar("T")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What a group of configs makes."""

    key: str
    """The group's key, such as "selector"."""
    base: type[T]
    package: str
    """Where the shipped ones are."""
    noun: str
    """What one is called, such as "selector"."""
    advice: str
    """What such a class extends, a sentence for who named another."""

    def build(self, config: Mapping[str, Any]) -> T:
        """Build what `config[_target_]` names, with the other keys as its arguments.

        Raises `ConfigError`, naming the key and the nearest right one, for a nested `_target_`, a
        class of another kind, and arguments that are unknown, missing or of the wrong type.
        """
        if nested := next((key for key in targets(config) if key != TARGET), None):
            raise ConfigError(
                f"{self.key}.{nested}: arguments are plain values; {self.key}.{TARGET} alone "
                "names a class."
            )
        return self.make(self.named(config.get(TARGET)), config)

    def make(self, cls: type[T], config: Mapping[str, Any]) -> T:
        """Make one of `cls`, with the keys of `config` but `_target_` as its arguments."""
        given = {str(key): value for key, value in config.items() if key != TARGET}
        try:
            return cls(**checked_arguments(cls, given, self.key))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.key} {cls.__name__}: {error}.") from error

    def named(self, target: Any, key: str = TARGET) -> type[T]:
        """Import the class `module.Class`. Raises `ConfigError` for anything but a whole one."""
        key = f"{self.key}.{key}={target}"
        module_name, _, name = str(target).rpartition(".")
        if not isinstance(target, str) or not module_name:
            raise ConfigError(f"{key}: give the {self.noun}'s class as module.Class.")
        module = self._module(module_name, key)
        found = getattr(module, name, None)
        if found is None:
            known = [n for n, value in vars(module).items() if self._is_one(value)]
            raise ConfigError(f"{key}: {module_name} has no {name}{nearest(name, known)}")
        if not self._is_one(found):
            raise ConfigError(f"{key}: this is no {self.noun}. {self.advice}")
        if missing := sorted(found.__abstractmethods__):
            raise ConfigError(f"{key}: the class does not say {', '.join(missing)}.")
        if not isinstance(getattr(found, "name", None), str):
            raise ConfigError(f"{key}: the class has no `name`, a string.")
        cls: type[T] = found
        return cls

    def _is_one(self, value: Any) -> bool:
        return isinstance(value, type) and issubclass(value, self.base)

    def _module(self, name: str, key: str) -> Any:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                reason = f"{key}: {name} needs {error.name}, which is not here."
                raise ConfigError(reason) from error
            raise ConfigError(self._missing(name, key, error.name)) from error
        except Exception as error:  # whatever a user's module does when it is imported
            what = f"{type(error).__name__}: {error}"
            raise ConfigError(f"{key}: {name} cannot be imported: {what}.") from error

    def _missing(self, name: str, key: str, missing: str) -> str:
        paths = importlib.import_module(self.package).__path__
        known = [f"{self.package}.{module.name}" for module in pkgutil.iter_modules(paths)]
        ours = name.startswith(self.package)
        hint = "" if ours else " A module of your own must be on PYTHONPATH."
        return f"{key}: no module {missing}{nearest(name, known)}{hint}"


def checked_arguments(cls: type, given: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Check names and types of arguments against the signature of `cls`; return them.

    Types are checked as they are annotated, without conversion but from int to float; an argument
    without an annotation is taken as it is. `group` is the key before each name in a message.
    """
    parameters = inspect.signature(cls).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = [p.name for p in named]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for key in given:
        if key not in known and not open_ended:
            raise ConfigError(f"unknown key {group}.{key}{nearest(key, known)}")
    for parameter in named:
        if parameter.default is parameter.empty and parameter.name not in given:
            raise ConfigError(
                f"{group}.{parameter.name} is not set, and {cls.__name__} has no default for it."
            )
    hints = _hints(cls)
    return {
        key: checked(f"{group}.{key}", value, hints[key]) if key in hints else value
        for key, value in given.items()
    }


def _hints(cls: type) -> dict[str, Any]:
    """Return the types of a class's arguments, ranges among them.

    Of a dataclass those of its fields, which may be said in several modules.
    """
    found: dict[str, Any] = {}
    for place in (cls.__init__, cls):  # type: ignore[misc]
        with suppress(NameError):  # an annotation that only type checkers can resolve
            found |= get_type_hints(place, include_extras=True)
    return found


def checked(key: str, value: Any, hint: Any) -> Any:
    """Return `value` as the type `hint`. Raises `ConfigError` naming the key."""
    try:
        adapter = TypeAdapter(hint, config=STRICT)
    except PydanticUserError:  # a type that pydantic has no check for
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        reasons = list(dict.fromkeys(item["msg"].lower() for item in error.errors()))
        choices = [
            str(choice).strip("'")
            for item in error.errors()
            for choice in item.get("ctx", {}).get("expected", "").replace(" or ", ", ").split(", ")
        ]
        end = nearest(value, choices) if isinstance(value, str) else "."
        raise ConfigError(f"{key}={value!r}: {', or '.join(reasons)}{end}") from error

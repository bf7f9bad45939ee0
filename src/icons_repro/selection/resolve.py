"""From a selector's config to the selector: one class, of our interface, with plain arguments.

Hydra's `instantiate` calls whatever a config names, however deep, so a config could run any code.
Here `_target_` stands once, at the top, and must name a subclass of `BudgetedSelector`. Its module
is imported, so a selector is code: see docs/trust.md.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from icons_repro import selection
from icons_repro.core.errors import ConfigError
from icons_repro.core.names import nearest
from icons_repro.core.trees import TARGET, targets
from icons_repro.selection.base import BudgetedSelector

STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


def build_selector(config: Mapping[str, Any]) -> BudgetedSelector:
    """Build the selector that `config[_target_]` names, with the other keys as its arguments.

    Raises `ConfigError`, naming the key and the nearest right one, for a nested `_target_`, a class
    that is no selector, and arguments that are unknown, missing or of the wrong type.
    """
    if nested := next((key for key in targets(config) if key != TARGET), None):
        raise ConfigError(
            f"selector.{nested}: arguments are plain values; selector.{TARGET} alone names a class."
        )
    cls = selector_class(config.get(TARGET))
    given = {str(key): value for key, value in config.items() if key != TARGET}
    try:
        return cls(**checked_arguments(cls, given))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"selector {cls.__name__}: {error}.") from error


def selector_class(target: Any) -> type[BudgetedSelector]:
    """Import the class `module.Class`. Raises `ConfigError` for anything but a whole selector."""
    key = f"selector.{TARGET}={target}"
    module_name, _, name = str(target).rpartition(".")
    if not isinstance(target, str) or not module_name:
        raise ConfigError(f"{key}: give the selector's class as module.Class.")
    found = getattr(_module(module_name, key), name, None)
    if found is None:
        known = [n for n, value in vars(_module(module_name, key)).items() if _is_selector(value)]
        raise ConfigError(f"{key}: {module_name} has no {name}{nearest(name, known)}")
    if not _is_selector(found):
        raise ConfigError(
            f"{key}: this is no selector. A selector is a class that extends RankingSelector "
            "(icons_repro/selection/base.py) or SetSelector (icons_repro/selection/sets.py)."
        )
    if missing := sorted(found.__abstractmethods__):
        raise ConfigError(f"{key}: the class does not say {', '.join(missing)}.")
    if not isinstance(getattr(found, "name", None), str):
        raise ConfigError(f"{key}: the class has no `name`, a string.")
    selector: type[BudgetedSelector] = found
    return selector


def _is_selector(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BudgetedSelector)


def _module(name: str, key: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"{key}: {name} needs {error.name}, which is not here.") from error
        ours = selection.__name__
        known = [f"{ours}.{module.name}" for module in pkgutil.iter_modules(selection.__path__)]
        hint = "" if name.startswith(ours) else " A module of your own must be on PYTHONPATH."
        raise ConfigError(f"{key}: no module {error.name}{nearest(name, known)}{hint}") from error
    except Exception as error:  # whatever a user's module does when it is imported
        what = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{key}: {name} cannot be imported: {what}.") from error


def checked_arguments(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check names and types of arguments against the signature of `cls`; return them.

    Types are checked as they are annotated, without conversion but from int to float; an argument
    without an annotation is taken as it is.
    """
    parameters = inspect.signature(cls).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = [p.name for p in named]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for key in given:
        if key not in known and not open_ended:
            raise ConfigError(f"unknown key selector.{key}{nearest(key, known)}")
    for parameter in named:
        if parameter.default is parameter.empty and parameter.name not in given:
            raise ConfigError(
                f"selector.{parameter.name} is not set, and {cls.__name__} has no default for it."
            )
    hints = _hints(cls)
    return {
        key: checked(key, value, hints[key]) if key in hints else value
        for key, value in given.items()
    }


def _hints(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls.__init__)  # type: ignore[misc]
    except NameError:  # an annotation that only type checkers can resolve
        return {}


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
        raise ConfigError(f"selector.{key}={value!r}: {', or '.join(reasons)}{end}") from error

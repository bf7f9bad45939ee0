"""What a setting may be, said where it is declared: `epochs: Count`, `dropout: Part`.

Pydantic reads these marks wherever a config, a selector's arguments or a step's JSON is checked.
What is refused names the range, in the notation of intervals: `(0, 1]` is above 0 and at most 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from icons_repro.core.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

REFUSED = "refused"
"""Pydantic's type of the errors that come from here."""
MOST = 2**31 - 1
"""Above any count that a run could have, below what the libraries overflow at."""


@dataclass(frozen=True)
class Within:
    """A number's range, ends included unless they are open."""

    low: float
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __str__(self) -> str:
        left = "(" if self.low_open else "["
        right = ")" if self.high_open or math.isinf(self.high) else "]"
        return f"{left}{self.low}, {self.high}{right}"

    def holds(self, value: float) -> bool:
        """Whether the number is inside; what is no finite number is not."""
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below and math.isfinite(value)

    def __get_pydantic_core_schema__(
        self, source: type, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core import PydanticCustomError, ValidationError, core_schema

        kind = "integer" if source is int else "number"

        def check(value: Any, inner: Callable[[Any], float]) -> float:
            try:
                number = inner(None if isinstance(value, bool) else value)
            except ValidationError:
                words = f"is no {kind} in {self}"
                raise PydanticCustomError(REFUSED, "{words}", {"words": words}) from None
            if not self.holds(number):
                words = f"is outside {self}"
                raise PydanticCustomError(REFUSED, "{words}", {"words": words})
            return number

        return core_schema.no_info_wrap_validator_function(check, handler(source))


@dataclass(frozen=True)
class Checked:
    """Anything else that can be said of a value: `problem` returns words, or None."""

    problem: Callable[[Any], str | None]

    def __get_pydantic_core_schema__(
        self, source: type, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core import PydanticCustomError, core_schema

        def check(value: Any) -> Any:
            if words := self.problem(value):
                raise PydanticCustomError(REFUSED, "{words}", {"words": words})
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))


def check_ranges(settings: Any, prefix: str) -> None:
    """Raise `ConfigError` for a number outside its range, where no config was read before."""
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        for mark in getattr(hint, "__metadata__", ()):
            value = getattr(settings, name)
            if isinstance(mark, Within) and not mark.holds(value):
                raise ConfigError(f"{prefix}.{name}={value} is outside {mark}.")


def _nothing_in_it(value: Any) -> str | None:
    entries = value if isinstance(value, list | tuple) else [value]
    if not entries:
        return "is empty: name at least one, or null for all"
    blank = any(isinstance(entry, str) and not entry.strip() for entry in entries)
    return "is empty: give a name, or null" if blank else None


def _no_pattern(value: str) -> str | None:
    try:
        re.compile(value)
    except re.error as error:
        return f"is no regular expression: {error}"
    return _nothing_in_it(value)


def no_project_name(value: str) -> str | None:
    """Say what W&B would refuse in a project's name."""
    bad = sorted(set(value) & set("/\\#?%:"))
    if bad or len(value) > 128:
        return "is no project name: at most 128 characters, none of / # ? % : or a backslash"
    return None


Count = Annotated[int, Within(1, MOST)]
Whole = Annotated[int, Within(0, MOST)]
"""A count that may be none."""
Seed = Annotated[int, Within(0, 2**32 - 1)]
"""What NumPy, torch and Lightning all take."""
Share = Annotated[float, Within(0, 1, low_open=True)]
"""Some of it, or all."""
Part = Annotated[float, Within(0, 1, high_open=True)]
"""None of it, or some."""
Fraction = Annotated[float, Within(0, 1)]
Positive = Annotated[float, Within(0, low_open=True)]
NotNegative = Annotated[float, Within(0)]
Filled = Checked(_nothing_in_it)
Name = Annotated[str, Filled]
Names = Annotated[list[str], Filled]
Pattern = Annotated[str, Checked(_no_pattern)]

"""What a tiny world is made of: the numbers a person may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from icons_repro.core.bounds import Fraction, Part, Seed, Share, Within, check_ranges
from icons_repro.core.errors import ConfigError
from icons_repro.core.step import added

MAX_QUESTIONS = 1000
"""The real pictures of a split carry about this many different questions for one task."""


@dataclass(frozen=True)
class WorldSettings:
    """Size and make-up of a world; another `seed` is a fresh pool, validation and test."""

    seed: Seed = 0
    """Seed of the pool, the validation sets and the test sets (the base model stays the same)."""
    pool_size: Annotated[int, Within(100, 100_000_000)] = 8000
    """Rows of the pool."""
    target_share: Share = 0.3
    """Share of the pool whose rows practise what the benchmarks ask."""
    mislabelled_share: Part = 0.1
    """Share of the target-serving rows whose answers are wrong."""
    validation_rows: Annotated[int, Within(1, MAX_QUESTIONS)] = 60
    """Rows of each target task's validation set."""
    test_rows: Annotated[int, Within(1, MAX_QUESTIONS)] = 400
    """Questions of each benchmark."""

    tasks: Annotated[int, Within(2, 8)] | None = added(None)
    """So many target tasks, made of the pool's eight skills (tiny/mixtures.py); None: the seven."""
    overlap: Fraction | None = added(None)  # noqa: RUF009
    """With `tasks`: share of each task that is the same mixture in all of them; None is 0."""

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an impossible world."""
        check_ranges(self, "data.world")
        if self.overlap is not None and self.tasks is None:
            raise ConfigError(
                "data.world.overlap is that of data.world.tasks, which is not set: the seven fixed "
                "tasks overlap as they do. Set data.world.tasks=7, say."
            )

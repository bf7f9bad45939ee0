"""What a tiny world is made of: the numbers a person may change."""

from __future__ import annotations

from dataclasses import dataclass

from icons_repro.core.errors import ConfigError

MAX_QUESTIONS = 1000
"""The real pictures of a split carry about this many different questions for one task."""


@dataclass(frozen=True)
class WorldSettings:
    """Size and make-up of a world; another `seed` is a fresh pool, validation and test."""

    seed: int = 0
    """Seed of the pool, the validation sets and the test sets (the base model stays the same)."""
    pool_size: int = 8000
    """Rows of the pool."""
    target_share: float = 0.3
    """Share of the pool whose rows practise what the benchmarks ask, in (0, 1]."""
    mislabelled_share: float = 0.1
    """Share of the target-serving rows whose answers are wrong, in [0, 1)."""
    validation_rows: int = 60
    """Rows of each target task's validation set."""
    test_rows: int = 400
    """Questions of each benchmark."""

    def __post_init__(self) -> None:
        """Refuse impossible worlds.

        Raises:
            ConfigError: a number is out of range.
        """
        _require(self.seed >= 0, "seed", self.seed, "0 or more")
        _require(self.pool_size >= 100, "pool_size", self.pool_size, "at least 100 rows")
        _require(0 < self.target_share <= 1, "target_share", self.target_share, "in (0, 1]")
        share = self.mislabelled_share
        _require(0 <= share < 1, "mislabelled_share", share, "in [0, 1)")
        rows = self.validation_rows
        _require(1 <= rows <= MAX_QUESTIONS, "validation_rows", rows, f"1 to {MAX_QUESTIONS}")
        rows = self.test_rows
        _require(1 <= rows <= MAX_QUESTIONS, "test_rows", rows, f"1 to {MAX_QUESTIONS}")


def _require(holds: bool, name: str, value: float, expected: str) -> None:
    if not holds:
        raise ConfigError(f"tiny world: {name}={value} must be {expected}")

"""Scores with their bootstrap replicates, and what follows from them: shares, differences.

    Rel.(%)       = 100 * mean_b(score_b / full_b)
    above blind   = 100 * mean_b((score_b - blind_b) / (full_b - blind_b))

All models that answered the same questions of a benchmark are resampled with the same clusters, so
whatever they have in common drops out of a difference.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from icons_repro.core.progress import watched
from icons_repro.evaluation.answers import read_rows
from icons_repro.evaluation.statistics import Units, replicates, units_of

RESAMPLES = 1000


@dataclass(frozen=True)
class Answers:
    """One benchmark's answers, ready to resample."""

    questions: str
    """A hash of `(question_id, question)` of each row: what two runs must share to be paired."""
    units: Units
    multiplier: float


def read_answers(out: Path, name: str) -> Answers | None:
    """Return a benchmark's answers from an evaluate directory.

    None if they are not there, or do not give its score back.
    """
    path, metrics = out / "answers" / f"{name}.jsonl", out / "metrics" / f"{name}.json"
    if not path.is_file() or not metrics.is_file():
        return None
    stored = json.loads(metrics.read_text())
    if stored["result"]["stderr"] is None:
        return None
    rows = read_rows(path)
    units = units_of(stored["settings"]["statistic"], rows)
    if units is None:
        return None
    asked = json.dumps([(row["question_id"], str(row["question"])) for row in rows])
    digest = hashlib.blake2b(asked.encode(), digest_size=8).hexdigest()
    return Answers(digest, units, stored["settings"]["multiplier"])


@dataclass(frozen=True)
class Measured:
    """A number and its replicates."""

    value: float
    draws: np.ndarray | None = None
    """float64 `[R]`; None where it cannot be resampled."""

    def __sub__(self, other: Measured) -> Measured:
        """Return the difference; its replicates are paired."""
        both = self.draws is not None and other.draws is not None
        return Measured(self.value - other.value, self.draws - other.draws if both else None)  # type: ignore[operator]


class Drawn(NamedTuple):
    """The replicates of one score."""

    questions: str
    """As in `Answers`."""
    draws: np.ndarray
    """float64 `[R]`, on the score's scale."""


Draws = Mapping[Path, Mapping[str, Drawn]]
"""By evaluate directory and benchmark."""


def score_draws(
    folders: Iterable[Path], names: Iterable[str], resamples: int = RESAMPLES, seed: int = 0
) -> Draws:
    """Resample the scores in some evaluate directories.

    Models with the same questions share their drawn clusters; sets of different questions are drawn
    independently. Scores that do not follow from their answers are left out.
    """
    found: dict[Path, dict[str, Drawn]] = defaultdict(dict)
    distinct = sorted(set(folders))
    for name in watched(list(names), "resampling", unit="benchmark"):
        groups: dict[str, dict[Path, Answers]] = defaultdict(dict)
        for folder in distinct:
            if answers := read_answers(folder, name):
                groups[answers.questions][folder] = answers
        for questions, members in groups.items():
            start = seed + zlib.crc32(f"{name} {questions}".encode())
            drawn = replicates([a.units for a in members.values()], resamples, start)
            for (folder, answers), draws in zip(members.items(), drawn, strict=True):
                found[folder][name] = Drawn(questions, draws * answers.multiplier)
    return found


def share_of(
    scores: Mapping[str, Measured],
    full: Mapping[str, Measured],
    floors: Mapping[str, float],
    names: Sequence[str],
) -> Measured:
    """Return 100 * mean over `names` of (score - floor) / (full - floor); a missing floor is 0.

    Replicates are linear in those of the scores (the delta method), so that one resample in which
    full data comes near its floor does not stand for the whole spread. There are none if one
    benchmark of the mean has none: that would be too narrow.
    """
    shares, deviations = [], []
    for name in names:
        mine, whole = scores[name], full[name]
        span = whole.value - floors.get(name, 0.0)
        share = (mine.value - floors.get(name, 0.0)) / span
        shares.append(share)
        if mine.draws is not None and whole.draws is not None:
            moved = (mine.draws - mine.value) - share * (whole.draws - whole.value)
            deviations.append(moved / span)
    value = 100.0 * float(np.mean(shares))
    if len(deviations) < len(shares):
        return Measured(value)
    return Measured(value, value + 100.0 * np.mean(deviations, axis=0))

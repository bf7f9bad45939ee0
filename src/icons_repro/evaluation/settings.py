"""What to measure: one entry for each benchmark, read from `conf/benchmarks/*.yaml`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from icons_repro.core.errors import ConfigError

STATISTICS = ("mean", "f1", "mme", "ratio", "opaque")


@dataclass(frozen=True)
class BenchmarkSettings:
    """One benchmark: an lmms-eval task, the metric that counts, and what it needs."""

    name: str
    """Key in `results.json`, the same for every variant of the benchmark ("mmbench_en")."""
    task: str = ""
    """lmms-eval task; the benchmark's name if empty."""
    metric: str = "exact_match"
    """Metric as the task names it, without lmms-eval's `,filter` suffix."""
    filter: str = "none"
    """lmms-eval filter whose answers count."""
    multiplier: float = 100.0
    """Brings the metric to the scale of the paper's tables: 100 for a share, 1 for MME's points."""
    statistic: str = "mean"
    """How the score follows from per-question values, for intervals: `mean` of scores, `f1` of yes,
    `mme` (accuracy plus accuracy+ summed over categories), `ratio` of two judged scores, or
    `opaque` (no interval)."""
    cluster_key: str = ""
    """lmms-eval's `cluster_key`, for its own clustered standard error: a field of the task's
    per-question values that tells the picture. Only MME's values carry one; our own intervals
    cluster every benchmark by the pictures themselves."""
    higher_is_better: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the lmms-eval task to override, such as `lmms_eval_specific_kwargs`."""
    needs_judge: bool = False
    """Scored by a language model behind an API key."""
    needs_server: bool = False
    """Scored by a test server: a submission file is written, and never a number."""
    proxy_of: str = ""
    """What the paper reports, where this is a stand-in for it."""
    note: str = ""
    """What a reader of the score must know."""

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an unknown statistic."""
        if not self.task:
            object.__setattr__(self, "task", self.name)
        if self.statistic not in STATISTICS:
            raise ConfigError(
                f"benchmarks.{self.name}.statistic={self.statistic!r} is none of {STATISTICS}."
            )


def benchmarks_from_config(
    tasks: Mapping[str, Mapping[str, Any] | None],
) -> list[BenchmarkSettings]:
    """Return the benchmarks of `{name: {field: value}}`, in the order of the config.

    Raises `ConfigError` naming a misspelt field and the nearest right one.
    """
    known = {f.name for f in fields(BenchmarkSettings)} - {"name"}
    benchmarks = []
    for name, entry in tasks.items():
        for key in set(entry or {}) - known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {sorted(known)}."
            raise ConfigError(f"benchmarks.tasks.{name}: there is no field {key!r}.{hint}")
        benchmarks.append(BenchmarkSettings(name=name, **(entry or {})))
    return benchmarks


def chosen_tasks(tasks: Mapping[str, Any], only: list[str] | None) -> dict[str, Any]:
    """Return the entries of `tasks` that `only` names. Raises `ConfigError` for an unknown one."""
    unknown = sorted(set(only or ()) - set(tasks))
    if unknown:
        raise ConfigError(f"benchmarks.only names {unknown}; known: {sorted(tasks)}.")
    return {name: entry for name, entry in tasks.items() if only is None or name in only}

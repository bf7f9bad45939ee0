"""Runs on disk, and which of them may stand beside each other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from icons_repro.config.run import RunConfig
from icons_repro.core.errors import UserError
from icons_repro.core.files import read_json
from icons_repro.core.names import new_name
from icons_repro.core.parts import keys_marked
from icons_repro.core.step import PLACEMENT
from icons_repro.core.trees import flatten
from icons_repro.evaluation.measured import Draws, Measured
from icons_repro.report.lines import FULL, THIS_RUN
from icons_repro.report.results import FILE, RunResults, find_results, read_results

Settings = Mapping[str, Any]
"""A run's settings as flat names, without those that tell seeds and places apart."""

NOT_METHOD = ("seed", "budget", "names", "experiment", "plan", "reference", "references", "logger",
              "paths", "stages", "scale", "hydra", "leakage", "executor", "workers", "resources",
              "verify")  # fmt: skip
SEEDS = ("data.world.seed", "warmup.seed", "targets.seed")
"""They make another pool, or the same work again; never another method."""
PLACEMENTS = (*keys_marked(RunConfig, PLACEMENT), "gradients.shards", "gradients.shard")
"""They say where and how the work was done, and are in no step's name; the last two were before."""
WORLD = ("data.", "model.", "benchmarks.")
"""What runs must have in common to share a table."""
SOURCE = "influence"
USUAL_SOURCE = {"_target_": "icons_repro.influence.sources.gradients.Gradients"}
BLIND = "blind"
MOST_NAMED = 3
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same language, read by C where PyYAML was built with it: a config is 40 ms in Python."""


class Replicate(NamedTuple):
    """What a run shares with its counterparts of other methods: the pool and all seeds."""

    pool: str
    seed: int
    more: str = ""
    """Other seeds that are set, as text."""

    def __str__(self) -> str:
        return f"seed {self.seed}" + (f" on pool {self.pool[:6]}" if self.pool else "")


@dataclass(frozen=True)
class SweepRun:
    """One finished run, and the settings that make it a method of its own."""

    results: RunResults
    settings: Settings | None = None
    """None where the run has no config.yaml."""
    folder: Path | None = None
    """The run's directory."""

    @property
    def name(self) -> str:
        """How messages call it."""
        r = self.results
        return str(self.folder) if self.folder else f"{r.selector} {r.budget:g}, seed {r.seed}"

    @property
    def world(self) -> tuple[Any, ...]:
        """What must be equal for two runs to be compared."""
        own = {k: v for k, v in self.method.items() if k.startswith(WORLD)}
        return (
            self.results.scale,
            self.results.setup,
            None if self.settings is None else frozen(own),
        )

    @property
    def method(self) -> Settings:
        """The settings that are neither seeds nor placement."""
        return {k: v for k, v in (self.settings or {}).items() if not _no_method(k)}

    @cached_property
    def replicate(self) -> Replicate:
        """The pool and the seeds."""
        settings = self.settings or {}
        seeds = [f"{key}={settings[key]}" for key in SEEDS if key in settings]
        return Replicate(self._pool, self.results.seed, " ".join(seeds))

    @property
    def _pool(self) -> str:
        """The pool's fingerprint; runs of before it was recorded have it in their selection."""
        if self.results.pool:
            return self.results.pool
        manifest = read_json(self.located(self.results.selection) / "manifest.json") or {}
        return str(manifest.get("inputs", {}).get("pool", ""))

    @property
    def scores(self) -> dict[str, float]:
        """The scores of the benchmarks that could be scored."""
        return {n: b["score"] for n, b in self.results.benchmarks.items() if b["status"] == "ok"}

    def scores_of(self, model: str) -> dict[str, float]:
        """Return the scores of this run, or of what it was compared with ("full", "blind")."""
        if model == THIS_RUN:
            return self.scores
        found = (self.results.relative or {}).get("compared_with", {}).get(model) or {}
        return {name: score for name, score in found.items() if score is not None}

    def evaluation(self, model: str = THIS_RUN) -> Path | None:
        """Return the evaluate directory of a model if it is there."""
        path = self.results.evaluations.get(model)
        folder = self.located(path) if path else None
        return folder.resolve() if folder and (folder / "answers").is_dir() else None

    def measured(self, model: str, draws: Draws) -> dict[str, Measured]:
        """Return a model's scores with their replicates."""
        folder = self.evaluation(model)
        drawn = draws.get(folder, {}) if folder else {}
        return {
            name: Measured(score, drawn[name].draws if name in drawn else None)
            for name, score in self.scores_of(model).items()
        }

    def margin(self, benchmark: str) -> float:
        """Return two standard errors of full data's score, 0 where they are not known."""
        folder = self.evaluation(FULL)
        path = folder / "metrics" / f"{benchmark}.json" if folder else None
        if path is None or not path.is_file():
            return 0.0
        return 2 * (json.loads(path.read_text())["result"]["stderr"] or 0.0)

    def located(self, path: str) -> Path:
        """Return a path of `results.json`; a relative one also from the folders above the run."""
        found = Path(path)
        if found.is_absolute() or found.exists() or self.folder is None:
            return found
        near = [parent / found for parent in self.folder.resolve().parents]
        return next((place for place in near if place.exists()), found)


def collect(roots: Iterable[Path]) -> list[SweepRun]:
    """Read every run below some folders, oldest first. Raises `UserError` if there is none."""
    folders = list(roots)
    found = sorted(find_results(folders), key=lambda path: path.stat().st_mtime)
    if not found:
        named = ", ".join(str(folder) for folder in folders)
        raise UserError(f"no {FILE} below {named}: run an experiment first.")
    return [
        SweepRun(read_results(path), settings_of(path.parent / "config.yaml"), path.parent)
        for path in found
    ]


def settings_of(config: Path) -> Settings | None:
    """Return the flat settings of a run's `config.yaml`; None where there is none.

    Settings without a value are left out, so that a key added later splits no sweep, and one that
    was renamed since has today's name.
    """
    if not config.is_file():
        return None
    tree = yaml.load(config.read_text(), LOADER) or {}
    kept = {key: value for key, value in tree.items() if key not in NOT_METHOD}
    if kept.get(SOURCE) == USUAL_SOURCE:
        del kept[SOURCE]  # runs of before there were others have none
    flat = flatten(kept)
    found = {new_name(key) or key: value for key, value in flat if value is not None}
    if SOURCE in kept:
        found[SOURCE] = (tree.get("names") or {}).get(SOURCE, "")
    return found


@cache
def _no_method(key: str) -> bool:
    """Whether a setting never makes another method; one that is a mapping has keys below it."""
    return any(f"{key}.".startswith(f"{known}.") for known in SEEDS + PLACEMENTS)


def frozen(settings: Settings) -> frozenset[tuple[str, str]]:
    """Return settings as something that can be a key."""
    return frozenset((key, str(value)) for key, value in settings.items())


def distinguishing(
    own: frozenset[tuple[str, str]], others: Sequence[frozenset[tuple[str, str]]]
) -> str:
    """Name the settings in which one of several differs: "rule=vote, ...", three at most."""
    different = sorted(own - frozenset.intersection(own, *others))
    if any(key == SOURCE for key, _ in different):  # its name says what its arguments are
        different = [pair for pair in different if not pair[0].startswith(f"{SOURCE}.")]
    names = [f"{key.removeprefix('selector.')}={value}" for key, value in different]
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join(names[:MOST_NAMED] + more)

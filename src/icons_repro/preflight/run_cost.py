"""The cost of one config at the paper's scale: the steps that it asks for, and its sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from icons_repro.config.run import RunConfig
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import (
    ModelSettings,
    PoolSettings,
    TargetSettings,
    TrainerSettings,
)
from icons_repro.core.step import Step, ordered
from icons_repro.experiment import Experiment
from icons_repro.graph.graph import Graph
from icons_repro.preflight.cost import IMAGE_SHARE, TEXT_TOKENS, Counts, StageCost
from icons_repro.preflight.cost_table import Assumptions, print_costs
from icons_repro.preflight.model_size import ModelSize, model_size
from icons_repro.preflight.step_costs import Sizes, costs_of

PAPER_TARGETS = (6604, 10)
"""Validation rows of the paper's target tasks together (MAGIC, arXiv:2605.26004, table 8), and how
many tasks they are."""
TOKENS_A_WORD = 1.4
"""Assumed tokens of a word and its share of punctuation."""


@dataclass(frozen=True)
class Rows:
    """What is known of the pool's rows, and of the targets'."""

    assumed: Assumptions
    image_share: float
    targets: tuple[int, int]
    """Validation rows of all tasks together, and tasks."""


NO_ROWS = Rows(Assumptions(0, "none known", 0.0, "none"), 0.0, (0, 0))


@dataclass(frozen=True)
class Page:
    """What runs have in common whose costs are printed together."""

    counts: Counts
    rows: Rows
    trainer: TrainerSettings
    paper: bool
    """Whether it is of the paper's setups."""


def print_run_costs(experiments: Iterable[Experiment]) -> None:
    """Print what some runs would cost together, from their pools' own rows where those are read.

    Runs of another model, pool or trainer have a page of their own.
    """
    pages: dict[Page, list[Experiment]] = {}
    for experiment in experiments:
        config = experiment.config
        rows = rows_of(config, experiment.graph, experiment.cache)
        n = size_of(config.model, config).counts
        page = Page(n, rows, config.trainer, config.scale == "paper")
        pages.setdefault(page, []).append(experiment)
    for page, runs in pages.items():
        stages = run_costs(((run.config, page.rows) for run in runs), runs[0].cache)
        print_costs(stages, page.counts, page.rows.assumed, page.trainer, len(runs), page.paper)


def has_sizes(config: RunConfig) -> bool:
    """Whether the sizes of all of a run's models are known."""
    models = (model for model in (config.model, config.selection_model) if model)
    return all(model_size(model, config.lora) is not None for model in models)


def size_of(model: ModelSettings, config: RunConfig) -> ModelSize:
    """Return the size of one of a run's models. Raises `ConfigError` where it is not known."""
    found = model_size(model, config.lora)
    if found is None:
        raise ConfigError(
            "model.shape is not set, and the model is not here: a plan of the cost needs one."
        )
    return found


def run_costs(runs: Iterable[tuple[RunConfig, Rows]], cache: Cache) -> list[StageCost]:
    """Return what each stage of some runs costs, as if nothing were cached; what they share, once.

    Raises `ConfigError` for settings that cannot go together, or a model of unknown shape.
    """
    work: dict[tuple[str, Sizes], Step] = {}
    for config, rows in runs:
        sizes = sizes_of(config, rows)
        for step in steps_of(config, cache):
            work.setdefault((step.fingerprint, sizes), step)
    return costs_of((step, sizes) for (_, sizes), step in work.items())


def sizes_of(config: RunConfig, rows: Rows) -> Sizes:
    """Return the sizes of a run: its rows, and the shapes of its models."""
    chooser = size_of(config.selection_model or config.model, config)
    target_rows, tasks = rows.targets
    return Sizes(
        rows=rows.assumed.rows,
        target_rows=target_rows,
        tasks=tasks,
        tokens=rows.assumed.tokens,
        image_share=rows.image_share,
        chooser=chooser.counts,
        trained=size_of(config.model, config).counts,
        patches=chooser.patches,
        layers=chooser.layers,
        hidden=chooser.hidden,
    )


def steps_of(config: RunConfig, cache: Cache) -> Sequence[Step]:
    """Return the steps of a run before any of its files is there.

    They are those of the same run on the tiny world and its model: other names, the same kinds.
    """
    tiny = ModelSettings(kind="tiny")
    looked_at = config.stages == ["preflight"]
    imagined = replace(
        config,
        stages=["select", "finetune"] if looked_at else config.stages,
        reference="compute" if config.reference == "compute" else "none",
        model=tiny,
        selection_model=tiny if config.selection_model else None,
        data=PoolSettings(encoding=config.data.encoding, policy=config.data.policy, world={}),
        targets=TargetSettings(subtasks=config.targets.subtasks),
        benchmarks=replace(config.benchmarks, local=True),
        features=replace(config.features, clip=None, image_encoder=None, released=__file__),
    )
    return ordered(Experiment(imagined, cache).goals())


def rows_of(config: RunConfig, graph: Graph, cache: Cache) -> Rows:
    """Return rows and mean tokens with where they come from, and the share of rows with images."""
    image_tokens = size_of(config.model, config).image_tokens
    targets = _targets(config, graph, cache)
    if _is_read(cache, graph, "pool"):
        from icons_repro.data.records import RecordTable

        table = RecordTable(cache.path(graph.pool) / "records.arrow")
        usable, images = table.usable, table.image_counts
        lengths = np.minimum(
            table.words[usable] * TOKENS_A_WORD + images[usable] * image_tokens,
            config.data.encoding.max_length,
        )
        said = f"counted, at {TOKENS_A_WORD} a word and {image_tokens} an image"
        counted = Assumptions(
            int(usable.sum()), "the pool's usable rows", float(lengths.mean()), said
        )
        return Rows(counted, float((images[usable] > 0).mean()), targets)
    if config.data.rows is None:
        raise ConfigError(
            "data.rows is not set and the pool has not been read: run the prepare stage."
        )
    tokens = TEXT_TOKENS + IMAGE_SHARE * image_tokens
    said = f"assumed: {TEXT_TOKENS} of text, {image_tokens} for an image"
    return Rows(Assumptions(config.data.rows, "data.rows", tokens, said), IMAGE_SHARE, targets)


def _targets(config: RunConfig, graph: Graph, cache: Cache) -> tuple[int, int]:
    """Return the validation rows of all tasks together, and how many tasks they are."""
    if _is_read(cache, graph, "targets"):
        counts = cache.manifest(graph.targets)["counts"].values()
        return sum(task["usable"] for task in counts), len(counts)
    if config.targets.draws:
        drawn = config.targets.build
        return sum(drawn.values()), len(config.targets.tasks or drawn)
    if config.scale == "paper":
        return PAPER_TARGETS
    raise ConfigError("the targets have not been read: run the prepare stage.")


def _is_read(cache: Cache, graph: Graph, what: str) -> bool:
    """Whether the pool, or the targets, are in the cache."""
    try:
        return cache.is_ready(getattr(graph, what))
    except ConfigError:
        return False

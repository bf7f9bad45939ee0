"""The cost of one config at the paper's scale: its settings and pool, put into `cost.py`."""

from __future__ import annotations

import numpy as np

from icons_repro.config.run import RunConfig
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.graph.graph import Graph
from icons_repro.preflight.cost import IMAGE_SHARE, TEXT_TOKENS, counts, stage_costs
from icons_repro.preflight.cost_table import Assumptions, print_costs

TARGET_ROWS = 6604
"""Validation rows of the paper's ten target tasks together (MAGIC, arXiv:2605.26004, table 8)."""
TOKENS_A_WORD = 1.4
"""Assumed tokens of a word and its share of punctuation."""


def print_run_costs(config: RunConfig, graph: Graph, cache: Cache) -> None:
    """Print what `config` would cost, from the pool's own rows where they have been read."""
    images = (config.model.shape or {}).get("image_tokens", 0)
    assumed, share = assumptions(config, graph, cache, images)
    stages = stage_costs(
        config.model,
        config.lora,
        config.warmup,
        config.finetune,
        config.gradients,
        dim=int(config.projection.get("dim") or 0),
        rows=assumed.rows,
        target_rows=TARGET_ROWS,
        budget=config.budget,
        chooser=config.selection_model,
        tokens=assumed.tokens,
        image_share=share,
    )
    devices = config.trainer.devices * config.trainer.num_nodes
    print_costs(stages, counts(config.model, config.lora), assumed, devices)


def assumptions(
    config: RunConfig, graph: Graph, cache: Cache, image_tokens: int
) -> tuple[Assumptions, float]:
    """Return rows and mean tokens with where they come from, and the share of rows with images."""
    try:
        ready = cache.is_ready(graph.pool)
    except ConfigError:
        ready = False
    if ready:
        from icons_repro.data.records import RecordTable

        table = RecordTable(cache.path(graph.pool) / "records.arrow")
        usable, images = table.usable, table.image_counts
        lengths = np.minimum(
            table.words[usable] * TOKENS_A_WORD + images[usable] * image_tokens,
            config.data.encoding.max_length,
        )
        said = f"counted, at {TOKENS_A_WORD} tokens a word"
        return (
            Assumptions(int(usable.sum()), "the pool's usable rows", float(lengths.mean()), said),
            float((images[usable] > 0).mean()),
        )
    if config.data.rows is None:
        raise ConfigError(
            "data.rows is not set and the pool has not been read: run the prepare stage."
        )
    tokens = TEXT_TOKENS + IMAGE_SHARE * image_tokens
    said = f"assumed: {TEXT_TOKENS} of text, {image_tokens} for an image"
    return Assumptions(config.data.rows, "data.rows", tokens, said), IMAGE_SHARE

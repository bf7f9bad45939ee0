"""The public names: gradients -> projection -> store -> influence -> vote, from Python alone.

Nothing here needs Hydra. Shapes: B samples in a batch, D parameters, d projected, N rows, T tasks.

    PerSampleGradients(model, parameters)(batch)      one [B, *shape] per parameter, and losses [B]
    build_projection(layout, kind, dim, seed)          rows [B, D] -> [B, d]
    extract(gradients, projection, data, folder)       GradientStore of N normalised rows [N, d]
    score(train, {task: validation, ...})             InfluenceMatrix, float32 [N, T]
    task_directions(...), score_direct(...)           the same, exact, without projection or store
    vote(influence.values, percentile)                votes [N]
    streamed_vote(array_blocks(map), percentile)      thresholds and counts of a matrix in blocks
    votes_of(blocks, thresholds)                      its votes, block by block
"""

from __future__ import annotations

from icons_repro.core.types import InfluenceMatrix
from icons_repro.gradients.direct import TaskDirections, score_direct, task_directions
from icons_repro.gradients.directions import (
    AdamDirection,
    SgdDirection,
    SignDirection,
    build_direction,
)
from icons_repro.gradients.extract import Running, StoreOptions, extract
from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.memory import TokenLimits
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import Projection, build_projection
from icons_repro.gradients.self_test import choose_attention
from icons_repro.gradients.store import GradientStore, RowStatus
from icons_repro.gradients.writer import open_writer, pending, remaining_batches
from icons_repro.influence.consensus import vote
from icons_repro.influence.score import reduce_subtasks, score, weighted_sum
from icons_repro.models.lora import gradient_parameters
from icons_repro.selection.streamed import array_blocks, file_blocks, streamed_vote, votes_of

__all__ = [
    "AdamDirection",
    "GradientStore",
    "InfluenceMatrix",
    "ParameterLayout",
    "PerSampleGradients",
    "Projection",
    "RowStatus",
    "Running",
    "SgdDirection",
    "SignDirection",
    "StoreOptions",
    "TaskDirections",
    "TokenLimits",
    "array_blocks",
    "build_direction",
    "build_projection",
    "choose_attention",
    "extract",
    "file_blocks",
    "gradient_parameters",
    "open_writer",
    "pending",
    "reduce_subtasks",
    "remaining_batches",
    "score",
    "score_direct",
    "streamed_vote",
    "task_directions",
    "vote",
    "votes_of",
    "weighted_sum",
]

"""What the feature steps do: which model, which rows, which arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from icons_repro.core.device import require_device
from icons_repro.core.files import read_json, write_json
from icons_repro.core.step import Counts
from icons_repro.core.work import Work
from icons_repro.data.datamodule import PassPlan, open_dataset
from icons_repro.data.records import RecordTable
from icons_repro.data.target_tasks import subtasks
from icons_repro.features.arrays import FeatureArrays, finish
from icons_repro.features.cross_attention import CrossAttention
from icons_repro.features.embeddings import (
    ClipFeatures,
    CoincideFeatures,
    PictureTexts,
    clip_plan,
    prompt_length,
)
from icons_repro.features.forward_stats import ForwardStatistics
from icons_repro.features.forward_value import (
    DirectionSums,
    ForwardValues,
    room_for,
    task_columns,
)
from icons_repro.features.image_cls import ImageCls, Pictures, image_plan
from icons_repro.features.predict import FeaturePass, run_pass
from icons_repro.features.question_losses import AskedAndNot, QuestionLosses, collated_twice
from icons_repro.features.self_filter import train_score_net
from icons_repro.features.spectrum import SpectrumFeatures
from icons_repro.features.stage import (
    AttentionPass,
    ClipPass,
    CoincidePass,
    ImagePass,
    PoolPass,
    QuestionPass,
    SelfFilter,
    SpectrumPass,
    TargetClipPass,
    TargetPass,
    ValuePass,
    VisionTokenPass,
)
from icons_repro.features.vision_tokens import VisionTokens
from icons_repro.models.encoders import load_clip, load_image_encoder
from icons_repro.models.llava import load_model
from icons_repro.models.lora import load_adapter
from icons_repro.training.checkpoint import point_folder
from icons_repro.training.job import FitJob
from icons_repro.training.progress import predict_trainer

FACTS = "facts.json"
BROUGHT = "brought.npy"
TITLES = {
    "forward": "losses and hidden states",
    "coincide": "attention outputs",
    "spectrum": "singular values",
    "image_cls": "images",
    "question_losses": "losses with and without questions",
    "vision_tokens": "image tokens",
    "cross_attention": "cross-modal attention",
    "clip": "images and texts",
    "target_forward": "hidden states of the targets",
    "target_clip": "images and texts of the targets",
    "forward_value": "forward values",
}
DIRECTIONS = "directions.safetensors"
COLUMNS = "columns.json"


def chunk_names(step: PoolPass, work: Work) -> list[str]:
    """Name the chunks of the pool's batches, and note which rows these bring."""
    encoder: Any = None
    if isinstance(step, ClipPass):
        encoder = load_clip(step.clip.path)
    if isinstance(step, ImagePass):
        encoder = load_image_encoder(step.encoder.path)
    plan = _pool_plan(step, work, encoder)
    np.save(work.notes / BROUGHT, plan.rows)
    return plan.chunk_names(work.chunks)


def fill(step: PoolPass, work: Work, parts: Iterator[str]) -> None:
    """Run what is left of the chunks that come; a batch that was half done runs whole."""
    features: FeaturePass | None = None
    batches: PassPlan | None = None
    for part in parts:
        features = features or _load(step, work)
        batches = batches or _pool_plan(step, work, getattr(features, "encoder", None))
        write_json(work.out / FACTS, features.facts)
        _run(step, features, batches, part, work.out)


def _run(step: Any, features: FeaturePass, batches: PassPlan, part: str, out: Path) -> None:
    """Run what is left of a chunk into the arrays of `out`."""
    with FeatureArrays(out, len(batches.table), features.columns) as arrays:
        loader = batches.loader(part, partial(_left, arrays))
        trainer = predict_trainer(batches.title(TITLES[step.stage], part), step.trainer)
        run_pass(features, loader, arrays, trainer)


def fill_targets(step: TargetPass, work: Work, parts: Iterator[str]) -> None:
    """Run the tasks that come, each into a folder of its own."""
    targets = work.path(step.targets)
    features: FeaturePass | None = None
    for task in parts:
        features = features or _load(step, work)
        encoder = getattr(features, "encoder", None)
        batches = _plan(step, work, targets / task, targets / "images", encoder)
        (whole,) = batches.chunk_names(1)
        _run(step, features, batches, whole, work.out / task)
        finish(work.out / task, len(batches.table), batches.rows)


def count_targets(step: TargetPass, work: Work) -> Counts:
    """Return the rows of each task."""
    targets = work.path(step.targets)
    return {task: len(RecordTable(targets / task / "records.arrow")) for task in step.parts(work)}


def close(step: PoolPass, work: Work) -> Counts:
    """Fill rows that the pass does not bring with NaN."""
    n_rows = len(RecordTable(work.path(step.pool) / "records.arrow"))
    counts = finish(work.out, n_rows, np.load(work.notes / BROUGHT))
    return {**counts, **(read_json(work.out / FACTS) or {})}


def _left(arrays: FeatureArrays, batches: list[np.ndarray]) -> list[np.ndarray]:
    return [batch for batch in batches if len(arrays.pending(batch))]


def _load(step: Any, work: Work) -> FeaturePass:
    require_device(step.trainer)
    if isinstance(step, (ClipPass, TargetClipPass)):
        return ClipFeatures(load_clip(step.clip.path, getattr(torch, step.trainer.model_dtype)))
    if isinstance(step, ImagePass):
        dtype = getattr(torch, step.trainer.model_dtype)
        return ImageCls(load_image_encoder(step.encoder.path, dtype))
    model = _model(step, work)
    if isinstance(step, QuestionPass):
        return QuestionLosses(model)
    if isinstance(step, CoincidePass):
        pool, base = work.path(step.pool), work.path(step.base)
        dataset, _ = open_dataset(pool, pool / "images", base, step.encoding)
        return CoincideFeatures(model, prompt_length(dataset.encoder), step.layers, step.dtype)
    if isinstance(step, SpectrumPass):
        return SpectrumFeatures(model, step.dtype)
    if isinstance(step, VisionTokenPass):
        return VisionTokens(model, dtype=step.dtype)
    if isinstance(step, AttentionPass):
        return CrossAttention(model)
    if isinstance(step, ValuePass):
        return ForwardValues(model, load_file(work.out / DIRECTIONS)["vectors"])
    return ForwardStatistics(model, step.dtype)


def _model(step: Any, work: Work) -> Any:
    """Load the model of a step: the warm-up's, or the base."""
    trainer = step.trainer
    device = trainer.device if trainer.bits else "cpu"
    dtype = getattr(torch, trainer.model_dtype)
    model: Any = load_model(work.path(step.base), dtype, device, trainer.bits)
    if not step.warmup:
        return model
    point, run = getattr(step, "point", None), work.path(step.warmup)
    return load_adapter(model, point_folder(run, point) if point else run).eval()


def _pool_plan(step: PoolPass, work: Work, encoder: Any) -> PassPlan:
    """Return the batches of the pool, as the attempt was begun."""
    pool, budget = work.path(step.pool), getattr(step, "token_budget", None)
    begun = work.begun_with("token_budget", budget) if budget else None
    return _plan(step, work, pool, pool / "images", encoder, begun)


def _plan(
    step: Any,
    work: Work,
    records: Path,
    images: Path,
    encoder: Any,
    begun_with: int | None = None,
) -> PassPlan:
    """Return the batches of every usable row of a records folder."""
    table = RecordTable(records / "records.arrow")
    usable = np.flatnonzero(table.usable)
    if isinstance(step, (ClipPass, TargetClipPass)):
        return clip_plan(PictureTexts(table, images), encoder, usable, step.workers)
    if isinstance(step, ImagePass):
        return image_plan(Pictures(table, images), encoder, usable, step.workers)
    dataset, collate = open_dataset(records, images, work.path(step.base), step.encoding)
    limits = (step.token_budget, step.encoding.num_workers, begun_with)
    if isinstance(step, QuestionPass):
        reference = np.load(work.path(step.warmup) / "positions.npy")
        shown = reference[table.image_counts[reference] > 0]
        plan = PassPlan.of(dataset, collate, shown, *limits)
        return replace(plan, dataset=AskedAndNot(dataset), collate=collated_twice(collate))
    return PassPlan.of(dataset, collate, usable, *limits)


def value_parts(step: ValuePass, work: Work) -> list[str]:
    """Keep the S of every validation row, or each task's mean, and name the pool's chunks."""
    targets = work.path(step.targets)
    folders = sorted(path.parent for path in targets.glob("*/records.arrow"))
    tables = [RecordTable(folder / "records.arrow") for folder in folders]
    labels = [
        (f.name, subtasks(t) if f.name in step.subtasks else [""] * len(t))
        for f, t in zip(folders, tables, strict=True)
    ]
    names, groups = task_columns(labels)
    if step.by_row:
        first = np.cumsum([0, *map(len, tables)])
        columns = [start + np.arange(len(t)) for start, t in zip(first, tables, strict=False)]
    else:
        columns = groups
    vectors, usable = _value_sums(step, work, folders, columns)
    counts = np.bincount(np.concatenate(columns)[usable], minlength=len(vectors))
    kept = np.flatnonzero(counts)
    vectors = vectors[torch.from_numpy(kept)] / torch.from_numpy(counts[kept])[:, None]
    own = np.concatenate(groups)[kept] if step.by_row else kept
    write_json(work.out / COLUMNS, {"tasks": names, "groups": own.tolist()})
    save_file({"vectors": vectors.float().contiguous()}, work.out / DIRECTIONS)
    return chunk_names(step, work)


def _value_sums(
    step: ValuePass, work: Work, folders: list[Path], columns: list[np.ndarray]
) -> tuple[torch.Tensor, np.ndarray]:
    """Return the sums of the validation rows' S by column `[C, V h]`, and which rows have one."""
    model, targets = _model(step, work), work.path(step.targets)
    vectors = room_for(1 + max(int(own.max()) for own in columns), model)
    usable = []
    for folder, own in zip(folders, columns, strict=True):
        sums = DirectionSums(model, vectors, own)
        batches = _plan(step, work, folder, targets / "images", None)
        (whole,) = batches.chunk_names(1)
        trainer = predict_trainer(f"forward values of {folder.name}", step.trainer)
        trainer.predict(sums.eval(), batches.loader(whole), return_predictions=False)
        usable.append(sums.usable)
    return vectors, np.concatenate(usable)


def close_values(step: ValuePass, work: Work) -> Counts:
    """Fill unusable rows with NaN; what the rows were multiplied with is not needed any more."""
    (work.out / DIRECTIONS).unlink(missing_ok=True)
    return close(step, work)


def self_filter(step: SelfFilter, work: Work) -> Counts:
    """Train the score net on every usable row."""
    require_device(step.trainer)
    records = work.path(step.pool)
    usable = np.flatnonzero(RecordTable(records / "records.arrow").usable)
    np.save(work.out / "positions.npy", usable)
    job = FitJob(
        model_dir=str(work.path(step.base)),
        records=str(records),
        image_root=str(records / "images"),
        positions=str(work.out / "positions.npy"),
        seed=step.settings.seed,
        lora=step.lora,
        train=step.settings.train,
        data=step.encoding,
        trainer=replace(step.trainer, devices=1, num_nodes=1),
    )
    clip: Path = work.path(step.clip)
    return train_score_net(job, step.settings, clip, work.out, work.on_metrics)

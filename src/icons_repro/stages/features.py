"""Features that a model gives: the arrays that the baselines read, each made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.core.artifacts import Step, Workspace
from icons_repro.core.provenance import file_fingerprint
from icons_repro.core.settings import (
    DataSettings,
    FeatureSettings,
    LoraSettings,
    TrainerSettings,
)
from icons_repro.stages.training import encoding_config, training_config

TINY_CLIP = Path(__file__).parents[1] / "models" / "tiny_clip"
STORE_BLOCK = 4096
"""Gradient rows copied at once."""


def forward(
    settings: FeatureSettings,
    data: DataSettings,
    trainer: TrainerSettings,
    base: Step,
    warmup: Step,
    pool: Step,
) -> Step:
    """Loss, EL2N, margin and the last hidden layer of every row, in one pass."""

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.features.forward_stats import ForwardStatistics

        def make(model: Any) -> Any:
            return ForwardStatistics(model, settings.dtype)

        return model_pass(ws, make, settings, data, trainer, "losses and hidden states")

    config = {"dtype": settings.dtype, **pass_config(data, trainer)}
    return Step("forward", build, config, pass_inputs(settings, base, warmup, pool), resumable=True)


def coincide(
    settings: FeatureSettings,
    data: DataSettings,
    trainer: TrainerSettings,
    base: Step,
    warmup: Step,
    pool: Step,
) -> Step:
    """COINCIDE's attention outputs of every row."""
    layers = list(settings.coincide_layers)

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.features.embeddings import CoincideFeatures

        def make(model: Any) -> Any:
            return CoincideFeatures(model, layers, settings.dtype)

        return {
            **model_pass(ws, make, settings, data, trainer, "attention outputs"),
            "layers": len(layers),
        }

    config = {"dtype": settings.dtype, "layers": layers, **pass_config(data, trainer)}
    inputs = pass_inputs(settings, base, warmup, pool)
    return Step("coincide", build, config, inputs, resumable=True)


def pass_config(data: DataSettings, trainer: TrainerSettings) -> dict[str, Any]:
    """Return what decides a forward pass besides the model and the rows."""
    return {"data": encoding_config(data), **pass_precision(trainer)}


def pass_precision(trainer: TrainerSettings) -> dict[str, Any]:
    """Return the types of a pass without training: weights, and autocast where there is any."""
    autocast = {"precision": trainer.precision} if trainer.precision == "bf16-mixed" else {}
    return {"model_dtype": trainer.model_dtype, **autocast}


def pass_inputs(settings: FeatureSettings, base: Step, warmup: Step, pool: Step) -> dict[str, Step]:
    """Return the steps a forward pass reads; the warm-up only where its model is asked for."""
    inputs = {"base": base, "pool": pool}
    return inputs | {"warmup": warmup} if settings.model == "warmup" else inputs


def model_pass(
    ws: Workspace,
    make: Callable[[Any], Any],
    settings: FeatureSettings,
    data: DataSettings,
    trainer: TrainerSettings,
    name: str,
) -> dict[str, Any]:
    """Run the pass that `make(model)` gives over the usable rows of the pool."""
    import torch

    from icons_repro.data.datamodule import bucketed_loader, open_dataset
    from icons_repro.features.arrays import FeatureArrays
    from icons_repro.features.predict import run_pass
    from icons_repro.models.llava import load_model
    from icons_repro.models.lora import load_adapter
    from icons_repro.training.progress import predict_trainer

    model: Any = load_model(ws.inputs["base"], getattr(torch, trainer.model_dtype))
    if "warmup" in ws.inputs:
        model = load_adapter(model, ws.inputs["warmup"]).eval()
    features = make(model)
    records = ws.inputs["pool"]
    dataset, collate = open_dataset(records, records / "images", ws.inputs["base"], data)
    arrays = FeatureArrays(ws.out, len(dataset), features.columns)
    wanted = arrays.pending(np.flatnonzero(dataset.table.usable))
    loader = bucketed_loader(dataset, collate, wanted, settings.token_budget, data.num_workers)
    return dict(run_pass(features, loader, arrays, predict_trainer(name, trainer)))


def clip(
    settings: FeatureSettings,
    trainer: TrainerSettings,
    pool: Step,
    index: Path,
    workers: int = 0,
) -> Step:
    """CLIP's embedding of every row's image and text."""
    folder = TINY_CLIP if settings.clip is None else Path(settings.clip)
    config: dict[str, Any] = pass_precision(trainer)
    if folder.is_dir():
        files = sorted(path for path in folder.iterdir() if path.is_file())
        config["files"] = {path.name: file_fingerprint(path, index) for path in files}
    else:
        config["clip"] = settings.clip

    def build(ws: Workspace) -> dict[str, Any]:
        import torch

        from icons_repro.data.records import RecordTable
        from icons_repro.features.arrays import FeatureArrays
        from icons_repro.features.embeddings import ClipFeatures, PictureTexts, clip_loader
        from icons_repro.features.predict import run_pass
        from icons_repro.models.encoders import load_clip
        from icons_repro.training.progress import predict_trainer

        encoder = load_clip(settings.clip or folder, getattr(torch, trainer.model_dtype))
        features = ClipFeatures(encoder)
        table = RecordTable(ws.inputs["pool"] / "records.arrow")
        arrays = FeatureArrays(ws.out, len(table), features.columns)
        wanted = arrays.pending(np.flatnonzero(table.usable))
        rows = PictureTexts(table, ws.inputs["pool"] / "images")
        loader = clip_loader(rows, encoder, wanted, workers)
        progress = predict_trainer("images and texts", trainer)
        return dict(run_pass(features, loader, arrays, progress))

    return Step("clip", build, config, {"pool": pool}, resumable=True)


def self_filter(
    settings: FeatureSettings,
    lora: LoraSettings,
    data: DataSettings,
    trainer: TrainerSettings,
    base: Step,
    pool: Step,
    clip: Step,
) -> Step:
    """Self-Filter's difficulty of every row: its score net, trained while the base is tuned."""
    chosen = settings.self_filter
    adapter = lora if chosen.lora else None

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.data.records import RecordTable
        from icons_repro.features.self_filter import train_score_net
        from icons_repro.training.fit import FitJob

        records = ws.inputs["pool"]
        usable = np.flatnonzero(RecordTable(records / "records.arrow").usable)
        np.save(ws.out / "positions.npy", usable)
        job = FitJob(
            model_dir=str(ws.inputs["base"]),
            records=str(records),
            image_root=str(records / "images"),
            positions=str(ws.out / "positions.npy"),
            seed=chosen.seed,
            lora=adapter,
            train=chosen.train,
            data=data,
            trainer=trainer,
        )
        return dict(train_score_net(job, chosen, ws.inputs["clip"], ws.out, ws.on_metrics))

    config = training_config(chosen.train, lora, data, replace(trainer, devices=1), chosen.seed)
    config |= {"lora": asdict(lora) if chosen.lora else None}
    config["score_learning_rate"] = chosen.score_learning_rate
    return Step("self_filter", build, config, {"base": base, "pool": pool, "clip": clip})


def instance_gradients(store: Step) -> Step:
    """A gradient store as plain arrays, for a selector: unit rows, and their lengths before."""

    def build(ws: Workspace) -> dict[str, Any]:
        import torch

        from icons_repro.features.arrays import FeatureArrays
        from icons_repro.gradients.store import GradientStore

        opened = GradientStore.open(ws.inputs["store"])
        columns = {"rows": ((opened.info.dim,), "float16"), "norms": ((), "float32")}
        arrays = FeatureArrays(ws.out, len(opened), columns)
        for start in range(0, len(opened), STORE_BLOCK):
            block = np.arange(start, min(start + STORE_BLOCK, len(opened)))
            held = opened.ok[block]
            rows = opened.read(start, start + len(block))[held]
            norms = torch.from_numpy(opened.norms[block][held])
            arrays.write(block[held], {"rows": rows, "norms": norms})
        return arrays.finish()

    return Step("instance_gradients", build, {}, {"store": store})

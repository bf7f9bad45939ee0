"""Warm-up and fine-tuning: the same loop on different rows."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from icons_repro.core.artifacts import Step, Workspace
from icons_repro.core.settings import (
    DataSettings,
    LoraSettings,
    PretrainSettings,
    RecordPolicy,
    TrainerSettings,
    TrainSettings,
    WarmupSettings,
)


def warmup(
    settings: WarmupSettings,
    lora: LoraSettings,
    data: DataSettings,
    trainer: TrainerSettings,
    base: Step,
    pool: Step,
) -> Step:
    """LoRA on a small random slice of the pool: the point that gradients are taken at."""

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.data.records import RecordTable
        from icons_repro.selection.base import budget_to_k

        usable = np.flatnonzero(RecordTable(ws.inputs["pool"] / "records.arrow").usable)
        rng = np.random.default_rng(settings.seed)
        k = budget_to_k(settings.fraction, len(usable))
        np.save(ws.out / "positions.npy", np.sort(rng.choice(usable, size=k, replace=False)))
        return train(ws, settings.train, lora, data, trainer, settings.seed, keep_epochs=True)

    config = {
        **training_config(settings.train, lora, data, trainer, settings.seed),
        "fraction": settings.fraction,
        "keep_epochs": True,
    }
    return Step("warmup", build, config, {"base": base, "pool": pool}, resumable=True)


def full_run_warmup(
    settings: WarmupSettings,
    recipe: TrainSettings,
    lora: LoraSettings,
    data: DataSettings,
    trainer: TrainerSettings,
    base: Step,
    pool: Step,
) -> Step:
    """The adapter of a run over the whole pool, as it stands after some of its steps.

    ICONS' released scripts take gradients at such a one, `llava_lora_full/checkpoint-500`
    (princetonvisualai/icons, scripts/0_get_training_data_grads.sh:4-6).
    """
    recipe, steps = replace(recipe, steps="same_epochs"), settings.full_run_steps

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.data.records import RecordTable

        usable = RecordTable(ws.inputs["pool"] / "records.arrow").usable
        np.save(ws.out / "positions.npy", np.flatnonzero(usable))
        return train(ws, recipe, lora, data, trainer, settings.seed, stop_after=steps)

    config = training_config(recipe, lora, data, trainer, settings.seed) | {"stop_after": steps}
    inputs = {"base": base, "pool": pool}
    return Step("warmup", build, config, inputs, resumable=True, label=f"full run, step {steps}")


def finetune(
    settings: TrainSettings,
    lora: LoraSettings,
    data: DataSettings,
    trainer: TrainerSettings,
    seed: int,
    base: Step,
    pool: Step,
    selection: Step,
) -> Step:
    """LoRA on a selection, from the base model, with the same recipe for every method."""

    def build(ws: Workspace) -> dict[str, Any]:
        np.save(ws.out / "positions.npy", np.load(ws.inputs["selection"] / "positions.npy"))
        return train(ws, settings, lora, data, trainer, seed)

    config = training_config(settings, lora, data, trainer, seed)
    inputs = {"base": base, "pool": pool, "selection": selection}
    return Step("finetune", build, config, inputs, resumable=True, label=selection.label)


def pretrain(settings: PretrainSettings, trainer: TrainerSettings) -> Step:
    """The tiny base, from random weights and the pre-training corpus; every weight is trained."""

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.data.records import build_records
        from icons_repro.data.tiny.pretrain import write_corpus
        from icons_repro.models.tiny import (
            MAX_TOKENS,
            build_tiny_llava,
            save_tiny_llava,
            save_weights,
        )
        from icons_repro.training.fit import FitJob, fit

        corpus, records, first = (ws.out / name for name in ("corpus", "records", "first"))
        records.mkdir(exist_ok=True)
        write_corpus(corpus, settings.rows, settings.seed)
        no_check = RecordPolicy(check_images="none")
        build_records(corpus / "pretrain.json", corpus / "images", records, no_check)
        save_tiny_llava(build_tiny_llava(settings.seed, settings.width), first)
        np.save(ws.out / "positions.npy", np.arange(settings.rows))
        job = FitJob(
            model_dir=str(first),
            records=str(records),
            image_root=str(corpus / "images"),
            positions=str(ws.out / "positions.npy"),
            seed=settings.seed,
            lora=None,
            train=settings.train,
            data=DataSettings(max_length=MAX_TOKENS),
            trainer=trainer,
        )
        summary = fit(job, ws.out, ws.on_metrics)
        save_weights(ws.out, ws.out / "shipped.safetensors")
        return {key: summary[key] for key in ("rows", "steps", "trained_parameters")}

    config = asdict(settings)
    config["train"].pop("checkpoint_every_steps")
    return Step("pretrain", build, config, resumable=True)


def training_config(
    settings: TrainSettings,
    lora: LoraSettings,
    data: DataSettings,
    trainer: TrainerSettings,
    seed: int,
) -> dict[str, Any]:
    """Return what decides a training run's result, and no more."""
    recipe = asdict(settings)
    recipe.pop("checkpoint_every_steps")
    return {
        "train": recipe,
        "lora": asdict(lora),
        "data": encoding_config(data),
        "trainer": asdict(trainer),
        "seed": seed,
    }


def encoding_config(data: DataSettings) -> dict[str, Any]:
    """Return the data settings that change tensors."""
    config = asdict(data)
    config.pop("num_workers")
    return config


def train(
    ws: Workspace,
    settings: TrainSettings,
    lora: LoraSettings,
    data: DataSettings,
    trainer: TrainerSettings,
    seed: int,
    keep_epochs: bool = False,
    stop_after: int | None = None,
) -> dict[str, Any]:
    """Run the training loop on `ws.out/positions.npy`."""
    from icons_repro.data.records import RecordTable
    from icons_repro.training.fit import FitJob, fit

    records = ws.inputs["pool"]
    job = FitJob(
        model_dir=str(ws.inputs["base"]),
        records=str(records),
        image_root=str(records / "images"),
        positions=str(ws.out / "positions.npy"),
        seed=seed,
        steps_as_rows=int(RecordTable(records / "records.arrow").usable.sum()),
        lora=lora,
        train=settings,
        data=data,
        trainer=trainer,
        keep_epochs=keep_epochs,
        stop_after=stop_after,
    )
    summary = fit(job, ws.out, ws.on_metrics)
    return {key: summary[key] for key in ("rows", "steps", "trained_parameters")}

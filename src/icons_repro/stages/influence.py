"""Score: the influence of every pool row on every target task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.core.artifacts import Step, Workspace
from icons_repro.core.settings import TargetSettings
from icons_repro.core.types import InfluenceMatrix
from icons_repro.stages.gradients import GradientJob, gradient_parts, task_folders


def influence(
    settings: TargetSettings,
    pool: Step,
    targets: Step,
    train: Step,
    validation: Step,
    normalise_subtasks: bool = True,
) -> Step:
    """The mean cosine of every pool row with every target task's validation gradients."""

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.data.records import RecordTable
        from icons_repro.influence.score import score

        folders = task_folders(ws.inputs["targets"])
        matrix = score(
            ws.inputs["train"],
            {folder.name: ws.inputs["validation"] / folder.name for folder in folders},
            subtasks=subtask_labels(folders, settings),
            reduce=None,
            raw_validation=() if normalise_subtasks else settings.subtasks,
            keys=RecordTable(ws.inputs["pool"] / "records.arrow").keys,
        )
        return save(matrix, ws.out)

    inputs = {"pool": pool, "targets": targets, "train": train, "validation": validation}
    config = {"subtasks": settings.subtasks} | ({} if normalise_subtasks else {"raw": True})
    return Step("influence", build, config, inputs)


def influence_direct(
    job: GradientJob, target_settings: TargetSettings, pool: Step, targets: Step
) -> Step:
    """Exact influence: unprojected gradients, scored as they are formed, none stored."""
    settings = job.settings
    unprojected = replace(job, projector={"kind": "none", "dim": None, "seed": 0})

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.gradients.direct import score_direct, task_directions
        from icons_repro.gradients.features import build_feature
        from icons_repro.training.progress import predict_trainer

        gradients, _, feature = gradient_parts(ws, unprojected, settings.train_feature)
        folders = task_folders(ws.inputs["targets"])
        moments = job.adapter(ws) / "optimizer.safetensors"
        images = ws.inputs["targets"] / "images"
        directions = task_directions(
            gradients,
            {f.name: whole_loader(ws, job, f, images) for f in folders},
            subtasks=subtask_labels(folders, target_settings),
            raw=() if settings.normalise_subtasks else target_settings.subtasks,
            feature=build_feature(settings.val_feature, gradients.layout, moments),
            trainer=predict_trainer("gradients of the targets", job.trainer),
        )
        rows = whole_loader(ws, job, ws.inputs["pool"], ws.inputs["pool"] / "images")
        table = rows.dataset.table
        matrix = score_direct(
            gradients,
            directions,
            rows,
            ws.out / "scores",
            n_rows=len(table),
            keys=table.keys,
            feature=feature,
            unusable=np.flatnonzero(~table.usable),
            identities=job.identities(ws),
            trainer=predict_trainer("gradients of the pool", job.trainer),
        )
        return save(matrix, ws.out)

    config = (
        replace(job, projector={}).config(settings.train_feature)
        | {
            "mode": "direct",
            "val_feature": settings.val_feature,
            "subtasks": target_settings.subtasks,
        }
        | ({} if settings.normalise_subtasks else {"raw": True})
    )
    inputs = {"base": job.base, "warmup": job.warmup, "pool": pool, "targets": targets}
    return Step("influence", build, config, inputs, resumable=True)


def influence_over_epochs(warmup: Step, matrices: Sequence[Step]) -> Step:
    """Influence summed over the epochs of the warm-up, by their mean learning rates (LESS).

    An epoch whose only step had a rate of zero changed nothing and has no weight.
    """
    inputs = {"warmup": warmup} | {f"epoch_{n}": step for n, step in enumerate(matrices, 1)}

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.influence.score import weighted_sum
        from icons_repro.training.checkpoint import epoch_rates

        rates = epoch_rates(ws.inputs["warmup"])
        loaded = [
            InfluenceMatrix.load(ws.inputs[f"epoch_{n}"] / "influence.parquet")
            for n in range(1, len(matrices) + 1)
        ]
        weighted = [(rate, m) for rate, m in zip(rates, loaded, strict=True) if rate > 0]
        return save(weighted_sum(weighted), ws.out)

    return Step("influence", build, {"over": "epochs"}, inputs)


def whole_loader(ws: Workspace, job: GradientJob, records: Path, images: Path) -> Any:
    """Return a loader over every usable row of a records folder."""
    from icons_repro.data.datamodule import bucketed_loader, open_dataset

    dataset, collate = open_dataset(records, images, ws.inputs["base"], job.data)
    usable = np.flatnonzero(dataset.table.usable)
    return bucketed_loader(
        dataset, collate, usable, job.settings.token_budget, job.data.num_workers
    )


def subtask_labels(folders: list[Path], settings: TargetSettings) -> dict[str, list[str]]:
    """Return the sub-task of each row, for the tasks that are scored sub-task by sub-task."""
    from icons_repro.data.records import RecordTable
    from icons_repro.data.target_tasks import subtasks

    split = [folder for folder in folders if folder.name in settings.subtasks]
    return {folder.name: subtasks(RecordTable(folder / "records.arrow")) for folder in split}


def save(matrix: InfluenceMatrix, out: Path) -> dict[str, Any]:
    """Write `influence.parquet` and return its counts."""
    matrix.save(out / "influence.parquet")
    excluded = int(np.isnan(matrix.values).any(axis=1).sum())
    return {"rows": len(matrix.keys), "columns": list(matrix.tasks), "excluded": excluded}

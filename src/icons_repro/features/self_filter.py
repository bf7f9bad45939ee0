"""Stage 1 of Self-Filter: a score net trained together with the model that it weighs rows for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from safetensors.torch import save_file
from torch import nn

from icons_repro.core.deterministic import same_bits
from icons_repro.core.settings import SelfFilterSettings
from icons_repro.core.stop import deferred
from icons_repro.core.work import OnMetrics
from icons_repro.data.datamodule import PoolDataModule, open_dataset
from icons_repro.models.answers import token_losses
from icons_repro.models.batches import Batch
from icons_repro.models.families import vision_modules
from icons_repro.models.lora import (
    attach_lora,
    checkpoint_layers,
    projectors,
    require_float32,
)
from icons_repro.models.trainer import quiet_trainer
from icons_repro.training.callbacks import MetricsWriter, ResumePoints
from icons_repro.training.checkpoint import (
    AtomicCheckpointIO,
    keep_trained,
    require_trained,
    whole_resume_point,
)
from icons_repro.training.fit import RESUME, load_base
from icons_repro.training.job import FitJob, plan_schedule
from icons_repro.training.module import model_groups, optimizer_of
from icons_repro.training.progress import StageProgress

ROWS_AT_ONCE = 65_536
INITIALIZER_RANGE = 0.02


class ScoreNet(nn.Module):
    """w(z) = a . [CLIP image, CLIP text], without a bias, from N(0, 0.02^2) at the start.

    The weights are float32 whatever type the model is moved to: steps of 1e-5 vanish in bfloat16
    beside weights of 0.02. A text-only row has a zero image half. Source: RayRuiboChen/Self-Filter,
    self_filter/self_filter_model.py:49-52 (`post_init` draws what the checkpoint lacks from a
    normal of `initializer_range`, Vicuna's 0.02); CLIP's halves have length 1
    (data_process/extract_features.py:113-119).
    """

    def __init__(self, image: np.ndarray, text: np.ndarray, seed: int = 0) -> None:
        """Take CLIP's embeddings `[N, d]`, which stay on disk where they are memory maps."""
        super().__init__()
        self._image, self._text = image, text
        self.linear = nn.Linear(image.shape[1] + text.shape[1], 1, bias=False)
        drawn = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.linear.weight, std=INITIALIZER_RANGE, generator=drawn)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> ScoreNet:
        """Move to another device, but never to another type."""
        kept = self.linear.weight.detach()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.linear.weight.dtype != torch.float32:
            self.linear.weight.data = kept.to(self.linear.weight.device)
        return self

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """Return w of the rows at pool positions `[B]`: float32 `[B]`."""
        index = positions.cpu().numpy()
        image = np.nan_to_num(np.asarray(self._image[index], dtype=np.float32))
        rows = np.concatenate([image, self._text[index]], axis=1, dtype=np.float32)
        device = self.linear.weight.device
        with torch.autocast(device.type, enabled=False):
            scores: torch.Tensor = self.linear(torch.from_numpy(rows).to(device))
        return scores[:, 0]

    @torch.no_grad()
    def difficulty(self, positions: np.ndarray, n_rows: int) -> np.ndarray:
        """Return -w, float32 `[n_rows]`, NaN outside `positions`."""
        out = np.full(n_rows, np.nan, dtype=np.float32)
        for start in range(0, len(positions), ROWS_AT_ONCE):
            block = positions[start : start + ROWS_AT_ONCE]
            out[block] = -self(torch.from_numpy(block)).cpu().numpy()
        return out


class ScoreTuner(L.LightningModule):
    """Trains model and score net together; the net takes weight from rows that stay hard.

        L = B sum_i softmax_batch(w)_i sum_t CE_it / T,   T answer tokens in B rows

    With equal weights this is the ordinary mean over answer tokens. The softmax runs over a
    micro-batch, all rows of it, and a row counts by its tokens. Source: RayRuiboChen/Self-Filter,
    self_filter/self_filter_trainer.py:425-450 and 452-472.
    """

    def __init__(
        self, model: nn.Module, net: ScoreNet, settings: SelfFilterSettings, steps: int
    ) -> None:
        super().__init__()
        self.model, self.net = model, net
        self.settings, self.steps = settings, steps
        self.strict_loading = False  # resume points hold only what is trained

    def on_fit_start(self) -> None:
        """Refuse to train anything that is not float32, the score net included."""
        require_float32(self.trained())

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the trained parameters of model and score net."""
        return ((n, p) for n, p in self.named_parameters() if p.requires_grad)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Drop the frozen weights from a resume point."""
        keep_trained(checkpoint, (name for name, _ in self.trained()))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a resume point that does not hold exactly what this run trains."""
        require_trained(checkpoint, (name for name, _ in self.trained()))

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return the weighted loss of a batch; 0 if none of its answers is left."""
        torch.manual_seed(hash((self.settings.seed, batch_idx)))
        losses, rows = token_losses(self.model, batch)
        weights = self.net(batch["positions"]).softmax(dim=0)
        weighted = weights[rows] * losses
        return len(weights) * weighted.sum() / max(len(losses), 1)

    def configure_optimizers(self) -> Any:
        """AdamW with a rate each for model, projector and score net; cosine with warm-up."""
        trained = ((n, p) for n, p in self.model.named_parameters() if p.requires_grad)
        groups = model_groups(trained, self.settings.train)
        groups.append({"params": list(self.net.parameters()), "lr": self.settings.score_rate})
        return optimizer_of(groups, self.settings.train, self.steps)


def train_score_net(
    job: FitJob,
    settings: SelfFilterSettings,
    clip: Path,
    out: Path,
    on_metrics: OnMetrics | None = None,
) -> dict[str, int]:
    """Train on the rows of `job` and write `difficulty.npy` `[N]` and the score net.

    `job.lora` None trains every weight but the vision tower's, as the original does. One device.
    A run that was cut off goes on from its last resume point. The trained model is thrown away.
    Returns counts.
    """
    resume = out / RESUME
    L.seed_everything(job.seed, workers=True, verbose=False)
    dataset, collate = open_dataset(
        Path(job.records), Path(job.image_root), Path(job.model_dir), job.data
    )
    schedule = plan_schedule(job, dataset)
    base = load_base(job)
    model: nn.Module = attach_lora(base, job.lora) if job.lora else all_but_the_tower(base)
    if job.train.gradient_checkpointing:
        checkpoint_layers(base)
    image, text = (np.load(clip / f"{name}.npy", mmap_mode="r") for name in ("image", "text"))
    net = ScoreNet(image, text, job.seed)
    tuner = ScoreTuner(model.train(), net, settings, schedule.steps)
    trainer = quiet_trainer(
        accelerator=job.trainer.accelerator,
        devices=1,
        precision=job.trainer.precision,
        max_epochs=1,
        accumulate_grad_batches=schedule.accumulate,
        gradient_clip_val=settings.train.max_grad_norm,
        callbacks=[
            MetricsWriter(out / "metrics.jsonl", on_metrics),
            StageProgress("score net"),
            ResumePoints(resume, job.train.resume_seconds),
        ],
        plugins=[AtomicCheckpointIO(), LightningEnvironment()],
    )
    with deferred(), same_bits(job.trainer):
        trainer.fit(
            tuner,
            PoolDataModule(dataset, collate, schedule, job.data.num_workers),
            ckpt_path=str(resume) if whole_resume_point(resume) else None,
            weights_only=True,
        )
    positions = np.load(job.positions)
    np.save(out / "difficulty.npy", net.difficulty(positions, len(dataset)))
    save_file(net.state_dict(), out / "score_net.safetensors")
    resume.unlink(missing_ok=True)
    return {"rows": len(dataset), "trained_on": len(positions), "steps": trainer.global_step}


def all_but_the_tower(model: Any) -> Any:
    """Free every weight except the vision tower's, as LLaVA's full fine-tuning does."""
    model.requires_grad_(True)
    for module in vision_modules(model):
        module.requires_grad_(False)
    for module in projectors(model).values():  # in some families a part of the tower
        module.requires_grad_(True)
    return model

"""What the curvature step does: two passes over some rows of the pool."""

from __future__ import annotations

from dataclasses import replace

import lightning as L
import numpy as np
import torch
from safetensors.torch import save_file

from icons_repro.core.step import Counts
from icons_repro.core.work import Work
from icons_repro.data.datamodule import PassPlan
from icons_repro.data.records import RecordTable
from icons_repro.gradients.capture import Deliver
from icons_repro.gradients.curvature.direction import FILE
from icons_repro.gradients.curvature.factors import Covariances, Eigenvalues
from icons_repro.gradients.jobs import Taker, plan
from icons_repro.gradients.numbered import NumberedBatches
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.stage import Curvature
from icons_repro.models.batches import Batch
from icons_repro.training.progress import predict_trainer


class CurvaturePass(L.LightningModule):
    """Takes gradients and hands them on; keeps nothing itself."""

    def __init__(
        self, gradients: PerSampleGradients, deliver: Deliver, covariances: Covariances | None
    ) -> None:
        super().__init__()
        self.model = gradients.model
        self._gradients, self._deliver, self._covariances = gradients, deliver, covariances

    def predict_step(self, batch: Batch, batch_idx: int) -> None:
        """Take one batch."""
        with torch.inference_mode(False), torch.enable_grad():
            own = {k: v.clone() if v.is_inference() else v for k, v in batch.items()}
            if self._covariances is None:
                self._gradients.stream(own, self._deliver)
                return
            self._covariances.mask = own["attention_mask"].bool()
            with self._gradients.observing(self._covariances.observe):
                self._gradients.stream(own, self._deliver)


def fit(step: Curvature, work: Work) -> Counts:
    """Fit the factors on the drawn rows; of EK-FAC, then measure the eigenvalues on them."""
    taker = Taker.load(step, work)
    pool = work.path(step.pool)
    table = RecordTable(pool / "records.arrow")
    rows = drawn_rows(table.keys, table.usable, step.samples, step.seed)
    batches = plan(step, work, pool, pool / "images")
    chosen = np.isin(np.arange(len(table)), rows)
    kept = [batch[chosen[batch]] for batch in batches.batches]
    drawn = replace(batches, batches=[batch for batch in kept if len(batch)])
    covariances = Covariances()
    _run(step, taker, drawn, lambda index, gradients: None, covariances)
    factors = covariances.factors(taker.gradients.layout)
    if step.kind == "ekfac":
        eigenvalues = Eigenvalues(factors, taker.gradients.layout.names)
        _run(step, taker, drawn, eigenvalues.add, None)
        eigenvalues.samples = len(rows)
        factors = eigenvalues.factors()
    save_file({name: t.contiguous() for name, t in factors.items()}, work.out / FILE)
    return {"rows": len(rows), "weights": len(taker.gradients.layout.names)}


def _run(
    step: Curvature, taker: Taker, plan: PassPlan, deliver: Deliver, covariances: Covariances | None
) -> None:
    (whole,) = plan.chunk_names(1)
    trainer = predict_trainer("eigenvalues" if covariances is None else "curvature", step.trainer)
    loader = NumberedBatches(plan.loader(whole))
    module = CurvaturePass(taker.gradients, deliver, covariances)
    trainer.predict(module, loader, return_predictions=False)


def drawn_rows(keys: np.ndarray, usable: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return `count` usable positions, drawn by content key: the file's order does not matter."""
    order = np.argsort(keys, kind="stable")
    order = order[usable[order]]
    drawn = np.random.default_rng(seed).permutation(len(order))[:count]
    return np.sort(order[drawn])

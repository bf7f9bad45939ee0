"""One quiet progress bar for each loop that runs a model, gone when the loop ends."""

from __future__ import annotations

import sys

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from icons_repro.core.settings import TrainerSettings
from icons_repro.core.stop import heed_signals
from icons_repro.models.trainer import quiet_trainer


class StageProgress(TQDMProgressBar):
    """Lightning's bar with the stage's name, the time left, and nothing left behind."""

    def __init__(self, name: str) -> None:
        super().__init__(refresh_rate=5 if sys.stdout.isatty() else 100)  # short logs
        self.name = name

    def init_train_tqdm(self) -> Tqdm:
        """Return the bar of a training loop."""
        return self._named(super().init_train_tqdm())

    def init_predict_tqdm(self) -> Tqdm:
        """Return the bar of a pass without training."""
        return self._named(super().init_predict_tqdm())

    def _named(self, bar: Tqdm) -> Tqdm:
        bar.leave = False
        bar.set_description(self.name)
        return bar

    def on_train_epoch_start(self, trainer: L.Trainer, *_: object) -> None:
        """Keep the stage's name where Lightning would write the epoch: there is only one."""
        self.train_progress_bar.reset(total=int(self.total_train_batches))

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals back from Lightning, which would end the loop as if it were done."""
        super().on_predict_start(trainer, pl_module)
        heed_signals()

    def on_predict_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the stage's name where Lightning would write the loader's number."""
        if not self.has_dataloader_changed(dataloader_idx):
            return
        self.predict_progress_bar.reset(total=int(self.total_predict_batches_current_dataloader))


def predict_trainer(name: str, settings: TrainerSettings) -> L.Trainer:
    """Return a Trainer for one pass over a loader, on one device, under the stage's name.

    bfloat16 autocast where the settings ask for it. Under float16 small gradients would vanish, as
    nothing scales the loss here, so that setting leaves passes in the model's own types.
    """
    return quiet_trainer(
        accelerator=settings.accelerator,
        devices=1,
        precision="bf16-mixed" if settings.precision == "bf16-mixed" else "32-true",
        callbacks=[StageProgress(name)],
        plugins=[LightningEnvironment()],  # one process, whatever a cluster says of its job
    )

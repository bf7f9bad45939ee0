"""Nothing that a third party says reaches the user where he cannot act on it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from notices import noticed, with_srun

from icons_repro.core.settings import DataSettings, LoraSettings, TrainSettings
from icons_repro.training.job import FitJob

TRAIN_AND_PASS = """
import sys
from pathlib import Path
import icons_repro.training.worker  # as a rank, which imports without the collector
from icons_repro.training.fit import fit
from icons_repro.training.job import FitJob
job = FitJob.from_json(Path(sys.argv[1]).read_text())
fit(job, Path(sys.argv[2]))
from icons_repro.data.datamodule import PassPlan, open_dataset
from icons_repro.core.settings import TrainerSettings
from icons_repro.gradients.extract import default_trainer
from icons_repro.training.progress import predict_trainer
import lightning as L, numpy as np
class Nothing(L.LightningModule):
    def predict_step(self, batch, index): return None
where = Path(job.records), Path(job.image_root), Path(job.model_dir), job.data
plan = PassPlan.of(*open_dataset(*where), np.arange(8), 4096)
for trainer in (predict_trainer("pass", TrainerSettings()), default_trainer()):
    trainer.predict(Nothing(), plan.loader(plan.chunk_names(1)[0]), return_predictions=False)
"""


def test_training_and_passes_say_nothing_of_others(
    tiny_base: Path, small_world: Path, tmp_path: Path
) -> None:
    """With an `srun` on the path and gradient checkpointing on, which both provoke notices.

    That of several devices is tests/training/test_distributed.py's.
    """
    np.save(tmp_path / "positions.npy", np.arange(16))
    job = FitJob(
        model_dir=str(tiny_base),
        records=str(small_world / "pool"),
        image_root=str(small_world / "images"),
        positions=str(tmp_path / "positions.npy"),
        seed=3,
        lora=LoraSettings(rank=4, alpha=8, dropout=0.0),
        train=TrainSettings(batch_size=8, micro_batch=4, gradient_checkpointing=True),
        data=DataSettings(max_length=128),
    )
    (tmp_path / "job.json").write_text(job.to_json())
    out = tmp_path / "0123.me.part"
    out.mkdir()
    command = [sys.executable, "-c", TRAIN_AND_PASS, str(tmp_path / "job.json"), str(out)]
    result = subprocess.run(
        command,
        env=os.environ | {"PATH": f"{with_srun(tmp_path)}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    said = result.stdout + result.stderr
    assert result.returncode == 0, said[-3000:]
    assert not noticed(said), said[-3000:]


def test_a_sweep_says_nothing_of_what_its_rules_import(tmp_path: Path) -> None:
    """faiss reports each of its builds for other processors that is not here."""
    command = [sys.executable, "-m", "icons_repro", "-m", "influence=rds", "selector.rule=knn,uot"]
    env = {**os.environ, "ICONS_OUTPUT": str(tmp_path)}
    done = subprocess.run([*command, "plan=true"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "steps would run" in done.stdout + done.stderr
    assert "faiss" not in done.stdout + done.stderr
    assert "Try next" not in done.stdout, "a plan leaves no run to look at"

"""bfloat16 training moves the weights to where float32 moves them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import DataSettings, LoraSettings, TrainerSettings, TrainSettings
from icons_repro.data.datamodule import open_dataset
from icons_repro.models.llava import load_model
from icons_repro.models.lora import attach_lora, projector
from icons_repro.training.fit import fit
from icons_repro.training.job import FitJob
from icons_repro.training.module import InstructionTuner

pytestmark = pytest.mark.usefixtures("one_thread")
BFLOAT16 = TrainerSettings(model_dtype="bfloat16", precision="bf16-mixed")


@pytest.fixture
def job(tiny_base: Path, small_world: Path, tmp_path: Path) -> FitJob:
    """60 steps at the projector's rate of LLaVA-1.5."""
    np.save(tmp_path / "positions.npy", np.arange(80))
    return FitJob(
        model_dir=str(tiny_base),
        records=str(small_world / "pool"),
        image_root=str(small_world / "images"),
        positions=str(tmp_path / "positions.npy"),
        seed=3,
        lora=LoraSettings(rank=4, alpha=8, dropout=0.0),
        train=TrainSettings(
            batch_size=4, micro_batch=4, epochs=3, learning_rate=2e-5, projector_learning_rate=2e-5
        ),
        data=DataSettings(max_length=128),
    )


def projector_update(job: FitJob, out: Path) -> torch.Tensor:
    """Return how far training moved the projector from where it stood at the start."""
    out.mkdir()
    assert fit(job, out)["steps"] == 60
    before = projector(load_model(Path(job.model_dir), getattr(torch, job.trainer.model_dtype)))
    after = load_file(out / "projector.safetensors")
    start = before.state_dict()
    return torch.cat([(after[n].float() - start[n].float()).flatten() for n in after])


def test_small_steps_in_bfloat16_land_where_float32_lands(job: FitJob, tmp_path: Path) -> None:
    exact = projector_update(job, tmp_path / "exact")
    rounded = projector_update(replace(job, trainer=BFLOAT16), tmp_path / "rounded")
    assert float(torch.cosine_similarity(exact, rounded, dim=0)) > 0.99
    assert float(rounded.norm() / exact.norm()) == pytest.approx(1, abs=0.05)
    assert bool((rounded != 0).all()), "weights whose updates were rounded away"


def test_a_precision_that_would_train_in_bfloat16_is_refused_by_name(
    job: FitJob, tmp_path: Path
) -> None:
    true = replace(job, trainer=replace(BFLOAT16, precision="bf16-true"))
    with pytest.raises(ConfigError, match=r"would be trained in .*bfloat16"):
        fit(true, tmp_path)


def test_training_every_weight_of_a_bfloat16_model_is_in_float32(
    job: FitJob, tmp_path: Path
) -> None:
    np.save(job.positions, np.arange(8))
    short = replace(job.train, epochs=1)
    (tmp_path / "all").mkdir()
    fit(replace(job, lora=None, trainer=BFLOAT16, train=short), tmp_path / "all")
    stored = load_file(tmp_path / "all" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float32}


def test_the_training_loss_is_the_models_own(job: FitJob) -> None:
    dataset, collate = open_dataset(
        Path(job.records), Path(job.image_root), Path(job.model_dir), job.data
    )
    model = attach_lora(load_model(Path(job.model_dir)), job.lora)
    batch = collate([dataset[i] for i in range(40, 48)])
    assert "pixel_values" in batch
    loss = InstructionTuner(model, job.train, 1).training_step(batch, 0)
    with torch.no_grad():
        own = model(**{k: v for k, v in batch.items() if k != "positions"}).loss
    assert loss.item() == pytest.approx(own.item(), rel=1e-5)

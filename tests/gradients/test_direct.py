"""Direct mode is exact influence, and the yardstick of every projection."""

from __future__ import annotations

from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from gradient_models import MIXED, batch_of, small_llava, with_adapter
from peft import PeftModel

from icons_repro.core.errors import DataError
from icons_repro.gradients.direct import TaskDirections, score_direct, task_directions
from icons_repro.gradients.directions import SignDirection
from icons_repro.gradients.extract import Running, StoreOptions, extract
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import Unprojected, build_projection
from icons_repro.gradients.room import require_room
from icons_repro.influence.score import reduce_subtasks, score
from icons_repro.models.lora import gradient_parameters


@pytest.fixture(scope="module")
def gradients() -> PerSampleGradients:
    model: PeftModel = with_adapter(small_llava(dtype=torch.float32))
    return PerSampleGradients(model, gradient_parameters(model))


def quiet() -> Running:
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False,
    )  # fmt: skip
    return Running(trainer)


def batches(n: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    made = [batch_of(MIXED, dtype=torch.float32, seed=seed + i) for i in range(n)]
    for number, batch in enumerate(made):
        batch["positions"] += number * len(MIXED)
    return made


VALIDATION = {"a": batches(2, 100), "b": batches(1, 200)}
SUBTASKS = {"b": ["x", "y", "x", "y", "x"]}


def stored(gradients: PerSampleGradients, folder: Path, kind: str, dim: int = 1024) -> np.ndarray:
    projection = build_projection(gradients.layout, kind, dim)
    how: dict = {"store": StoreOptions(dtype="float32"), "running": quiet()}
    train = extract(gradients, projection, batches(6), folder / "t", **how)
    val = {t: extract(gradients, projection, d, folder / t, **how) for t, d in VALIDATION.items()}
    return score(train, val, subtasks=SUBTASKS, reduce=None).values


def test_direct_scores_are_the_unprojected_stores_scores(
    gradients: PerSampleGradients, tmp_path: Path
) -> None:
    directions = task_directions(gradients, VALIDATION, subtasks=SUBTASKS, running=quiet())
    direct = score_direct(gradients, directions, batches(6), tmp_path / "d", running=quiet())
    assert direct.tasks == ("a", "b/x", "b/y")
    exact = stored(gradients, tmp_path, "none")
    np.testing.assert_allclose(direct.values, exact, atol=2e-6)
    assert reduce_subtasks(direct, "max").tasks == ("a", "b")


def test_raw_tasks_keep_the_lengths_of_their_validation_rows(
    gradients: PerSampleGradients, tmp_path: Path
) -> None:
    directions = task_directions(
        gradients, VALIDATION, subtasks=SUBTASKS, raw={"b"}, running=quiet()
    )
    direct = score_direct(gradients, directions, batches(6), tmp_path / "d", running=quiet())
    projection = Unprojected(gradients.layout)
    how: dict = {"store": StoreOptions(dtype="float32"), "running": quiet()}
    train = extract(gradients, projection, batches(6), tmp_path / "t", **how)
    val = {t: extract(gradients, projection, d, tmp_path / t, **how) for t, d in VALIDATION.items()}
    stored = score(train, val, subtasks=SUBTASKS, reduce=None, raw_validation={"b"})
    np.testing.assert_allclose(direct.values, stored.values, rtol=1e-4, atol=1e-6)
    plain = score(train, val, subtasks=SUBTASKS, reduce=None).values
    assert np.array_equal(stored.values[:, 0], plain[:, 0])
    assert not np.allclose(stored.values[:, 1:], plain[:, 1:], rtol=0.1)


@pytest.mark.parametrize("kind", ["count_sketch", "rademacher", "srht"])
def test_projected_scores_are_within_the_projections_noise_of_direct_ones(
    gradients: PerSampleGradients, tmp_path: Path, kind: str
) -> None:
    exact = stored(gradients, tmp_path / "exact", "none")
    projected = stored(gradients, tmp_path / "projected", kind)
    error = projected - exact
    assert float(np.sqrt((error**2).mean())) < 1024**-0.5
    assert float(np.abs(error).max()) < 4 * 1024**-0.5


def test_small_memory_means_fewer_rows_at_once_not_other_directions(
    gradients: PerSampleGradients,
) -> None:
    whole = task_directions(gradients, VALIDATION, running=quiet())
    row = gradients.layout.dim * 4
    tight = task_directions(gradients, VALIDATION, memory_gb=6 * row / 1e9, running=quiet())
    torch.testing.assert_close(tight.vectors, whole.vectors, rtol=1e-4, atol=1e-6)


def test_directions_that_do_not_fit_are_refused_with_the_numbers(
    gradients: PerSampleGradients,
) -> None:
    with pytest.raises(DataError, match=r"2 directions of \d,\d+ parameters: .* 0\.00 GB may be"):
        task_directions(gradients, VALIDATION, memory_gb=1e-6)
    assert require_room(1, gradients.layout, None) > 1000


def test_bad_validation_rows_do_not_count_and_a_task_of_them_is_an_error(
    gradients: PerSampleGradients,
) -> None:
    data = batches(1, 100)
    data[0]["labels"][1:] = -100
    one = task_directions(gradients, {"a": data}, running=quiet())
    assert float(one.vectors.norm()) == pytest.approx(1, abs=1e-5)
    data[0]["labels"][:] = -100
    with pytest.raises(DataError, match="a has no usable validation row"):
        task_directions(gradients, {"a": data}, running=quiet())


def test_bad_training_rows_are_nan(gradients: PerSampleGradients, tmp_path: Path) -> None:
    directions = task_directions(gradients, VALIDATION, direction=SignDirection(), running=quiet())
    data = batches(1)
    data[0]["labels"][2] = -100
    scores = score_direct(gradients, directions, data, tmp_path / "d", running=quiet()).values
    assert np.isnan(scores).all(axis=1).tolist() == [False, False, True, False, False]


def test_directions_survive_a_save_and_fit_only_their_parameters(
    gradients: PerSampleGradients, tmp_path: Path
) -> None:
    directions = task_directions(gradients, VALIDATION, running=quiet())
    directions.save(tmp_path / "directions.safetensors")
    back = TaskDirections.load(tmp_path / "directions.safetensors")
    assert back.names == directions.names
    assert torch.equal(back.vectors, directions.vectors)
    short = TaskDirections(back.names, back.vectors[:, :-1])
    with pytest.raises(DataError, match="gradients of"):
        score_direct(gradients, short, batches(1), tmp_path / "d")


def test_another_set_of_directions_does_not_continue_a_begun_pass(
    gradients: PerSampleGradients, tmp_path: Path
) -> None:
    one = task_directions(gradients, VALIDATION, running=quiet())
    two = TaskDirections(one.names, one.vectors.flip(0))
    score_direct(gradients, one, batches(1), tmp_path / "d", running=quiet())
    with pytest.raises(DataError, match="begun with identities"):
        score_direct(gradients, two, batches(1), tmp_path / "d", running=quiet())


def test_unprojected_is_what_the_directions_are_made_of(gradients: PerSampleGradients) -> None:
    assert Unprojected(gradients.layout).dim == gradients.layout.dim

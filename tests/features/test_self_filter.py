"""The score net learns which rows the model finds hard."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from icons_repro.core.settings import (
    DataSettings,
    LoraSettings,
    SelfFilterSettings,
    TrainerSettings,
    TrainSettings,
)
from icons_repro.core.stop import Stopped
from icons_repro.data.datamodule import open_dataset
from icons_repro.features.self_filter import (
    ScoreNet,
    ScoreTuner,
    all_but_the_tower,
    train_score_net,
)
from icons_repro.models.batches import IGNORE
from icons_repro.models.llava import load_model
from icons_repro.models.lora import attach_lora
from icons_repro.training.job import FitJob

SETTINGS = SelfFilterSettings(
    score_learning_rate=0.05,
    train=TrainSettings(epochs=1, batch_size=8, micro_batch=8, learning_rate=1e-3),
)


def embeddings(n: int, text_only: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image, text = rng.standard_normal((2, n, 4)).astype(np.float32)
    image[text_only] = np.nan
    return image, text


def test_difficulty_is_minus_a_linear_map_with_a_zero_image_half_for_text_rows() -> None:
    image, text = embeddings(6, np.array([2]))
    net = ScoreNet(image, text)
    assert net.linear.bias is None  # a softmax over rows could not see one
    with torch.no_grad():
        net.linear.weight.copy_(torch.arange(8.0))
    found = net.difficulty(np.array([0, 2, 5]), 6)
    w = np.arange(8.0)
    assert found[0] == pytest.approx(-(np.concatenate([image[0], text[0]]) @ w), rel=1e-5)
    assert found[2] == pytest.approx(-(text[2] @ w[4:]), rel=1e-5)
    assert np.isnan(found[[1, 3, 4]]).all()


def test_the_net_starts_from_a_normal_of_vicunas_initializer_range() -> None:
    wide = np.zeros((1, 2000), dtype=np.float32)
    a, b, other = (ScoreNet(wide, wide, seed=s).linear.weight.detach() for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, other)
    assert a.std().item() == pytest.approx(0.02, rel=0.05)
    assert abs(a.mean().item()) < 0.001


def test_the_net_is_float32_whatever_the_model_is_moved_to() -> None:
    net = ScoreNet(*embeddings(6, np.array([2])))
    before, scores = net.linear.weight.detach().clone(), net(torch.arange(6))
    torch.nn.ModuleList([net]).to(torch.bfloat16)
    assert torch.equal(net.linear.weight, before)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(torch.arange(6)), scores)


def test_the_net_learns_at_the_models_rate_unless_told_otherwise() -> None:
    assert SETTINGS.score_rate == 0.05
    assert replace(SETTINGS, score_learning_rate=None).score_rate == SETTINGS.train.learning_rate


@pytest.fixture
def weighed(small_world: Path, tiny_base: Path):
    """A batch of rows of different length, one without answers, a model and a net."""
    dataset, collate = open_dataset(
        small_world / "pool", small_world / "images", tiny_base, DataSettings(max_length=128)
    )
    batch = collate([dataset[i] for i in (0, 100, 200, 299)])
    batch["labels"][1] = IGNORE
    net = ScoreNet(*embeddings(len(dataset), np.flatnonzero(dataset.table.image_counts == 0)))
    model = attach_lora(load_model(tiny_base), LoraSettings(rank=2, alpha=4, dropout=0.0))
    return batch, net, model


def test_the_loss_weighs_each_rows_tokens_by_its_share_of_the_softmax(weighed) -> None:
    batch, net, model = weighed
    torch.nn.init.normal_(net.linear.weight)
    loss = ScoreTuner(model, net, SETTINGS, steps=1).training_step(batch, 0)
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "positions")}
    with torch.no_grad():  # the source's loss, token by token
        logits = model(**inputs, use_cache=False).logits[:, :-1].double()
        weights = net(batch["positions"]).double().softmax(0) * len(batch["labels"])
        targets = batch["labels"][:, 1:]
        valid = targets != IGNORE
        chosen = logits.softmax(-1).gather(2, targets.clamp_min(0)[:, :, None])[:, :, 0]
        expected = (-chosen.log() * valid * weights[:, None]).sum() / valid.sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert net.linear.weight.grad is not None
    assert net.linear.weight.grad.abs().sum() > 0


def test_equal_weights_give_the_models_own_loss_and_no_answers_give_none(weighed) -> None:
    batch, net, model = weighed
    torch.nn.init.zeros_(net.linear.weight)
    tuner = ScoreTuner(model, net, SETTINGS, steps=1)
    inputs = {k: v for k, v in batch.items() if k != "positions"}
    own = model(**inputs, use_cache=False).loss
    assert tuner.training_step(batch, 0).item() == pytest.approx(own.item(), rel=1e-5)
    batch["labels"][:] = IGNORE
    assert tuner.training_step(batch, 0).item() == 0


def test_without_lora_every_weight_but_the_towers_is_trained(tiny_base: Path) -> None:
    model = all_but_the_tower(load_model(tiny_base))
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if ".vision_tower." in name}
    assert frozen


def test_stage_1_recomputes_layers_in_bfloat16_if_the_recipe_says_so(
    small_world: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, text = embeddings(300, np.array([], dtype=int))
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "text.npy", text)
    np.save(tmp_path / "positions.npy", np.arange(8))
    job = FitJob(
        model_dir=str(tiny_base),
        records=str(small_world / "pool"),
        image_root=str(small_world / "images"),
        positions=str(tmp_path / "positions.npy"),
        seed=0,
        lora=LoraSettings(rank=2, alpha=4, dropout=0.0),
        train=replace(SETTINGS.train, gradient_checkpointing=True),
        data=DataSettings(max_length=128),
        trainer=TrainerSettings(model_dtype="bfloat16", precision="bf16-mixed"),
    )
    calls = {"layer": 0, "model": 0}

    def counted(base, lora):
        blocks = base.model.language_model.layers
        blocks[0].mlp.register_forward_pre_hook(lambda *_: calls.update(layer=calls["layer"] + 1))
        base.lm_head.register_forward_pre_hook(lambda *_: calls.update(model=calls["model"] + 1))
        return attach_lora(base, lora)

    monkeypatch.setattr("icons_repro.features.self_filter.attach_lora", counted)
    train_score_net(job, SETTINGS, tmp_path, tmp_path)
    assert calls == {"layer": 2, "model": 1}
    assert np.isfinite(np.load(tmp_path / "difficulty.npy")[:8]).all()


@pytest.mark.parametrize("lora", [True, False])
def test_training_writes_a_difficulty_for_each_row_it_saw(
    lora: bool, small_world: Path, tiny_base: Path, tmp_path: Path
) -> None:
    image, text = embeddings(300, np.array([], dtype=int))
    (tmp_path / "clip").mkdir()
    np.save(tmp_path / "clip" / "image.npy", image)
    np.save(tmp_path / "clip" / "text.npy", text)
    np.save(tmp_path / "positions.npy", np.arange(0, 300, 10))
    job = FitJob(
        model_dir=str(tiny_base),
        records=str(small_world / "pool"),
        image_root=str(small_world / "images"),
        positions=str(tmp_path / "positions.npy"),
        seed=0,
        lora=LoraSettings(rank=2, alpha=4, dropout=0.0) if lora else None,
        train=SETTINGS.train,
        data=DataSettings(max_length=128),
    )
    counts = train_score_net(job, replace(SETTINGS, lora=lora), tmp_path / "clip", tmp_path)
    assert counts == {"rows": 300, "trained_on": 30, "steps": 4}
    difficulty = np.load(tmp_path / "difficulty.npy")
    assert np.flatnonzero(np.isfinite(difficulty)).tolist() == list(range(0, 300, 10))
    assert len(set(difficulty[::10].tolist())) == 30
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


def test_a_stopped_run_goes_on_to_the_difficulties_of_an_uninterrupted_one(
    small_world: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, text = embeddings(300, np.array([], dtype=int))
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "text.npy", text)
    np.save(tmp_path / "positions.npy", np.arange(32))
    job = FitJob(
        model_dir=str(tiny_base),
        records=str(small_world / "pool"),
        image_root=str(small_world / "images"),
        positions=str(tmp_path / "positions.npy"),
        seed=0,
        lora=LoraSettings(rank=2, alpha=4, dropout=0.1),
        train=SETTINGS.train,
        data=DataSettings(max_length=128),
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    train_score_net(job, SETTINGS, tmp_path, whole)

    def at_step_2(line: dict[str, float]) -> None:
        if line["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train_score_net(job, SETTINGS, tmp_path, cut, at_step_2)
    monkeypatch.setattr("icons_repro.core.stop._Asked.signal", None)
    assert (cut / "resume.ckpt").is_file()
    frozen = (tiny_base / "model.safetensors").stat().st_size
    assert (cut / "resume.ckpt").stat().st_size < frozen, "it holds only what is trained"
    counts = train_score_net(job, SETTINGS, tmp_path, cut)
    assert counts == {"rows": 300, "trained_on": 32, "steps": 4}
    one, two = (np.load(folder / "difficulty.npy") for folder in (whole, cut))
    np.testing.assert_array_equal(one, two)
    lines = (cut / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    assert not (cut / "resume.ckpt").exists()

"""The shipped CLIP is a plain CLIP that knows its world, and is loaded like any other."""

import shutil
from pathlib import Path

import pytest
import torch

from icons_repro.core.errors import DataError, UserError
from icons_repro.data.tiny.clip import (
    clip_config,
    clip_tokenizer,
    contrastive_loss,
    draw_pairs,
    retrieval_accuracy,
)
from icons_repro.models.encoders import TINY_CLIP, load_clip


@torch.no_grad()
def test_the_shipped_pair_finds_captions_of_pictures_it_never_saw() -> None:
    accuracy = retrieval_accuracy(load_clip(TINY_CLIP).model, draw_pairs(240, "validation", 3))
    overall = next(value for name, value in accuracy.items() if name.startswith("all"))
    assert overall > 0.5  # chance is 0.02


def test_the_shipped_pair_is_small_and_speaks_the_words_of_the_tiny_base() -> None:
    assert sum(path.stat().st_size for path in TINY_CLIP.iterdir()) < 1.5e6
    encoder = load_clip(TINY_CLIP)
    assert encoder.processor.tokenizer.get_vocab() == clip_tokenizer().get_vocab()
    assert encoder.model.config.text_config.vocab_size == clip_config().text_config.vocab_size


@torch.no_grad()
def test_embeddings_have_length_one() -> None:
    encoder = load_clip(TINY_CLIP)
    text = encoder.encode_tokens(**encoder.tokens(["dots 3 red", "x"]))
    torch.testing.assert_close(text.norm(dim=1), torch.ones(2))


def test_pictures_of_equal_text_are_equally_right() -> None:
    scores = torch.tensor([[9.0, 9.0, -9.0], [9.0, 9.0, -9.0], [-9.0, -9.0, 9.0]])
    loss = contrastive_loss(scores, ["a", "a", "b"])
    assert float(loss) == pytest.approx(2 * float(torch.log(torch.tensor(2.0))) / 3, abs=1e-4)


def test_another_architecture_is_refused(tiny_base: Path) -> None:
    with pytest.raises(DataError, match="is a llava"):
        load_clip(tiny_base)


def test_a_hub_name_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="no such folder"):
        load_clip("openai/clip-vit-large-patch14-336")


def test_an_incomplete_folder_is_named(tmp_path: Path) -> None:
    shutil.copytree(TINY_CLIP, tmp_path / "clip")
    (tmp_path / "clip" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot load"):
        load_clip(tmp_path / "clip")

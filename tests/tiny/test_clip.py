"""The shipped pair of encoders knows its world, speaks the base's words, and is small."""

import pytest
import torch

from icons_repro.models.encoders import load_clip
from icons_repro.tiny.clip import (
    clip_config,
    clip_tokenizer,
    contrastive_loss,
    draw_pairs,
    retrieval_accuracy,
)
from icons_repro.tiny.weights import TINY_CLIP


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


def test_pictures_of_equal_text_are_equally_right() -> None:
    scores = torch.tensor([[9.0, 9.0, -9.0], [9.0, 9.0, -9.0], [-9.0, -9.0, 9.0]])
    loss = contrastive_loss(scores, ["a", "a", "b"])
    assert float(loss) == pytest.approx(2 * float(torch.log(torch.tensor(2.0))) / 3, abs=1e-4)

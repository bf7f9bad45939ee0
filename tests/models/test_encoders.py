"""Any CLIP of transformers is loaded by the same lines; what is none is refused in words."""

import shutil
from pathlib import Path

import pytest
import torch

from icons_repro.core.errors import DataError, UserError
from icons_repro.models.encoders import load_clip
from icons_repro.tiny.weights import TINY_CLIP


@torch.no_grad()
def test_embeddings_have_length_one() -> None:
    encoder = load_clip(TINY_CLIP)
    text = encoder.encode_tokens(**encoder.tokens(["dots 3 red", "x"]))
    torch.testing.assert_close(text.norm(dim=1), torch.ones(2))


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

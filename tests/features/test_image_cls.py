"""A vision encoder's class token, of any encoder that has one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model, SiglipConfig, SiglipModel

from icons_repro.core.errors import DataError, UserError
from icons_repro.data.records import RecordTable
from icons_repro.features.image_cls import ImageCls, Pictures, image_plan
from icons_repro.models.encoders import load_clip, load_image_encoder
from icons_repro.tiny.weights import TINY_CLIP

TOWER = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
}  # fmt: skip


def processor() -> BitImageProcessor:
    return BitImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**TOWER)).save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


@torch.no_grad()
def test_rows_are_dinos_class_tokens_and_text_rows_are_left_out(
    dino: Path, small_world: Path
) -> None:
    table = RecordTable(small_world / "pool" / "records.arrow")
    encoder = load_image_encoder(dino)
    rows = Pictures(table, small_world / "images")
    plan = image_plan(rows, encoder, np.arange(40))
    assert (
        np.concatenate(plan.batches).tolist()
        == np.flatnonzero(table.image_counts[:40] > 0).tolist()
    )
    (batch,) = plan.loader("00000-of-00001")
    found = ImageCls(encoder).rows(batch)["rows"]
    model = Dinov2Model.from_pretrained(dino)
    for n, position in enumerate(batch["positions"][:3].tolist()):
        _, images = rows[position]
        pixels = processor()(images, return_tensors="pt")["pixel_values"]
        expected = model(pixel_values=pixels).last_hidden_state[:, 0].mean(dim=0)
        torch.testing.assert_close(found[n], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_images_of_one_row_are_averaged(dino: Path) -> None:
    encoder = load_image_encoder(dino)
    pixels = torch.randn(3, 3, 28, 28)
    owners = {"positions": torch.tensor([5, 9]), "image_rows": torch.tensor([0, 1, 1])}
    found = ImageCls(encoder).rows({**owners, "pixel_values": pixels})["rows"]
    each = encoder.encode(pixels)
    torch.testing.assert_close(found, torch.stack([each[0], each[1:].mean(dim=0)]))


def test_a_clip_lends_its_tower() -> None:
    encoder = load_image_encoder(TINY_CLIP)
    width = load_clip(TINY_CLIP).model.config.vision_config.hidden_size
    assert encoder.dim == width


def test_an_encoder_without_a_class_token_is_refused(tmp_path: Path) -> None:
    text = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    config = SiglipConfig(
        text_config={**text, "num_attention_heads": 2, "vocab_size": 20}, vision_config=TOWER
    )
    SiglipModel(config).save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"is a siglip, not one of dinov2"):
        load_image_encoder(tmp_path)


def test_a_hub_name_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"features\.image_encoder=.* no such folder"):
        load_image_encoder("facebook/dinov2-base")

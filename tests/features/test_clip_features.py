"""CLIP features of rows: text-only rows, several images, batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from icons_repro.core.types import Record
from icons_repro.data.records import RecordTable
from icons_repro.features.embeddings import ClipFeatures, PictureTexts, clip_plan, row_text
from icons_repro.models.encoders import ClipEncoder, load_clip
from icons_repro.tiny.weights import TINY_CLIP


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    return load_clip(TINY_CLIP)


@pytest.fixture(scope="module")
def rows(small_world: Path) -> PictureTexts:
    return PictureTexts(RecordTable(small_world / "pool" / "records.arrow"), small_world / "images")


@torch.no_grad()
def test_each_row_of_a_batch_has_the_vectors_of_its_own_image_and_text(encoder, rows) -> None:
    has_image = rows.table.image_counts > 0
    chosen = np.concatenate([np.flatnonzero(has_image)[:5], np.flatnonzero(~has_image)[:3]])
    (batch,) = clip_plan(rows, encoder, chosen).loader("00000-of-00001")
    found = ClipFeatures(encoder).rows(batch)
    for b, position in enumerate(batch["positions"].tolist()):
        _, images, text = rows[position]
        expected = encoder.encode_tokens(**encoder.tokens([text]))[0]
        torch.testing.assert_close(found["text"][b], expected, rtol=1e-4, atol=1e-5)
        if images:
            picture = encoder.encode_pixels(encoder.pixels(images))[0]
            torch.testing.assert_close(found["image"][b], picture, rtol=1e-4, atol=1e-5)
        else:
            assert found["image"][b].isnan().all()


@torch.no_grad()
def test_several_images_of_a_row_are_averaged(encoder, rows) -> None:
    with_image = np.flatnonzero(rows.table.image_counts > 0)
    (one,), (two,) = rows[with_image[0]][1], rows[with_image[-1]][1]
    tokens = encoder.tokens(["a", "b"])
    pixels = encoder.pixels([two, one, two])
    batch = {**tokens, "pixel_values": pixels, "image_rows": torch.tensor([0, 1, 1])}
    found = ClipFeatures(encoder).rows(batch)["image"]
    a, b = encoder.encode_pixels(encoder.pixels([one, two]))
    torch.testing.assert_close(found[1], (a + b) / (a + b).norm())
    torch.testing.assert_close(found[0], b)


def test_the_text_is_that_of_all_turns_without_image_tags() -> None:
    turns = [("human", "<image>\nhow many?"), ("gpt", "two"), ("human", "red?"), ("gpt", "yes")]
    raw = {"conversations": [{"from": who, "value": value} for who, value in turns]}
    assert row_text(Record(0, "", raw, (), "")) == "how many? two red? yes"


@torch.no_grad()
def test_a_text_longer_than_the_encoder_is_cut(encoder) -> None:
    long, longer = ("red " * 100).strip(), ("red " * 200).strip()
    tokens = encoder.tokens([long])
    assert tokens["input_ids"].shape[1] == 77
    same = encoder.encode_tokens(**encoder.tokens([longer]))
    torch.testing.assert_close(encoder.encode_tokens(**tokens), same)


@torch.no_grad()
def test_pictures_of_any_shape_are_taken(encoder) -> None:
    pictures = [Image.new("RGB", size, "red") for size in ((64, 20), (20, 64), (32, 32))]
    assert encoder.encode_pixels(encoder.pixels(pictures)).shape == (3, encoder.dim)

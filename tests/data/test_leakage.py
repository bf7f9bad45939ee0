from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

from icons_repro.data.leakage import fingerprint, leakage, overlap


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    """Twelve cut-outs of real photographs that do not overlap."""
    return [
        Image.fromarray(photo[y : y + 200, x : x + 200])
        for photo in load_sample_images().images
        for y in (0, 210)
        for x in (0, 210, 420)
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: encoded(image, "JPEG", quality=30),
        lambda image: encoded(image, "WEBP", quality=60),
        lambda image: encoded(image.resize((90, 100))),
        lambda image: encoded(image.resize((500, 500)), "JPEG"),
        lambda image: encoded(image.point(lambda v: min(255, v + 12))),
        lambda image: encoded(image.convert("RGBA")),
    ],
    ids=["jpeg", "webp", "smaller", "larger", "brighter", "alpha"],
)
def test_altered_copies_are_near_and_no_other_picture_is(
    photos: list[Image.Image], change: Callable[[Image.Image], bytes]
) -> None:
    copies = fingerprint([(f"copy {i}", change(p)) for i, p in enumerate(photos)])
    others = fingerprint([(f"photo {i}", encoded(p)) for i, p in enumerate(photos)])
    found = overlap(copies, others, examples=20)
    assert (found.same, found.near, found.others) == (0, len(photos), len(photos))
    for example in found.examples:
        assert example["picture"].split()[1] == example["other"].split()[1]


def test_equal_files_are_same_and_not_near_besides(photos: list[Image.Image]) -> None:
    some = [(str(i), encoded(photo)) for i, photo in enumerate(photos)]
    found = overlap(fingerprint(some[:5]), fingerprint(some))
    assert (found.same, found.near, found.others) == (5, 0, 5)
    assert found.examples[0] == {"picture": "0", "other": "0", "bits": None}


def letters(text: str, colour: str = "black") -> bytes:
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).text((6, 24), text, fill=colour, font_size=22)
    return encoded(image)


def test_other_words_in_the_same_place_are_not_near() -> None:
    drawn = fingerprint([("a", letters("XEZ")), ("b", letters("KNT"))])
    other = fingerprint([("c", letters("HCE")), ("d", letters("XEZ", "red"))])
    found = overlap(drawn, other)
    assert (found.same, found.near) == (0, 0)
    again = encoded(Image.open(io.BytesIO(letters("XEZ"))), "BMP")
    assert overlap(drawn, fingerprint([("e", again)])).near == 1


def test_blank_pictures_are_like_any_other_and_only_their_bytes_count() -> None:
    white = encoded(Image.new("RGB", (40, 40), "white"))
    grey = encoded(Image.new("RGB", (50, 50), "lightgrey"))
    found = leakage([("p", white)], {"task": [("w", white), ("g", grey)]}, {})
    assert found["targets"]["task"]["flat"] == 2
    assert found["targets_in_pool"]["task"]["same_file"] == 1
    assert found["targets_in_pool"]["task"]["near"] == 0


def test_every_target_is_compared_with_every_benchmark(
    photos: list[Image.Image], tmp_path: Path
) -> None:
    path = tmp_path / "COCO_1.jpg"
    photos[0].save(path, quality=90)
    found = leakage(
        pool=[("pool.png", encoded(photos[0])), ("own.png", encoded(photos[1]))],
        targets={"pope": [("COCO_1.jpg", path)], "gqa": [("x.png", encoded(photos[2]))]},
        tests={
            "vqav2": [("v.png", encoded(photos[0])), ("w.png", encoded(photos[3]))],
            "textvqa": [("t.png", encoded(photos[4]))],
        },
    )
    assert found["targets_in_pool"]["pope"]["near"] == 1
    assert found["targets_in_pool"]["gqa"]["near"] == 0
    assert found["tests_in_pool"]["vqav2"] == {
        "same_file": 1, "near": 0, "matched": 1,
        "examples": [{"picture": "v.png", "other": "pool.png", "bits": None}],
    }  # fmt: skip
    assert found["targets_in_tests"]["gqa"] == {}
    assert list(found["targets_in_tests"]["pope"]) == ["vqav2"]
    example = found["targets_in_tests"]["pope"]["vqav2"]["examples"][0]
    assert (example["picture"], example["other"]) == ("COCO_1.jpg", "v.png")
    assert json.loads(json.dumps(found)) == found


def test_unreadable_pictures_are_named_and_compared_by_their_bytes(
    photos: list[Image.Image], tmp_path: Path
) -> None:
    cut, gone = encoded(photos[0], "JPEG")[:2000], tmp_path / "gone.jpg"
    pool = [("p.jpg", cut), ("p.jpg", cut), ("gone.jpg", gone)]
    found = leakage(pool, {"task": [("t.jpg", cut), ("also gone.jpg", gone)]}, {"b": []})
    assert found["pool"] == {
        "pictures": 2, "flat": 0, "unreadable": 2, "unreadable_examples": ["p.jpg", "gone.jpg"],
    }  # fmt: skip
    assert found["targets_in_pool"]["task"]["same_file"] == 1
    assert found["tests"]["b"]["pictures"] == 0
    assert found["tests_in_pool"]["b"]["same_file"] == 0


def test_blocks_change_nothing(photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    import icons_repro.data.leakage as module

    mine = [(str(i), encoded(photo, "JPEG")) for i, photo in enumerate(photos)]
    theirs = [(str(i), encoded(photo)) for i, photo in enumerate(photos[::-1])]
    whole = leakage(theirs, {"t": mine}, {})
    monkeypatch.setattr(module, "BLOCK", 5)
    assert leakage(theirs, {"t": mine}, {}) == whole
    assert np.array_equal(fingerprint(mine).usable, np.arange(len(photos)))

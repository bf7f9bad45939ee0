from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps
from sklearn.datasets import load_sample_images

from icons_repro.core.pictures import PictureError, open_picture
from icons_repro.leakage import prints as prints_module
from icons_repro.leakage.crossings import SAME, Crossing, crossings
from icons_repro.leakage.near import near_pairs
from icons_repro.leakage.prints import ARRAYS, Picture, Prints, fingerprint


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def named(name: str, data: bytes) -> Picture:
    return name, partial(lambda: open_picture(io.BytesIO(data), name))


def printed(*files: bytes) -> Prints:
    return fingerprint([named(str(i), data) for i, data in enumerate(files)])


def crossed(mine: Prints, other: Prints) -> Crossing:
    return crossings({"mine": mine}, {"other": other}, examples=50)["mine"]["other"]


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    """Twelve cut-outs of real photographs that do not overlap."""
    return [
        Image.fromarray(photo[y : y + 200, x : x + 200])
        for photo in load_sample_images().images
        for y in (0, 210)
        for x in (0, 210, 420)
    ]


@pytest.fixture(scope="module")
def originals(photos: list[Image.Image]) -> Prints:
    return printed(*(encoded(photo) for photo in photos))


def cut(image: Image.Image, share: float) -> Image.Image:
    """Take a share of the width or height away at each edge."""
    x, y = round(share * image.width), round(share * image.height)
    return image.crop((x, y, image.width - x, image.height - y))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: encoded(image, "JPEG", quality=30),
        lambda image: encoded(image, "WEBP", quality=60),
        lambda image: encoded(image.resize((90, 100))),
        lambda image: encoded(image.resize((500, 500)), "JPEG"),
        lambda image: encoded(image.point(lambda v: min(255, v + 12))),
    ],
    ids=["jpeg", "webp", "smaller", "larger", "brighter"],
)
def test_altered_copies_are_near_and_no_other_picture_is(
    photos: list[Image.Image], originals: Prints, change: Callable[[Image.Image], bytes]
) -> None:
    found = crossed(printed(*map(change, photos)), originals)
    assert (found.same, found.near, found.others) == (0, len(photos), len(photos))
    assert all(one.mine == one.other for one in found.examples)


def test_of_copies_cut_by_2_percent_most_are_near(
    photos: list[Image.Image], originals: Prints
) -> None:
    found = crossed(printed(*(encoded(cut(photo, 0.02)) for photo in photos)), originals)
    assert found.near >= 10
    assert all(one.mine == one.other for one in found.examples)


@pytest.mark.parametrize(
    "change",
    [ImageOps.mirror, ImageOps.flip, lambda image: cut(image, 0.15)],
    ids=["mirrored", "upside down", "cut by 15%"],
)
def test_mirror_images_and_large_cuts_are_not_found(
    photos: list[Image.Image], originals: Prints, change: Callable[[Image.Image], Image.Image]
) -> None:
    found = crossed(printed(*(encoded(change(photo)) for photo in photos)), originals)
    assert (found.same, found.near, found.others) == (0, 0, 0)


def test_equal_pixels_are_the_same_whatever_stores_them_and_not_near_besides(
    photos: list[Image.Image], originals: Prints
) -> None:
    stored = [
        encoded(photos[0]),
        encoded(photos[1], "BMP"),
        encoded(photos[2], "WEBP", lossless=True),
        encoded(photos[3].convert("RGBA")),
        encoded(photos[4], compress_level=1),
    ]
    found = crossed(printed(*stored), originals)
    assert (found.same, found.near, found.others) == (5, 0, 5)
    assert [(one.mine, one.other, one.bits) for one in found.examples] == [
        (i, i, SAME) for i in range(5)
    ]


def test_a_picture_shown_often_counts_once_with_how_often(photos: list[Image.Image]) -> None:
    asked = printed(*[encoded(photos[0])] * 3, encoded(photos[1]), encoded(photos[0], "BMP"))
    assert asked.counts()["pictures"] == 2
    assert asked.counts()["shown"] == 5
    assert asked.positions.tolist() == [0, 3]
    found = crossed(asked, printed(encoded(photos[0]), encoded(photos[5])))
    assert found.to_json() == {"same": 1, "near": 0, "shown": 4, "matched": 1}


def letters(text: str, colour: str = "black") -> bytes:
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).text((6, 24), text, fill=colour, font_size=22)
    return encoded(image)


def test_other_words_in_the_same_place_are_not_near() -> None:
    found = crossed(printed(letters("XEZ"), letters("KNT")), printed(letters("HCE")))
    assert (found.same, found.near) == (0, 0)
    assert crossed(printed(letters("XEZ")), printed(letters("XEZ", "red"))).near == 0


def test_blank_pictures_are_like_any_other_and_only_their_pixels_count() -> None:
    white = encoded(Image.new("RGB", (40, 40), "white"))
    grey = encoded(Image.new("RGB", (50, 50), "lightgrey"))
    asked = printed(white, grey)
    assert asked.counts()["flat"] == 2
    found = crossed(asked, printed(white))
    assert (found.same, found.near) == (1, 0)


def test_every_list_is_compared_with_every_other(photos: list[Image.Image]) -> None:
    files = [encoded(photo) for photo in photos]
    targets = {"pope": printed(encoded(photos[0], "JPEG"), files[2]), "gqa": printed(files[2])}
    tests = {
        "vqav2": printed(files[3], files[0]),
        "empty": printed(),
        "textvqa": printed(files[4], encoded(photos[2].resize((100, 100)))),
    }
    found = crossings(targets, tests)
    counts = {(a, b): (one.same, one.near) for a, row in found.items() for b, one in row.items()}
    assert counts == {
        ("pope", "vqav2"): (0, 1),
        ("pope", "empty"): (0, 0),
        ("pope", "textvqa"): (0, 1),
        ("gqa", "vqav2"): (0, 0),
        ("gqa", "empty"): (0, 0),
        ("gqa", "textvqa"): (0, 1),
    }
    (example,) = found["pope"]["vqav2"].examples
    assert (example.mine, example.other) == (0, 1)
    (example,) = found["gqa"]["textvqa"].examples
    assert (example.mine, example.other) == (0, 1)
    assert crossings({}, tests) == {}
    assert crossings(targets, {}) == {"pope": {}, "gqa": {}}


def test_pictures_that_cannot_be_opened_are_named_and_not_compared(
    photos: list[Image.Image],
) -> None:
    def gone() -> Image.Image:
        raise PictureError("missing_image", "image 'gone.jpg' is not in /images")

    cut_off = encoded(photos[0], "JPEG")[:2000]
    pool = fingerprint([named("cut.jpg", cut_off), ("gone.jpg", gone), named("ok", letters("A"))])
    assert pool.counts()["pictures"] == 1
    assert pool.counts()["unreadable"] == 2
    assert "cut.jpg" in pool.unreadable[0]
    assert "gone.jpg" in pool.unreadable[1]
    assert pool.positions.tolist() == [2]
    assert crossed(pool, pool).same == 1


@pytest.mark.parametrize("name", ["a\nb.png", 'x"><script>.png', "\udcff.png", "a" * 3000])
def test_prints_come_back_from_disk_whatever_pictures_are_called(
    name: str, photos: list[Image.Image], tmp_path: Path
) -> None:
    before = fingerprint([named(name, encoded(photos[0])), named(name, b"no picture")])
    before.save(tmp_path)
    after = Prints.load(tmp_path)
    assert list(after.names) == [name]
    assert list(after.unreadable) == list(before.unreadable)
    for array in ARRAYS:
        assert np.array_equal(getattr(after, array), getattr(before, array))
    assert crossed(after, before).same == 1


def test_neither_blocks_nor_threads_change_anything(
    photos: list[Image.Image], originals: Prints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prints_module, "BLOCK", 5)
    used = set()

    def load(photo: Image.Image) -> Image.Image:
        used.add(threading.get_ident())
        return photo

    again = fingerprint([(str(i), partial(load, p)) for i, p in enumerate(photos)], threads=2)
    assert threading.get_ident() not in used
    for array in ARRAYS:
        assert np.array_equal(getattr(again, array), getattr(originals, array))


def every_pair(first: np.ndarray, second: np.ndarray, distance: int) -> list[tuple[int, ...]]:
    bits = np.bitwise_count(first[:, None] ^ second)
    i, j = np.nonzero(bits <= distance)
    return sorted(zip(i.tolist(), j.tolist(), bits[i, j].tolist(), strict=True))


def listed(pairs: Sequence[tuple[np.ndarray, ...]]) -> list[tuple[int, ...]]:
    return sorted(row for block in pairs for row in zip(*(x.tolist() for x in block), strict=True))


@pytest.mark.parametrize("distance", [0, 1, 6, 10])
def test_near_pairs_are_those_of_comparing_every_pair(
    distance: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icons_repro.leakage.near.MOST", 300)
    second = rng.integers(0, 2**64, 900, dtype=np.uint64)
    second[::3] = second[0]  # a crowded bucket
    first = rng.choice(second, 200)
    for bit in range(12):  # row n differs from its own in n % 13 bits, spread over the bands
        first[np.arange(200) % 13 > bit] ^= np.uint64(1) << np.uint64(5 * bit)
    expected = every_pair(first, second, distance)
    assert {bits for *_, bits in expected} >= {0, distance}
    assert listed(list(near_pairs(first, second, distance))) == expected


def test_no_hashes_have_no_near_pairs() -> None:
    none, one = np.zeros(0, dtype=np.uint64), np.ones(1, dtype=np.uint64)
    assert listed(list(near_pairs(none, one, 6))) == []
    assert listed(list(near_pairs(one, none, 6))) == []

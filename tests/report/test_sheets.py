from __future__ import annotations

import base64
import io
from functools import partial

import numpy as np
from PIL import Image

from icons_repro.core.errors import DataError
from icons_repro.report.sheets import ACROSS, LEFT_OUT, NO_PICTURE, UNREADABLE, build_sheets


def flat(shade: int, width: int = 40, height: int = 30) -> Image.Image:
    return Image.new("RGB", (width, height), (shade, shade, shade))


def noise(seed: int, side: int = 150) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))


def unreadable() -> Image.Image:
    raise DataError("gone")


def cut_out(sheets: dict, number: int) -> Image.Image:
    """Return a picture as the page's script finds it."""
    cell, each = sheets["cell"], ACROSS**2
    sheet = Image.open(io.BytesIO(base64.b64decode(sheets["sheets"][number // each])))
    left, top = number % each % ACROSS * cell, number % each // ACROSS * cell
    size = sheets["widths"][number], sheets["heights"][number]
    return sheet.crop((left, top, left + size[0], top + size[1]))


def test_each_picture_is_found_at_its_number() -> None:
    shades = list(range(0, 250, 2))
    sheets, numbers = build_sheets([partial(flat, s) for s in shades], 10**7)
    assert numbers == list(range(len(shades)))
    assert len(sheets.sheets) == 2
    found = sheets.to_json()
    for number in (0, 9, 10, 99, 100, 124):
        mean = np.asarray(cut_out(found, number), dtype=float).mean()
        assert abs(mean - shades[number]) < 6


def test_small_pictures_are_not_enlarged_and_large_ones_keep_their_shape() -> None:
    sheets, _ = build_sheets([partial(flat, 9, 20, 10), partial(flat, 9, 1200, 300)], 10**7)
    assert (sheets.widths, sheets.heights) == ([20, 128], [10, 32])


def test_small_drawn_pictures_are_kept_pixel_for_pixel() -> None:
    rng = np.random.default_rng(0)
    drawn = [np.repeat(rng.integers(0, 256, (4, 4, 3)), 8, axis=0).repeat(8, axis=1) for _ in "ab"]
    pictures = [Image.fromarray(d.astype(np.uint8)) for d in drawn]
    sheets, _ = build_sheets([partial(Image.Image.copy, p) for p in pictures], 10**6)
    for number, picture in enumerate(pictures):
        assert np.array_equal(np.asarray(cut_out(sheets.to_json(), number)), np.asarray(picture))


def test_what_cannot_be_read_leaves_the_others_their_numbers() -> None:
    loads = [partial(flat, 10), None, unreadable, partial(flat, 200)]
    sheets, numbers = build_sheets(loads, 10**7)
    assert numbers == [0, NO_PICTURE, UNREADABLE, 1]
    assert len(sheets.widths) == 2


def test_pictures_shrink_to_the_budget_and_then_are_left_out() -> None:
    loads = [partial(noise, seed) for seed in range(250)]
    large, _ = build_sheets(loads, 10**8)
    small, numbers = build_sheets(loads, large.size // 4)
    assert small.cell < large.cell
    assert small.size <= 1.3 * large.size // 4
    _, numbers = build_sheets(loads, 1000)
    assert numbers[:100] == list(range(100))
    assert numbers[100:] == [LEFT_OUT] * 150


def test_no_pictures_make_no_sheet() -> None:
    sheets, numbers = build_sheets([None, unreadable], 1000)
    assert sheets.to_json()["sheets"] == []
    assert numbers == [NO_PICTURE, UNREADABLE]

from pathlib import Path

import pytest
from PIL import Image, ImageFile

from icons_repro.core.errors import DataError
from icons_repro.data.images import load_image, pad_to_square
from icons_repro.data.validation import check_image


def test_a_cut_image_is_refused_whatever_other_packages_told_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    Image.effect_noise((32, 32), 9).save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"x\.png cannot be read"):
        load_image(tmp_path / "x.png")
    problem = check_image(tmp_path, "x.png", "decode")
    assert problem is not None
    assert problem.reason == "unreadable_image"
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_padding_centres_the_image_on_a_square_of_the_colour() -> None:
    padded = pad_to_square(Image.new("RGB", (4, 2), "white"), (1, 2, 3))
    assert padded.size == (4, 4)
    assert padded.getpixel((0, 0)) == padded.getpixel((3, 3)) == (1, 2, 3)
    assert padded.getpixel((0, 1)) == padded.getpixel((3, 2)) == (255, 255, 255)

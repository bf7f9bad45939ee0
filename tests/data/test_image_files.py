from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFile
from pool_files import build, row

from icons_repro.core.errors import DataError
from icons_repro.core.settings import RecordPolicy
from icons_repro.data.images import ImageFolder, pad_to_square
from icons_repro.data.validation import check_image


def test_a_cut_image_is_refused_whatever_other_packages_told_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    Image.effect_noise((32, 32), 9).save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"x\.png' cannot be read"):
        ImageFolder(tmp_path).load("x.png")
    problem = check_image(ImageFolder(tmp_path, RecordPolicy(check_images="decode")), "x.png")
    assert problem is not None
    assert problem.reason == "unreadable_image"
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_padding_centres_the_image_on_a_square_of_the_colour() -> None:
    padded = pad_to_square(Image.new("RGB", (4, 2), "white"), (1, 2, 3))
    assert padded.size == (4, 4)
    assert padded.getpixel((0, 0)) == padded.getpixel((3, 3)) == (1, 2, 3)
    assert padded.getpixel((0, 1)) == padded.getpixel((3, 2)) == (255, 255, 255)


LINKS = {
    "a linked file": "a/link.png",
    "a file in a linked folder": "away/far.png",
    "a link to a link": "a/chain.png",
}


@pytest.mark.parametrize("check", ["exists", "decode"])
@pytest.mark.parametrize("what", LINKS)
def test_a_link_that_leaves_the_image_folder_needs_the_key(
    what: str, check: Any, images: Path, tmp_path: Path
) -> None:
    (images / "a" / "link.png").symlink_to(tmp_path / "outside.png")
    (images / "a" / "chain.png").symlink_to("link.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far.png").write_bytes((images / "a" / "x.png").read_bytes())
    (images / "away").symlink_to(tmp_path / "elsewhere")
    pool = [row(image=LINKS[what])]
    with pytest.raises(DataError, match=r"row 0: .*symbolic link.*data\.follow_symlinks=true"):
        build(pool, images, tmp_path, RecordPolicy(check_images=check))
    allowed = RecordPolicy(check_images=check, follow_symlinks=True)
    table, counts = build(pool, images, tmp_path, allowed)
    assert counts["usable"] == 1
    assert table.policy == allowed
    unchecked, _ = build(pool, images, tmp_path, RecordPolicy(check_images="none"))
    with pytest.raises(DataError, match="symbolic link"):
        ImageFolder(images, unchecked.policy).load(LINKS[what])


def test_links_inside_the_folder_and_a_folder_that_is_a_link_need_no_key(
    images: Path, tmp_path: Path
) -> None:
    (images / "a" / "same.png").symlink_to("x.png")
    (images / "b").symlink_to("a")
    (tmp_path / "alias").symlink_to(images)
    _, counts = build([row("a/same.png"), row("b/x.png")], tmp_path / "alias", tmp_path)
    assert counts["usable"] == 2


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_bound_on_padded_pixels_can_be_moved(images: Path, tmp_path: Path) -> None:
    pool = [row(image="a/x.png")]
    small = RecordPolicy(check_images="decode", max_image_pixels=15)
    with pytest.raises(DataError, match=r"4 x 4: .* 16 pixels.*bound of 15; data\.max_image_pix"):
        build(pool, images, tmp_path, small)
    table, _ = build(pool, images, tmp_path, RecordPolicy(max_image_pixels=15))
    with pytest.raises(DataError, match="16 pixels"):
        ImageFolder(images, table.policy).load("a/x.png")
    wide = RecordPolicy(check_images="decode", max_image_pixels=400_000_000)
    assert build([row(image="a/strip.png")], images, tmp_path, wide)[1]["usable"] == 1

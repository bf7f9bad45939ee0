"""An image folder with sound and unsound files in it, and one picture beside it."""

import os
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "a" / "x.png")
    (folder / "a" / "broken.png").write_bytes(b"not a picture")
    Image.new("1", (1, 20_000)).save(folder / "a" / "strip.png")
    os.mkfifo(folder / "a" / "pipe.png")
    (tmp_path / "outside.png").write_bytes((folder / "a" / "x.png").read_bytes())
    return folder

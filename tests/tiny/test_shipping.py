"""The bases that ship are what the command made, and another one is told from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from graphs import graph

from icons_repro.core.files import content_hash, read_json, write_json
from icons_repro.tiny.model import NARROW_WIDTH, WIDTH, weights_file
from icons_repro.tiny.shipping import MADE, MadeBase, difference, main, manifest_file

WIDTHS = (WIDTH, NARROW_WIDTH)


def made(output: Path, width: int = WIDTH) -> Path:
    """Lay out the shipped base as a run of `experiment=pretrain_tiny` leaves it."""
    folder = output / "cache" / "pretrain" / f"width{width}"
    folder.mkdir(parents=True)
    shutil.copyfile(weights_file(width), folder / MADE)
    shutil.copyfile(manifest_file(width), folder / "manifest.json")
    return folder


@pytest.mark.parametrize("width", WIDTHS)
def test_the_shipped_weights_are_those_of_their_manifest(width: int) -> None:
    assert read_json(manifest_file(width))["files"][MADE][1] == content_hash(weights_file(width))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_shipped_base_is_of_the_recipe_that_the_command_runs(width: int) -> None:
    step = graph("experiment=pretrain_tiny", f"pretrain.width={width}").pretrained
    assert read_json(manifest_file(width))["fingerprint"] == step.fingerprint


def test_the_same_bytes_pass_and_others_fail_with_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path)])
    assert ended.value.code == 0
    assert "bit for bit" in capsys.readouterr().out
    (folder / MADE).write_bytes(b"x" + (folder / MADE).read_bytes()[1:])
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path)])
    assert ended.value.code == 1
    assert "other bytes, by the same recipe" in capsys.readouterr().out


def test_another_recipe_is_called_that(tmp_path: Path) -> None:
    folder = made(tmp_path)
    manifest = read_json(folder / "manifest.json")
    manifest["config"]["settings"]["rows"] = 7
    write_json(folder / "manifest.json", manifest)
    (folder / MADE).write_bytes(b"other")
    assert difference(MadeBase(folder, manifest)) == "another recipe than the shipped one's"


def test_an_unfinished_attempt_is_no_base(tmp_path: Path) -> None:
    (made(tmp_path) / "manifest.json").unlink()
    with pytest.raises(SystemExit, match="no base below"):
        main([str(tmp_path)])

"""Libraries find a place for what they write where a user has no home, or one mounted read-only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mounted import may_mount, run_mounted

from icons_repro.core import home
from icons_repro.core.home import AT_HOME, BESIDE_HUB, WITHOUT_HUB, may_write, settle

SRC = Path(__file__).parents[2] / "src"
LOAD = """
import sys
from pathlib import Path
from icons_repro.core.home import settle
settle(Path(sys.argv[1]) / "home")
import datasets
import matplotlib.pyplot
print(datasets.load_dataset("parquet", data_files=sys.argv[2], split="train")["question"])
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of one's own, and none of the variables."""
    for name in (*AT_HOME, *WITHOUT_HUB, *BESIDE_HUB, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # what is set here ends with the test
    os.environ["HOME"] = str(tmp_path / "me")
    (tmp_path / "me").mkdir()
    return tmp_path / "me"


def refuse(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let nobody write into these; permissions do not bind root, who may run the tests."""
    monkeypatch.setattr(home, "may_write", lambda folder: not any(
        folder.is_relative_to(one) for one in folders))  # fmt: skip


def test_a_home_that_can_be_written_is_left_alone(tmp_path: Path) -> None:
    assert settle(tmp_path / "cache") == {}


def test_without_a_home_everything_goes_to_the_cache_but_what_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: Path
) -> None:
    refuse(monkeypatch, fresh)
    os.environ["WANDB_DATA_DIR"] = "/mine"
    made = settle(tmp_path / "cache")
    assert set(made) == (AT_HOME.keys() | WITHOUT_HUB.keys()) - {"WANDB_DATA_DIR"}
    assert os.environ["HF_HOME"] == str(tmp_path / "cache" / "huggingface")
    assert os.environ["WANDB_DATA_DIR"] == "/mine"
    monkeypatch.setattr(home, "may_write", may_write)
    assert settle(tmp_path / "cache") == {}  # a process that is started from here


def test_a_store_of_models_that_is_read_only_is_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    os.environ["HF_HOME"] = str(store)
    refuse(monkeypatch, store)
    assert set(settle(tmp_path / "cache")) == BESIDE_HUB.keys()
    assert os.environ["HF_HOME"] == str(store)


def test_a_folder_may_be_made_where_its_parent_may_be_written(tmp_path: Path) -> None:
    assert may_write(tmp_path / "not" / "yet")


@pytest.mark.skipif(not may_mount(), reason="needs the right to mount a folder")
def test_a_benchmark_is_loaded_and_a_chart_library_is_quiet_without_a_home(
    small_world: Path, tmp_path: Path, fresh: Path
) -> None:
    (tmp_path / "load.py").write_text(LOAD)
    file = sorted((small_world / "benchmarks").glob("*.parquet"))[0]
    told = [str(tmp_path / "load.py"), str(tmp_path), str(file)]
    done = run_mounted(fresh, "ro", told, {**os.environ, "PYTHONPATH": str(SRC)})
    assert done.returncode == 0, done.stderr[-2000:]
    assert "?" in done.stdout
    assert "atplotlib" not in done.stderr

"""A checkpoint of the hub is looked at before a run waits for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from local_hub import COMMIT, local_hub
from safetensors.numpy import save_file

from icons_repro.preflight import files
from icons_repro.preflight.files import check_checkpoint


def cached(cache: Path) -> Path:
    """Write what the hub's client keeps of org/open, and return the folder of its files."""
    kept = cache / "models--org--open"
    folder = kept / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(COMMIT)
    (folder / "config.json").write_text("{}")
    return folder


def test_the_hub_is_asked_for_leave_to_read_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "hub_reachable", lambda: True)
    with local_hub(tmp_path / "hub", tmp_path / "cache", monkeypatch):
        found = {name: check_checkpoint("model", f"org/{name}") for name in ("open", "gated", "no")}
        odd = check_checkpoint("model", "folder/of/mine")
    assert {name: finding.level for name, finding in found.items()} == {
        "open": "ok",
        "gated": "problem",
        "no": "problem",
    }
    assert "accept its licence there" in found["gated"].found
    assert "no such repository" in found["no"].found
    assert odd.level == "problem"
    assert odd.found.startswith("folder/of/mine: no such folder")


def test_a_hub_that_is_gone_by_then_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "hub_reachable", lambda: True)
    with local_hub(tmp_path / "hub", tmp_path / "cache", monkeypatch):
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        finding = check_checkpoint("model", "org/open")
    assert finding.level == "problem"
    assert "cannot be reached" in finding.found


def test_a_half_fetched_checkpoint_in_the_hubs_cache_is_no_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reachable = {"is": False}
    monkeypatch.setattr(files, "hub_reachable", lambda: reachable["is"])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert check_checkpoint("model", "org/open").found == "org/open: not here, no hub"

    folder = cached(tmp_path)
    shards = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (folder / files.INDEX).write_text(json.dumps({"weight_map": shards}))
    save_file({"a": np.zeros(10, np.float32)}, folder / "model-1.safetensors")
    lost = check_checkpoint("model", "org/open")
    assert lost.level == "problem"
    assert "in the cache, but model-2.safetensors is missing" in lost.found
    assert "hf download org/open" in lost.remedy

    with local_hub(tmp_path / "hub", tmp_path, monkeypatch):
        reachable["is"] = True
        assert check_checkpoint("model", "org/open").level == "ok"

    save_file({"b": np.zeros(10, np.float32)}, folder / "model-2.safetensors")
    assert check_checkpoint("model", "org/open").found == "org/open: here, and whole"

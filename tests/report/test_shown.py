"""What loggers are shown of the references that a run is compared with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from graphs import graph

from icons_repro.core.cache import Cache
from icons_repro.core.settings import LoggerSettings
from icons_repro.report.lines import FULL, Line
from icons_repro.report.shown import show_reference


def test_a_references_curve_is_shown_once_to_each_logger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    g = graph(output=tmp_path)
    chosen = g.selection(g.config.references["full"], 1.0, 0)
    line = Line(FULL, chosen, g.results.adapter(chosen, 0), None)
    cache = Cache(Path(g.config.paths.cache))
    folder = cache.path(line.adapter)
    folder.mkdir(parents=True)
    curve = [json.dumps({"step": step, "loss": 1 / step}) for step in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("\n".join(curve) + "\n")

    def shown_to(**loggers: bool) -> Path:
        config = replace(g.config, logger=LoggerSettings(**loggers))
        show_reference(line, {}, config, cache, "")
        (found,) = (tmp_path / "runs").glob("*/references/*")
        return found

    table = shown_to(csv=True) / "csv" / "metrics.csv"
    assert [row.split(",")[-1] for row in table.read_text().split()] == ["step", "1", "2", "3"]
    table.unlink()
    assert not (shown_to(csv=True) / "csv" / "metrics.csv").exists()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert list(shown_to(csv=True, wandb=True).glob("wandb/offline-run-*/*.wandb"))

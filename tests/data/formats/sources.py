"""Small sources in other people's formats, written by the libraries that people write them with."""

from __future__ import annotations

import io
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from graphs import composed
from PIL import Image

from icons_repro.config.checks import typed
from icons_repro.config.run import RunConfig
from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.parts import PART
from icons_repro.core.settings import PoolSettings, TargetSettings
from icons_repro.core.typed import checked_part
from icons_repro.data.records import RecordTable
from icons_repro.graph.graph import Graph


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


def turns(answer: str = "yes", tag: str = "<image>\n") -> list[dict[str, str]]:
    return [{"from": "human", "value": f"{tag}is it so"}, {"from": "gpt", "value": answer}]


def embedded(*shades: int) -> list[dict[str, Any]]:
    """Rows as `datasets` keeps them: an image is a struct of `bytes` and `path`."""
    return [
        {
            "id": str(shade),
            "conversations": turns(f"shade {shade}"),
            "image": {"bytes": picture(shade), "path": f"{shade}.png"},
        }
        for shade in shades
    ]


def write_parquet(rows: list[dict[str, Any]], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@cache
def settings() -> RunConfig:
    return typed(composed("data.world=null"))


def pool_graph(tmp_path: Path, *overrides: str) -> Graph:
    """Return the graph of `data.KEY=VALUE` and `targets.KEY=VALUE`; composed once, for speed."""
    given: dict[str, dict[str, Any]] = {"data": {}, "targets": {}}
    for override in overrides:
        key, _, value = override.partition("=")
        group, _, name = key.partition(".")
        given[group][name] = yaml.safe_load(value)
    config = settings()
    data = checked_part(PoolSettings, as_plain(config.data) | given["data"], "data")
    targets = checked_part(TargetSettings, as_plain(config.targets) | given["targets"], "targets")
    paths = replace(config.paths, cache=str(tmp_path / "cache"))
    return Graph(replace(config, data=data, targets=targets, paths=paths))


def as_plain(settings: Any) -> dict[str, Any]:
    """Return settings as a config says them: the keys of their parts stand beside their own."""
    found: dict[str, Any] = {}
    for f in fields(settings):
        value = getattr(settings, f.name)
        found |= as_plain(value) if PART in f.metadata else {f.name: value}
    return found


def pool(tmp_path: Path, *overrides: str) -> tuple[RecordTable, Path]:
    """Make the pool of such a config; return its rows and its image folder."""
    made = obtain(pool_graph(tmp_path, *overrides).pool, Cache(tmp_path / "cache"))
    return RecordTable(made / "records.arrow"), made / "images"


def answers(table: RecordTable) -> list[str]:
    return [table[i].raw["conversations"][-1]["value"] for i in range(len(table))]

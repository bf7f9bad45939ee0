"""Read a W&B offline file back: LevelDB's log format around protobuf records."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any

BLOCK = 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path, patience: float = 20.0) -> list[Any]:
    """Every record of a `.wandb` file, waiting for the run's last: W&B's own process writes it."""
    deadline = time.monotonic() + patience
    while True:
        found = _records(path)
        ended = any(record.WhichOneof("record_type") == "exit" for record in found)
        if ended or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def _records(path: Path) -> list[Any]:
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    found, parts, at = [], b"", 7
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        payload = data[at + 7 : at + 7 + length]
        at += 7 + length
        parts = payload if kind in (FULL, FIRST) else parts + payload
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
    return found


def key_of(item: Any) -> str:
    """A history or summary item's name."""
    return item.key or "/".join(item.nested_key)


def history(path: Path) -> list[dict[str, Any]]:
    """Logged rows, in order, without W&B's own keys."""
    rows = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            row = {key_of(i): json.loads(i.value_json) for i in record.history.item}
            rows.append({k: v for k, v in row.items() if not k.startswith("_")})
    return rows


def summary(path: Path) -> dict[str, Any]:
    """The explicitly set summary values."""
    values: dict[str, Any] = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "summary":
            values |= {key_of(i): json.loads(i.value_json) for i in record.summary.update}
    return values


def run_record(path: Path) -> Any:
    """The record that names the run."""
    return next(r.run for r in records(path) if r.WhichOneof("record_type") == "run")


def artifacts(path: Path) -> list[Any]:
    """The artifacts that the run logged."""
    return [r.artifact for r in records(path) if r.WhichOneof("record_type") == "artifact"]

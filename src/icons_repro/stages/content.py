"""Features that need no model: what is written in the rows, and in a published subset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.core.artifacts import Step, Workspace
from icons_repro.core.errors import ConfigError
from icons_repro.core.provenance import file_fingerprint
from icons_repro.core.settings import FeatureSettings
from icons_repro.core.types import KEY_DTYPE, content_key
from icons_repro.stages.prepare import existing


def answer_words(pool: Step) -> Step:
    """The number of words of every row's answers."""

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.data.records import RecordTable

        table = RecordTable(ws.inputs["pool"] / "records.arrow")
        words = np.full(len(table), np.nan, dtype=np.float32)
        for i in np.flatnonzero(table.usable):
            turns = table[int(i)].conversations
            words[i] = sum(len(t["value"].split()) for t in turns if t["from"] == "gpt")
        np.save(ws.out / "answer_words.npy", words)
        return {"rows": len(table)}

    return Step("answer_words", build, {}, {"pool": pool})


def released_keys(settings: FeatureSettings, pool: Step, index: Path) -> Step:
    """The content keys of a published subset, and of the pool without ids."""
    if settings.released is None:
        raise ConfigError(
            "selector=released needs the published subset: set features.released=FILE.json "
            "(LLaVA-ICONS-133K's JSON, say)."
        )
    source = existing(settings.released, "features.released")

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.data.records import RecordTable, iter_rows

        table = RecordTable(ws.inputs["pool"] / "records.arrow")
        rows = [row for row, _ in iter_rows(source)]
        lines = (json.loads(table.json_line(i)) for i in range(len(table)))
        arrays = {
            "subset": [content_key(row) for row in rows],
            "text": [text_key(row) for row in rows],
            "pool_text": [text_key(row) for row in lines],
        }
        for name, keys in arrays.items():
            np.save(ws.out / f"{name}.npy", np.array(keys, dtype=KEY_DTYPE))
        return {"pool": len(table), "subset": len(rows)}

    return Step("released_keys", build, {"subset": file_fingerprint(source, index)}, {"pool": pool})


def text_key(raw: Any) -> str:
    """Return the key of a row's conversations and image alone; other fields may differ."""
    row = raw if isinstance(raw, Mapping) else {}
    return content_key({name: row.get(name) for name in ("conversations", "image")})

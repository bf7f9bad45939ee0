"""Validation sets of the target tasks: one folder of records for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.settings import RecordPolicy
from icons_repro.data.records import RecordTable, build_records


def find_tasks(folder: Path, wanted: Sequence[str] | None) -> list[str]:
    """Return the names of the `TASK.json` files to use, sorted. Raises if one is not there."""
    found = sorted(path.stem for path in folder.glob("*.json"))
    if not found:
        raise DataError(f"{folder} holds no target task: expected TASK.json files.")
    missing = sorted(set(wanted or ()) - set(found))
    if missing:
        raise ConfigError(f"targets.tasks names {missing}; {folder} has {found}.")
    return sorted(wanted) if wanted else found


def build_targets(
    folder: Path, image_root: Path, tasks: Sequence[str], out: Path, policy: RecordPolicy
) -> dict[str, Any]:
    """Write `out/TASK/records.arrow` for each task; return the row counts.

    Where rows carry a `category`, `subtasks` says how many usable ones each has. Raises `DataError`
    naming the file of a task without rows, since its mean gradient is undefined.
    """
    counts = {}
    for task in tasks:
        (out / task).mkdir(exist_ok=True)
        counts[task] = build_records(folder / f"{task}.json", image_root, out / task, policy)
        table = RecordTable(out / task / "records.arrow")
        labels = zip(subtasks(table), table.usable.tolist(), strict=True)
        if parts := Counter(label for label, usable in labels if label and usable):
            counts[task]["subtasks"] = dict(sorted(parts.items()))
    return counts


def subtasks(table: RecordTable) -> list[str]:
    """Return each row's `category` (MME's sub-tasks), or "" where it has none, in row order."""
    usable = table.usable
    return [str(table[i].raw.get("category") or "") if usable[i] else "" for i in range(len(table))]

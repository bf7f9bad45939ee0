"""The page that explains one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icons_repro.core.errors import DataError
from icons_repro.explain.neighbours import Neighbour
from icons_repro.explain.standing import Standing
from icons_repro.report.html.shell import write_page
from icons_repro.report.sheets import SMALL as KEPT
from icons_repro.report.sheets import as_data

if TYPE_CHECKING:
    from icons_repro.data.records import RecordTable

SIDE, SMALL = 320, 160
"""Largest sides of the row's own picture and of its neighbours', in pixels."""


def write_explanation(
    path: Path,
    row: Standing,
    pool: RecordTable | None,
    images: Path,
    near: Mapping[str, Sequence[Neighbour]],
    targets: Path | None,
    *,
    title: str,
    notes: Sequence[str],
) -> Path:
    """Write the page, and return its path. What is gone is left out; `notes` say why."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_page(
        path,
        "explain.html",
        title=title,
        back="../report.html" if (path.parent.parent / "report.html").is_file() else "",
        row=row,
        own=example(pool, images, row.position, SIDE) if pool else None,
        facts=facts(row),
        tasks=task_table(row),
        across=[example(pool, images, place, SMALL) for place in row.across] if pool else [],
        neighbours=_neighbours(near, targets) if targets else [],
        notes=list(notes),
    )


def facts(row: Standing) -> list[tuple[str, str]]:
    """Return what there is to say in a line."""
    found = [("status", "chosen" if row.chosen else "left")]
    if row.order is not None:
        found.append(("place", f"{row.order:,} of {row.ranked:,}"))
        found.append(("cut", f"{row.budget:,}"))
    if row.votes is not None:
        found.append(("votes", f"{row.votes} of {len(row.tasks)}"))
    elif row.score is not None:
        found.append(("score", f"{row.score:.4g}"))
    if row.cut_score is not None:
        found.append(("of the last row taken", f"{row.cut_score:.4g}"))
    return found


def task_table(row: Standing) -> tuple[Sequence[str], list[list[Any]]]:
    """Return influence and place for every task."""
    rows: list[list[Any]] = []
    for task in row.tasks:
        vote = "" if task.votes is None else "votes" if task.votes else "no vote"
        said = ", ".join(word for word in (vote, "denied" if task.denied else "") if word)
        share = 100 * (1 - task.place / max(row.ranked, 1))
        rows.append([
            task.task, {"text": f"{task.influence:.4f}", "sort": task.influence},
            {"text": f"{task.place:,}", "sort": task.place},
            {"text": f"{share:.1f}", "sort": round(share, 4)}, said,
        ])  # fmt: skip
    return ["task", "influence", "place", "percentile", ""], rows


def example(table: RecordTable, images: Path, position: int, side: int) -> dict[str, Any]:
    """Return a row's picture and words; an empty picture where it has none that can be read."""
    from icons_repro.report.samples import picture_of

    record = table[position]
    turns = [str(turn["value"]).replace("<image>", "").strip() for turn in record.conversations]
    picture, sharp = "", False
    if record.images:
        try:
            opened = picture_of(str(images.resolve()), record.images[0], table.policy)
            picture, sharp = as_data(opened, side), max(opened.size) <= KEPT
        except DataError:  # it has changed since the pool was read: a placeholder stands for it
            picture = ""
    return {
        "picture": picture, "sharp": sharp, "turns": turns, "source": record.source,
        "position": position, "key": record.key, "text_only": not record.images,
    }  # fmt: skip


def _neighbours(near: Mapping[str, Sequence[Neighbour]], targets: Path) -> list[dict[str, Any]]:
    from icons_repro.data.records import RecordTable

    groups = []
    for task, rows in near.items():
        path = targets / task / "records.arrow"
        if path.is_file() and rows:
            table = RecordTable(path)
            shown = [
                example(table, targets / "images", one.position, SMALL)
                | {"cosine": f"{one.cosine:.3f}"}
                for one in rows
            ]
            groups.append({"task": task, "rows": shown})
    return groups

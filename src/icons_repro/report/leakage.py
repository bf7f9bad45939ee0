"""What a run's page and `results.json` say of pictures that tests share with what the run read."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from icons_repro.core.files import read_json
from icons_repro.report.tables import DASH

FILE = "leakage.json"
POOL = "pool"
EACH = 12
"""Pairs of pictures that the page shows of each kind."""
KINDS = {
    "tests_in_pool": "Test and pool",
    "targets_in_tests": "Validation and test",
    "targets_in_pool": "Validation and pool",
}
Cell = dict[str, Any]


def leaked(folder: Path) -> dict[str, Any]:
    """Return for `results.json` the counts of a leakage step; empty if they are not there."""
    found = read_json(folder / FILE)
    if found is None:
        return {}
    crossed = found["targets_in_tests"].items()
    return {
        "folder": str(folder),
        "rule": found["rule"],
        "tests_in_pool": _into_pool(found, "tests"),
        "targets_in_pool": _into_pool(found, "targets"),
        "targets_in_tests": {
            task: {name: c for name, c in row.items() if c["same"] or c["near"]}
            for task, row in crossed
        },
        "unreadable": {name: n for name, n in _unreadable(found) if n},
        "not_checked": found["not_checked"],
    }


def _into_pool(found: Mapping[str, Any], lists: str) -> dict[str, dict[str, int]]:
    """Return what the pool has of each list, with how many pictures and uses the list has."""
    return {
        name: {
            **row[POOL],
            "pictures": found[lists][name]["pictures"],
            "of": found[lists][name]["shown"],
        }
        for name, row in found[f"{lists}_in_pool"].items()
    }


def _unreadable(found: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    yield POOL, found["pool"]["unreadable"]
    for lists in ("targets", "tests"):
        for name, counts in found[lists].items():
            yield name, counts["unreadable"]


def leakage_section(folder: Path | None) -> dict[str, Any]:
    """Return what the page's template needs; empty tables where nothing was looked for."""
    found = read_json(folder / FILE) if folder else None
    if folder is None or found is None:
        return {"leakage": "", "leak_tables": [], "leak_pairs": [], "leak_notes": []}
    rule = found["rule"]
    return {
        "leakage": (
            "The same: equal pixels, whatever the file is called. Near: perceptual hashes that "
            f"differ in at most {rule['distance']} of {rule['bits']} bits, and a correlation of "
            f"{rule['correlation']} at 16 x 16 pixels: a copy that was scaled, brightened, "
            "compressed again or cut a little; also drawn pictures with little in them. Mirror "
            "images, greyscale copies and larger cuts are not found. Selection never reads this."
        ),
        "leak_tables": _tables(found),
        "leak_pairs": _pairs(found, folder),
        "leak_notes": _notes(found),
    }


def _tables(found: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[Any]]]]:
    """Return caption, headings and rows of each table."""
    head = ["pictures", "the same in the pool", "near in the pool"]
    tables = [
        (
            "Tests by pool",
            ["benchmark", *head, "questions with these", "share of questions"],
            [*_pool_rows(found, "tests"), *_missing_rows(found)],
        )
    ]
    if found["targets"]:
        rows = _pool_rows(found, "targets")
        tables.append(
            ("Validation by pool", ["task", *head, "rows with these", "share of rows"], rows)
        )
    if found["targets"] and found["tests"]:
        rows = [
            [task, *(_both(row[name]) for name in found["tests"])]
            for task, row in found["targets_in_tests"].items()
        ]
        caption = "Validation by test: the same + near"
        tables.append((caption, ["validation of", *found["tests"]], rows))
    return tables


def _pool_rows(found: Mapping[str, Any], lists: str) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for name, counts in _into_pool(found, lists).items():
        share = counts["shown"] / max(1, counts["of"])
        numbers = [_count(counts[key]) for key in ("pictures", "same", "near", "shown")]
        rows.append([name, *numbers, {"text": f"{100 * share:.1f}%", "sort": share}])
    return rows


def _missing_rows(found: Mapping[str, Any]) -> list[list[Any]]:
    return [[name, *[{"text": DASH, "sort": None}] * 5] for name in found["not_checked"]]


def _count(number: int) -> Cell:
    return {"text": f"{number:,}", "sort": number}


def _both(crossing: Mapping[str, int]) -> Cell:
    same, near = crossing["same"], crossing["near"]
    return {"text": f"{same:,} + {near:,}" if same or near else "0", "sort": same + near}


def _notes(found: Mapping[str, Any]) -> list[str]:
    notes = [f"{name}: not checked: {reason}" for name, reason in found["not_checked"].items()]
    lists = [(POOL, found["pool"]), *found["targets"].items(), *found["tests"].items()]
    for name, counts in lists:
        if counts["unreadable"]:
            first = counts["unreadable_examples"][0]
            notes.append(
                f"{name}: not compared since they cannot be opened: {counts['unreadable']:,}; the "
                f"first: {first}"
            )
    flat = sum(counts["flat"] for _, counts in lists)
    if flat:
        notes.append(f"{flat:,} of one colour, about: compared by their pixels alone")
    if not found["targets"]:
        notes.append("no validation rows: this run's method reads none")
    return notes


def _pairs(found: Mapping[str, Any], folder: Path) -> list[tuple[str, list[dict[str, str]]]]:
    """Return for each kind of pair its heading and its pictures."""
    grouped = []
    for kind, heading in KINDS.items():
        of_kind = [pair for pair in found["pairs"] if pair["kind"] == kind and "file" in pair]
        if shown := [_shown(pair, folder) for pair in of_kind[:EACH]]:
            grouped.append((heading, shown))
    return grouped


def _shown(pair: Mapping[str, Any], folder: Path) -> dict[str, str]:
    bits = pair["bits"]
    (first, second), names = pair["lists"], pair["pictures"]
    data = base64.b64encode((folder / pair["file"]).read_bytes()).decode()
    return {
        "picture": f"data:image/webp;base64,{data}",
        "first": f"{first}: {names[0]}",
        "second": f"{second}: {names[1]}",
        "how": "the same pixels" if bits is None else f"{bits} of 64 bits differ",
    }

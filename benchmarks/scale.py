"""The tables of docs/scale.md: bytes, reads and GPU-hours by the number of rows, by arithmetic.

    python benchmarks/scale.py            print the tables
    python benchmarks/scale.py --write    put them into docs/scale.md

Nothing is run. What is measured stands in `MEASURED`, with the table that it is from
(benchmarks/README.md); what is assumed stands in `ASSUMED`. tests/benchmarks/test_scale.py holds
the page to what this prints.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from icons_repro.core.types import KEY_DTYPE
from icons_repro.gradients.rows import RowCodec
from icons_repro.preflight.cost import IMAGE_SHARE, TEXT_TOKENS

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
ROWS = (665_298, 7_000_000, 1_000_000_000)
DIM = 5120
TASKS = 10
IMAGE_TOKENS = 576
TOKENS = TEXT_TOKENS + IMAGE_SHARE * IMAGE_TOKENS
BESIDE = 4 + 4 + 1 + KEY_DTYPE.itemsize
"""Bytes that a store keeps beside a row: its length, its scale, its status, its key."""
NUMBER = 4
"""Bytes of an influence."""

MEASURED: Mapping[str, float] = {
    "overlap, int8": 0.994,
    "overlap, 1 bit": 0.876,
    "scoring, us a row": 2.9,
    "vote, ns a number": 22.0,
    "vote, MB": 39.0,
    "selection, GB at 665,298 rows": 0.23,
    "through, bm25 .1": 0.32,
    "recall, bm25 .1": 0.67,
    "through, bm25 .2": 0.57,
    "recall, bm25 .2": 0.82,
    "through, rds .2": 0.55,
    "recall, rds .2": 0.67,
}
ASSUMED: Mapping[str, float] = {
    "tokens a second": 13_000,
    "forward pass over forward and backward": 0.5,
    "bytes a second": 1e9,
}
CASCADES = (("bm25", ".1"), ("bm25", ".2"), ("rds", ".2"))
FIRST_PASSES = {"bm25": 0.0, "rds": ASSUMED["forward pass over forward and backward"]}
"""What the first source takes of a pass forward and backward."""


@dataclass(frozen=True)
class Way:
    """One way to influence at a pool's size."""

    name: str
    row_bytes: float
    """Of the store, for a row of the pool."""
    passes: float
    """Forward and backward passes over the pool."""
    agrees: str

    def store(self, rows: int) -> float:
        """Bytes on disk, which scoring reads once."""
        return rows * self.row_bytes

    def gpu_hours(self, rows: int) -> float:
        """Hours of one GPU at the assumed throughput."""
        return rows * TOKENS * self.passes / ASSUMED["tokens a second"] / 3600


def ways() -> list[Way]:
    """Return the ways of the first table."""
    stored = {name: RowCodec(name, DIM).row_bytes + BESIDE for name in ("float16", "int8", "bit1")}
    int8, bit1 = (short(MEASURED[f"overlap, {name}"], 3) for name in ("int8", "1 bit"))
    found = [
        Way("float16", stored["float16"], 1, "1"),
        Way("int8", stored["int8"], 1, int8),
        Way("1 bit", stored["bit1"], 1, bit1),
        Way("direct", TASKS * NUMBER + BESIDE, 1, "exact"),
    ]
    for first, share in CASCADES:
        through = MEASURED[f"through, {first} {share}"]
        recall = short(MEASURED[f"recall, {first} {share}"], 2)
        passes = through + FIRST_PASSES[first]
        found.append(Way(f"cascade, {first} {share}", through * stored["float16"], passes, recall))
    return found


def stores() -> str:
    """The first table: what a store takes, and what it takes to fill it."""
    heads = [f"{n:,} rows" if n < 10**9 else "10⁹ rows" for n in ROWS]
    lines = ["| | " + " | ".join(f"{h}: disk | GPU-hours" for h in heads) + " | agreement |"]
    lines.append("|---|" + "---:|" * (2 * len(ROWS) + 1))
    for way in ways():
        cells = [f"{size(way.store(n))} | {count(way.gpu_hours(n))}" for n in ROWS]
        lines.append(f"| {way.name} | {' | '.join(cells)} | {way.agrees} |")
    return "\n".join(lines)


def afterwards() -> str:
    """The second table: from the store to the votes."""
    second = ASSUMED["bytes a second"]
    stored = RowCodec("float16", DIM).row_bytes + BESIDE
    matrix, vote = TASKS * NUMBER, MEASURED["vote, ns a number"]
    lines: list[tuple[str, Callable[[int], str]]] = [
        ("scoring reads float16 rows once", lambda n: time(n * stored / second)),
        ("scoring, one core", lambda n: time(n * MEASURED["scoring, us a row"] / 1e6)),
        ("the influence matrix", lambda n: size(n * matrix)),
        ("the vote in blocks reads it three times", lambda n: time(3 * n * matrix / second)),
        ("the vote in blocks, one core", lambda n: time(n * TASKS * vote / 1e9)),
        ("its memory", lambda n: size(MEASURED["vote, MB"] * 1e6)),
        ("memory of `stages=[select]`, which holds every row",
         lambda n: size(n * MEASURED["selection, GB at 665,298 rows"] * 1e9 / ROWS[0])),
    ]  # fmt: skip
    table = ["| | 665,298 rows | 7,000,000 rows | 10⁹ rows |", "|---|---:|---:|---:|"]
    table += [f"| {what} | {' | '.join(of(n) for n in ROWS)} |" for what, of in lines]
    return "\n".join(table)


def constants() -> str:
    """What the tables rest on."""
    lines = ["| constant | value | |", "|---|---:|---|"]
    lines += [f"| {name} | {value:g} | measured |" for name, value in MEASURED.items()]
    lines += [f"| {name} | {value:g} | assumed |" for name, value in ASSUMED.items()]
    lines.append(f"| tokens a row | {TOKENS:.0f} | assumed |")
    return "\n".join(lines)


def size(number: float) -> str:
    """Write bytes as a person would."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number:.0f} B"


def short(number: float, digits: int) -> str:
    """Write a number below one."""
    return f"{number:.{digits}f}".lstrip("0")


def count(number: float) -> str:
    """Write a number with two digits that count."""
    digits = len(f"{number:.0f}")
    return f"{round(number, 2 - digits):,.0f}" if number >= 10 else f"{number:.1f}"


def time(seconds: float) -> str:
    """Write seconds as a person would."""
    for unit, scale in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= scale:
            return f"{seconds / scale:.2g} {unit}"
    return f"{seconds:.2g} s"


TABLES: Mapping[str, Callable[[], str]] = {
    "stores": stores,
    "afterwards": afterwards,
    "constants": constants,
}


def filled(page: str) -> str:
    """Return the page with each table between its marks."""
    for name, make in TABLES.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if not pattern.search(page):
            raise ValueError(f"{PAGE} has no place for the table {name}: {begin} ... {end}")
        whole = f"{begin}\n{make()}\n{end}"
        page = pattern.sub(lambda _, whole=whole: whole, page)  # type: ignore[misc]
    return page


def main() -> None:
    """Print the tables, or write them into the page."""
    if "--write" in sys.argv[1:]:
        PAGE.write_text(filled(PAGE.read_text()))
    else:
        print("\n\n".join(make() for make in TABLES.values()))


if __name__ == "__main__":
    main()

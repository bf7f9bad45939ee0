"""What the benchmarks share: arguments, interleaved timing, a table on screen, JSON in a file."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import re
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

Row = Mapping[str, Any]


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with `--json`, `--threads` and `--tiny`."""
    # A polite kill ends like an error, so that temporary folders are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    parser.add_argument("--tiny", action="store_true", help="a few seconds, to see that it runs")
    return parser


def interleaved(ways: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Time every way once a round, in turning order, after one round that does not count.

    Neighbours in time share whatever else the machine is doing, so their ratio is steadier than
    their seconds.
    """
    names = list(ways)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(-1, repeats):
        turn = round_ % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            ways[name]()
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def seconds_of(action: Callable[[], Any], before: Callable[[], Any] | None = None) -> float:
    """Time one call, after an untimed preparation."""
    if before is not None:
        before()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def peak_gb(action: Callable[[], Any]) -> float:
    """Return the process's peak resident memory during a call, GB, the interpreter included.

    Linux lets a process reset its own peak; where it does not, the peak so far is returned.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    action()
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1024 / 1e9


def extra_mb(action: Callable[[], Any]) -> float:
    """Return how much resident memory a call takes beyond what was in use before it, MB."""
    ctypes.CDLL(None).malloc_trim(0)  # give freed memory back, or the call would reuse it unseen
    before = peak_gb(lambda: None)
    return (peak_gb(action) - before) * 1e3


def median_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def report(
    title: str, rows: Sequence[Row], figures: Mapping[str, Any], json_file: Path | None
) -> None:
    """Print a table of `rows` and the key figures; write both to `json_file`."""
    console = Console(width=118)
    console.print(_table(title, rows))
    for name, value in figures.items():
        if isinstance(value, list):
            console.print(_table(name, value))
    shown = {key: _text(v) for key, v in figures.items() if not isinstance(v, list)}
    console.print(shown)
    if json_file is not None:
        settings = {"threads": torch.get_num_threads(), "torch": torch.__version__}
        json_file.write_text(
            json.dumps({"title": title, **figures, "settings": settings, "table": rows}, indent=1)
        )


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*[_text(value) for value in row.values()])
    return table


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)

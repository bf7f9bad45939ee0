"""Seconds and memory of scoring a gradient store, next to merely reading it.

    python benchmarks/scoring.py [--json FILE] [--rows 665298] [--tiny]

A synthetic store is written to a temporary folder and removed afterwards; where the disk lacks room
for the rows asked for, fewer are taken and the table says so. "Cold" drops the file from the page
cache first (posix_fadvise). "Load all" is the obvious way: the whole store in memory as float32,
the full matrix of cosines, then its means; it is timed at the sizes that fit in --load-gb.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reporting import arguments, peak_gb, report, seconds_of

from icons_repro.gradients.store import GradientStore, RowStatus
from icons_repro.gradients.writer import open_writer
from icons_repro.influence.score import score

BLOCK_ROWS = 256
VALIDATION_ROWS = 100
IDENTITIES = {"model": "synthetic", "adapter": "synthetic", "projection": "synthetic"}


def synthetic_store(folder: Path, rows_file: Path | None, n: int, dim: int, dtype: str) -> Path:
    """Make a store of `n` random rows; its rows are a link to `rows_file` where one is given."""
    numbers = np.char.mod("%d", np.arange(n)).astype("S32")
    writer = open_writer(
        folder, n_rows=n if rows_file is None else 0, dim=dim, dtype=dtype, identities=IDENTITIES,
        keys=numbers if rows_file is None else numbers[:0],
    )  # fmt: skip
    row_bytes = writer.codec.row_bytes
    if rows_file is None:
        noise = torch.randn(4096, dim, generator=torch.Generator().manual_seed(0)) * dim**-0.5
        data = writer.codec.encode(noise)[0].tobytes()
        with open(folder / "rows.bin", "r+b", buffering=0) as file:
            for start in range(0, n, 4096):
                file.write(memoryview(data)[: min(4096, n - start) * row_bytes])
            os.fdatasync(file.fileno())
    writer.close()
    if rows_file is not None:
        (folder / "rows.bin").unlink()
        os.link(rows_file, folder / "rows.bin")
    numbers.tofile(folder / "keys.bin")
    np.full(n, RowStatus.ok, dtype=np.uint8).tofile(folder / "status.bin")
    for name in ("norms", "scales"):
        np.ones(n, dtype=np.float32).tofile(folder / f"{name}.bin")
    info = folder / "info.json"
    info.write_text(info.read_text().replace('"n_rows": 0', f'"n_rows": {n}'))
    return folder


def forget(store: GradientStore) -> None:
    """Drop the store's rows from the page cache."""
    with open(store.folder / "rows.bin", "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_only(store: GradientStore) -> None:
    """Read the rows in the same blocks, in order, and do nothing with them."""
    size = store.codec.row_bytes
    buffer = memoryview(bytearray(BLOCK_ROWS * size))
    left = len(store) * size
    with open(store.folder / "rows.bin", "rb", buffering=0) as file:
        while left > 0:
            left -= file.readinto(buffer[: min(left, len(buffer))])


def load_all(store: GradientStore, validation: dict[str, GradientStore]) -> np.ndarray:
    """The obvious way: everything in memory, the full matrix, its means."""
    rows = torch.nn.functional.normalize(store.read(), dim=1)
    means = [(rows @ val.read().T).mean(dim=1) for val in validation.values()]
    return torch.stack(means, dim=1).numpy()


def measure(
    store: GradientStore, validation: dict[str, GradientStore], threads: int, seconds: float
) -> dict[str, Any]:
    """Time reading and scoring in turn, cold and warm, as often as `seconds` allow."""

    def ours() -> None:
        score(store, validation, threads=threads, block_rows=BLOCK_ROWS)

    found: dict[str, list[float]] = {k: [] for k in ("read", "score", "read warm", "score warm")}
    start = time.perf_counter()
    peak = peak_gb(ours)
    while True:
        round_ = time.perf_counter()
        pairs = [("read", lambda: read_only(store)), ("score", ours)]
        for name, action in pairs if len(found["read"]) % 2 == 0 else pairs[::-1]:
            found[name].append(seconds_of(action, lambda: forget(store)))
        for _ in range(2):
            found["read warm"].append(seconds_of(lambda: read_only(store)))
            found["score warm"].append(seconds_of(ours))
        now = time.perf_counter()
        if len(found["read"]) >= 5 or now - start + (now - round_) > seconds:
            break
    row: dict[str, Any] = {"rows": len(store), "GB": len(store) * store.codec.row_bytes / 1e9}
    row |= {f"{name} s": statistics.median(times) for name, times in found.items()}
    row["x read"] = _ratio(found["score"], found["read"])
    row["x read warm"] = _ratio(found["score warm"], found["read warm"])
    return {**row, "peak GB": peak, "rounds": len(found["read"])}


def _ratio(over: list[float], under: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def rows_that_fit(wanted: int, row_bytes: int, folder: Path) -> int:
    """Return how many rows the disk has room for, at most those wanted."""
    free = shutil.disk_usage(folder).free - 2**30
    return max(1024, min(wanted, int(free // (row_bytes + 64))))


def main() -> None:
    """Measure and report."""
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=int, default=665_298)
    parser.add_argument("--dim", type=int, default=5120)
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--dtype", default="float16")
    parser.add_argument(
        "--folder", type=Path, help="for the synthetic store; else the temporary one"
    )
    parser.add_argument("--seconds", type=float, default=40.0, help="time for the measurements")
    parser.add_argument("--load-gb", type=float, default=4.0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    wanted, dim = (4096, 256) if args.tiny else (args.rows, args.dim)
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="scoring-") as name:
        folder = Path(name)
        n = rows_that_fit(wanted, dim * 4, folder)
        synthetic_store(folder / "whole", None, n, dim, args.dtype)
        validation = {}
        for task in range(args.tasks):
            path = synthetic_store(folder / f"v{task}", None, VALIDATION_ROWS, dim, "float32")
            validation[f"task{task}"] = GradientStore.open(path)
        rows = []
        for size in sorted({max(256, n // 32), max(256, n // 4), n}):
            whole = folder / "whole" / "rows.bin"
            path = synthetic_store(folder / f"n{size}", whole, size, dim, args.dtype)
            store = GradientStore.open(path)
            rows.append(measure(store, validation, args.threads, args.seconds * size / n / 1.32))
        for row in rows:
            fits = row["rows"] * dim * 12 / 1e9 < args.load_gb
            path = folder / f"n{row['rows']}"
            store = GradientStore.open(path)
            row["load all s"] = (
                seconds_of(lambda s=store: load_all(s, validation)) if fits else None
            )
    figures = {
        "rows": n,
        "rows_asked_for": wanted,
        "over_read": rows[-1]["x read"],
        "over_read_warm": rows[-1]["x read warm"],
        "peak_gb": rows[-1]["peak GB"],
    }
    report(f"Scoring {args.tasks} tasks, {dim} x {args.dtype} rows", rows, figures, args.json)


if __name__ == "__main__":
    main()

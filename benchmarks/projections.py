"""Time, memory and fidelity of each projection, and of each dtype of stored rows.

    python benchmarks/projections.py [--json FILE] [--tiny]

Fidelity is measured on real gradients of the tiny world: `cosine r` is the correlation of all
training-validation cosines with the unprojected ones, `overlap` the share of a task's 20% most
influential rows that the unprojected gradients choose too (mean over tasks and seeds). Both depend
on the gradients: the longer the warm-up, the smaller and closer the cosines, for every projection
alike. So both a short and a longer warm-up are shown. Time and memory are those of one batch of 8
rows of 468,480 coordinates.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from reporting import arguments, extra_mb, interleaved, median_ratio, report, seconds_of
from tiny_gradients import RealGradients, TinyWorld

from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.projections import RANDOM, build_projection
from icons_repro.gradients.projections.rademacher import BLOCK, Rademacher
from icons_repro.gradients.rows import DTYPES, RowCodec

PAPER_DIM = 5120
DEFAULT = "count_sketch"
DENSE = "rademacher"
SHARE = 0.2

Cosines = list[torch.Tensor]
"""Each task's cosines `[N, M]`."""


def unit(rows: torch.Tensor) -> torch.Tensor:
    """Return rows of length 1."""
    return torch.nn.functional.normalize(rows, dim=1)


def cosines(train: torch.Tensor, validation: Mapping[str, torch.Tensor]) -> Cosines:
    """Return each task's cosines `[N, M]`."""
    return [unit(train) @ unit(rows).T for rows in validation.values()]


def fidelity(found: Cosines, exact: Cosines) -> tuple[float, float]:
    """Return the correlation of all cosines, and the mean overlap of the tasks' top rows."""
    pairs = torch.stack([torch.cat([c.flatten() for c in side]) for side in (found, exact)])
    k = int(SHARE * len(exact[0]))
    overlaps = []
    for a, b in zip(found, exact, strict=True):
        top = [set(side.mean(dim=1).topk(k).indices.tolist()) for side in (a, b)]
        overlaps.append(len(top[0] & top[1]) / k)
    return float(torch.corrcoef(pairs)[0, 1]), statistics.mean(overlaps)


def projected_fidelity(
    real: RealGradients, exact: Cosines, kind: str, dim: int, seeds: int
) -> dict[str, float]:
    """Return the mean correlation and overlap of one projection over seeds."""
    results = []
    every = torch.cat([real.train, *real.validation.values()])
    sizes = [len(real.train), *[len(rows) for rows in real.validation.values()]]
    for seed in range(seeds):
        rows = build_projection(real.layout, kind, dim, seed).project(every)
        train, *parts = rows.split(sizes)
        found = cosines(train, dict(zip(real.validation, parts, strict=True)))
        results.append(fidelity(found, exact))
    r, overlap = (statistics.mean(values) for values in zip(*results, strict=True))
    return {"cosine r": r, "overlap": overlap}


def row_dtypes(real: RealGradients, dim: int) -> list[dict[str, Any]]:
    """Return size and fidelity of each dtype against the float32 rows of the default projection."""
    projection = build_projection(real.layout, DEFAULT, dim)
    rows = unit(projection.project(real.train))
    validation = {task: unit(projection.project(v)) for task, v in real.validation.items()}
    exact = cosines(rows, validation)
    table = []
    for dtype in DTYPES:
        codec = RowCodec(dtype, dim)
        stored = codec.decode(torch.from_numpy(codec.encode(rows)[0]))
        r, overlap = fidelity(cosines(stored, validation), exact)
        share = 4 * dim / codec.row_bytes
        row = {"rows": dtype, "bytes": codec.row_bytes, "x smaller": share}
        table.append({**row, "cosine r": r, "overlap": overlap})
    return table


def cost(kind: str, dim: int, layout: ParameterLayout) -> dict[str, float]:
    """Return milliseconds a row and extra memory of projecting one batch of 8."""
    generator = torch.Generator().manual_seed(0)
    batch = [torch.randn(8, *shape, generator=generator) for shape in layout.shapes]
    projection = build_projection(layout, kind, dim)
    timed: list[float] = []
    memory = extra_mb(lambda: timed.append(seconds_of(lambda: projection.project(batch))))
    if kind != DENSE:  # the dense one costs seconds and keeps nothing between calls
        timed = interleaved({kind: lambda: projection.project(batch)}, 5)[kind]
    return {"ms/row": statistics.median(timed) / 8 * 1e3, "extra MB": memory}


def adapter_layout(tiny: bool) -> ParameterLayout:
    """Return the layout of the benchmark model's adapter, without building the model."""
    r, hidden, inner, layers = (2, 32, 64, 1) if tiny else (16, 256, 688, 6)
    linears = {"down_proj": (inner, hidden), "gate_proj": (hidden, inner)}
    linears |= {"up_proj": (hidden, inner)}
    linears |= dict.fromkeys(("k_proj", "o_proj", "q_proj", "v_proj"), (hidden, hidden))
    shapes = {}
    for layer in range(layers):
        for name, (n_in, n_out) in linears.items():
            shapes[f"{layer}.{name}.lora_A"] = (r, n_in)
            shapes[f"{layer}.{name}.lora_B"] = (n_out, r)
    names = tuple(sorted(shapes))
    return ParameterLayout(names, tuple(shapes[name] for name in names))


def by_dimension(real: RealGradients, dims: list[int], seeds: int, tiny: bool) -> list[dict]:
    """Return the table of all projections at all dimensions."""
    exact = cosines(real.train, real.validation)
    rows = []
    for dim in dims:
        for kind in sorted(RANDOM):
            if kind == DENSE and dim not in (dims[0], dims[-1]):
                continue  # a quarter of a second a row
            draws = seeds if dim == dims[-1] and kind != DENSE else 1
            row = {"projection": kind, "d": dim, **cost(kind, dim, adapter_layout(tiny))}
            rows.append({**row, **projected_fidelity(real, exact, kind, dim, draws)})
    return rows


def drawing(dim: int, blocks: int) -> list[dict[str, Any]]:
    """Return nanoseconds a sign of each way to make the dense projection's signs as numbers."""
    layout = ParameterLayout(("a",), ((blocks * BLOCK,),))
    projection = build_projection(layout, DENSE, dim)
    assert isinstance(projection, Rademacher)
    cpu = torch.device("cpu")
    ways: dict[str, Callable[[], Any]] = {
        "NumPy's words": lambda: [projection._bits(b) for b in range(blocks)],
        "torch's operations": lambda: projection.device_bits(0, blocks, cpu),
        "NumPy's words and their use, batch 8": lambda: projection.project(
            torch.ones(8, layout.dim)
        ),
    }
    if torch.cuda.is_available():
        rows = torch.ones(8, layout.dim, device="cuda")
        bits = projection.device_bits
        ways["torch's operations, GPU"] = lambda: synchronised(lambda: bits(0, blocks, rows.device))
        ways["fused with their use, batch 8, GPU"] = lambda: synchronised(
            lambda: projection.project(rows)
        )
    timed = interleaved(ways, 3)
    first = next(iter(timed.values()))
    signs = layout.dim * dim
    return [
        {"signs by": name, "ns a sign": statistics.median(seconds) / signs * 1e9}
        | {"x NumPy's words": median_ratio(seconds, first)}
        for name, seconds in timed.items()
    ]


def synchronised(action: Callable[[], Any]) -> None:
    """Run on the GPU and wait for it."""
    action()
    torch.cuda.synchronize()


def main() -> None:
    """Measure and report."""
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=int, default=384, help="training rows")
    parser.add_argument("--validation-rows", type=int, default=60, help="rows of each task")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--warmup", type=int, nargs=2, default=(10, 60), help="optimizer steps")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows, val, seeds = (100, 4, 1) if args.tiny else (args.rows, args.validation_rows, args.seeds)
    dims = [64] if args.tiny else [512, 2048, PAPER_DIM]
    short, long = (1, 2) if args.tiny else args.warmup
    with tempfile.TemporaryDirectory() as name:
        world = TinyWorld(Path(name), rows, val)
        real = world.gradients(short)
        table = by_dimension(real, dims, seeds, args.tiny)
        stored = row_dtypes(real, dims[-1])
        title = f"Projections; {rows} real gradients of {real.layout.dim:,}, {short} warm-up steps"
        real = world.gradients(long)
    exact = cosines(real.train, real.validation)
    later = [
        {"projection": kind, "d": dims[-1], "warm-up steps": long}
        | projected_fidelity(real, exact, kind, dims[-1], 1 if kind == DENSE else seeds)
        for kind in (DEFAULT, DENSE)
    ]
    last = {row["projection"]: row["overlap"] for row in table if row["d"] == dims[-1]}
    figures = {
        "projection": DEFAULT,
        "dim": dims[-1],
        "overlap": last[DEFAULT],
        "overlap_dense": last[DENSE],
        "overlap_longer_warmup": later[0]["overlap"],
        "overlap_longer_warmup_dense": later[1]["overlap"],
        **{f"overlap_{row['rows']}": row["overlap"] for row in stored},
        "row_dtypes": stored,
        "drawing": drawing(dims[-1], 2 if args.tiny else 32),
        "longer_warmup": later,
    }
    report(title, table, figures, args.json)


if __name__ == "__main__":
    main()

"""Samples a second of gradient extraction: the released code's logic, ours, and the floor.

    python benchmarks/gradients.py [--json FILE] [--tiny] [--bfloat16] [--floor]

(a) reference: batch 1, autograd over all adapter parameters, TRAK's block-wise dense projection to
    5120 dimensions, every fourth sample. A projection takes half a minute here, so a few of its 40
    blocks are timed and counted for all; they cost the same.
(b) ours with each projection: per-sample gradients of a batch, projection, normalising, store.
(c) floor: the same batches, forward and backward, nothing else.

With --bfloat16 the frozen weights are bfloat16 and every forward pass runs under autocast, as with
trainer=gpu. With --floor only (c) and the default projection are timed.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from reporting import arguments, interleaved, median_ratio, report, seconds_of
from toy_llava import IMAGE_TOKEN, bucketed_batches, toy_llava

from icons_repro.gradients.collect import RowCollector
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import build_projection
from icons_repro.gradients.writer import open_writer
from icons_repro.models.batches import model_inputs, take_rows
from icons_repro.models.lora import gradient_parameters

Batches = list[dict[str, torch.Tensor]]
Way = Callable[[dict[str, torch.Tensor]], None]
DEFAULT = "count_sketch"
OTHERS = ("srht", "kronecker", "none")
SLOW = ("rademacher",)
KINDS = (DEFAULT, *OTHERS, *SLOW)
REFERENCE_BLOCK = 128
REFERENCE_INTERVAL = 4


def floor(model: PeftModel, batch: dict[str, torch.Tensor]) -> None:
    """A plain training pass without the optimizer."""
    model(**model_inputs(batch), labels=batch["labels"], use_cache=False).loss.backward()
    model.zero_grad(set_to_none=True)


def under_autocast(way: Way) -> Way:
    """Return `way` with its forward passes in bfloat16."""

    def run(batch: dict[str, torch.Tensor]) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            way(batch)

    return run


def ours(model: PeftModel, batches: Batches, kind: str, dim: int, folder: Path) -> Way:
    """Return a function that extracts a batch into a store."""
    gradients = PerSampleGradients(model, gradient_parameters(model))
    collector = RowCollector(gradients, build_projection(gradients.layout, kind, dim))
    n_rows = sum(len(batch["input_ids"]) for batch in batches)
    writer = open_writer(folder / kind, n_rows=n_rows, dim=collector.projection.dim, identities={})

    def run(batch: dict[str, torch.Tensor]) -> None:
        rows = collector(batch)
        writer.write(batch["positions"], rows.values, rows.norms, rows.status.numpy())
        if batch is batches[-1]:
            writer.flush()

    return run


def time_ways(ways: dict[str, Way], batches: Batches, repeats: int) -> dict[str, list[float]]:
    """Return seconds a sample, by round; ways take turns batch by batch."""
    n_rows = sum(len(batch["input_ids"]) for batch in batches)
    totals = {name: [0.0] * repeats for name in ways}
    for batch in batches:
        calls = {name: partial(way, batch) for name, way in ways.items()}
        for name, times in interleaved(calls, repeats).items():
            totals[name] = [a + b / n_rows for a, b in zip(totals[name], times, strict=True)]
    return totals


def reference(model: PeftModel, batches: Batches, dim: int, blocks: int) -> dict[str, float]:
    """Time the released code's logic; return seconds a sample, by part."""
    parameters = [p for _, p in gradient_parameters(model)]
    ones = [
        take_rows(batches[i % len(batches)], [0], IMAGE_TOKEN) for i in range(REFERENCE_INTERVAL)
    ]
    start = time.perf_counter()
    rows = []
    for one in ones:
        loss = model(**model_inputs(one), labels=one["labels"], use_cache=False).loss
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    gradient = (time.perf_counter() - start) / len(ones)
    vectors = torch.stack(rows)
    matrix = torch.empty(vectors.shape[1], REFERENCE_BLOCK)
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    for _ in range(blocks):
        matrix.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
        vectors @ matrix
    one_block = (time.perf_counter() - start) / blocks
    projection = one_block * -(-dim // REFERENCE_BLOCK) / len(ones)
    return {"gradient": gradient, "projection": projection, "total": gradient + projection}


def main() -> None:
    """Measure and report."""
    parser = arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--dim", type=int, default=5120)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bfloat16", action="store_true", help="bfloat16 weights, autocast")
    parser.add_argument("--floor", action="store_true", help="the default and the floor alone")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = toy_llava(layers=1, hidden=32, inner=64, rank=2) if args.tiny else toy_llava()
    batches = bucketed_batches(2, 4) if args.tiny else bucketed_batches(4)
    dim, repeats = (64, 2) if args.tiny else (args.dim, args.repeats)
    model.requires_grad_(False)
    if args.bfloat16:
        model.to(torch.bfloat16)
    for _, parameter in gradient_parameters(model):
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    with tempfile.TemporaryDirectory() as name:
        ways: dict[str, Way] = {"floor": partial(floor, model)}
        ways |= {kind: ours(model, batches, kind, dim, Path(name)) for kind in KINDS}
        if args.bfloat16:
            ways = {name: under_autocast(way) for name, way in ways.items()}
        seconds = time_ways({kind: ways[kind] for kind in ("floor", DEFAULT)}, batches, repeats)
        if args.floor:
            publish(args, seconds, [], dim)
            return
        typical = batches[len(batches) // 2 - 1 : len(batches) // 2 + 1]  # of mean length
        seconds |= time_ways({kind: ways[kind] for kind in OTHERS}, typical, 2)
        for kind in SLOW:
            one = typical[-1]
            seconds[kind] = [seconds_of(partial(ways[kind], one)) / len(one["input_ids"])]
        timed = [reference(model, batches, dim, 1 if args.tiny else 2) for _ in range(2)]
    publish(args, seconds, timed, dim)


def publish(
    args: Any, seconds: dict[str, list[float]], timed: list[dict[str, float]], dim: int
) -> None:
    """Print the table and write the figures."""
    base = statistics.median(seconds["floor"])
    references = {
        "(a) reference, projection included": [t["total"] for t in timed],
        "(a) reference, its gradient alone": [t["gradient"] for t in timed],
    }
    rows = [
        *[
            {"way": name, "ms/sample": statistics.median(times) * 1e3}
            for name, times in references.items()
            if times
        ],
        *[
            {"way": f"(b) ours, {kind}", "ms/sample": statistics.median(times) * 1e3}
            for kind, times in seconds.items()
            if kind != "floor"
        ],
        {"way": "(c) floor: forward and backward", "ms/sample": base * 1e3},
    ]
    table = [
        {**row, "samples/s": 1e3 / row["ms/sample"], "x floor": row["ms/sample"] / base / 1e3}
        for row in rows
    ]
    ratio = median_ratio(seconds[DEFAULT], seconds["floor"])
    figures = {
        "projection": DEFAULT,
        "dim": dim,
        "bfloat16": args.bfloat16,
        "over_floor": ratio,
    }
    if timed:
        total = statistics.median(t["total"] for t in timed)
        figures["over_reference"] = total / statistics.median(seconds[DEFAULT])
    report("Gradient extraction, store included", table, figures, args.json)


if __name__ == "__main__":
    main()

"""What the leakage steps do: read pictures, compare lists with lists, keep examples to look at."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from icons_repro.core.errors import UserError
from icons_repro.core.files import write_json
from icons_repro.core.step import Counts
from icons_repro.core.work import Work
from icons_repro.evaluation.settings import BenchmarkSettings, benchmarks_from_config
from icons_repro.evaluation.tasks import benchmark_files, local_benchmarks
from icons_repro.leakage.crossings import RULE, Crossing, counts_of, crossings
from icons_repro.leakage.pairs import Pair, write_pairs
from icons_repro.leakage.prints import Prints, fingerprint
from icons_repro.leakage.sources import ParquetImages, Source, TableImages, TaskImages
from icons_repro.leakage.stage import Leakage, PoolPrints

log = logging.getLogger(__name__)
FILE = "leakage.json"
POOL = "pool"


@dataclass
class Read:
    """Lists of pictures, by name."""

    sources: dict[str, Source] = field(default_factory=dict)
    prints: dict[str, Prints] = field(default_factory=dict)
    not_checked: dict[str, str] = field(default_factory=dict)
    """Why a list is not there."""


def print_pool(step: PoolPrints, work: Work) -> Counts:
    """Write the fingerprints of the pool's pictures."""
    found = fingerprint(_pool_source(step, work), "pictures of the pool", step.threads)
    found.save(work.out)
    if found.unreadable:
        log.warning(
            "leakage: %s pictures of the pool cannot be opened and are not compared; the first: %s",
            f"{len(found.unreadable):,}", found.unreadable[0],
        )  # fmt: skip
    return found.counts()


def compare(step: Leakage, work: Work) -> Counts:
    """Write what the lists share, and return its counts."""
    pool = Prints.load(work.path(step.pool))
    targets, tests = _targets(step, work), _tests(step, work)
    chosen_from = {POOL: pool}
    crossed = {
        "tests_in_pool": crossings(tests.prints, chosen_from),
        "targets_in_pool": crossings(targets.prints, chosen_from),
        "targets_in_tests": crossings(targets.prints, tests.prints),
    }
    pool_source = Read({POOL: _pool_source(step.pool, work)}, chosen_from)
    lists = {"pool": pool_source, "targets": targets, "tests": tests}
    pairs = write_pairs(_examples(crossed, lists), work.out)
    counts = {
        "rule": RULE,
        "pool": pool.counts(),
        "targets": {name: prints.counts() for name, prints in targets.prints.items()},
        "tests": {name: prints.counts() for name, prints in tests.prints.items()},
        "not_checked": tests.not_checked,
        **{kind: counts_of(found) for kind, found in crossed.items()},
    }
    write_json(work.out / FILE, counts | {"pairs": pairs})
    return counts


def _pool_source(step: PoolPrints, work: Work) -> Source:
    folder = work.path(step.pool)
    return TableImages(folder, folder / "images")


def _targets(step: Leakage, work: Work) -> Read:
    read = Read()
    if step.targets is None:
        return read
    folder = work.path(step.targets)
    for records in sorted(folder.glob("*/records.arrow")):
        task = records.parent.name
        read.sources[task] = TableImages(records.parent, folder / "images")
        read.prints[task] = fingerprint(read.sources[task], task, step.threads)
    return read


def _tests(step: Leakage, work: Work) -> Read:
    read = Read()
    if step.world is not None or step.folder is not None:
        folder = benchmark_files(work.path(step.world) if step.world else None, step.folder)
        read.sources |= {
            benchmark.name: ParquetImages(folder / f"{benchmark.name}.parquet")
            for benchmark in local_benchmarks(folder, step.only)
        }
    else:
        wanted = benchmarks_from_config({name: e or {} for name, e in step.tasks.items()})
        read.sources, read.not_checked = _upstream(wanted, work.out)
    for name, source in read.sources.items():
        try:
            read.prints[name] = fingerprint(source, name, step.threads)
        except UserError as problem:
            read.not_checked[name] = str(problem)
    for name, reason in read.not_checked.items():
        read.sources.pop(name, None)
        log.warning("leakage: %s is not checked: %s", name, reason)
    return read


def _upstream(
    benchmarks: list[BenchmarkSettings], out: Path
) -> tuple[dict[str, Source], dict[str, str]]:
    """Return lmms-eval's tasks as lists of pictures; or why there are none."""
    from icons_repro.evaluation.availability import require_lmms_eval

    try:
        require_lmms_eval()
        from icons_repro.evaluation.loading import TaskLoader
    except (UserError, ImportError) as problem:
        return {}, {benchmark.name: str(problem) for benchmark in benchmarks}
    loader = TaskLoader(None, out)
    return {benchmark.name: TaskImages(loader, benchmark) for benchmark in benchmarks}, {}


def _examples(
    crossed: Mapping[str, Mapping[str, Mapping[str, Crossing]]], lists: Mapping[str, Read]
) -> Iterator[Pair]:
    """Yield what to look at, the most alike of each crossing first."""
    for kind, found in crossed.items():
        left, right = (lists[name] for name in kind.split("_in_"))
        for name, row in found.items():
            for other, crossing in row.items():
                for rank, example in enumerate(crossing.examples):
                    yield Pair(
                        kind=kind,
                        name=name,
                        other=other,
                        rank=rank,
                        bits=example.bits,
                        first=left.prints[name].names[example.mine],
                        second=right.prints[other].names[example.other],
                        positions=(
                            int(left.prints[name].positions[example.mine]),
                            int(right.prints[other].positions[example.other]),
                        ),
                        sources=(left.sources[name], right.sources[other]),
                    )

"""Every check of one config, in the order of the run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from icons_repro.config.run import RunConfig
from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError, UserError
from icons_repro.core.refs import existing
from icons_repro.core.settings import FEW_STEPS
from icons_repro.core.types import IMAGE_TOKEN
from icons_repro.experiment import FULL, RANDOM, Experiment
from icons_repro.graph.graph import Graph
from icons_repro.preflight.cost import memory_by_work
from icons_repro.preflight.files import benchmark_texts, check_checkpoint, check_local_benchmarks
from icons_repro.preflight.findings import Finding, would_fail
from icons_repro.preflight.images import decode_all
from icons_repro.preflight.leakage import shared_pictures
from icons_repro.preflight.machine import (
    check_devices,
    check_disk,
    check_lmms_eval,
    check_memory,
    check_shared_memory,
    check_versions,
)
from icons_repro.preflight.run_cost import NO_ROWS, has_sizes, rows_of, run_costs, size_of
from icons_repro.selection.base import budget_to_k
from icons_repro.selection.resolve import build_selector


def preflight(config: RunConfig, cache: Cache) -> list[Finding]:
    """Look at everything the run needs; reading the pool and its images is the long part."""
    graph = Graph(config)
    findings = check_versions()
    findings += _guarded("pool", lambda: list(_pool(config, graph, cache)))
    findings += _guarded("targets", lambda: list(_targets(config, graph, cache)))
    findings += _guarded("base model", lambda: list(_base(config)))
    findings += _guarded("features", lambda: list(_features(config, graph, cache)))
    findings += _resources(config, graph, cache)
    findings += _guarded("benchmarks", lambda: list(_benchmarks(config, cache.root)))
    if not would_fail(findings):
        findings += _guarded("words", lambda: list(_vocabulary(config, graph, cache)))
        findings += _guarded("training", lambda: list(_training(config, graph, cache)))
        findings += _guarded("references", lambda: list(_references(config, cache)))
        findings += _guarded("leakage", lambda: list(shared_pictures(config, cache)))
    if config.executor.kind == "slurm":
        from icons_repro.preflight.shared_disk import try_from_two_nodes

        partition = config.executor.partition
        findings += _guarded("claims", lambda: try_from_two_nodes(cache.root, partition))
    return findings


def _guarded(what: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Turn an error that a person can act on into a finding."""
    try:
        return check()
    except UserError as error:
        return [Finding("problem", what, str(error))]


def _pool(config: RunConfig, graph: Graph, cache: Cache) -> Iterator[Finding]:
    from icons_repro.data.records import RecordTable

    pool = obtain(graph.pool, cache)
    rows = cache.manifest(graph.pool)["counts"]
    text = f"{rows['usable']:,} of {rows['rows']:,} rows usable"
    if rows["skipped"]:
        listed = f"listed in {pool / 'skipped.jsonl'}"
        yield Finding("warning", "pool", f"{text}; skipped {rows['skipped']}", listed)
    else:
        yield Finding("ok", "pool", text)
    table = RecordTable(pool / "records.arrow")
    log = _image_log(cache, pool)
    checked, bad = decode_all(table, pool / "images", log, config.data.encoding.num_workers)
    if bad:
        text = f"{bad.total():,} images of {checked:,} rows cannot be used: {dict(bad)}; see {log}"
        remedy = "fetch them again, or data.check_images=decode data.on_bad_row=skip"
        yield Finding("problem", "images", text, remedy)
    else:
        yield Finding("ok", "images", f"every image of {checked:,} rows decodes")


def _image_log(cache: Cache, pool: Path) -> Path:
    """Name the log by the pool and the real image folder, so that a moved one is read anew."""
    folder = hashlib.sha256(str((pool / "images").resolve()).encode()).hexdigest()[:8]
    return cache.root / "preflight" / f"images-{pool.name}-{folder}.jsonl"


def _targets(config: RunConfig, graph: Graph, cache: Cache) -> Iterator[Finding]:
    obtain(graph.targets, cache)
    counts = cache.manifest(graph.targets)["counts"]
    text = ", ".join(f"{task} {rows['usable']:,}" for task, rows in counts.items())
    yield Finding("ok", "targets", text)
    settings = config.targets
    if not settings.draws:
        return
    seen = sorted(set(settings.test_rows) & set(counts))
    if seen:
        text = f"{', '.join(seen)}: the rows are the benchmark's test rows"
        yield Finding("warning", "targets", text, "their scores are not held out; say so")
    if unused := sorted(set(settings.tasks or settings.build) - set(counts)):
        text = f"{', '.join(unused)}: no rows but the test rows, so not used as targets"
        yield Finding("warning", "targets", text, f"targets.test_rows=[{','.join(unused)}]")


def _base(config: RunConfig) -> Iterator[Finding]:
    for key, model in {"model": config.model, "selection_model": config.selection_model}.items():
        if model and model.kind == "tiny":
            yield Finding("ok", key, "ships with the package")
        for part in ("folder", "language", "vision", "projector"):
            if name := getattr(model, part, None):
                yield check_checkpoint(f"{key}.{part}", name)


def _features(config: RunConfig, graph: Graph, cache: Cache) -> Iterator[Finding]:
    """Look at what the selector's features are made of, beside pool and model."""
    needed = build_selector(config.selector).requires
    for name in sorted(needed):
        graph.feature(name)  # says which setting is missing
    if {"clip", "self_filter"} & needed and config.features.clip:
        yield check_checkpoint("features.clip", config.features.clip)
    if "released_keys" in needed:
        obtain(graph.feature("released_keys"), cache)
        yield Finding("ok", "features.released", f"{config.features.released}: read")


def _vocabulary(config: RunConfig, graph: Graph, cache: Cache) -> Iterator[Finding]:
    """Ask whether the model that is trained can read the pool, the targets and the benchmarks."""
    from icons_repro.data.records import RecordTable
    from icons_repro.models.llava import load_processor
    from icons_repro.models.vocabulary import coverage, spread

    model = config.model
    if model.kind == "assembled" or not (model.kind == "tiny" or Path(model.folder or "").is_dir()):
        return  # its tokenizer is not here before its weights are
    tokenizer = load_processor(obtain(graph.base, cache)).tokenizer
    table = RecordTable(obtain(graph.pool, cache) / "records.arrow")
    rows = (table[i] for i in spread(len(table)) if table.usable[i])
    turns = (turn["value"].replace(IMAGE_TOKEN, "") for row in rows for turn in row.conversations)
    texts = {"the pool": list(turns)}
    if folder := _benchmark_folder(config):
        texts |= dict(benchmark_texts(folder, config.benchmarks.only))
    for what, found in texts.items():
        known = coverage(tokenizer, found)
        remedy = "" if known.enough else "the scores will say little: take a model that can read it"
        yield Finding("ok" if known.enough else "warning", f"words, {what}", str(known), remedy)


def _benchmark_folder(config: RunConfig) -> Path | None:
    """Return the folder of the user's own benchmark files, if the run scores on some."""
    scores = config.stages == ["preflight"] or "evaluate" in config.stages
    if not (scores and config.benchmarks.local) or config.data.world is not None:
        return None
    return existing(config.benchmarks.folder, "benchmarks.folder")


def _training(config: RunConfig, graph: Graph, cache: Cache) -> Iterator[Finding]:
    """Count the optimizer steps of both trainings."""
    usable = cache.manifest(graph.pool)["counts"]["usable"]
    kept = budget_to_k(config.budget, usable)
    warm = budget_to_k(config.warmup.fraction, usable)
    trainings = {"finetune": (kept, config.finetune), "warmup.train": (warm, config.warmup.train)}
    for name, (rows, recipe) in trainings.items():
        steps = -(-rows // recipe.batch_size) * recipe.epochs
        text = f"{steps} optimizer steps on {rows:,} rows"
        if steps < FEW_STEPS:
            remedy = f"lower {name}.batch_size and micro_batch, or raise its epochs"
            yield Finding("warning", name, text, remedy)
        else:
            yield Finding("ok", name, text)


def _references(config: RunConfig, cache: Cache) -> Iterator[Finding]:
    """Say whether there will be something to compare with."""
    if "evaluate" not in config.stages or config.reference != "reuse":
        return
    there = {line.name for line in Experiment(config, cache).references}
    wanted = {FULL} if config.budget == 1.0 else {FULL, RANDOM}
    if missing := sorted(wanted - there - {config.names.selector}):
        text = f"no {' and no '.join(missing)} run of this setup and seed is finished"
        yield Finding("warning", "references", text, "reference=compute trains them too")


def _resources(config: RunConfig, graph: Graph, cache: Cache) -> list[Finding]:
    """Compare disk, memory and devices with the plan's arithmetic, if the model's size is known."""
    if not has_sizes(config):
        return [*check_devices(config.trainer, {}), *check_shared_memory(config.trainer)]
    n = size_of(config.model, config).counts
    try:
        rows = rows_of(config, graph, cache)
    except ConfigError:  # said where the pool is looked at
        rows = NO_ROWS
    stages = run_costs([(config, rows)], cache)
    base = 2.0 * (n.frozen + n.projector)
    needs = {"base": base} | {stage.stage: stage.disk_bytes for stage in stages}
    return [
        *check_disk(Path(config.paths.cache), needs),
        *check_memory(base),
        *check_devices(config.trainer, _held(config, memory_by_work(n, config.trainer))),
        *check_shared_memory(config.trainer),
    ]


def _held(config: RunConfig, needs: dict[str, float]) -> dict[str, float]:
    """Leave out what the run does not do."""
    scores = config.stages == ["preflight"] or "evaluate" in config.stages
    return {name: size for name, size in needs.items() if scores or name != "evaluation"}


def _benchmarks(config: RunConfig, root: Path) -> Iterator[Finding]:
    package = check_lmms_eval()
    yield from package
    if folder := _benchmark_folder(config):
        yield from check_local_benchmarks(folder, config.benchmarks.only)
    if package[0].level == "problem" or config.benchmarks.local:
        return
    from icons_repro.evaluation.availability import unavailable
    from icons_repro.evaluation.settings import benchmarks_from_config, chosen_tasks

    tasks = chosen_tasks(config.benchmarks.tasks, config.benchmarks.only)
    chosen = benchmarks_from_config({name: entry or {} for name, entry in tasks.items()})
    log = root / "preflight" / "lmms_eval.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    problems = unavailable(chosen, log)
    scored = [b.name for b in chosen if b.name not in problems]
    yield Finding("ok" if scored else "problem", "benchmarks", f"can be scored: {scored or 'none'}")
    for name, reason in problems.items():
        yield Finding(
            "warning", f"benchmark {name}", reason, "else it is reported as not available"
        )

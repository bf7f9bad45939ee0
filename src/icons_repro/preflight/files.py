"""Whether the files that a run reads late can be read: checkpoints, encoders, benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from icons_repro.core.errors import UserError
from icons_repro.core.files import read_json
from icons_repro.evaluation.availability import hub_reachable
from icons_repro.evaluation.benchmark_files import answers_yes_or_no
from icons_repro.preflight.findings import Finding

INDEX = "model.safetensors.index.json"


def check_checkpoint(key: str, name: str) -> Finding:
    """Look at a model: a folder's files, or whether the hub can be asked for it."""
    if Path(name).exists():
        problem = checkpoint_problem(Path(name))
        if problem:
            return Finding("problem", key, f"{name}: {problem}", "copy or fetch it again")
        return Finding("ok", key, f"{name}: here, and whole")
    if in_hub_cache(name) or hub_reachable():
        where = "here" if in_hub_cache(name) else "on the hub, which answers"
        return Finding("ok", key, f"{name}: {where}")
    remedy = f"`hf download {name}` where there is a network, then HF_HOME or a folder"
    return Finding("problem", key, f"{name}: not here, no hub", remedy)


def checkpoint_problem(path: Path) -> str | None:
    """Say what is wrong with a checkpoint on disk: nothing of it is loaded, headers are read."""
    if path.is_file():
        return None if path.stat().st_size else "the file is empty"
    if not (path / "config.json").is_file():
        return None if list(path.glob("*.bin")) else "the folder has no config.json"
    if read_json(path / "config.json") is None:
        return "config.json is no JSON"
    index = read_json(path / INDEX) if (path / INDEX).exists() else {}
    if index is None:
        return f"{INDEX} is no JSON"
    shards = set(index.get("weight_map", {}).values())
    if missing := sorted(name for name in shards if not (path / name).is_file()):
        return f"{missing[0]} is missing"
    files = sorted(path.glob("*.safetensors"))
    if not files and not list(path.glob("*.bin")):
        return "the folder has no weights"
    return next((problem for file in files if (problem := _cut(file))), None)


def _cut(file: Path) -> str | None:
    """Say if a safetensors file is shorter than its header says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np"):
            return None
    except (SafetensorError, OSError) as error:
        return f"{file.name} cannot be read ({error})"


def in_hub_cache(name: str) -> bool:
    """Whether a whole snapshot of a repository is in the hub's cache."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots"
    return folder.is_dir() and not any((folder.parent / "blobs").glob("*.incomplete"))


def check_local_benchmarks(folder: Path, only: list[str] | None) -> Iterator[Finding]:
    """Read every row of every local benchmark, as evaluation will after all the training."""
    names = only or sorted(path.stem for path in folder.glob("*.parquet"))
    if not names:
        yield Finding("problem", "benchmarks", f"{folder} holds no *.parquet", "name another")
    for name in names:
        try:
            answers_yes_or_no(folder / f"{name}.parquet")
        except UserError as error:
            yield Finding("problem", f"benchmark {name}", str(error))
        else:
            yield Finding("ok", f"benchmark {name}", "every question can be asked")


def benchmark_texts(folder: Path, only: list[str] | None) -> Iterator[tuple[str, list[str]]]:
    """Yield each local benchmark's questions and answers."""
    for path in sorted(folder.glob("*.parquet")):
        if only is None or path.stem in only:
            columns: list[Any] = pq.read_table(path, columns=["question", "answer"]).columns
            yield path.stem, [str(value) for column in columns for value in column.to_pylist()]

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
from icons_repro.models.hub import already_here, refusal
from icons_repro.preflight.findings import Finding

INDEX = "model.safetensors.index.json"


def check_checkpoint(key: str, name: str) -> Finding:
    """Look at a model's files, here or in the hub's cache, or ask the hub for leave to read it."""
    folder = already_here(name)
    problem = checkpoint_problem(folder) if folder else "not here"
    if not problem:
        return Finding("ok", key, f"{name}: here, and whole")
    if Path(name).exists():
        return Finding("problem", key, f"{name}: {problem}", "copy or fetch it again")
    if not hub_reachable():
        text = f"{name}: {f'in the cache, but {problem}' if folder else problem}, no hub"
        remedy = f"`hf download {name}` where there is a network, then HF_HOME or a folder"
        return Finding("problem", key, text, remedy)
    if refused := refusal(name):
        return Finding("problem", key, refused)
    return Finding("ok", key, f"{name}: on the hub, which lets it be read")


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

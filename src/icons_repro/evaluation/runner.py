"""Score one model on benchmarks: resumable, one file each, and never a number that is not a score.

out/answers/<name>.jsonl    one row for each question (see answers.py)
out/metrics/<name>.json     the result, every metric of the task, settings, timing
out/submissions/            files for test servers, written by the tasks
out/lmms_eval.log           what lmms-eval printed
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from icons_repro.core.artifacts import write_json
from icons_repro.core.errors import UserError
from icons_repro.evaluation.preflight import judge_problem, require_lmms_eval
from icons_repro.evaluation.settings import BenchmarkSettings

log = logging.getLogger(__name__)

Result = dict[str, Any]
"""`score`, `metric`, `n`, `stderr`, `higher_is_better`, `status`, and `reason` if there is no
score. `score` and `stderr` are on the scale of the paper's tables (percent; MME in points)."""

NOT_AVAILABLE = "not available"


def evaluate(
    model_dir: Path,
    adapter_dir: Path | None,
    tasks: Sequence[BenchmarkSettings],
    include_path: Path | None,
    out: Path,
    batch_size: int = 128,
    device: str = "cpu",
    dtype: str = "float32",
    image_transform: Any = None,
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, Result]:
    """Return `{name: Result}` for the benchmarks of `tasks`, in their order.

    `adapter_dir=None` scores the model as it is. `image_transform` is what training did to images
    before the processor. A benchmark that `out` holds already, made from the same weights and
    settings, is not run again; one that was "not available" is tried again. `limit` takes the
    first rows of each benchmark, for trials. Raises `UserError` if lmms-eval is not installed.
    """
    version = require_lmms_eval()
    identity = {
        "weights": weights_identity(model_dir, adapter_dir),
        "dtype": dtype,
        "limit": limit,
        "seed": seed,
        "lmms_eval": version,
    }
    results: dict[str, Result] = {}
    pending = []
    for benchmark in tasks:
        done = _finished(out, benchmark, identity)
        if done is None and (problem := judge_problem(benchmark)):
            done = not_available(benchmark, problem)
            _write(out, benchmark, done, identity)
        if done is None:
            pending.append(benchmark)
        else:
            results[benchmark.name] = done
    if pending:
        results |= _run(
            pending, include_path, out, identity, limit, seed,
            {"model_dir": model_dir, "adapter_dir": adapter_dir, "batch_size": batch_size,
             "device": device, "dtype": dtype, "image_transform": image_transform},
        )  # fmt: skip
    return {benchmark.name: results[benchmark.name] for benchmark in tasks}


def not_available(benchmark: BenchmarkSettings, reason: str) -> Result:
    """Return the result of a benchmark that could not be scored."""
    return {
        "score": None,
        "metric": benchmark.metric,
        "n": 0,
        "stderr": None,
        "higher_is_better": benchmark.higher_is_better,
        "status": NOT_AVAILABLE,
        "reason": reason,
    }


def weights_identity(model_dir: Path, adapter_dir: Path | None) -> str:
    """Return a hash of what answers: the adapter's bytes, the base's config and file sizes."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update((model_dir / "config.json").read_bytes())
    for path in sorted(model_dir.glob("*.safetensors")):
        digest.update(f"{path.name}:{path.stat().st_size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 22))
    for path in sorted(adapter_dir.glob("*.safetensors")) if adapter_dir else []:
        if path.name != "optimizer.safetensors":
            digest.update(path.read_bytes())
    return digest.hexdigest()


def read_results(out: Path) -> dict[str, Result]:
    """Return the results that `out` holds."""
    paths = sorted((out / "metrics").glob("*.json"))
    return {path.stem: json.loads(path.read_text())["result"] for path in paths}


def _finished(out: Path, benchmark: BenchmarkSettings, identity: dict[str, Any]) -> Result | None:
    path = out / "metrics" / f"{benchmark.name}.json"
    if not path.is_file():
        return None
    stored = json.loads(path.read_text())
    same = stored["identity"] == identity and stored["settings"] == _plain(benchmark)
    return stored["result"] if same and stored["result"]["status"] == "ok" else None


def _plain(benchmark: BenchmarkSettings) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(benchmark)))
    return plain


def _write(
    out: Path,
    benchmark: BenchmarkSettings,
    result: Result,
    identity: dict[str, Any],
    **more: Any,
) -> None:
    path = out / "metrics" / f"{benchmark.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"result": result, "settings": _plain(benchmark), "identity": identity, **more}
    write_json(path, content)


def _run(
    benchmarks: Sequence[BenchmarkSettings],
    include_path: Path | None,
    out: Path,
    identity: dict[str, Any],
    limit: int | None,
    seed: int,
    model: dict[str, Any],
) -> dict[str, Result]:
    """Run lmms-eval on each benchmark in turn, with one model for all of them."""
    try:
        from icons_repro.evaluation.harness import Harness
    except ImportError as error:
        raise UserError(
            f"lmms-eval is installed but cannot be imported ({error}); install the pinned "
            "versions: uv pip install -r requirements.txt"
        ) from error

    out.mkdir(parents=True, exist_ok=True)
    harness = Harness(include_path, out, model, limit, seed)
    results = {}
    for number, benchmark in enumerate(benchmarks, 1):
        outcome = harness.run(benchmark, f"{number}/{len(benchmarks)}")
        result = outcome.pop("result")
        _write(out, benchmark, result, identity, **outcome)
        results[benchmark.name] = result
        if result["status"] != "ok":
            log.warning("%s: not available: %s", benchmark.name, result["reason"])
    harness.close()
    return results

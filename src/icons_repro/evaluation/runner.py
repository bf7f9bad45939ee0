"""Score one model on benchmarks: resumable, one file each, and never a number that is not a score.

out/answers/<name>.jsonl    one row for each question (see answers.py)
out/metrics/<name>.json     the result, every metric of the task, settings, timing
out/submissions/            files for test servers, written by the tasks
out/lmms_eval.log           what lmms-eval printed
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icons_repro.core.errors import UserError
from icons_repro.core.files import write_json
from icons_repro.evaluation.answerer import Answerer
from icons_repro.evaluation.availability import judge_problem, require_lmms_eval
from icons_repro.evaluation.result import Result, not_available
from icons_repro.evaluation.settings import BenchmarkSettings

if TYPE_CHECKING:
    from icons_repro.evaluation.harness import Harness

log = logging.getLogger(__name__)


class Evaluation:
    """Scores of one model, in one folder; what is there already is not asked again.

    A benchmark counts as there if it was made from the same weights and settings; one that was "not
    available" is tried again. Raises `UserError` if lmms-eval is not installed.
    """

    def __init__(
        self,
        answerer: Answerer,
        include_path: Path | None,
        out: Path,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        """Take `limit`, the first rows of each benchmark alone, for trials."""
        self.answerer, self.include_path, self.out = answerer, include_path, out
        self.limit, self.seed = limit, seed
        version = require_lmms_eval()
        run = {"limit": limit, "seed": seed, "lmms_eval": version}
        self.identity = answerer.identity() | run

    @cached_property
    def harness(self) -> Harness:
        """lmms-eval with the model, made when something is really asked."""
        try:
            from icons_repro.evaluation.harness import Harness
        except ImportError as error:
            raise UserError(
                f"lmms-eval is installed but cannot be imported ({error}); install the versions "
                "that requirements.txt of the repository pins"
            ) from error
        self.out.mkdir(parents=True, exist_ok=True)
        return Harness(self.include_path, self.out, self.answerer, self.limit, self.seed)

    def score(self, benchmark: BenchmarkSettings, count: str = "") -> Result:
        """Return the benchmark's result, answering what no slice has answered yet."""
        done = _finished(self.out, benchmark, self.identity)
        if done is None and (problem := judge_problem(benchmark)):
            done = not_available(benchmark, problem)
            _write(self.out, benchmark, done, self.identity)
        if done is not None:
            return done
        outcome = self.harness.run(benchmark, count)
        result: Result = outcome.pop("result")
        _write(self.out, benchmark, result, self.identity, **outcome)
        if result["status"] != "ok":
            log.warning("%s: not available: %s", benchmark.name, result["reason"])
        return result

    def answer(self, benchmark: BenchmarkSettings, part: int, of: int) -> None:
        """Answer one slice of a benchmark's questions, for `score` to find."""
        if _finished(self.out, benchmark, self.identity) is None and not judge_problem(benchmark):
            self.harness.answer(benchmark, part, of)

    def close(self) -> None:
        """Remove what lmms-eval left beside the results."""
        if "harness" in vars(self):
            self.harness.close()


def evaluate(
    model_dir: Path,
    adapter_dir: Path | None,
    tasks: Sequence[BenchmarkSettings],
    include_path: Path | None,
    out: Path,
    limit: int | None = None,
    seed: int = 0,
    **how: Any,
) -> dict[str, Result]:
    """Return `{name: Result}` for the benchmarks of `tasks`, in their order.

    `how` are the other fields of `Answerer`; see `Evaluation` for the rest.
    """
    answerer = Answerer(model_dir, adapter_dir, **how)
    evaluation = Evaluation(answerer, include_path, out, limit, seed)
    results = {
        benchmark.name: evaluation.score(benchmark, f"{number}/{len(tasks)}")
        for number, benchmark in enumerate(tasks, 1)
    }
    evaluation.close()
    return results


def read_scores(out: Path) -> dict[str, Result]:
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

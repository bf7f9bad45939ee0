"""Which benchmarks cannot be scored here, and why: asked before a model is loaded or a GPU paid."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from icons_repro.core.errors import UserError
from icons_repro.evaluation.isolation import contained
from icons_repro.evaluation.settings import BenchmarkSettings
from icons_repro.evaluation.tasks import plugin_tasks

LOCAL_BUILDERS = ("parquet", "json", "csv", "arrow", "text")
JUDGE_KEYS = {"openai": "OPENAI_API_KEY", "azure": "AZURE_API_KEY"}
JUDGE_URLS = {"openai": "OPENAI_API_URL", "azure": "AZURE_ENDPOINT"}
OPENAI_URL = "https://api.openai.com/v1/chat/completions"


def require_lmms_eval() -> str:
    """Return lmms-eval's version, without importing it. Raises `UserError` saying how to get it."""
    from importlib import metadata, util

    if util.find_spec("lmms_eval") is None:
        raise UserError(
            "the evaluate stage needs lmms-eval, which is not installed. `make setup` in a clone "
            "installs it. In your own environment plain pip cannot resolve it beside Hydra: put "
            "antlr4-python3-runtime==4.9.3 in a file, then uv pip install lmms-eval==0.7.3 "
            "--overrides FILE."
        )
    return metadata.version("lmms-eval")


def unavailable(benchmarks: Sequence[BenchmarkSettings], log: Path) -> dict[str, str]:
    """Return why each benchmark that cannot be scored cannot be.

    Imports lmms-eval (seconds); what it says goes to the file `log`.
    """
    with contained(log):
        from lmms_eval.tasks import TaskManager

        manager = TaskManager(include_path=plugin_tasks())
    problems = {}
    for benchmark in benchmarks:
        problem = judge_problem(benchmark)
        if problem is None and benchmark.task not in manager.all_tasks:
            problem = f"lmms-eval has no task {benchmark.task!r}"
        if problem is None:
            config = {**manager._get_config(benchmark.task), **benchmark.options}
            problem = dataset_problem(config["dataset_path"], config.get("dataset_kwargs"))
        if problem is not None:
            problems[benchmark.name] = problem
    return problems


def judge_problem(benchmark: BenchmarkSettings) -> str | None:
    """Return why the judge of a benchmark cannot be asked, or None."""
    if not benchmark.needs_judge:
        return None
    kind = os.getenv("API_TYPE", "openai")
    variable = JUDGE_KEYS.get(kind)
    if variable is None:
        return f"judge: API_TYPE={kind!r} is not one of {sorted(JUDGE_KEYS)}"
    key = os.getenv(variable, "")
    if not key or key == "YOUR_API_KEY":
        return f"judge: {variable} is not set, and this benchmark is scored by a language model"
    return _judge_refuses(kind, key)


def dataset_problem(dataset_path: str, dataset_kwargs: dict[str, object] | None) -> str | None:
    """Return why a task's data cannot be had, or None."""
    if dataset_path in LOCAL_BUILDERS or Path(dataset_path).exists():
        return None
    if (dataset_kwargs or {}).get("load_from_disk"):
        return f"data: the folder {dataset_path} does not exist"
    if is_cached(dataset_path) or hub_reachable():
        return None
    return (
        f"data: {dataset_path} is not in the cache and the Hugging Face hub cannot be reached. "
        "Run once with network access, or point HF_HOME at a cache that holds it"
    )


@functools.lru_cache(maxsize=1)
def hub_reachable(timeout: float = 5.0) -> bool:
    """Return whether the hub answers at all; False if offline mode is on."""
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=timeout).close()
    except urllib.error.HTTPError as error:
        return error.code < 500 and error.code not in (403, 407)
    except (OSError, ValueError):
        return False
    return True


def is_cached(dataset_path: str) -> bool:
    """Return whether `datasets` or the hub client holds a copy of a hub dataset."""
    from huggingface_hub import constants

    home = Path(os.path.expanduser(os.getenv("HF_HOME", "~/.cache/huggingface")))
    datasets = Path(
        os.getenv("LMMS_EVAL_DATASETS_CACHE") or os.getenv("HF_DATASETS_CACHE") or home / "datasets"
    )
    prepared = datasets / dataset_path.replace("/", "___").lower()
    snapshots = Path(constants.HF_HUB_CACHE) / f"datasets--{dataset_path.replace('/', '--')}"
    return prepared.is_dir() or (snapshots / "snapshots").is_dir()


@functools.lru_cache(maxsize=4)
def _judge_refuses(kind: str, key: str) -> str | None:
    """Ask the judge for one token; return what went wrong, or None."""
    import json
    import urllib.request

    url = os.getenv(JUDGE_URLS[kind], OPENAI_URL)
    model = os.getenv("MODEL_VERSION", "gpt-4o-2024-11-20")
    body = {"model": model, "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 1}
    headers = {"Content-Type": "application/json"}
    headers |= {"api-key": key} if kind == "azure" else {"Authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            json.load(reply)["choices"]
    except (OSError, ValueError, KeyError) as error:
        return f"judge: {model} at {url} does not answer ({error})"
    return None

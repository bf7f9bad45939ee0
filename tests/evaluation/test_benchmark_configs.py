"""The benchmark lists in conf/ name tasks and metrics that lmms-eval has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from icons_repro.core.errors import ConfigError
from icons_repro.evaluation.settings import BenchmarkSettings, benchmarks_from_config

CONF = Path(__file__).parents[2] / "conf" / "benchmarks"


def benchmarks(name: str) -> list[BenchmarkSettings]:
    return benchmarks_from_config(yaml.safe_load((CONF / f"{name}.yaml").read_text())["tasks"])


def config_of(task: str) -> dict[str, object]:
    """The task's YAML with its includes, read the way lmms-eval reads it, functions left out."""
    import lmms_eval.tasks
    from lmms_eval.utils import load_yaml_config

    line = re.compile(rf"""^task: *["']?{task}["']? *(#.*)?$""", re.MULTILINE)
    root = Path(lmms_eval.tasks.__file__).parent
    for path in root.rglob("*.yaml"):
        if line.search(path.read_text()):
            return dict(load_yaml_config(str(path), mode="simple"))
    raise AssertionError(f"lmms-eval has no task {task}")


@pytest.mark.parametrize("name", ["paper", "unseen"])
def test_every_benchmark_is_a_generation_task_with_its_metric(name: str) -> None:
    for benchmark in benchmarks(name):
        config = config_of(benchmark.task)
        assert config["output_type"] == "generate_until"
        metrics = [m["metric"] for m in benchmark.options.get("metric_list", config["metric_list"])]
        assert benchmark.metric in metrics, benchmark.name
        if benchmark.filter != "none":
            assert benchmark.filter in [f["name"] for f in config["filter_list"]]  # type: ignore


def test_the_lists_are_the_papers() -> None:
    assert len(benchmarks("paper")) == 10
    assert len(benchmarks("unseen")) == 8
    by_name = {b.name: b for b in benchmarks("paper")}
    assert by_name["textvqa"].options["lmms_eval_specific_kwargs"]["default"]["ocr"] is True
    assert by_name["mme"].multiplier == 1.0
    assert by_name["llava_wild"].needs_judge


def test_a_misspelt_field_is_named_with_the_nearest_right_one() -> None:
    with pytest.raises(ConfigError, match=r"'metrics'.*Did you mean 'metric'"):
        benchmarks_from_config({"gqa": {"metrics": "x"}})
    with pytest.raises(ConfigError, match="statistic"):
        benchmarks_from_config({"gqa": {"statistic": "median"}})

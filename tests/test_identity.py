"""Every field of every step is identity or placement, and only identity changes the name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from graphs import CONF, graph

from icons_repro.core.step import PLACEMENT, Step, ordered
from icons_repro.core.step_json import from_json, to_json
from icons_repro.engine.executors import resolved
from icons_repro.engine.resources import of_step

FEATURES = (
    *("influence", "influence_less", "influence_as_released", "validation_counts", "truth"),
    *("forward_stats", "coincide", "clip", "self_filter", "instance_gradients", "answer_words"),
    *("attention_trajectory", "released_keys"),
)
WORLD = ("data.world.tasks=7", "data.world.overlap=0.5")
"""An overlap is refused without a number of tasks."""
SOMEWHERE = {
    "how": ("threads", "workers", "devices", "token_budget", "batch_size", "resume_seconds"),
    "where": ("accelerator", "num_nodes", "strategy", "path", "num_workers"),
}


def every_step(released: Path) -> dict[str, Step]:
    """One step of each class, from graphs that use all of them."""
    found: dict[str, Step] = {}
    for direct in ("store", "direct"):
        g = graph(f"features.released={released}", f"gradients.mode={direct}", *WORLD)
        chosen = g.selection(g.config.selector, 0.2, 0)
        results, adapter = g.results, g.results.adapter(chosen, 0)
        goals = [results.scores(adapter), results.export(chosen, adapter)]
        goals += [g.pretrained, results.leakage(chosen)]
        goals += [g.feature(name) for name in FEATURES]
        found |= {type(step).__name__: step for step in ordered(goals)}
    for source in sorted((CONF / "influence").glob("*.yaml")):
        for more in ([], ["influence.sides=both"]) if source.stem == "preconditioned" else ([],):
            g = graph(f"influence={source.stem}", *more, *WORLD)
            goals = [g.influence, g.feature("influence_rows")]
            found |= {type(step).__name__: step for step in ordered(goals)}
    return found


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Step]:
    folder = tmp_path_factory.mktemp("released")
    (folder / "subset.json").write_text("[]")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return every_step(folder / "subset.json")


def variants(value: Any, placed: bool = False) -> Iterator[tuple[str, bool, Any]]:
    """Yield (path, whether it is placement, a copy with that one leaf changed)."""
    if is_dataclass(value) and not isinstance(value, type):
        for f in fields(value):
            inner = getattr(value, f.name)
            if isinstance(inner, Step) or _holds_steps(inner):
                continue
            here = placed or bool(f.metadata.get(PLACEMENT))
            for path, is_placed, other in variants(inner, here):
                yield f"{f.name}.{path}", is_placed, replace(value, **{f.name: other})
    else:
        yield "", placed, _other(value)


def _holds_steps(value: Any) -> bool:
    held = value.values() if isinstance(value, Mapping) else value
    return isinstance(value, (tuple, Mapping)) and any(isinstance(v, Step) for v in held)


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1 if value >= 1 else value + 0.25
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, Mapping):
        return {**value, "another": 1}
    if isinstance(value, (list, tuple)):
        return type(value)([*value, *(value[-1:] or ["x"])])
    return "something"


def test_all_kinds_of_work_are_there(steps: dict[str, Step]) -> None:
    assert len(steps) >= 20
    assert {step.group for step in steps.values()} >= {
        *("prepare", "warmup", "extract", "score", "features", "select", "finetune", "evaluate"),
        *("export", "pretrain"),
    }


def test_identity_changes_the_name_and_placement_does_not(steps: dict[str, Step]) -> None:
    kept, changed = set(), set()
    for name, step in steps.items():
        for path, placed, other in variants(step):
            same = other.fingerprint == step.fingerprint
            assert same is placed, f"{name}.{path} is {'placement' if placed else 'identity'}"
            (kept if placed else changed).add(path.strip(".").rsplit(".", 1)[-1])
    for names in SOMEWHERE.values():
        assert set(names) <= kept
    assert {"learning_rate", "batch_size", "precision", "model_dtype", "bits", "seed"} <= changed
    assert not {"precision", "model_dtype", "learning_rate", "micro_batch"} & kept


def test_every_step_reads_back_from_json_with_its_placement(steps: dict[str, Step]) -> None:
    for name, step in steps.items():
        back = from_json(to_json(step))
        assert back.fingerprint == step.fingerprint, name
        for f in fields(step):
            value = getattr(step, f.name)
            if not isinstance(value, Step) and not _holds_steps(value):
                assert getattr(back, f.name) == value, f"{name}.{f.name}"


@pytest.mark.parametrize(
    "override",
    [
        *("trainer.devices=2", "trainer.num_nodes=2", "trainer.strategy=ddp", "trainer.threads=7"),
        *("gradients.token_budget=512", "features.token_budget=99", "benchmarks.batch_size=3"),
        *("workers=5", "executor=local", "resources.extract.chunks=64", "data.num_workers=3"),
        *("finetune.resume_seconds=1.0", "warmup.train.gradient_checkpointing=true"),
        *("trainer.accelerator=gpu", "gradients.gradient_checkpointing=true"),
    ],
)
def test_how_and_where_it_runs_is_in_no_name(
    override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = []
    for g in (graph(), graph(override)):
        chosen = g.selection(g.config.selector, 0.2, 0)
        scores = g.results.scores(g.results.adapter(chosen, 0))
        goals = [scores, *(g.feature(n) for n in FEATURES[:-1])]
        names.append([step.fingerprint for step in ordered(goals)])
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("selector", "device"),
    [
        *(("semdedup", "cuda"), ("coincide", "cuda"), ("self_sup", "cuda"), ("d2_pruning", "cuda")),
        *(("self_filter", "cuda"), ("icons", "cpu"), ("random", "cpu")),
    ],
)
def test_only_what_clusters_or_searches_takes_a_gpu_to_select(selector: str, device: str) -> None:
    g = graph("trainer=gpu", f"selector={selector}")
    step = g.selection(g.config.selector, 0.2, 0)
    assert step.device == device
    table = resolved(g.config.resources, {"select": 1}, True, 1)
    assert of_step(table, step).gpus == (device == "cuda")
    without = graph("trainer=gpu", f"selector={selector}", "resources.select.gpus=0")
    assert without.selection(without.config.selector, 0.2, 0).device == "cpu"


def test_an_index_that_faiss_compresses_stays_on_the_cpu() -> None:
    g = graph("trainer=gpu", "selector=d2_pruning", "selector.index='IVF100,PQ16np'")
    assert g.selection(g.config.selector, 0.2, 0).device == "cpu"

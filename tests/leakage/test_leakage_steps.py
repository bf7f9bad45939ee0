"""The steps on files: a pool, two tasks and benchmarks with pictures that were put there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import graph
from PIL import Image
from shared_pictures import HOSTILE, leakage_step, records, scene

from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.settings import RecordPolicy
from icons_repro.core.step import Step, ordered
from icons_repro.core.step_json import from_json, to_json
from icons_repro.data.records import build_records
from icons_repro.experiment import Experiment
from icons_repro.leakage.prints import fingerprint
from icons_repro.leakage.sources import TableImages
from icons_repro.leakage.stage import Leakage, PoolPrints
from icons_repro.preflight.leakage import shared_pictures
from icons_repro.report.leakage import leakage_section, leaked


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a graph keeps the digests of files below its output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return obtain(leakage_step(), Cache(tmp_path_factory.mktemp("cache")))


def counts(found: dict[str, Any]) -> tuple[int, int, int, int]:
    return found["same"], found["near"], found["shown"], found["of"]


def test_what_was_put_there_is_counted(folder: Path) -> None:
    found = leaked(folder)
    assert counts(found["tests_in_pool"]["first"]) == (2, 1, 4, 6)
    assert counts(found["tests_in_pool"]["second"]) == (0, 1, 1, 3)
    assert counts(found["targets_in_pool"]["one"]) == (0, 0, 0, 2)
    assert counts(found["targets_in_pool"]["other"]) == (1, 0, 1, 2)
    crossed = {
        task: {name: (c["same"], c["near"]) for name, c in row.items()}
        for task, row in found["targets_in_tests"].items()
    }
    assert crossed == {"one": {"second": (1, 0)}, "other": {"first": (1, 0)}}
    assert found["unreadable"] == {"pool": 1}


def test_the_manifest_has_the_counts(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"]["tests_in_pool"]["first"]["pool"]["same"] == 2
    assert manifest["counts"]["pool"]["unreadable_examples"][0].startswith("image 'cut.png'")


def test_pairs_to_look_at_show_both_pictures(folder: Path) -> None:
    pairs = json.loads((folder / "leakage.json").read_text())["pairs"]
    told = {
        (*pair["lists"], *pair["pictures"]): pair
        for pair in pairs if pair["kind"] == "tests_in_pool"
    }  # fmt: skip
    assert set(told) == {
        ("first", "pool", "question q0", "0.png"),
        ("first", "pool", "question q2", "1.png"),
        ("first", "pool", "question q3", "2.png"),
        ("second", "pool", "question q0", HOSTILE),
    }
    for (*_, question, name), pair in told.items():
        with Image.open(folder / pair["file"]) as both:
            left, right = np.split(np.asarray(both.convert("RGB"), dtype=float), [132], axis=1)
        seen = scene(5 if name == HOSTILE else int(name[0]))
        shown = np.asarray(seen, dtype=float)
        assert np.abs(right[:96, 4:100] - shown).mean() < 12, (question, name)
        assert np.abs(left[:50, :50].mean() - shown.mean()) < 40


def test_the_page_tells_it_and_lets_no_file_name_write_markup(folder: Path) -> None:
    section = leakage_section(folder)
    assert [caption for caption, *_ in section["leak_tables"]] == [
        "Tests by pool", "Validation by pool", "Validation by test: the same + near",
    ]  # fmt: skip
    _, _, rows = section["leak_tables"][0]
    assert [cell["text"] for cell in rows[0][1:]] == ["5", "2", "1", "4", "66.7%"]
    _, _, rows = section["leak_tables"][2]
    assert [cell["text"] for cell in rows[0][1:]] == ["0", "1 + 0"]
    assert any("cut.png" in note for note in section["leak_notes"])
    from icons_repro.report.html.shell import environment

    template = environment().from_string(
        "{% for _, pairs in p %}{% for o in pairs %}{{ o.second }}{% endfor %}{% endfor %}"
    )
    text = template.render(p=section["leak_pairs"])
    assert "&lt;img onerror" in text
    assert "<img" not in text


def test_an_image_that_has_gone_since_the_pool_was_read_is_named(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in (0, 1):
        scene(number).save(images / f"{number}.png")
    (tmp_path / "pool.json").write_text(records(["0.png", "1.png"]))
    build_records(tmp_path / "pool.json", images, tmp_path, RecordPolicy())
    (images / "1.png").unlink()
    found = fingerprint(TableImages(tmp_path, images))
    assert list(found.names) == ["0.png"]
    assert "'1.png' is not in" in found.unreadable[0]


@pytest.mark.parametrize("selector", ["icons", "d2_pruning", "oracle"])
def test_nothing_that_is_trained_selected_or_scored_reads_it(selector: str) -> None:
    g = graph(f"selector={selector}")
    chosen = g.selection(g.config.selector, 0.2, 0)
    adapter = g.results.adapter(chosen, 0)
    read = ordered([g.results.scores(adapter), g.results.export(chosen, adapter)])
    assert not [step for step in read if isinstance(step, Leakage | PoolPrints)]


def test_only_targets_that_the_selection_reads_are_compared() -> None:
    g = graph("selector=icons")
    assert g.results.leakage(g.selection(g.config.selector, 0.2, 0)).targets is not None
    other = graph("selector=random")
    assert other.results.leakage(other.selection(other.config.selector, 0.2, 0)).targets is None


def test_threads_are_in_no_name_and_steps_come_back_from_json() -> None:
    step: Step = leakage_step(world=None, targets=None)
    g = graph()
    made = g.results.leakage(g.selection(g.config.selector, 0.2, 0))
    assert from_json(to_json(made)).fingerprint == made.fingerprint
    assert replace(made, threads=7).fingerprint == made.fingerprint
    assert replace(made, only=["tiny_vqa"]).fingerprint != made.fingerprint
    assert step.fingerprint != made.fingerprint


def test_preflight_tells_what_an_earlier_run_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, step = Cache(folder.parents[1]), leakage_step()
    monkeypatch.setattr(Experiment, "leakage", step)
    config = graph().config
    (found,) = shared_pictures(config, cache)
    assert found.level == "warning"
    assert "same in the pool: 2, near: 2" in found.found
    assert "same in a test: 2, near: 0" in found.found
    monkeypatch.setattr(Experiment, "leakage", leakage_step(targets=None))
    (found,) = shared_pictures(config, cache)
    assert (found.level, "the run will look" in found.found) == ("ok", True)


def test_a_run_looks_unless_told_not_to_and_only_where_it_evaluates(tmp_path: Path) -> None:
    looks = {
        override: Experiment(graph(override).config, Cache(tmp_path)).leakage is not None
        for override in ("leakage=true", "leakage=false", "stages=[select]")
    }
    assert looks == {"leakage=true": True, "leakage=false": False, "stages=[select]": False}

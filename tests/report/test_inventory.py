"""A folder of runs is read whole, whatever lies in it."""

from __future__ import annotations

from pathlib import Path

from run_folders import coins, write_run

from icons_repro.report.inventory import (
    forget_failure,
    record_failure,
    take_inventory,
)


def test_failed_half_finished_and_foreign_runs_are_told_apart(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", {"a": coins(0.6, 1)}, {"a": coins(0.9, 2)})
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").write_text("seed: 0\n")
    for name, text in (("cut", '{"experiment": '), ("other", '{"answer": 42}'), ("list", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(text)
    failed = write_run(tmp_path / "failed", None)
    record_failure(failed, "out of memory <b>")
    found = take_inventory([tmp_path])
    assert [run.folder for run in found.runs] == [good]
    states = {one.folder.name: one.state for one in found.unfinished}
    assert states == {
        "half": "half-finished", "cut": "foreign", "other": "foreign", "list": "foreign",
        "failed": "failed",
    }  # fmt: skip
    assert next(o for o in found.unfinished if o.state == "failed").reason == "out of memory <b>"
    forget_failure(failed)
    assert len(take_inventory([tmp_path]).runs) == 2


def test_what_lies_inside_of_a_run_is_no_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"a": coins(0.6, 1)})
    for inner in (".hydra", "wandb/offline/files"):
        (run / inner).mkdir(parents=True)
        (run / inner / "config.yaml").write_text("seed: 0\n")
    found = take_inventory([tmp_path])
    assert (len(found.runs), found.unfinished) == (1, ())


def test_a_folder_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"a": coins(0.6, 1)})
    assert len(take_inventory([tmp_path, tmp_path / "run"]).runs) == 1

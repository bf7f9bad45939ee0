"""Places that cannot be written, and names that are no names: one line each, before any work."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from forked import PROGRAM, run_forked


def plan(folder: Path, *arguments: str, output: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ICONS_OUTPUT": output}
    return run_forked(["plan=true", *arguments], folder, environment, light=True)


def refused(folder: Path, *arguments: str, output: str) -> str:
    """Return the one line that a run is refused with."""
    result = plan(folder, *arguments, output=output)
    assert result.returncode == 1, result.stdout + result.stderr
    said = result.stderr.strip()
    assert said.startswith("Error: ")
    assert "\n" not in said
    return said


def test_an_empty_output_folder_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    assert "unset ICONS_OUTPUT" in refused(tmp_path, output="")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = refused(tmp_path, output=str(tmp_path / "file" / "below"))
    assert str(tmp_path / "file") in said
    assert "ICONS_OUTPUT" in said


def test_what_a_setup_lacks_is_said_in_a_line_and_not_after_all_overrides(tmp_path: Path) -> None:
    """Hydra says `Error executing job with overrides: [...]` where a job raises."""
    said = refused(tmp_path, "setup=custom", "model=hf", output=str(tmp_path / "out"))
    assert "data.json is not set" in said


def test_an_interpolation_of_nothing_is_an_error_that_ends(tmp_path: Path) -> None:
    """It hung: an error that was raised anew as its own cause's cause has no first one."""
    command = [sys.executable, str(PROGRAM), "plan=true", "finetune.epochs=${nothing}"]
    told: dict[str, Any] = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 60}
    result = subprocess.run(command, **told)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "nothing" in result.stderr


@pytest.mark.parametrize("name", ["../../x", "/x", ""])
def test_a_name_that_leads_out_of_the_runs_is_refused(name: str, tmp_path: Path) -> None:
    output = tmp_path / "outputs"
    said = refused(tmp_path, f"names.selector='{name}'", output=str(output))
    assert "names.selector" in said
    assert not (tmp_path / "x").exists()


def test_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    result = plan(tmp_path, "names.selector='[/red]'", output=str(tmp_path / "[out]"))
    assert result.returncode == 0, result.stderr
    assert "[out]" in result.stdout


@pytest.mark.parametrize("words", ["stages=3", "stages=null", "~stages", "plan=maybe"])
def test_what_is_no_plan_and_no_stage_is_told_by_its_name(words: str, tmp_path: Path) -> None:
    """Hydra asks where its record goes before the settings are checked."""
    result = run_forked([words], tmp_path, os.environ | {"ICONS_OUTPUT": "out"}, light=True)
    name = words.strip("~").split("=")[0]
    assert result.returncode == 1
    assert result.stderr.strip().startswith(f"Error: {name}")
    assert "output_subdir" not in result.stderr


def test_a_plan_leaves_no_folder_of_a_run(tmp_path: Path) -> None:
    result = plan(tmp_path, output="out")
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "out" / "runs").exists()
    assert not list(tmp_path.rglob("*.alive")), "nobody works here any more"


def test_a_plan_is_not_recorded_as_the_command_that_made_what_is_there(tmp_path: Path) -> None:
    words = ["setup=custom", "model=hf"]  # refused by its settings: its folder is there by then
    environment = os.environ | {"ICONS_OUTPUT": "out"}
    assert run_forked(words, tmp_path, environment, light=True).returncode == 1
    (record,) = tmp_path.rglob("overrides.yaml")
    before = record.read_text()
    refused(tmp_path, *words, output="out")
    assert record.read_text() == before

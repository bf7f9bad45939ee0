"""What is installed from the wheel does what the clone does, from a folder that holds nothing."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from installed import ROOT, SMALL, Installed, add_plugin

pytestmark = pytest.mark.e2e
SOURCE = ROOT / "src" / "icons_repro"


@pytest.fixture(scope="module")
def empty(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where one small main job was run, inside somebody's own repository."""
    folder = tmp_path_factory.mktemp("empty")
    say = "git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m theirs"
    subprocess.run(say, shell=True, cwd=installed.site, check=True)
    words = ["icons-repro", "experiment=icons_20pct", "finetune.epochs=1", "reference=none"]
    result = installed.run(folder, [*words, "logger=none", *SMALL])
    assert result.returncode == 0, result.stderr[-3000:]
    (folder / "screen.txt").write_text(result.stdout)
    return folder


def test_the_wheel_holds_every_file_that_the_package_reads(installed: Installed) -> None:
    shipped = {p.relative_to(SOURCE) for p in SOURCE.rglob("*") if p.is_file()}
    shipped |= {"conf" / p.relative_to(ROOT / "conf") for p in (ROOT / "conf").rglob("*.yaml")}
    wanted = {p for p in shipped if "__pycache__" not in p.parts and "local" not in p.parts}
    there = {p.relative_to(installed.site / "icons_repro") for p in files(installed.site)}
    assert wanted - there == set()
    assert not [p for p in there if "local" in p.parts]  # the builder's own paths stay at home
    (licence,) = installed.site.glob("icons_repro-*.dist-info/licenses/LICENSE")
    assert licence.read_text() == (ROOT / "LICENSE").read_text()


def files(site: Path) -> list[Path]:
    return [p for p in (site / "icons_repro").rglob("*") if p.is_file()]


def test_the_command_runs_the_main_job_from_an_empty_folder(empty: Path) -> None:
    (path,) = empty.glob("outputs/runs/tiny/icons_20pct/icons-b0.2-s0-*/results.json")
    results = json.loads(path.read_text())
    assert results["n_selected"] == 24
    assert all(score["status"] == "ok" for score in results["benchmarks"].values())
    (manifest,) = empty.glob("outputs/cache/select/*/manifest.json")
    assert json.loads(manifest.read_text())["commit"] == "unknown"


def test_the_screen_names_the_command_that_was_typed(empty: Path, installed: Installed) -> None:
    tried = (empty / "screen.txt").read_text().split("Try next")[1]
    sweep = next(line for line in tried.splitlines() if " -m " in line)
    assert sweep.strip().startswith("icons-repro -m ")
    assert "selector=icons,random" in sweep
    assert "run.py" not in tried
    assert "icons-repro plan=true" in installed.run(empty, ["icons-repro", "--help"]).stdout


def test_the_module_finds_what_the_command_has_made(empty: Path, installed: Installed) -> None:
    words = ("finetune.epochs=1", "reference=none", "plan=true", *SMALL)
    result = installed.python(empty, "-m", "icons_repro", *words)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "0 of " in result.stdout.splitlines()[-1]


def test_an_error_and_the_help_name_the_module_that_was_typed(
    tmp_path: Path, installed: Installed
) -> None:
    wrong = installed.python(tmp_path, "-m", "icons_repro", "finetune.learning_rat=1")
    assert wrong.returncode == 1
    assert "did you mean finetune.learning_rate?" in wrong.stderr
    shown = installed.python(tmp_path, "-m", "icons_repro", "--help").stdout
    assert " -m icons_repro plan=true" in shown
    assert "run.py" not in shown


def test_another_package_adds_a_selector_a_feature_and_a_task(
    empty: Path, installed: Installed
) -> None:
    """The user's own experiment, from a folder of configs, chooses what the package brings."""
    add_plugin(installed.site)
    (empty / "mine" / "experiment").mkdir(parents=True)
    (empty / "mine" / "experiment" / "loud.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /selector: loudest\nbudget: 0.1\n"
    )
    words = ["icons-repro", "--config-dir", "mine", "experiment=loud", "stages=[select]"]
    result = installed.run(empty, [*words, "logger=none", *SMALL])
    assert result.returncode == 0, result.stderr[-3000:]
    (path,) = empty.glob("outputs/runs/tiny/loud/loudest-b0.1-s0-*/results.json")
    chosen = np.load(empty / json.loads(path.read_text())["selection"] / "positions.npy")
    (feature,) = empty.glob("outputs/cache/loudness/*/loudness.npy")
    loudness = np.load(feature)
    assert len(chosen) == 12
    assert loudness[chosen].min() >= np.sort(loudness)[-12]
    listed = "from icons_repro.evaluation.tasks import plugin_tasks as t; print(*t())"
    assert installed.python(empty, "-c", listed).stdout.split() == [
        str(installed.site / "loud_rows" / "tasks")
    ]
    broken = installed.site / "loud_rows" / "__init__.py"
    broken.write_text("raise RuntimeError('half installed')\n")
    result = installed.run(empty, [*words, *SMALL])
    assert result.returncode == 1
    assert "loud_rows cannot be imported: RuntimeError: half installed" in result.stderr
    assert "Traceback" not in result.stderr

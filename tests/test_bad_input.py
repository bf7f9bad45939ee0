"""What cannot work is one line, said before work starts where it can be known."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_config import ROOT, settings

from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError
from icons_repro.core.settings import ExecutorSettings
from icons_repro.core.step_json import to_json
from icons_repro.engine.executors import choose_executor
from icons_repro.engine.ledger import Ledger
from icons_repro.graph.graph import Graph
from icons_repro.pipeline import executor_of
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.stage import World

RUN = "stages=[select] selector=random reference=none data.world.pool_size=400 logger=none"


def on_a_disk(options: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a selection whose outputs are on a disk of its own; skipped where none can be mounted."""
    alone = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o {options} none {tmp_path}"
    if subprocess.run([*alone, mount], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    command = f"{mount} && {sys.executable} {ROOT / 'run.py'} {RUN}"
    return subprocess.run(
        [*alone, command],
        env={**os.environ, "ICONS_OUTPUT": str(tmp_path / "out"), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path.parent,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("ro", "out: Read-only file system."),
        ("size=512k", "cannot be written: No space left on device. Set ICONS_OUTPUT"),
        ("size=2m", "No space left on device"),  # room for the first step's start alone
    ],
)
def test_a_disk_that_is_full_or_read_only_is_said_in_a_line(
    options: str, said: str, tmp_path: Path
) -> None:
    result = on_a_disk(options, tmp_path)
    assert result.returncode == 1
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    assert said in line
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trainer=gpu", r"resources\.\w+\.gpus=1, but this machine has 0: set it, trainer\.dev"),
        ("trainer=ddp", r"resources\.\w+\.gpus=\d, but this machine has 0"),
        ("+resources.extrct={chunks: 2}", r"resources\.extrct: there is no such work; known: \['"),
        ("trainer.strategy=deepspeed", r"trainer\.strategy='deepspeed'.*'ddp' or 'fsdp2'"),
    ],
)
def test_what_a_machine_or_a_config_lacks_is_named_by_its_key(
    override: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match=said) as refused:
        _check(override, tmp_path)
    assert "\n" not in str(refused.value)


def _check(override: str, tmp_path: Path) -> None:
    found = settings(override)
    executor_of(found, None).check(Ledger([Graph(found).warmup], Cache(tmp_path)))


def test_an_executor_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.delitem(sys.modules, "icons_repro.engine.slurm", raising=False)
    monkeypatch.delitem(sys.modules, "icons_repro.engine.cluster_job", raising=False)
    with pytest.raises(
        ConfigError, match=r"executor=slurm needs submitit .*icons-repro\[cluster\]"
    ):
        choose_executor(ExecutorSettings(kind="slurm"), {}, None)


def test_a_step_of_another_version_is_refused_in_a_line(tmp_path: Path) -> None:
    text = to_json(World(settings=WorldSettings(pool_size=400)))
    (tmp_path / "step.json").write_text(text.replace('"pool_size": 400', '"pool_size": 500'))
    command = [sys.executable, "-m", "icons_repro.step", str(tmp_path / "step.json")]
    result = subprocess.run(
        [*command, "--cache", str(tmp_path / "cache")],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert "was written by another version of this program: give the command" in line
    assert not (tmp_path / "cache").exists()

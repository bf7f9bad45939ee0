"""The commands of "Running the paper", one after the other, compute each thing once."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[1]
SMALL = [
    *("data.world.pool_size=240", "data.world.test_rows=12", "data.world.validation_rows=8"),
    *("benchmarks.only=[tiny_pope,tiny_vqa]", "finetune.epochs=1", "reference=reuse"),
    *("logger=none", "finetune.micro_batch=8", "warmup.train.micro_batch=8"),
    "projection.dim=256",
]
HERE = {
    "setup=llava_665k": None,
    "executor=slurm": "executor=local",  # tests/slurm has the cluster
    "executor.partition=gpu": None,
    "trainer=ddp": "trainer.strategy=ddp",
    "trainer.devices=8": "trainer.devices=2",
    "executor=local": "executor=local",
    "seed=0,1,2": "seed=0,1",
}
"""What the page's words become on the tiny world and two processes."""


def commands() -> list[list[str]]:
    """The page's commands of the run and of the export, as they are typed."""
    page = (ROOT / "docs" / "running_the_paper.md").read_text()
    part = page.split("\n## The run\n")[1].split("\n## Select with one model")[0]
    blocks = re.findall(r"```bash\n(.*?)```", part, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [
        shlex.split(line, comments=True)[2:] for line in lines if line.startswith("python run.py")
    ]


def adapted(command: list[str]) -> list[str]:
    words = [HERE.get(word, word) for word in command]
    return [*filter(None, words), *SMALL, *(["workers=2"] if "executor=local" in words else [])]


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty output folder; signal handlers are given back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ICONS_OUTPUT", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    kept = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield tmp_path
    for number, handler in kept.items():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, handler)


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Be `python run.py ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", [str(ROOT / "run.py"), *arguments])
    GlobalHydra.instance().clear()
    runpy.run_path(str(ROOT / "run.py"), run_name="__main__")


def made(output: Path) -> dict[str, int]:
    """Every finished step, with the moment of its end."""
    return {
        str(path.parent.relative_to(output / "cache")): path.stat().st_mtime_ns
        for path in output.glob("cache/*/*/manifest.json")
    }


def test_the_commands_in_order_compute_each_stage_once(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after: list[dict[str, int]] = []
    for number, command in enumerate(commands()):
        two = [] if number else ["trainer.devices=2", "trainer.strategy=ddp"]
        run([*adapted(command), *two], monkeypatch)
        after.append(made(output))
    assert len(after) == 8
    for before, later in pairwise(after):
        assert before.items() <= later.items(), "nothing was computed again"
    asked = [name for name, command in enumerate(commands()) if "trainer=ddp" in command]
    assert len(asked) == 3
    for number in asked:
        assert after[number] == after[number - 1], "other devices and executors have other names"
    stages = Counter(name.split("/")[0] for name in after[-1])
    once = ("world", "pool", "targets", "base", "warmup")
    assert {stage: stages[stage] for stage in once} == dict.fromkeys(once, 1)
    twice = ("gradients", "target_gradients", "influence")  # one command has another projector
    assert {stage: stages[stage] for stage in twice} == dict.fromkeys(twice, 2)
    jobs = [
        json.loads((output / f"cache/{name}/training.json").read_text())["job"]["trainer"]
        for name in after[-1]
        if name.startswith("finetune/")
    ]
    assert sorted(job["devices"] for job in jobs)[-2:] == [1, 2], "one of them by two processes"

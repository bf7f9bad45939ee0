"""The check for a GPU runs on a CPU, where only its few packages are, and its lines can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from icons_repro.gpu_check import __main__ as program
from icons_repro.gpu_check import correctness, lines
from icons_repro.gpu_check.lines import Check, Found, Line, NotHereError, ask
from icons_repro.gpu_check.model import Rig, adapt, build
from icons_repro.gpu_check.shapes import SHAPES
from icons_repro.gradients import capture
from icons_repro.models.lora import gradient_parameters

SOURCE = Path(__file__).parents[2] / "src"
ROOTS = ("torch", "transformers", "peft", "lightning", "numpy", "pyarrow", "safetensors")
DRIVER = """
import runpy, socket, sys
for name in ("hydra", "wandb", "lmms_eval", "faiss", "datasets", "submitit", "PIL"):
    sys.modules[name] = None
def refuse(*_):
    raise OSError("no network in this test")
socket.socket.connect = socket.getaddrinfo = refuse
sys.argv[0] = "icons_repro.gpu_check"
runpy.run_module("icons_repro.gpu_check", run_name="__main__")
"""
UNUSED = {"rich", "pydantic"}
"""What newer command lines of transformers bring along, and nothing here needs."""
NOT_ON_A_CPU = {
    "out of memory under a cap: split, no row lost",
    "memory is given back when a child process ends",
}


def closure(roots: tuple[str, ...]) -> set[str]:
    """The distributions that installing `roots` brings, with the extras they ask for."""
    wanted, found = [Requirement(root) for root in roots], set()
    while wanted:
        one = wanted.pop()
        key = (one.name.lower().replace("_", "-"), tuple(sorted(one.extras)))
        if key in found:
            continue
        found.add(key)
        try:
            needs = metadata.requires(one.name) or []
        except metadata.PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            extras = ["", *one.extras]
            if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras):
                wanted.append(need)
    return {name for name, _ in found}


def site_of(roots: tuple[str, ...], folder: Path) -> Path:
    """A folder of links to those packages and what they need, as if nothing else was installed."""
    folder.mkdir()
    for name in closure(roots) - UNUSED:
        try:
            files = metadata.distribution(name).files or []
        except metadata.PackageNotFoundError:
            continue  # for another system
        for file in files:
            top = file.parts[0]
            link = folder / top
            if top not in ("..", "__pycache__") and not top.endswith(".pth") and not link.exists():
                link.symlink_to(Path(str(file.locate())).parents[len(file.parts) - 1] / top)
    return folder


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What the program prints and writes on a CPU, with nothing but its own packages."""
    root = tmp_path_factory.mktemp("check")
    file, site = root / "deeper" / "cpu.json", site_of(ROOTS, root / "site")
    installed = {path.name for path in site.iterdir()}
    assert installed.isdisjoint(
        {"hydra", "wandb", "pandas", "sklearn", "PIL", "matplotlib", *UNUSED}
    )
    command = [sys.executable, "-S", "-c", DRIVER]
    command += ["--device", "cpu", "--size", "tiny", "--json", str(file)]
    path = os.pathsep.join([str(site), str(SOURCE)])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, json.loads(file.read_text())


def test_every_correctness_line_is_a_tick_on_a_cpu(checked: tuple[str, dict[str, Any]]) -> None:
    asked = [line for line in checked[1]["lines"] if line["group"] == "correctness"]
    assert len(asked) == 13
    for line in asked:
        if line["name"] in NOT_ON_A_CPU:
            assert (line["status"], line["note"]) == ("skipped", "not on a CPU")
        else:
            assert line["status"] == "passed", line


def test_every_speed_line_is_a_figure(checked: tuple[str, dict[str, Any]]) -> None:
    asked = [line for line in checked[1]["lines"] if line["group"] == "speed"]
    assert len(asked) == 10
    for line in asked:
        assert line["status"] == "measured", line
        assert line["value"] > 0
        assert line["unit"]
    bergson = next(line for line in asked if "bergson" in line["name"])
    assert "bergson's own figure" in bergson["note"]
    assert "13,000" in bergson["note"]


def test_the_json_says_what_was_measured_where_and_by_which_code(
    checked: tuple[str, dict[str, Any]],
) -> None:
    found = checked[1]
    assert found["device"] == "cpu"
    assert found["size"] == "tiny"
    assert set(found) >= {"commit", "created", "seconds", "versions", "machine"}
    assert {"torch", "transformers", "peft", "lightning"} <= set(found["versions"])
    shape = {"group", "name", "status", "value", "unit", "note", "seconds"}
    assert all(set(line) == shape for line in found["lines"])
    assert found["seconds"] >= sum(line["seconds"] for line in found["lines"]) * 0.9


def test_the_table_has_a_line_for_each_question(checked: tuple[str, dict[str, Any]]) -> None:
    printed, found = checked
    for line in found["lines"]:
        (row,) = [x for x in printed.splitlines() if x[3:].startswith(f"{line['name']} ")]
        assert row[1] == lines.MARKS[line["status"]]


@pytest.fixture
def rig() -> Rig:
    return Rig("tiny", torch.device("cpu"))


def hangs(line: Line) -> None:
    raise AssertionError(f"{line} was reported as hung")


def raising(error: Exception) -> Callable[[Rig], Found]:
    def run(rig: Rig) -> Found:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "note"),
    [
        (ValueError("two\nlines"), "failed", "ValueError: two lines"),
        (torch.OutOfMemoryError("CUDA out of memory"), "failed", "does not fit in memory"),
        (NotHereError("not on a CPU"), "skipped", "not on a CPU"),
    ],
)
def test_a_line_that_goes_wrong_says_why_in_one_line(
    rig: Rig, error: Exception, status: str, note: str
) -> None:
    line = ask(Check("speed", "a question", raising(error)), rig, 60, hangs)
    assert (line.status, line.note) == (status, note)
    assert "\n" not in str(line)


def test_a_line_is_interrupted_when_its_time_is_up(rig: Rig) -> None:
    slow = Check("speed", "a question", lambda rig: time.sleep(30), seconds=0.2)  # type: ignore[arg-type,return-value]
    start = time.perf_counter()
    line = ask(slow, rig, 60, hangs)
    assert time.perf_counter() - start < 20
    assert line.status == "failed"
    assert "longer than" in line.note


def test_a_line_for_which_no_time_is_left_is_not_proven(rig: Rig) -> None:
    line = ask(Check("correctness", "a question", lambda rig: Found(1, passed=True)), rig, 0, hangs)
    assert (line.status, line.note) == ("failed", "no time was left for it")


def test_a_line_that_cannot_be_interrupted_is_reported_from_outside(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "GRACE", 0.1)
    monkeypatch.setattr(lines, "within", lambda seconds: nullcontext())  # as a kernel would be
    reported: list[Line] = []

    def deaf(rig: Rig) -> Found:
        deadline = time.monotonic() + 10
        while not reported and time.monotonic() < deadline:
            time.sleep(0.05)
        return Found(1)

    ask(Check("speed", "a question", deaf, seconds=0.1), rig, 60, reported.append)
    assert [line.note for line in reported] == ["hung: it cannot be stopped"]


def test_a_failed_line_fails_the_program_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        Check("correctness", "broken", raising(RuntimeError("no kernel image"))),
        Check("correctness", "sound", lambda rig: Found(0, passed=True)),
    ]
    slow = Check("speed", "broken too", raising(RuntimeError("no kernel image")))
    monkeypatch.setattr(correctness, "checks", lambda: asked)
    monkeypatch.setattr(program.speed, "checks", lambda shape: [slow])
    monkeypatch.setattr(program, "quiet", lambda: None)
    file = tmp_path / "found.json"
    arguments = ["--device", "cpu", "--size", "tiny", "--json", str(file)]
    assert program.main(arguments) == 1
    statuses = [line["status"] for line in json.loads(file.read_text())["lines"]]
    assert statuses == ["failed", "passed", "failed"]
    assert "✗ broken " in capsys.readouterr().out
    monkeypatch.setattr(correctness, "checks", lambda: asked[1:])
    assert program.main(arguments) == 0, "a speed that was not measured is no fault"


def test_wrong_signs_are_a_cross(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = correctness.random_words
    monkeypatch.setattr(correctness, "random_words", lambda s, b, n: honest(s + 1, b, n))
    assert correctness.rademacher_signs_are_numpys(rig).passed is False
    monkeypatch.setattr(correctness, "random_signs", lambda s, b, n: 1)
    assert correctness.count_sketch_is_numpys(rig).passed is False


def test_gradients_a_thousandth_off_are_a_cross(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = capture._token_sums
    monkeypatch.setattr(capture, "_token_sums", lambda g, x: honest(g, x) * 1.001)
    assert correctness.batched_is_loop(rig, torch.float32, 2).passed is False


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_answers_that_see_the_padding_are_a_cross(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    real = rig.prompts

    def unmasked(texts: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
        batch = real(texts, seed)
        return batch | {"attention_mask": torch.ones_like(batch["attention_mask"])}

    monkeypatch.setattr(rig, "prompts", unmasked)
    cut = correctness._alone
    lengths = real([4 + 3 * i % 29 for i in range(64)])["attention_mask"].sum(1)

    def alone(prompts: dict[str, torch.Tensor], i: int) -> dict[str, torch.Tensor]:
        return {
            name: value[:, -int(lengths[i]) :] if value.dim() == 2 else value
            for name, value in cut(prompts, i).items()
        }

    monkeypatch.setattr(correctness, "_alone", alone)
    assert correctness.answers_do_not_depend_on_the_batch(rig, dtype, 2).passed is False


def test_a_merge_that_loses_the_adapter_is_a_cross(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correctness, "merge", lambda model, adapter: model.unload().bfloat16())
    assert correctness.trains_merges_answers(rig).passed is False


def test_7b_is_vicunas_width_with_llavas_adapter() -> None:
    """319,815,680 LoRA parameters is what LLaVA-1.5's recipe gives Vicuna-7B."""
    shape, meta = SHAPES["7b"], torch.device("meta")
    model = adapt(shape, build(shape, meta, torch.bfloat16))
    assert sum(p.numel() for _, p in gradient_parameters(model)) == 319_815_680
    assert shape.tokens == 816

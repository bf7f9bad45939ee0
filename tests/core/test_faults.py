"""What a machine lacks ends a step in one line with its remedy, and a rerun goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from steps import Number, calls

from icons_repro.config.run import USED_DEVICES
from icons_repro.core.cache import Cache
from icons_repro.core.device import bfloat16_problem, require_device
from icons_repro.core.errors import ConfigError
from icons_repro.core.faults import SMALLER, in_one_line, is_disk_full
from icons_repro.core.settings import TrainerSettings
from icons_repro.engine.inline import InlineExecutor
from icons_repro.engine.ledger import Ledger
from icons_repro.engine.local import LocalExecutor

FULL = "/dev/full"
BFLOAT16 = TrainerSettings(accelerator="gpu", precision="bf16-mixed", model_dtype="bfloat16")
WAYS: dict[str, Callable[[], object]] = {
    "text": lambda: Path(FULL).write_text("x"),
    "numpy": lambda: np.zeros(2**20).tofile(FULL),
    "arrow": lambda: _arrow(),
    "torch": lambda: torch.save(torch.zeros(2**20), FULL),
}


def _arrow() -> None:
    with pa.OSFile(FULL, "wb") as file:
        file.write(b"x" * 2**20)


@pytest.mark.parametrize("way", WAYS)
def test_a_full_disk_is_recognised_whichever_library_writes(way: str) -> None:
    with pytest.raises((OSError, RuntimeError)) as caught:
        WAYS[way]()
    assert is_disk_full(caught.value), repr(caught.value)
    assert not is_disk_full(FileNotFoundError(2, "No such file or directory"))


@pytest.mark.parametrize("kind", ["inline", "local"])
@pytest.mark.parametrize(
    ("fails", "said"),
    [("disk", "a disk is full: free some space"), ("memory", "not enough memory")],
)
def test_a_step_that_the_machine_cannot_hold_says_so_in_a_line_and_a_rerun_goes_on(
    kind: str, fails: str, said: str, tmp_path: Path
) -> None:
    root = Number(value=1)

    def run(fails: str) -> Ledger:
        ledger = Ledger([Number(value=2, reads=(root,), fails=fails)], Cache(tmp_path))
        made = InlineExecutor({}) if kind == "inline" else LocalExecutor({}, 1, gpus=[])
        made.run(ledger)
        return ledger

    (failure,) = run(fails).failures
    assert failure.cause.startswith(said)
    assert len(failure.cause.splitlines()) == 1
    assert not run("").failures
    assert calls(tmp_path).count("number-1") == 1


@pytest.mark.parametrize("group", [g for g, used in USED_DEVICES.items() if used is not None])
def test_each_kind_of_work_on_a_gpu_has_a_remedy_for_too_little_memory(group: str) -> None:
    class Work(Number):
        pass

    Work.group = group
    line = in_one_line(torch.OutOfMemoryError("CUDA out of memory.\nTried to"), Work(value=1))
    assert SMALLER[group] in line
    assert "\n" not in line
    assert in_one_line(ValueError("another"), Work(value=1)) == "ValueError: another"


def test_a_file_of_another_user_has_a_remedy() -> None:
    line = in_one_line(PermissionError(13, "Permission denied", "/shared/x"), Number(value=1))
    assert "umask 002" in line
    assert "/shared/x" in line


def test_fewer_gpus_than_asked_and_no_bfloat16_are_said_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_device(TrainerSettings())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    with pytest.raises(ConfigError, match=r"has 4 of the 8 GPU\(s\)"):
        require_device(TrainerSettings(accelerator="gpu", devices=8), 8)
    require_device(TrainerSettings(accelerator="gpu", devices=8))
    with pytest.raises(ConfigError, match=r"Tesla T4 .* no bfloat16.*precision=bf16-mixed and"):
        require_device(BFLOAT16)
    assert bfloat16_problem(TrainerSettings(accelerator="gpu")) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"has 0 of the 1 GPU"):
        require_device(BFLOAT16)

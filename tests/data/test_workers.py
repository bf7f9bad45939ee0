"""Batches that workers read come back, however small the memory that they share."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mounted import may_mount, run_mounted

from icons_repro.core.machine import SHARED
from icons_repro.data import workers

SRC = Path(__file__).parents[2] / "src"
READ = """
import torch
from icons_repro.data.workers import batch_loader

class Rows(torch.utils.data.Dataset):
    def __getitem__(self, row):
        return {"pixels": torch.full((10_000,), float(row)), "row": torch.tensor(row)}

if __name__ == "__main__":
    batches = [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(8)]
    found = list(batch_loader(Rows(), batches, lambda rows: rows, 2))
    rows = [row for batch in found for row in batch]
    assert [int(row["row"]) for row in rows] == list(range(24))
    assert all((row["pixels"] == float(row["row"])).all() for row in rows)
    print("all came back")
"""


@pytest.mark.skipif(not may_mount(), reason="needs the right to mount a /dev/shm of its own")
def test_a_full_shared_memory_loses_no_batch(tmp_path: Path) -> None:
    """It waited for ever, which the time limit of two minutes would show."""
    (tmp_path / "read.py").write_text(READ)
    environment = os.environ | {"PYTHONPATH": str(SRC)}
    done = run_mounted(SHARED, "size=64k", [str(tmp_path / "read.py")], environment)
    assert done.stdout == "all came back\n", done.stderr[-2000:]
    assert not done.stderr


def test_a_long_path_of_temporary_files_loses_no_batch(tmp_path: Path) -> None:
    """A socket's path has 108 bytes; clusters' TMPDIR can be longer."""
    folder = tmp_path / ("scratch-of-a-job-" * 7)
    folder.mkdir()
    (tmp_path / "read.py").write_text(READ)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "read.py")],
        env=os.environ | {"PYTHONPATH": str(SRC), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "all came back\n", done.stderr[-2000:]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12).reshape(3, 4).T,
        torch.tensor(2.5),
        torch.zeros(0, 3),
        torch.tensor([True, False]),
        torch.randn(5).to(torch.bfloat16),
    ],
    ids=["transposed", "number", "empty", "bool", "bfloat16"],
)
def test_a_tensor_goes_through_a_pipe_as_it_is(
    tensor: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "has_room", lambda size: False)
    monkeypatch.setattr(ForkingPickler, "_extra_reducers", ForkingPickler._extra_reducers.copy())
    workers.spare_shared_memory(0)
    found = pickle.loads(ForkingPickler.dumps(tensor))
    assert found.dtype == tensor.dtype
    assert torch.equal(found, tensor)
    found.fill_(1)  # whoever gets it may write to it


def test_no_more_processes_read_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 3)
    rows = torch.utils.data.TensorDataset(torch.zeros(1))
    found = [workers.batch_loader(rows, [[0]], list, n).num_workers for n in (0, 2, 8)]
    assert found == [0, 2, 3]


def test_half_of_the_shared_memory_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def statvfs(path: str) -> SimpleNamespace:
        return SimpleNamespace(f_frsize=4096, f_blocks=100, f_bavail=60)

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert workers.has_room(9 * 4096)
    assert not workers.has_room(11 * 4096)

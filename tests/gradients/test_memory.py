"""Running out of memory is recognised in every form, learnt from, and tried again."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from gradient_models import MIXED, batch_of, small_llava, with_adapter
from peft import PeftModel
from test_extract import quiet_trainer

from icons_repro.core.errors import DataError, UserError
from icons_repro.core.faults import is_out_of_memory
from icons_repro.gradients import direct
from icons_repro.gradients.collect import RowCollector
from icons_repro.gradients.extract import Running, StoreOptions, extract
from icons_repro.gradients.memory import TokenLimits
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import build_projection
from icons_repro.gradients.room import device_room, require_room
from icons_repro.gradients.store import GradientStore
from icons_repro.gradients.writer import open_writer, remaining_batches, seal
from icons_repro.models.answers import answer_losses
from icons_repro.models.lora import gradient_parameters

LOSSES = "icons_repro.gradients.per_sample.answer_losses"


@pytest.fixture(scope="module")
def model() -> PeftModel:
    return with_adapter(small_llava(dtype=torch.float32))


def parts(model: PeftModel) -> tuple:
    gradients = PerSampleGradients(model, gradient_parameters(model))
    return gradients, build_projection(gradients.layout, dim=64)


def batches(n: int) -> list[dict[str, torch.Tensor]]:
    made = [batch_of(MIXED, dtype=torch.float32, seed=number) for number in range(n)]
    for number, batch in enumerate(made):
        batch["positions"] += number * len(MIXED)
    return made


def room_for(rows: int, sizes: list[int], never: int | None = None) -> Callable:
    """Return losses that run out of memory on more rows, and on the row at `never`."""

    def starved(model: torch.nn.Module, batch: dict, **options: bool) -> torch.Tensor:
        sizes.append(len(batch["input_ids"]))
        if sizes[-1] > rows or never in batch["positions"].tolist():
            raise RuntimeError("CUDA error: out of memory")
        return answer_losses(model, batch, **options)

    return starved


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling"),
        RuntimeError("HIP out of memory. Tried to allocate"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
    ids=lambda error: str(error)[:40],
)
def test_each_form_of_the_error_is_recognised(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
        RuntimeError("out of resource: shared memory, Required: 1, Hardware limit: 0"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory"),
    ],
    ids=lambda error: str(error)[:40],
)
def test_no_other_error_is_taken_for_it(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_a_later_full_batch_does_not_fail_first(
    model: PeftModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = RowCollector(*parts(model))
    whole = [RowCollector(*parts(model))(batch) for batch in batches(3)]
    sizes: list[int] = []
    monkeypatch.setattr(LOSSES, room_for(2, sizes))
    split = [collector(batch) for batch in batches(3)]
    assert sizes == [5, 2, 2, 1, 2, 2, 1, 2, 2, 1]
    for ours, theirs in zip(split, whole, strict=True):
        torch.testing.assert_close(ours.values, theirs.values, rtol=1e-3, atol=1e-5)


def test_another_process_starts_with_what_was_learnt_on_its_device(
    model: PeftModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "cache" / "memory.json"
    sizes: list[int] = []
    monkeypatch.setattr(LOSSES, room_for(2, sizes))
    RowCollector(*parts(model), limits=TokenLimits(path))(batches(1)[0])
    RowCollector(*parts(model), limits=TokenLimits(path))(batches(1)[0])
    assert sizes == [5, 2, 2, 1, 2, 2, 1]
    known = json.loads(path.read_text())
    (tokens,) = known["cpu"].values()
    assert tokens == batches(1)[0]["input_ids"].numel() // 2
    path.write_text(json.dumps({"another card": known["cpu"]}))
    RowCollector(*parts(model), limits=TokenLimits(path))(batches(1)[0])
    assert sizes[7] == 5


def test_limits_fall_and_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    one, two = TokenLimits(tmp_path / "m.json"), TokenLimits(tmp_path / "m.json")
    one.did_not_fit("card", "7b", 4096)
    two.did_not_fit("card", "13b", 2000)
    two.did_not_fit("card", "7b", 9000)
    found = TokenLimits(tmp_path / "m.json")
    assert (found.get("card", "7b"), found.get("card", "13b")) == (2048, 1000)
    assert found.get("card", "1b") is None
    assert found.get("other", "7b") is None


def test_rows_given_up_are_tried_again_alone_on_the_next_run(
    model: PeftModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, folder = batches(2), tmp_path / "s"
    plan = [batch["positions"].tolist() for batch in data]

    def run(left: list) -> GradientStore:
        gradients, projection = parts(model)
        return extract(
            gradients, projection, left, folder,
            store=StoreOptions(n_rows=10), running=Running(quiet_trainer()),
        )  # fmt: skip

    sizes: list[int] = []
    monkeypatch.setattr(LOSSES, room_for(9, sizes, never=7))
    assert run(data).excluded() == [(7, "out_of_memory")]
    (again,) = remaining_batches(folder, plan)
    assert list(again) == [7]
    one = {k: v[2:3] for k, v in data[1].items() if k != "pixel_values"}
    one["pixel_values"] = data[1]["pixel_values"][1:3]
    sizes.clear()
    assert run([one]).excluded() == [(7, "out_of_memory")], "it failed again, and is kept as such"
    monkeypatch.setattr(LOSSES, answer_losses)
    before = (folder / "rows.bin").read_bytes()
    store = run([one])
    assert store.excluded() == []
    assert dict(store.info.rows) == {"ok": 10}
    row = store.codec.row_bytes
    after = (folder / "rows.bin").read_bytes()
    changed = {i for i in range(10) if before[i * row :][:row] != after[i * row :][:row]}
    assert changed == {7}
    assert remaining_batches(folder, plan) == []


def test_a_run_that_brings_no_such_row_leaves_it_given_up(tmp_path: Path) -> None:
    start = partial(open_writer, tmp_path / "s", n_rows=2, dim=4, identities={})
    with start() as writer:
        writer.write([0], torch.ones(1, 4) / 2, torch.ones(1), [1])
        writer.write([1], torch.zeros(1, 4), torch.zeros(1), [5])
    with start() as writer:
        assert writer.pending().tolist() == [1]
        assert writer.lacks(np.array([1]))
    seal(tmp_path / "s")
    store = GradientStore.open(tmp_path / "s")
    assert store.excluded() == [(1, "out_of_memory")]
    assert dict(store.info.rows) == {"ok": 1, "out_of_memory": 1}


def test_a_device_that_holds_no_row_at_all_stops_the_pass_in_a_line_and_a_larger_one_goes_on(
    model: PeftModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run() -> GradientStore:
        gradients, projection = parts(model)
        return extract(
            gradients, projection, batches(4), tmp_path / "s",
            store=StoreOptions(n_rows=20), running=Running(quiet_trainer()),
        )  # fmt: skip

    sizes: list[int] = []
    monkeypatch.setattr(LOSSES, room_for(0, sizes))
    with pytest.raises(UserError, match=r"not one of 16 rows fits in the memory of cpu"):
        run()
    assert sizes.count(1) == 16, "the others are not tried"
    monkeypatch.setattr(LOSSES, answer_losses)
    assert dict(run().info.rows) == {"ok": 20}


def test_direct_mode_counts_the_devices_memory(
    model: PeftModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gradients, _ = parts(model)
    row = gradients.layout.dim * 4
    assert require_room(2, gradients.layout, 1.0, 10 * row) == 3
    with pytest.raises(DataError, match=r"of the device may be used"):
        require_room(2, gradients.layout, 1.0, 2 * row)
    sizes: list[int] = []
    monkeypatch.setattr(LOSSES, room_for(9, sizes))
    monkeypatch.setattr(direct, "device_room", lambda *_: 7 * row)
    directions = direct.task_directions(
        gradients, {"a": batches(1)}, running=Running(quiet_trainer())
    )
    assert max(sizes) == 2
    monkeypatch.setattr(direct, "device_room", lambda *_: row // 2)
    with pytest.raises(DataError, match="1 directions on the device"):
        direct.score_direct(
            gradients, directions, batches(1), tmp_path / "d", running=Running(quiet_trainer())
        )


def test_the_cpu_has_no_memory_of_its_own_to_count(model: PeftModel) -> None:
    assert device_room(model, torch.device("cpu")) is None

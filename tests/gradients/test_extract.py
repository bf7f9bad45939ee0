"""Extraction fills a store with the right rows, whatever happens on the way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from forked import run_forked
from gradient_models import MIXED, batch_of, small_llava, with_adapter
from peft import PeftModel

from icons_repro.core.errors import DataError, UserError
from icons_repro.core.stop import SIGNALS, Stopped, heed_signals
from icons_repro.gradients.collect import RowCollector
from icons_repro.gradients.extract import Running, StoreOptions, extract
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import build_projection
from icons_repro.gradients.store import GradientStore, RowStatus
from icons_repro.models.answers import answer_losses
from icons_repro.models.lora import gradient_parameters


@pytest.fixture(scope="module")
def model() -> PeftModel:
    return with_adapter(small_llava(dtype=torch.float32))


def quiet_trainer(**changes: object) -> lightning.Trainer:
    settings: dict = {"accelerator": "cpu", "devices": 1, "logger": False}
    settings |= {"enable_checkpointing": False, "enable_model_summary": False}
    return lightning.Trainer(**{**settings, "enable_progress_bar": False, **changes})


def parts(model: PeftModel, method: str = "batched", kind: str = "count_sketch") -> tuple:
    gradients = PerSampleGradients(model, gradient_parameters(model), method)  # type: ignore[arg-type]
    return gradients, build_projection(gradients.layout, kind, dim=256)


def batches(n: int = 4) -> list[dict[str, torch.Tensor]]:
    made = []
    for number in range(n):
        batch = batch_of(MIXED, dtype=torch.float32, seed=number)
        batch["positions"] += number * len(MIXED)
        made.append(batch)
    return made


def extracted(
    model: PeftModel, folder: Path, data: list, *how: str, **more: object
) -> GradientStore:
    running = Running(more.pop("trainer", None) or quiet_trainer())  # type: ignore[arg-type]
    options = StoreOptions(**{"dtype": "float32", **more})  # type: ignore[arg-type]
    return extract(*parts(model, *how), data, folder, store=options, running=running)


def test_rows_are_the_projected_normalised_gradients_in_pool_order(
    model: PeftModel, tmp_path: Path
) -> None:
    data = batches()
    store = extracted(model, tmp_path / "s", data[::-1], n_rows=20)
    gradients, projection = parts(model, "loop")
    for batch in data:
        rows = projection.project(gradients(batch)[0])
        first = int(batch["positions"][0])
        lengths = rows.norm(dim=1)
        torch.testing.assert_close(
            store.read(first, first + 5), rows / lengths[:, None], rtol=1e-3, atol=1e-5
        )
        np.testing.assert_allclose(store.norms[first : first + 5], lengths, rtol=1e-4)


def test_the_fast_path_and_the_loop_rank_rows_alike(model: PeftModel, tmp_path: Path) -> None:
    fast = extracted(model, tmp_path / "fast", batches()).read()
    slow = extracted(model, tmp_path / "slow", batches(), "loop").read()
    cosines = fast @ fast.T, slow @ slow.T
    assert float((cosines[0] - cosines[1]).abs().max()) < 1e-4


def test_a_store_says_what_its_rows_depend_on(model: PeftModel, tmp_path: Path) -> None:
    data = batches(1)
    plain = extracted(model, tmp_path / "a", data).info.identities
    assert set(plain) == {"model", "adapter", "projection", "direction"}
    assert plain["direction"] == {"kind": "sgd"}
    other = with_adapter(small_llava(dtype=torch.float32), seed=9)
    changed = extracted(other, tmp_path / "b", data).info.identities
    assert changed["adapter"] != plain["adapter"]
    assert changed["model"] == plain["model"]
    given = extracted(model, tmp_path / "c", data, identities={"adapter": "x"}).info.identities
    assert given["adapter"] == "x"


def test_bad_rows_are_recorded_with_their_reason(model: PeftModel, tmp_path: Path) -> None:
    data = batches(2)
    whole = extracted(model, tmp_path / "whole", data)
    data[0]["labels"][1] = -100
    data[1]["pixel_values"][0] = float("nan")  # the image of row 5
    store = extracted(model, tmp_path / "s", data)
    assert store.excluded() == [(1, "no_answer_tokens"), (5, "non_finite")]
    rest = store.ok
    torch.testing.assert_close(store.read()[rest], whole.read()[rest], rtol=1e-3, atol=1e-5)
    assert float(store.read()[~rest].abs().max()) == 0


def test_a_row_of_gradient_zero_is_recorded(tmp_path: Path) -> None:
    model = with_adapter(small_llava(dtype=torch.float32))
    gradients = PerSampleGradients(model, gradient_parameters(model, "multi_modal_projector"))
    projection = build_projection(gradients.layout, dim=64)
    store = extract(
        gradients, projection, batches(1), tmp_path / "s", running=Running(quiet_trainer())
    )
    assert store.excluded() == [(1, "zero"), (3, "zero")]


def test_a_batch_that_runs_out_of_memory_is_split_and_its_rows_do_not_change(
    model: PeftModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = extracted(model, tmp_path / "whole", batches(2))
    sizes: list[int] = []

    def starved(model: torch.nn.Module, batch: dict, **options: bool) -> torch.Tensor:
        sizes.append(len(batch["input_ids"]))
        if len(batch["input_ids"]) > 2 or batch["positions"].tolist() == [7]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 PiB")
        if 7 in batch["positions"].tolist():
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
        return answer_losses(model, batch, **options)

    monkeypatch.setattr("icons_repro.gradients.per_sample.answer_losses", starved)
    store = extracted(model, tmp_path / "s", batches(2))
    assert store.excluded() == [(7, "out_of_memory")]
    torch.testing.assert_close(store.read()[store.ok], whole.read()[store.ok], rtol=1e-3, atol=1e-5)
    assert sizes[:4] == [5, 2, 2, 1]


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    model: PeftModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("icons_repro.gradients.per_sample.answer_losses", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        RowCollector(*parts(model))(batches(1)[0])


def test_an_adapter_that_gets_no_gradient_stops_the_run(model: PeftModel) -> None:
    broken = with_adapter(small_llava(dtype=torch.float32))
    with torch.no_grad():
        broken.get_base_model().model.language_model.layers[
            1
        ].mlp.down_proj.base_layer.weight.zero_()
        for name, parameter in broken.named_parameters():
            if "layers.1.mlp.down_proj.lora_B" in name:
                parameter.zero_()
    with pytest.raises(UserError, match=r"2 LoRA-B matrices .*layers\.1\.mlp\.gate_proj"):
        RowCollector(*parts(broken))(batches(1)[0])


def test_rows_that_no_batch_brought_are_an_error(model: PeftModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="5 of 25 rows are still missing, first position 20"):
        extracted(model, tmp_path / "s", batches(4), n_rows=25)


def test_rows_known_to_be_unusable_are_recorded_as_such(model: PeftModel, tmp_path: Path) -> None:
    store = extracted(model, tmp_path / "s", batches(1), n_rows=7, unusable=[5, 6])
    assert store.excluded() == [(5, "unusable"), (6, "unusable")]


def test_inference_mode_of_the_trainer_does_no_harm(model: PeftModel, tmp_path: Path) -> None:
    safe = extracted(model, tmp_path / "a", batches(1), trainer=quiet_trainer(inference_mode=False))
    fast = extracted(model, tmp_path / "b", batches(1), trainer=quiet_trainer(inference_mode=True))
    assert torch.equal(safe.read(), fast.read())


def test_a_finished_store_is_not_computed_again(
    model: PeftModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extracted(model, tmp_path / "s", batches(1))
    monkeypatch.setattr("icons_repro.gradients.per_sample.answer_losses", None)
    assert bool(extracted(model, tmp_path / "s", batches(1)).ok.all())


def test_told_to_stop_it_stops_at_once_and_a_rerun_goes_on_from_there(
    model: PeftModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = extracted(model, tmp_path / "whole", batches())
    asked: list[int] = []

    def told(model: torch.nn.Module, batch: dict, **options: bool) -> torch.Tensor:
        asked.append(int(batch["positions"][0]))
        if len(asked) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return answer_losses(model, batch, **options)

    monkeypatch.setattr("icons_repro.gradients.per_sample.answer_losses", told)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        heed_signals()
        with pytest.raises(Stopped, match="stopped by SIGTERM"):
            extracted(model, tmp_path / "s", batches())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert len(asked) == 3
    store = extracted(model, tmp_path / "s", batches())
    assert len(asked) < 3 + 4  # what was on disk is not taken again
    assert torch.equal(store.read(), whole.read())


def test_killed_at_any_moment_a_rerun_gives_the_same_bytes(tmp_path: Path) -> None:
    killed, uninterrupted = tmp_path / "killed", tmp_path / "uninterrupted"
    driver = Path(__file__).parent / "kill_driver.py"
    words = [str(word) for word in (killed, uninterrupted, 0, 1, 17, 60, 101)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = run_forked(words, tmp_path, environment, str(driver.parent), driver)
    assert done.returncode == 0, done.stderr[-3000:]
    left = [int(n) for n in done.stdout.splitlines()[-1].split()]
    assert len([n for n in left if n > 0]) >= 4, f"the kills came too late: {left}"
    for file in ("rows", "norms", "scales", "status", "keys"):
        one, two = ((run / f"{file}.bin").read_bytes() for run in (killed, uninterrupted))
        assert one == two, file
    store = GradientStore.open(killed)
    assert store.info == GradientStore.open(uninterrupted).info
    assert set(store.status.tolist()) == {RowStatus.ok}

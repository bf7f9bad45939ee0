"""Per-sample gradients under bfloat16 autocast: computed as in training, summed in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gradient_models import IMAGE_TOKEN, MIXED, batch_of, small_llava, with_adapter
from peft import PeftModel

from icons_repro.core.settings import TrainerSettings
from icons_repro.gradients.collect import RowCollector
from icons_repro.gradients.extract import Running, StoreOptions, extract
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import RANDOM, build_projection
from icons_repro.models.batches import take_rows
from icons_repro.models.lora import gradient_parameters, projectors_in_float32, recompute
from icons_repro.training.progress import predict_trainer


def bfloat16_model() -> PeftModel:
    """A bfloat16 base with float32 adapter and projector, as a warm-up leaves it."""
    model = with_adapter(small_llava(dtype=torch.float32))
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            parameter.data = parameter.data.bfloat16()
    projectors_in_float32(model)
    return model


def exact_twin(model: PeftModel) -> PeftModel:
    """The same weights, each in float64."""
    twin = with_adapter(small_llava())
    twin.load_state_dict({k: v.double() for k, v in model.state_dict().items()})
    return twin


def rows_of(model: PeftModel, batch: dict, method: str = "batched", autocast: bool = True):
    parameters = gradient_parameters(model, "lora+projector")
    gradients = PerSampleGradients(model, parameters, method)  # type: ignore[arg-type]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        parts, _ = gradients(batch)
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.cosine_similarity(a.double(), b.double(), dim=1)


def test_rows_are_float32_and_as_near_to_the_exact_ones_as_autograds_own() -> None:
    model = bfloat16_model()
    batch = batch_of(MIXED, dtype=torch.float32, padding=3)
    exact = rows_of(exact_twin(model), batch_of(MIXED, padding=3), autocast=False)
    ours = rows_of(model, batch)
    loop = rows_of(model, batch, "loop")
    assert ours.dtype == torch.float32
    assert float(cosines(ours, exact).min()) > 0.99
    error, autograds = ((rows - exact).norm() for rows in (ours, loop))
    assert float(error) < 1.1 * float(autograds)
    assert not torch.equal(ours, ours.bfloat16().float()), "the sums over tokens were rounded"


def test_autocast_leaves_float64_gradients_exact(llava64: PeftModel) -> None:
    batch = batch_of(MIXED)
    exact = rows_of(llava64, batch, autocast=False)
    assert torch.equal(rows_of(llava64, batch), exact)


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputing_layers_under_autocast_changes_nothing(reentrant: bool) -> None:
    model = bfloat16_model()
    batch = batch_of(MIXED, dtype=torch.float32)
    plain = rows_of(model, batch)
    recompute(model, reentrant)
    torch.testing.assert_close(rows_of(model, batch), plain, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", [*RANDOM, "none"])
def test_projection_and_lengths_are_float32_under_autocast(kind: str) -> None:
    model = bfloat16_model()
    gradients = PerSampleGradients(model, gradient_parameters(model))
    projection = build_projection(gradients.layout, kind, dim=96)
    batch = batch_of(MIXED, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        rows = RowCollector(gradients, projection)(batch)
        parts, _ = gradients(batch)
    expected = projection.project(parts)
    torch.testing.assert_close(rows.norms, expected.norm(dim=1))
    torch.testing.assert_close(rows.values, expected / expected.norm(dim=1, keepdim=True))
    assert rows.values.dtype == torch.float32


def test_extraction_runs_under_autocast_where_the_trainer_asks_for_it(tmp_path: Path) -> None:
    model = bfloat16_model()
    gradients = PerSampleGradients(model, gradient_parameters(model))
    projection = build_projection(gradients.layout, dim=96)
    batch = batch_of(MIXED, dtype=torch.float32)
    precisions = ("bf16-mixed", "32-true", "16-mixed")
    stores = {
        precision: extract(
            gradients, projection, [batch], tmp_path / precision,
            store=StoreOptions(dtype="float32"),
            running=Running(predict_trainer("test", TrainerSettings(precision=precision))),
        )
        for precision in precisions
    }  # fmt: skip
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = RowCollector(gradients, projection)(batch).values
    plain = RowCollector(gradients, projection)(batch).values
    assert not torch.equal(under_autocast, plain)
    assert torch.equal(stores["bf16-mixed"].read(), under_autocast)
    assert torch.equal(stores["32-true"].read(), plain)
    assert torch.equal(stores["16-mixed"].read(), plain), "float16 gradients would vanish unscaled"
    made = [stores[p].info.made_with["precision"] for p in precisions]
    assert made == ["bf16-mixed", "32-true", "32-true"]


def test_a_row_under_autocast_feels_its_batch_no_more_than_rounding() -> None:
    model = bfloat16_model()
    batch = batch_of(MIXED, dtype=torch.float32, padding=4)
    together = rows_of(model, batch)
    alone = torch.cat([rows_of(model, take_rows(batch, [i], IMAGE_TOKEN)) for i in range(5)])
    assert float(cosines(alone, together).min()) > 0.999

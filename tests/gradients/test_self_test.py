"""The attention kernel is chosen by what padding does to gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gradient_models import MIXED, batch_of, small_llava, with_adapter
from test_extract import quiet_trainer
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from icons_repro.core.errors import UserError
from icons_repro.gradients import self_test
from icons_repro.gradients.attention import AttentionChoice, AttentionTrial
from icons_repro.gradients.extract import Running, StoreOptions, extract
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import build_projection
from icons_repro.gradients.self_test import choose_attention, pick
from icons_repro.models.lora import gradient_parameters


def gradients_of(dtype: torch.dtype) -> PerSampleGradients:
    model = with_adapter(small_llava(dtype=dtype))
    return PerSampleGradients(model, gradient_parameters(model))


@pytest.mark.parametrize(
    ("dtype", "precision", "computed", "bound"),
    [
        (torch.float64, "32-true", "float64", 1e-7),  # eager attention's softmax is float32
        (torch.float32, "32-true", "float32", 1e-5),
        (torch.float32, "bf16-mixed", "bfloat16", 5e-2),
    ],
)
def test_every_kernel_of_a_cpu_is_measured_in_the_type_it_will_run_in(
    dtype: torch.dtype, precision: str, computed: str, bound: float
) -> None:
    choice = choose_attention(gradients_of(dtype), precision)
    assert choice.kernel == "sdpa"
    assert (choice.dtype, choice.device) == (computed, "cpu")
    assert [trial.kernel for trial in choice.trials] == ["sdpa", "sdpa:math", "eager"]
    for trial in choice.trials:
        assert trial.problem is None
        assert trial.repeatable
        assert trial.difference is not None
        assert trial.difference < bound
    assert AttentionChoice.from_json(choice.to_json()) == choice


def test_a_kernel_that_feels_padding_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaky(module, query, key, value, attention_mask, **more):
        """Treat a masked batch unlike an unmasked one, by a hundredth."""
        off = 1.01 if attention_mask is not None else 1.0
        return sdpa_attention_forward(module, query, key, value * off, attention_mask, **more)

    AttentionInterface.register("leaky", leaky)
    AttentionMaskInterface.register("leaky", sdpa_mask)
    monkeypatch.setitem(self_test.CANDIDATES, "cpu", ("leaky", "sdpa:cudnn", "sdpa:math"))
    choice = choose_attention(gradients_of(torch.float32))
    assert choice.kernel == "sdpa:math"
    bad, absent, good = choice.trials
    assert bad.difference is not None
    assert bad.difference > 1e-3
    assert absent.problem is not None
    assert absent.difference is None
    assert good.difference is not None
    assert good.difference < 1e-5


def test_the_first_that_repeats_and_passes_is_picked_and_no_time_decides() -> None:
    trials = (
        AttentionTrial("wrong", 0.5, 0.1, repeatable=True),
        AttentionTrial("other bits", 1e-6, 0.1, repeatable=False),
        AttentionTrial("first", 3e-6, 3.0, repeatable=True),
        AttentionTrial("faster", 3e-6, 1.0, repeatable=True),
        AttentionTrial("best", 1e-6, 9.0, repeatable=True),
        AttentionTrial("missing", problem="no kernel"),
        AttentionTrial("nan", float("nan"), 0.1),
    )
    assert pick(trials, 1e-5).kernel == "first"
    assert pick(trials, 1e-9).kernel == "best", "then twice the best is what passes"
    assert pick(trials[:2], 1e-5).kernel == "other bits", "if none repeats, the first that passes"
    with pytest.raises(UserError, match="missing: no kernel; nan: not a number"):
        pick(trials[-2:], 1e-5)


def test_the_kernel_rules_while_gradients_are_taken_and_not_after() -> None:
    gradients = gradients_of(torch.float64)
    config = gradients.model.config
    seen = []
    layer = gradients.model.get_base_model().model.language_model.layers[0]
    layer.register_forward_pre_hook(
        lambda *_: seen.append(layer.self_attn.config._attn_implementation)
    )
    gradients.attention = AttentionChoice("eager", "float64", "cpu")
    gradients(batch_of(MIXED))
    assert seen == ["eager"]
    assert config._attn_implementation == "sdpa"


def test_a_store_says_which_kernel_made_it_and_keeps_it_when_taken_up(tmp_path: Path) -> None:
    gradients = gradients_of(torch.float32)
    projection = build_projection(gradients.layout, dim=32)
    batches = [batch_of(MIXED, dtype=torch.float32, seed=i) for i in range(2)]
    batches[1]["positions"] += 5
    gradients.attention = choose_attention(gradients)

    class StopError(Exception):
        pass

    def cut_off():
        yield batches[0]
        raise StopError

    class Once:
        def __len__(self) -> int:
            return 2

        def __iter__(self):
            return cut_off()

    how: dict = {"store": StoreOptions(n_rows=10), "running": Running(quiet_trainer())}
    with pytest.raises(StopError):
        extract(gradients, projection, Once(), tmp_path, **how)
    gradients.attention = AttentionChoice("eager", "float32", "cpu")
    store = extract(gradients, projection, batches, tmp_path, **how)
    made = store.info.made_with
    assert made["attention"]["kernel"] == gradients.attention.kernel == "sdpa"
    assert made["device"] == "cpu"
    assert "attention" not in store.info.identities

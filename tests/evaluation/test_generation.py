from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_samples import QUESTIONS, picture
from peft import LoraModel
from peft.tuners.lora import Linear as LoraLinear
from PIL import Image

from icons_repro.core.errors import DataError
from icons_repro.core.types import Record
from icons_repro.data.conversation import ConversationEncoder
from icons_repro.evaluation.generation import (
    BatchedGenerator,
    Decoding,
    Prompt,
    cut_at,
    load_merged,
)
from icons_repro.models.batches import IGNORE
from icons_repro.models.llava import load_model, load_processor
from icons_repro.models.lora import load_adapter, projector

SIX_TOKENS = Decoding(max_new_tokens=6)


def user(text: str, *images: Image.Image) -> list[dict[str, object]]:
    parts: list[dict[str, object]] = [{"type": "image", "url": image} for image in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def mixed_prompts(generator: BatchedGenerator, count: int) -> list[Prompt]:
    """Prompts of different lengths with no, one or two pictures."""
    rng = np.random.default_rng(0)
    prompts = []
    for i in range(count):
        text = " ".join(QUESTIONS[j][0] for j in rng.integers(0, len(QUESTIONS), 1 + i % 3))
        images = [picture(rng) for _ in range(int(rng.integers(0, 3)))]
        prompts.append(generator.prompt(user(text, *images)))
    return prompts


def test_batched_answers_equal_one_at_a_time(tiny_base: Path, adapter: Path) -> None:
    generator = BatchedGenerator.load(tiny_base, adapter)
    prompts = mixed_prompts(generator, 60)
    alone = [generator.answer([prompt], SIX_TOKENS)[0] for prompt in prompts]
    for size in (7, 60):
        batched = []
        for start in range(0, len(prompts), size):
            batched += generator.answer(prompts[start : start + size], SIX_TOKENS)
        assert batched == alone
    assert len(set(alone)) > 5, "the prompts must have different answers for this to mean anything"


def test_next_token_scores_do_not_feel_the_padding(tiny_base: Path) -> None:
    generator = BatchedGenerator.load(tiny_base)
    prompts = mixed_prompts(generator, 12)

    def scores(chosen: list[Prompt]) -> torch.Tensor:
        inputs = generator.inputs(chosen)
        result = generator.model.generate(
            **inputs, max_new_tokens=1, do_sample=False, output_scores=True,
            return_dict_in_generate=True,
        )  # fmt: skip
        return result.scores[0]

    together = scores(prompts)
    alone = torch.cat([scores([prompt]) for prompt in prompts])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_adapter_is_applied_exactly_once(tiny_base: Path, adapter: Path) -> None:
    merged = load_merged(tiny_base, adapter, torch.float32, "cpu")
    wrapped = load_adapter(load_model(tiny_base), adapter)
    ids = torch.randint(5, 50, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = wrapped(input_ids=ids).logits
        plain = load_model(tiny_base)(input_ids=ids).logits
        found = merged(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - plain).abs().max() > 0.01


def test_merging_writes_nothing(tiny_base: Path, adapter: Path) -> None:
    def listing() -> list[tuple[str, int]]:
        return sorted(
            (str(p), p.stat().st_size) for d in (tiny_base, adapter) for p in d.rglob("*")
        )

    before = listing()
    BatchedGenerator.load(tiny_base, adapter)
    assert listing() == before


def test_incomplete_adapter_folder_is_named(tiny_base: Path, adapter: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(adapter, broken)
    (broken / "projector.safetensors").unlink()
    with pytest.raises(DataError, match=r"projector\.safetensors is missing"):
        BatchedGenerator.load(tiny_base, broken)


def test_prompt_tokens_equal_the_tokens_seen_in_training(tiny_base: Path) -> None:
    question, answer = QUESTIONS[2]
    raw = {
        "conversations": [
            {"from": "human", "value": f"<image>\n{question}"},
            {"from": "gpt", "value": answer},
        ]
    }
    record = Record(position=0, key="k", raw=raw, images=("a.png",), source="s")
    trained = ConversationEncoder(load_processor(tiny_base)).encode(record)
    asked_up_to = int(np.flatnonzero(trained.labels != IGNORE)[0])

    generator = BatchedGenerator.load(tiny_base)
    image = picture(np.random.default_rng(0))
    inputs = generator.inputs([generator.prompt(user(question, image))])
    assert inputs["input_ids"][0].tolist() == trained.input_ids[:asked_up_to].tolist()


def test_a_bfloat16_model_is_merged_from_a_float32_adapter_and_rounded_once(
    tiny_base: Path, adapter: Path
) -> None:
    merged = load_merged(tiny_base, adapter, torch.bfloat16, "cpu")
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}
    rotary = merged.model.language_model.rotary_emb.inv_freq
    assert rotary.dtype == torch.float32, "a cast of the whole model would round positions"
    wrapped = load_adapter(load_model(tiny_base, torch.bfloat16), adapter)
    name = "model.language_model.layers.0.mlp.gate_proj"
    layer = wrapped.get_base_model().get_submodule(name)
    exact = layer.base_layer.weight.float() + layer.get_delta_weight("default")
    assert torch.equal(merged.get_submodule(name).weight, exact.bfloat16())
    stored = projector(wrapped).state_dict()
    for key, value in projector(merged).state_dict().items():
        assert torch.equal(value, stored[key].bfloat16())


def test_a_bfloat16_model_answers_as_the_float32_one_almost_always(
    tiny_base: Path, adapter: Path
) -> None:
    answers = {}
    for dtype in (torch.float32, torch.bfloat16):
        generator = BatchedGenerator.load(tiny_base, adapter, dtype)
        answers[dtype] = generator.answer(mixed_prompts(generator, 40), Decoding(max_new_tokens=1))
    same = [a == b for a, b in zip(*answers.values(), strict=True)]
    assert sum(same) >= 32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_merged_twice_is_refused(
    tiny_base: Path, adapter: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = LoraModel.merge_and_unload

    def twice(model: LoraModel) -> torch.nn.Module:
        layers = [m for m in model.modules() if isinstance(m, LoraLinear)]
        deltas = [(m.base_layer, m.get_delta_weight("default")) for m in layers]
        merged = once(model)
        for linear, delta in deltas:
            linear.weight.data += delta
        return merged

    monkeypatch.setattr(LoraModel, "merge_and_unload", twice)
    with pytest.raises(DataError, match="not applied exactly once"):
        load_merged(tiny_base, adapter, dtype, "cpu")


def test_image_transform_is_applied_before_the_processor(tiny_base: Path) -> None:
    seen = []

    def transform(image: Image.Image) -> Image.Image:
        seen.append(image.size)
        return image.resize((32, 32))

    generator = BatchedGenerator.load(tiny_base, image_transform=transform)
    generator.prompt(user("what color is the circle?", Image.new("L", (40, 20))))
    assert seen == [(40, 20)]


def test_answers_are_cut_at_the_first_stop_string() -> None:
    assert cut_at("red\n\nASSISTANT: blue", ("ASSISTANT:", "\n\n")) == "red"
    assert cut_at("red", ("blue", "")) == "red"


def test_decoding_reads_a_tasks_generation_kwargs() -> None:
    kwargs = {"max_new_tokens": 16, "temperature": 0.2, "until": "x", "image_aspect_ratio": "pad"}
    assert Decoding.of(kwargs) == Decoding(16, ("x",), 1)
    assert Decoding.of({}).max_new_tokens == 1024

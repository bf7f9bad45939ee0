"""A LLaVA from its three published parts, at toy width and (without weights) at full width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from toy_parts import write_language, write_projector, write_vision
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import DataError, UserError
from icons_repro.core.refs import folder_ref
from icons_repro.core.settings import LoraSettings
from icons_repro.core.types import Record
from icons_repro.data.conversation import ConversationEncoder
from icons_repro.data.dataset import Collator, Sample
from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.projections import build_projection
from icons_repro.models.assemble import TURN_END, assemble
from icons_repro.models.batches import IGNORE
from icons_repro.models.hub import fetch
from icons_repro.models.llava import load_model, load_processor
from icons_repro.models.lora import attach_lora, gradient_parameters
from icons_repro.models.stage import FolderBase


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write toy checkpoints under the published files' names and keys."""
    root = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    write_language(root / "vicuna", "v1")
    return {
        "language": root / "vicuna",
        "vision": write_vision(root / "clip"),
        "projector": write_projector(root / "mm_projector.bin"),
    }


@pytest.fixture(scope="module")
def assembled(parts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("llava")
    assemble(**parts, out=out, dtype=torch.float32)
    return out


def test_the_parts_weights_are_the_models_weights(parts: dict[str, Path], assembled: Path) -> None:
    state = load_model(assembled).state_dict()
    text = LlamaForCausalLM.from_pretrained(parts["language"]).state_dict()
    n = len(text["lm_head.weight"])
    for name, value in text.items():
        here = state[name.replace("model.", "model.language_model.", 1)]
        assert torch.equal(here[:n], value) if n in value.shape[:1] else torch.equal(here, value)
    published = torch.load(parts["projector"])
    for place, name in (("0", "linear_1"), ("2", "linear_2")):
        for kind in ("weight", "bias"):
            here = state[f"model.multi_modal_projector.{name}.{kind}"]
            assert torch.equal(here, published[f"model.mm_projector.{place}.{kind}"])
    tower = CLIPVisionModel.from_pretrained(parts["vision"]).state_dict()
    for name, value in tower.items():
        assert torch.equal(state[f"model.vision_tower.{name}"], value)


def test_the_vocabulary_gets_the_image_token_and_is_filled_to_64_with_mean_rows(
    parts: dict[str, Path], assembled: Path
) -> None:
    processor, model = load_processor(assembled), load_model(assembled)
    old = LlamaConfig.from_pretrained(parts["language"]).vocab_size
    assert model.config.image_token_index == old
    size = model.config.text_config.vocab_size
    assert size % 64 == 0
    assert old < size <= old + 64
    assert len(model.lm_head.weight) == len(model.get_input_embeddings().weight) == size
    assert len(processor.tokenizer) == old + 1
    assert processor.tokenizer.pad_token == "<unk>"
    mean = model.lm_head.weight[:old].mean(0)
    for row in model.lm_head.weight[old:]:
        assert torch.allclose(row, mean, atol=1e-6)
    with torch.no_grad():
        logits = model(input_ids=torch.arange(5, 25)[None]).logits[0]
    assert int(logits.argmax(dim=1).max()) < old, "a row of the filling would be answered"


def test_an_assembled_model_takes_a_training_batch_with_finite_loss(assembled: Path) -> None:
    processor = load_processor(assembled)
    encoder = ConversationEncoder(processor)
    turns = [{"from": "human", "value": "<image>\nwhat color"}, {"from": "gpt", "value": "red"}]
    sample = Sample(
        0,
        encoder.encode(Record(0, "k", {"conversations": turns}, ("x.png",), "test")),
        [Image.new("RGB", (40, 28), "red")],
    )
    batch = Collator(processor)([sample])
    batch.pop("positions")
    assert torch.isfinite(load_model(assembled)(**batch).loss)


RENDERED = {
    "llama3": (
        "<s><|start_header_id|>user<|end_header_id|>\n\n<image>\nwhat color<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "red<|eot_id|>",
    ),
    "qwen": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<image>\nwhat color<|im_end|>\n<|im_start|>assistant\n",
        "red<|im_end|>",
    ),
}
"""A question and its answer, before and within the supervised part."""


@pytest.mark.parametrize(("template", "tied"), [("llama3", False), ("qwen", True)])
def test_other_families_are_assembled_and_give_a_gradient_for_every_parameter(
    template: str, tied: bool, parts: dict[str, Path], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    language = tmp_path / template
    text = write_language(language, template)
    base = tmp_path / "llava"
    assemble(**{**parts, "language": language}, out=base, template=template, dtype=torch.float32)
    model, processor = load_model(base), load_processor(base)
    for name, value in text.model.layers.state_dict().items():
        assert torch.equal(model.model.language_model.layers.state_dict()[name], value)
    n = text.config.vocab_size
    for here, value in (
        (model.get_input_embeddings(), text.get_input_embeddings()),
        (model.lm_head, text.lm_head),
    ):
        assert torch.equal(here.weight[:n], value.weight)
    shared = model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert shared == tied
    assert processor.tokenizer.convert_tokens_to_ids("<image>") == model.config.image_token_index
    turns = [{"from": "human", "value": "<image>\nwhat color"}, {"from": "gpt", "value": "red"}]
    record = Record(0, "k", {"conversations": turns}, ("x.png",), "test")
    encoder = ConversationEncoder(processor)
    rendered, ((start, end),) = encoder.render(turns)
    assert (rendered[:start], rendered[start:end]) == RENDERED[template]
    encoded = encoder.encode(record)
    supervised = encoded.input_ids[encoded.labels != IGNORE]
    assert processor.tokenizer.convert_ids_to_tokens(int(supervised[-1])) == TURN_END[template]
    assert (encoded.input_ids == model.config.image_token_index).sum() == 4
    batch = Collator(processor)([Sample(0, encoded, [Image.new("RGB", (40, 28), "red")])])
    batch.pop("positions")
    tuned = attach_lora(model, LoraSettings(rank=4, alpha=8, dropout=0.0))
    for name, parameter in tuned.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.1)
    parameters = gradient_parameters(tuned)
    assert len(parameters) == 2 * 7 * 2
    loss = tuned(**batch).loss
    for gradient in torch.autograd.grad(loss, [p for _, p in parameters]):
        assert torch.isfinite(gradient).all()
        assert gradient.any()


def test_wrong_parts_are_named(parts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model\.language=.*is a 'clip_vision_model' checkpoint"):
        assemble(**{**parts, "language": parts["vision"]}, out=tmp_path)
    cut = tmp_path / "mm_projector.bin"
    cut.write_bytes(parts["projector"].read_bytes()[:-900])
    with pytest.raises(DataError, match="half downloaded"):
        assemble(**{**parts, "projector": cut}, out=tmp_path)
    state = torch.load(parts["projector"])
    torch.save({k: v[:16] for k, v in state.items()}, cut)
    with pytest.raises(DataError, match="trained for another pair"):
        assemble(**{**parts, "projector": cut}, out=tmp_path)
    torch.save({"model.mm_projector.4.weight": torch.zeros(2, 2)}, cut)
    with pytest.raises(DataError, match="the two-layer projector"):
        assemble(**{**parts, "projector": cut}, out=tmp_path)


def test_a_checkpoint_neither_here_nor_on_the_hub_is_named_with_its_remedy() -> None:
    with pytest.raises(UserError, match="HF_HOME"):
        fetch("lmsys/vicuna-7b-v1.5")


def test_a_ready_llava_gets_our_template_and_keeps_its_weights(
    assembled: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    load_model(assembled).save_pretrained(plain)
    processor = load_processor(assembled)
    processor.chat_template = "{{ messages }}"
    processor.save_pretrained(plain)
    with pytest.raises(DataError, match="marks no answers"):
        ConversationEncoder(load_processor(plain))
    folder = folder_ref(plain, tmp_path / "files.json")
    base = obtain(FolderBase(folder=folder, template="v1"), Cache(tmp_path / "cache"))
    ConversationEncoder(load_processor(base))
    assert torch.equal(load_model(base).lm_head.weight, load_model(assembled).lm_head.weight)


WIDTHS: dict[str, tuple[dict[str, Any], int, int]] = {
    "7b": (
        {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
         "num_attention_heads": 32},
        319_815_680,
        6_738_415_616,
    ),
    "13b": (
        {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
         "num_attention_heads": 40},
        500_695_040,
        13_015_864_320,
    ),
}  # fmt: skip
"""Width, LoRA parameters at rank 128, parameters of the language model."""


@pytest.mark.parametrize("size", WIDTHS)
def test_at_full_width_the_adapter_has_the_papers_size_and_spares_the_tower(size: str) -> None:
    width, lora, language = WIDTHS[size]
    vision = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
        image_size=336, patch_size=14, projection_dim=768,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=LlamaConfig(vocab_size=32000, **width))
    with torch.device("meta"):
        model = attach_lora(LlavaForConditionalGeneration(config), LoraSettings())
    parameters = gradient_parameters(model)
    assert sum(p.numel() for _, p in parameters) == lora
    assert {p.shape[0] if "lora_A" in n else p.shape[1] for n, p in parameters} == {128}
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    assert not [n for n in trainable if "vision_tower" in n or "lm_head" in n]
    assert {n.rsplit(".", 1)[0].rsplit(".", 1)[-1] for n in trainable if "lora" not in n} == {
        "linear_1", "linear_2",
    }  # fmt: skip
    frozen = {n: p.numel() for n, p in model.named_parameters() if n not in trainable}
    assert sum(v for n, v in frozen.items() if "vision_tower" not in n) == language
    assert sum(v for n, v in frozen.items() if "vision_tower" in n) == 303_507_456
    layout = ParameterLayout.of(parameters)
    assert layout.dim == lora
    assert build_projection(layout, "count_sketch", 5120).dim == 5120
    first = ParameterLayout.of([(n, p) for n, p in parameters if ".layers.0." in n])
    gradients = [torch.ones(1, *shape) for shape in first.shapes]
    assert sum(g.numel() for g in gradients) == lora // width["num_hidden_layers"]
    assert build_projection(first, "count_sketch", 5120).project(gradients).shape == (1, 5120)

"""The tiny LLaVA is an ordinary Hugging Face model with an ordinary processor."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration, LlavaProcessor
from transformers.utils.chat_template_utils import render_jinja_template

from icons_repro.core.errors import ConfigError, UserError
from icons_repro.tiny import model as tiny
from icons_repro.tiny.captions import facts
from icons_repro.tiny.sampling import KINDS, Sampler
from icons_repro.tiny.streams import stream

RED = Image.new("RGB", (32, 32), (255, 0, 0))
QUESTION = {
    "role": "user",
    "content": [{"type": "image"}, {"type": "text", "text": "what color is the shape?"}],
}
CHAT = [
    QUESTION,
    {"role": "assistant", "content": "red"},
    {"role": "user", "content": "how many dots are red?"},
    {"role": "assistant", "content": [{"type": "text", "text": "3"}]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("base")
    tiny.write_tiny_base(out)
    return out


@pytest.fixture(scope="module")
def processor(folder: Path) -> LlavaProcessor:
    return AutoProcessor.from_pretrained(folder)


@pytest.mark.parametrize("width", [tiny.WIDTH, tiny.NARROW_WIDTH])
def test_stock_classes_load_the_shipped_bases_with_equal_weights(
    width: int, tmp_path: Path
) -> None:
    tiny.write_tiny_base(tmp_path, width)
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path)
    shipped = tiny.load_tiny_base(width).state_dict()
    assert all(torch.equal(weight, shipped[name]) for name, weight in model.state_dict().items())
    assert sum(p.numel() for p in model.parameters()) < 700_000
    tiny.save_weights(tmp_path, tmp_path / "again.safetensors")
    again = load_file(tmp_path / "again.safetensors")
    assert all(torch.equal(again[name], shipped[name]) for name in shipped)


def test_another_width_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"model.width=80: .*\[64, 96\]"):
        tiny.weights_file(80)


def test_the_shipped_base_is_at_most_4_mb() -> None:
    assert sum(os.path.getsize(path) for path in tiny.TINY_BASE.iterdir()) <= 4 * 2**20


def test_image_expands_to_exactly_16_tokens_and_no_word_is_unknown(
    processor: LlavaProcessor,
) -> None:
    text = processor.apply_chat_template(CHAT)
    batch = processor(text=[text], images=[RED], return_tensors="pt")
    ids = batch["input_ids"][0].tolist()
    assert ids.count(processor.image_token_id) == tiny.IMAGE_TOKENS == 16
    assert processor.tokenizer.unk_token_id not in ids
    assert batch["pixel_values"].shape == (1, 3, 32, 32)


def test_template_writes_the_llava_format_and_marks_answers_with_their_end(
    processor: LlavaProcessor,
) -> None:
    texts, spans = render_jinja_template(
        [CHAT], chat_template=processor.chat_template, return_assistant_tokens_mask=True
    )
    assert texts[0] == (
        "USER: <image> what color is the shape? ASSISTANT: red </s> "
        "USER: how many dots are red? ASSISTANT: 3 </s>"
    )
    assert [texts[0][start:end] for start, end in spans[0]] == ["red </s>", "3 </s>"]


def test_string_and_list_contents_render_alike(processor: LlavaProcessor) -> None:
    as_string = [{"role": "user", "content": "<image> what color is the shape?"}]
    assert processor.apply_chat_template(as_string) == processor.apply_chat_template([QUESTION])
    prompt = processor.apply_chat_template([QUESTION], add_generation_prompt=True)
    assert prompt == "USER: <image> what color is the shape? ASSISTANT:"


def test_generation_ends_with_the_end_token(folder: Path, processor: LlavaProcessor) -> None:
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    asked = [{"role": "user", "content": "<image> focus color"}]  # a prompt of its pre-training
    prompt = processor.apply_chat_template(asked, add_generation_prompt=True)
    batch = processor(text=[prompt], images=[RED], return_tensors="pt")
    out = model.generate(**batch, max_new_tokens=12, do_sample=False)
    assert out[0, -1] == processor.tokenizer.eos_token_id


def test_random_weights_depend_on_the_seed_alone_and_leave_the_global_stream() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (tiny.build_tiny_llava(seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])
    assert torch.equal(before, torch.get_rng_state())


def test_the_shipped_base_reads_pictures_that_it_has_never_seen(
    processor: LlavaProcessor,
) -> None:
    sampler, rng = Sampler("validation", stream(11, "test")), np.random.default_rng(0)
    scenes = [sampler.draw(kind) for kind in KINDS for _ in range(20)]
    asked = [facts(scene, rng)[0] for scene in scenes]
    prompts = [f"USER: <image> {prompt} ASSISTANT:" for prompt, _ in asked]
    images = [Image.fromarray(scene.pixels) for scene in scenes]
    batch = processor(
        text=prompts, images=images, padding=True, padding_side="left", return_tensors="pt"
    )
    out = tiny.load_tiny_base().generate(**batch, max_new_tokens=4, do_sample=False)
    length = batch["input_ids"].shape[1]
    told = processor.batch_decode(out[:, length:], skip_special_tokens=True)
    right = [t.strip() == answer for t, (_, answer) in zip(told, asked, strict=True)]
    assert np.mean(right) > 0.6


def test_unreadable_weights_are_reported_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("vocabulary.txt", "chat_template.jinja"):
        (tmp_path / name).write_text((tiny.TINY_BASE / name).read_text())
    monkeypatch.setattr(tiny, "TINY_BASE", tmp_path)
    with pytest.raises(UserError, match="reinstall the package"):
        tiny.load_tiny_base()

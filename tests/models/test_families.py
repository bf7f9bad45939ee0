"""Every family, with its own config, processor and chat template: labels, gradients, training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from family_toys import BUILDERS, write_toy
from PIL import Image
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.quantizers.quantizers_utils import should_convert_module

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.settings import DataSettings, LoraSettings, TrainSettings
from icons_repro.core.types import Record
from icons_repro.data.datamodule import PassPlan, open_dataset
from icons_repro.data.dataset import Sample
from icons_repro.data.encoders import make_collator, make_encoder
from icons_repro.evaluation.generation import BatchedGenerator, Decoding
from icons_repro.export.merge import write_merged
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.self_test import choose_attention
from icons_repro.models.batches import IGNORE, Batch, model_inputs, take_rows
from icons_repro.models.families import FAMILIES, family_of, sees_images
from icons_repro.models.llava import load_model, load_processor
from icons_repro.models.lora import (
    attach_lora,
    checkpoint_layers,
    gradient_parameters,
    in_projector,
    load_adapter,
)
from icons_repro.models.quantized import kept_whole
from icons_repro.training.checkpoint import save_adapter
from icons_repro.training.fit import fit
from icons_repro.training.job import FitJob

LORA = LoraSettings(rank=2, alpha=4, dropout=0.0)
LINEAR = ("llava_next", "llava_onevision", "smolvlm", "idefics3")
"""Families whose projectors are linear layers alone."""
END = {"llava_next": "</s>", "gemma3": "<end_of_turn>"} | dict.fromkeys(
    ("smolvlm", "idefics3"), "<end_of_utterance>"
)
"""The token that ends an answer; in the others `<|im_end|>`."""


def image(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def record(position: int, turns: Sequence[str], images: int) -> Record:
    speakers = ("human", "gpt")
    raw = [{"from": speakers[i % 2], "value": text} for i, text in enumerate(turns)]
    names = tuple(f"{i}.png" for i in range(images))
    return Record(position, f"k{position}", {"conversations": raw}, names, "test")


ROWS: list[tuple[Sequence[str], list[Image.Image]]] = [
    (("<image>\nwhat color is it", "red"), [image(40, 20)]),
    (("how many birds", "two birds", "and now", "7"), []),
    (("<image>\n<image>\nsame ?", "no", "why", "red two"), [image(16, 16, 1), image(18, 60, 2)]),
    (("which\n<image>", "one that is red"), [image(90, 70, 3)]),
]
"""One image, text alone, two images of different sizes, an image behind the question."""


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "smolvlm":
        pytest.importorskip("num2words", reason="SmolVLM's processor asks for it")
    return write_toy(request.param, tmp_path_factory.mktemp(request.param))


class Rig:
    """A family's processor, encoder and collator."""

    def __init__(self, folder: Path) -> None:
        self.family, self.processor = family_of(folder), load_processor(folder)
        self.encoder = make_encoder(self.family, self.processor, DataSettings(max_length=4096))
        self.collate = make_collator(self.family, self.processor, DataSettings())

    def sample(self, i: int) -> Sample:
        turns, images = ROWS[i]
        return Sample(i, self.encoder.encode(record(i, turns, len(images)), images), [])

    def batch(self, rows: Sequence[int] = range(len(ROWS))) -> Batch:
        return self.collate([self.sample(i) for i in rows])


@cache
def rig(folder: Path) -> Rig:
    return Rig(folder)


def adapted(folder: Path, dtype: torch.dtype = torch.float64) -> Any:
    """The model with LoRA whose B matrices are not zero."""
    torch.manual_seed(0)
    model = attach_lora(load_model(folder), LORA)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(parameter, std=0.3)
    return model.to(dtype)


def of_type(batch: Batch, dtype: torch.dtype) -> Batch:
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in batch.items()}


def messages(i: int) -> list[dict[str, Any]]:
    """A row as chat messages, images first in their turn."""
    turns, _ = ROWS[i]
    found: list[dict[str, Any]] = []
    for number, text in enumerate(turns):
        parts = [{"type": "image"}] * text.count("<image>")
        words = text.replace("<image>", "").strip() if parts else text
        role = ("user", "assistant")[number % 2]
        found.append({"role": role, "content": [*parts, {"type": "text", "text": words}]})
    return found


def stock_inputs(folder: Path, i: int, **how: Any) -> dict[str, Any]:
    """What transformers' own processor makes of a row, rendered by its own template."""
    processor = AutoProcessor.from_pretrained(folder)
    text = processor.apply_chat_template(messages(i), tokenize=False)
    shown = ROWS[i][1]
    bos = processor.tokenizer.bos_token
    special = not (bos and text.startswith(bos))
    return processor(
        text=[text], images=[shown] if shown else None, return_tensors="pt",
        add_special_tokens=special, **how,
    )  # fmt: skip


@pytest.mark.parametrize("i", range(len(ROWS)))
def test_a_row_is_what_the_familys_own_processor_makes_of_it(folder: Path, i: int) -> None:
    stock, ours = stock_inputs(folder, i), rig(folder).batch([i])
    assert ours["input_ids"].tolist() == stock["input_ids"].tolist()
    names = {*stock.keys()} - {"attention_mask", "num_patches"}
    family = rig(folder).family
    names -= {"token_type_ids"} - {family.token_types}
    if not ROWS[i][1]:
        names &= {"input_ids", "token_type_ids", "mm_token_type_ids"}
    for name in names:
        mine, theirs = ours[name], stock[name]
        assert mine.numel() == theirs.numel(), name
        assert torch.equal(mine.flatten(), theirs.to(mine.dtype).flatten()), name


def test_answers_with_the_token_that_ends_them_are_supervised_and_nothing_else(
    folder: Path,
) -> None:
    end = END.get(rig(folder).family.model_type, "<|im_end|>")
    for i, (turns, _) in enumerate(ROWS):
        row = rig(folder).sample(i).conversation
        tokenizer = rig(folder).processor.tokenizer
        text = tokenizer.decode(row.input_ids[row.labels != IGNORE])
        found = [answer.strip() for answer in text.split(end)]
        assert found == [*(answer.strip() for answer in turns[1::2]), ""]
        assert (row.labels[row.labels != IGNORE] == row.input_ids[row.labels != IGNORE]).all()


def test_a_prompt_ends_where_its_answer_begins(folder: Path) -> None:
    """Training sees the tokens that generation begins with."""
    generator = BatchedGenerator(None, load_processor(folder), family=family_of(folder))
    prompt = generator.prompt(
        [{"role": "user", "content": [
            {"type": "image", "url": ROWS[0][1][0]}, {"type": "text", "text": "what color is it"},
        ]}]
    )  # fmt: skip
    text, ((start, _),) = rig(folder).encoder.render(record(0, ROWS[0][0], 1).conversations)
    bos = rig(folder).processor.tokenizer.bos_token or ""
    rendered = text[:start].removeprefix(bos).split()
    assert rendered == prompt.text.removeprefix(bos).split()


def test_an_answer_that_begins_with_a_line_break_is_cut_off_its_prompt(folder: Path) -> None:
    """Byte-level tokenizers would make one token of the prompt's last break and the answer's."""
    asked, processor = "how many birds", AutoProcessor.from_pretrained(folder)
    row = rig(folder).encoder.encode(record(0, (asked, "\n\ntwo"), 0))
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "text", "text": asked}]}],
        tokenize=True, add_generation_prompt=True, return_dict=True,
    )["input_ids"][0]  # fmt: skip
    if rig(folder).family.model_type == "llava_onevision":
        prompt = prompt[:-1]  # its template has another break in the prompt than in the turn
    supervised = np.flatnonzero(row.labels != IGNORE)[0]
    assert row.input_ids[: len(prompt)].tolist() == list(prompt)
    assert supervised >= len(prompt)


def test_an_image_tag_in_a_row_of_text_is_text(folder: Path) -> None:
    row = record(0, ("what is <image> ?", "a tag <image>"), 0)
    encoded = rig(folder).encoder.encode(row)
    assert not (encoded.input_ids == rig(folder).encoder.image_id).any()


def test_all_tags_of_a_row_with_one_image_are_that_image(folder: Path) -> None:
    encoder, shown = rig(folder).encoder, [image(20, 20)]
    twice = encoder.encode(record(0, ("<image>\nwhat is <image> it", "red"), 1), shown)
    once = encoder.encode(record(0, ("<image>\nwhat is  it", "red"), 1), shown)
    assert twice.input_ids.tolist() == once.input_ids.tolist()


def test_a_place_for_an_image_that_is_not_there_names_the_row(folder: Path) -> None:
    token = rig(folder).processor.image_token
    row = record(7, ("<image>\n<image>\nwhat is " + token, "red"), 2)
    with pytest.raises(DataError, match=r"row 7 .*places for 2 images"):
        rig(folder).encoder.encode(row, [image(20, 20), image(20, 20)])
    short = make_encoder(rig(folder).family, rig(folder).processor, DataSettings(max_length=8))
    with pytest.raises(DataError, match=r"row 0 .*Raise data\.max_length"):
        short.encode(record(0, ROWS[0][0], 1), ROWS[0][1])


def test_an_image_stays_inside_its_turn_where_the_data_put_it(folder: Path) -> None:
    family, processor = rig(folder).family, rig(folder).processor
    if family.model_type == "llava_onevision":
        pytest.skip("its own template writes a turn's images first")
    encoder = make_encoder(family, processor, DataSettings(image_first=False))
    row = record(0, ("is <image>\nred or <image> ?", "no"), 2)
    text, _ = encoder.render(row.conversations)
    pieces = text.split(processor.image_token)
    assert "is" in pieces[0]
    assert "red or" in pieces[1]
    encoder.encode(row, [image(16, 16), image(16, 16, 1)])


def test_lora_is_in_the_language_model_alone_and_float32(folder: Path) -> None:
    model = attach_lora(load_model(folder, torch.bfloat16), LORA)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    lora = {n for n in trained if ".lora_" in n}
    assert len(lora) == 2 * 7 * 2, "two layers of seven linears, A and B"
    assert all(f".{rig(folder).family.language}.layers." in n for n in lora)
    assert not any(sees_images(n) for n in lora)
    rest = trained.keys() - lora
    assert rest
    assert all(in_projector(n) for n in rest)
    assert {p.dtype for p in trained.values()} == {torch.float32}
    loss_of(model, of_type(rig(folder).batch(), torch.bfloat16)).backward()
    assert all(p.grad is not None for p in trained.values())


def test_few_bits_are_for_the_language_models_linears_alone(folder: Path) -> None:
    family, model = rig(folder).family, load_model(folder)
    linears = [n for n, module in model.named_modules() if isinstance(module, nn.Linear)]
    quantized = {n for n in linears if should_convert_module(n, kept_whole(family))}
    assert quantized == {n for n in linears if n.startswith(f"model.{family.language}.layers.")}


def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
    loss: torch.Tensor = model(**model_inputs(batch), labels=batch["labels"]).loss
    return loss


def gradient_rows(model: Any, batch: Batch, method: str, select: str = "lora") -> torch.Tensor:
    parameters = gradient_parameters(model, select)
    parts, _ = PerSampleGradients(model, parameters, method)(batch)  # type: ignore[arg-type]
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def autograd_rows(model: Any, folder: Path, select: str) -> torch.Tensor:
    """Each row alone, in a batch that its own collator made, by plain autograd."""
    model.eval()
    found = []
    parameters = [p for _, p in gradient_parameters(model, select)]
    for i in range(len(ROWS)):
        batch = of_type(rig(folder).batch([i]), torch.float64)
        logits = model(**model_inputs(batch)).logits[:, :-1]
        targets = batch["labels"][:, 1:]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        filled = zip(grads, parameters, strict=True)
        found.append(
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in filled])
        )
    return torch.stack(found)


def off_by(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a - b).norm(dim=1) / b.norm(dim=1)).max())


def test_per_sample_gradients_are_autograds(folder: Path) -> None:
    model, batch = adapted(folder), of_type(rig(folder).batch(), torch.float64)
    oracle = autograd_rows(model, folder, "lora")
    assert bool((oracle.norm(dim=1) > 0).all())
    for method in ("batched", "loop"):
        assert off_by(gradient_rows(model, batch, method), oracle) < 1e-9
    some = take_rows(batch, [3, 0], None)
    assert off_by(gradient_rows(model, some, "batched"), oracle[[3, 0]]) < 1e-9


def test_the_projectors_gradients_are_autograds(folder: Path) -> None:
    model, batch = adapted(folder), of_type(rig(folder).batch(), torch.float64)
    oracle = autograd_rows(model, folder, "lora+projector")
    assert off_by(gradient_rows(model, batch, "loop", "lora+projector"), oracle) < 1e-9
    linears = "|".join(
        name.replace(".", r"\.")
        for name, module in model.named_modules()
        if in_projector(f"{name}.") and type(module) is nn.Linear
    )
    if not linears:
        with pytest.raises(ConfigError, match="per_sample=loop"):
            gradient_rows(model, batch, "batched", "lora+projector")
        return
    select = rf"\.lora_[AB]\.|({linears})\."
    batched = gradient_rows(model, batch, "batched", select)
    assert off_by(batched, autograd_rows(model, folder, select)) < 1e-9
    if rig(folder).family.model_type in LINEAR:
        assert off_by(gradient_rows(model, batch, "batched", "lora+projector"), oracle) < 1e-9


def test_checkpointed_layers_change_no_gradient(folder: Path) -> None:
    model, batch = adapted(folder), of_type(rig(folder).batch(), torch.float64)
    plain = gradient_rows(model, batch, "batched")
    checkpoint_layers(model.get_base_model())
    assert off_by(gradient_rows(model, batch, "batched"), plain) < 1e-9


def test_an_attention_kernel_is_chosen(folder: Path) -> None:
    model = adapted(folder, torch.float32)
    gradients = PerSampleGradients(model, gradient_parameters(model))
    assert choose_attention(gradients).kernel == "sdpa"


def answers(generator: BatchedGenerator, rows: Sequence[int]) -> list[str]:
    """What it says to the first question of each row, asked together."""
    prompts = []
    for i in rows:
        shown = iter(ROWS[i][1])
        content = [
            {"type": "image", "url": next(shown)} if part["type"] == "image" else part
            for part in messages(i)[0]["content"]
        ]
        prompts.append(generator.prompt([{"role": "user", "content": content}]))
    return generator.answer(prompts, Decoding(max_new_tokens=4))


def test_trained_saved_loaded_answers_and_a_stock_program_gives_the_same(
    folder: Path, tmp_path: Path
) -> None:
    adapter, merged = tmp_path / "adapter", tmp_path / "merged"
    model = attach_lora(load_model(folder), LORA).train()
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    batch = rig(folder).batch()
    optimizer = torch.optim.AdamW([p for _, p in trained], lr=3e-2)
    losses = []
    for _ in range(5):
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    save_adapter(model, trained, optimizer, adapter, {})
    again = load_adapter(load_model(folder), adapter)
    assert loss_of(again, batch).item() == pytest.approx(loss_of(model.eval(), batch).item())

    rows = [0, 1, 2, 3]
    generator = BatchedGenerator.load(folder, adapter)
    together = answers(generator, rows)
    assert together == [answers(generator, [i])[0] for i in rows]
    assert together != answers(BatchedGenerator.load(folder), rows)

    write_merged(folder, adapter, merged, "float32", "pad")
    stock = AutoModelForImageTextToText.from_pretrained(merged)
    inputs = AutoProcessor.from_pretrained(merged).apply_chat_template(
        [{"role": "user", "content": [
            {"type": "image", "image": ROWS[0][1][0]}, {"type": "text", "text": "what color is it"},
        ]}],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip
    new = stock.generate(**inputs, max_new_tokens=4, do_sample=False)
    text = rig(folder).processor.tokenizer.decode(
        new[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    assert text.strip() == together[0]


def test_a_pool_on_disk_is_trained_on_and_passed_over_by_a_worker(
    small_world: Path, tmp_path: Path
) -> None:
    base, out = write_toy("qwen2_5_vl", tmp_path / "base"), tmp_path / "out"
    out.mkdir()
    np.save(tmp_path / "positions.npy", np.arange(12))
    data = DataSettings(num_workers=1)
    job = FitJob(
        model_dir=str(base),
        records=str(small_world / "pool"),
        image_root=str(small_world / "images"),
        positions=str(tmp_path / "positions.npy"),
        seed=0,
        lora=LORA,
        train=TrainSettings(batch_size=8, micro_batch=4, gradient_checkpointing=True),
        data=data,
    )
    assert fit(job, out)["steps"] == 2
    assert load_adapter(load_model(base), out).active_adapters == ["default"]
    dataset, collate = open_dataset(small_world / "pool", small_world / "images", base, data)
    plan = PassPlan.of(dataset, collate, np.arange(12), token_budget=2000, workers=1)
    seen = [i for batch in plan.loader("00000-of-00001") for i in batch["positions"].tolist()]
    assert sorted(seen) == list(range(12))


def test_every_supported_family_is_proven_here() -> None:
    assert set(FAMILIES) == {*BUILDERS, "llava"}

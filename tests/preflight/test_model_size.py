"""A model's size, read from its folder without its weights, is that of the model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from family_toys import BUILDERS, SIDE, write_toy
from graphs import NOWHERE, composed
from PIL import Image
from test_cost import MODEL
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from icons_repro.config.checks import typed
from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.settings import LoraSettings, ModelSettings
from icons_repro.experiment import Experiment
from icons_repro.models.families import family_of, vision_modules
from icons_repro.models.llava import load_model, load_processor
from icons_repro.models.lora import attach_lora
from icons_repro.preflight.cost import counts
from icons_repro.preflight.model_size import PICTURE, ModelSize, counted, model_size
from icons_repro.preflight.plan import plan_runs
from icons_repro.preflight.step_costs import Sizes

LORA = LoraSettings(rank=2)


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "smolvlm":
        pytest.importorskip("num2words", reason="SmolVLM's processor asks for it")
    return write_toy(request.param, tmp_path_factory.mktemp(request.param))


def one_image(processor: Any) -> Any:
    token, picture = processor.image_token, Image.new("RGB", PICTURE)
    return processor(text=[token], images=[[picture]], return_tensors="pt")


def patches_seen(model: nn.Module, processor: Any) -> int:
    """Return the patches that the vision tower embeds of one image."""
    seen: list[int] = []
    for tower in vision_modules(model):
        for module in tower.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                module.register_forward_hook(
                    lambda conv, _, out: seen.append(out.numel() // conv.out_channels)
                )
    model(**one_image(processor))
    return sum(seen)


def test_weights_and_image_tokens_of_every_family(folder: Path) -> None:
    model, processor = load_model(folder), load_processor(folder)
    weights = folder / "model.safetensors"
    weights.rename(folder / "aside")  # a config and a processor are enough
    size = model_size(ModelSettings(kind="folder", folder=str(folder)), LORA)
    (folder / "aside").rename(weights)
    assert size
    n = size.counts
    assert n.frozen + n.projector == sum(p.numel() for p in model.parameters())
    assert size.patches == patches_seen(model, processor)
    trained = [p.numel() for p in attach_lora(model, LORA).parameters() if p.requires_grad]
    assert n.adapter + n.projector == sum(trained)
    assert size.hidden == 32
    image = processor.tokenizer.convert_tokens_to_ids(family_of(folder).image_token(processor))
    ids = one_image(processor)["input_ids"].flatten().tolist()
    assert ids.count(image) <= size.image_tokens <= len(ids)


def seven() -> LlavaForConditionalGeneration:
    """LLaVA-1.5 7B, by transformers' own defaults, without any weights."""
    with torch.device("meta"):
        return LlavaForConditionalGeneration(LlavaConfig(text_config=LlamaConfig())).eval()


def test_a_read_llava_is_the_one_of_the_shipped_shape() -> None:
    n, shipped = counted(seven(), 128), counts(MODEL, LoraSettings())
    assert n == shipped


def test_operations_are_what_torch_counts_but_for_attention() -> None:
    """Scores and weighted sums of attention are left out, as the plan says."""
    model: LlavaForConditionalGeneration = seven()
    n, tokens = counted(model, 128), 800
    with FlopCounterMode(display=False) as language, torch.device("meta"):
        out = model.model.language_model(inputs_embeds=torch.empty(1, tokens, 4096))
        model.lm_head(out.last_hidden_state)
    assert 0.96 < 2 * n.language * tokens / language.get_total_flops() < 1
    with FlopCounterMode(display=False) as vision, torch.device("meta"):
        model.model.vision_tower(torch.empty(1, 3, 336, 336))
    assert 0.90 < 2 * n.vision * 577 / vision.get_total_flops() < 1


def test_a_gradients_operations_are_what_torch_counts_but_for_attention() -> None:
    llava: Any = seven().bfloat16()
    n = counted(llava, 128)
    with torch.device("meta"):
        attach_lora(llava, LoraSettings())
        ids = torch.zeros(1, 800, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        states = llava.model.language_model(input_ids=ids).last_hidden_state
        llava.lm_head(states.bfloat16()).sum().backward()
    text = Sizes(1, 0, 1, 800.0, 0.0, 577, 32, 4096, n, n)
    assert 0.95 < text.gradient(n) / counter.get_total_flops() < 1


def test_a_plan_of_any_family_has_a_cost(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = typed(composed("setup=llava_665k", "model=hf", f"model.folder={folder}"))
    plan_runs([Experiment(config, Cache(NOWHERE / "cache"))])
    said = capsys.readouterr().out
    assert "PFLOP" in said
    size: ModelSize | None = model_size(config.model, config.lora)
    assert size
    assert f"LoRA trains {size.counts.adapter:,} parameters" in said


def test_a_plan_of_ones_own_world_counts_its_own_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It had the paper's number of validation rows, and what the paper itself cost."""
    row = {"image": "1.png", "conversations": [{"from": "human", "value": "<image>\nwhat ?"}]}
    row["conversations"] += [{"from": "gpt", "value": "red"}]
    Image.new("RGB", (40, 30)).save(tmp_path / "1.png")
    (tmp_path / "targets").mkdir()
    for path, rows in (("pool.json", 7), ("targets/a.json", 3), ("targets/b.json", 2)):
        (tmp_path / path).write_text(json.dumps([row] * rows))
    base = write_toy("qwen2_vl", tmp_path / "model")
    given = [
        *("setup=custom", "model=hf", f"model.folder={base}", f"data.json={tmp_path}/pool.json"),
        *(f"data.images={tmp_path}", f"targets.folder={tmp_path}/targets"),
        *(f"targets.images={tmp_path}", "trainer=cpu"),
    ]
    experiment = Experiment(typed(composed(*given)), Cache(tmp_path / "cache"))
    plan_runs([experiment])
    assert "there is no cost to show: the targets have not been read" in caplog.text
    for step in (experiment.graph.pool, experiment.graph.targets):
        obtain(step, experiment.cache)
    plan_runs([experiment])
    said = capsys.readouterr().out
    assert "7 rows (the pool's usable rows)" in said
    assert re.search(r"^target_gradients +5 ", said, re.MULTILINE)
    assert "paper" not in said


def test_settings_of_the_processor_count(tmp_path: Path) -> None:
    folder = write_toy("qwen2_vl", tmp_path)
    size = {"shortest_edge": 4 * SIDE * SIDE, "longest_edge": 4 * SIDE * SIDE}
    small = ModelSettings(kind="folder", folder=str(folder), images={"size": size})
    most = {"shortest_edge": 4 * SIDE * SIDE, "longest_edge": 16 * SIDE * SIDE}
    large = ModelSettings(kind="folder", folder=str(folder), images={"size": most})
    one, other = model_size(small, LORA), model_size(large, LORA)
    assert one
    assert other
    assert one.image_tokens < other.image_tokens
    assert one.counts == other.counts

"""What cannot be used is refused by name, with the reason, before a run begins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from family_toys import INSTRUCT, byte_tokenizer, chatml, write_toy
from graphs import NOWHERE
from hydra import compose, initialize_config_dir
from transformers import AutoProcessor

from icons_repro.config.checks import typed
from icons_repro.config.register import register
from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError, DataError
from icons_repro.data.chat import ChatTemplate
from icons_repro.graph.graph import Graph
from icons_repro.models.families import QWEN2_5_VL, family_of
from icons_repro.models.jobs import change_images, link_model
from icons_repro.models.llava import load_model, load_processor
from icons_repro.models.quantized import quantization
from icons_repro.models.stage import FolderBase
from icons_repro.training.sharding import shard

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy("qwen2_5_vl", tmp_path_factory.mktemp("qwen"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a graph looks up is remembered in the run's cache: not in the clone's."""
    monkeypatch.chdir(tmp_path)


def graph(*overrides: str) -> Graph:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=list(overrides))
    config.names = {"setup": "tiny", "experiment": "test", "selector": "test"}
    config.paths = {"output": f"{NOWHERE}", "cache": f"{NOWHERE}/cache", "run": f"{NOWHERE}/run"}
    return Graph(typed(config))


def test_model_hf_takes_a_folder_and_keeps_its_template(
    qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    step = graph("model=hf", f"model.folder={qwen}").base
    assert isinstance(step, FolderBase)
    base = obtain(step, Cache(tmp_path / "cache"))
    assert family_of(base) is QWEN2_5_VL
    assert load_processor(base).chat_template == load_processor(qwen).chat_template


def test_changed_image_settings_are_the_bases_own_from_there_on(qwen: Path, tmp_path: Path) -> None:
    link_model(qwen, None, tmp_path, {"size": {"shortest_edge": 64, "longest_edge": 256}})
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert processor.image_processor.size["longest_edge"] == 256
    assert processor.image_processor.patch_size == 4
    assert (tmp_path / "model.safetensors").is_symlink()


def test_changed_image_settings_make_another_base(
    qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ("model=hf", f"model.folder={qwen}")
    sizes = ([], ["model.images={patch_size: 4}"], ["model.images={patch_size: 8}"])
    bases = [graph(*settings, *images).base for images in sizes]
    assert len({base.fingerprint for base in bases}) == 3


def test_sharded_training_is_refused_where_no_dummy_image_is_known(qwen: Path) -> None:
    with pytest.raises(ConfigError, match=r"strategy=fsdp2 trains .*not Qwen2\.5-VL"):
        shard(load_model(qwen), cast(Any, None))


def test_image_settings_without_effect_are_refused(qwen: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.images\.tiles: Qwen2_5_VLProcessor has no such"):
        link_model(qwen, None, tmp_path, {"tiles": 3})
    internvl = load_processor(write_toy("internvl", tmp_path / "internvl"))
    with pytest.raises(ConfigError, match=r"crop_to_patches.* sets it itself"):
        change_images(internvl, {"crop_to_patches": False})


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "mllama"}, "cross-attention"),
        ({"model_type": "paligemma"}, "no chat template"),
        ({"model_type": "chameleon"}, "tokens of a vocabulary"),
        ({"model_type": "florence2"}, "an encoder and a decoder"),
        ({"model_type": "qwen3_vl_moe"}, "experts"),
        ({"model_type": "qwen2"}, "no image-text model"),
        ({"model_type": "aya_vision"}, "no adapter is written"),
        ({"model_type": "of_tomorrow"}, "does not know"),
    ],
)
def test_another_architecture_is_refused_with_its_reason(
    config: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=rf"{reason}[\s\S]*qwen2_5_vl"):
        link_model(tmp_path, None, tmp_path / "out")


def test_a_folder_without_a_processor_is_named(qwen: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(qwen / name, tmp_path / name)
    with pytest.raises(DataError, match="processor"):
        link_model(tmp_path, None, tmp_path / "out")


def test_our_templates_are_refused_for_models_that_read_another_image_token(
    qwen: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"reads <\|image_pad\|>.*model\.template=null"):
        link_model(qwen, "qwen", tmp_path)


def processor(template: str | None, end: str = "</s>") -> Any:
    tokenizer = byte_tokenizer(("<s>", "</s>", "<image>"), end)
    return SimpleNamespace(tokenizer=tokenizer, chat_template=template, image_token="<image>")


def test_a_template_that_ends_no_answer_is_refused() -> None:
    ChatTemplate(processor(INSTRUCT))
    with pytest.raises(DataError, match="would never stop"):
        ChatTemplate(processor(INSTRUCT.replace("{{- eos_token -}}", "")))
    marked = (
        "{% for m in messages %}{{ m['role'] + ': ' }}"
        "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
        "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    with pytest.raises(DataError, match="would never stop"):
        ChatTemplate(processor(marked))
    with pytest.raises(DataError, match="no chat template"):
        ChatTemplate(processor(None))


def test_a_llava_whose_template_marks_answers_without_their_end_is_refused_when_linked(
    tiny_base: Path, tmp_path: Path
) -> None:
    base = tmp_path / "llava"
    shutil.copytree(tiny_base, base)
    tiny = load_processor(base)
    (tmp_path / "linked").mkdir()
    link_model(base, None, tmp_path / "linked")
    tiny.chat_template = tiny.chat_template.replace(" + ' </s>' }}", " }}")
    tiny.save_pretrained(base)
    with pytest.raises(DataError, match=r"would never stop.*model\.template=v1"):
        link_model(base, None, tmp_path / "out")


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    forgetful = chatml("<image>").replace(
        "{%- for message in messages -%}", "{%- for message in messages[-2:] -%}"
    )
    with pytest.raises(DataError, match="rewrites earlier turns"):
        ChatTemplate(processor(forgetful))
    with pytest.raises(DataError, match="the chat template fails"):
        ChatTemplate(processor("{{ raise_exception('no') }}"))


def test_weights_in_few_bits_are_refused_without_a_cuda_device(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.bits=4 needs a CUDA device"):
        graph("trainer.bits=4")
    if not torch.cuda.is_available():
        for device in ("cpu", "cuda"):
            with pytest.raises(ConfigError, match=r"trainer\.bits=8 needs a CUDA device"):
                quantization(8, QWEN2_5_VL, torch.bfloat16, device)

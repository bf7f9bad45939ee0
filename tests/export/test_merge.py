import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from icons_repro.core.settings import LoraSettings
from icons_repro.data.export import export_subset, sha256
from icons_repro.data.records import RecordTable
from icons_repro.evaluation.generation import BatchedGenerator, Decoding
from icons_repro.export.merge import copy_adapter, write_merged
from icons_repro.models.llava import load_model
from icons_repro.models.lora import attach_lora
from icons_repro.training.checkpoint import save_adapter

KEPT = np.array([2, 7, 61, 271])
"""Two plain rows, one of three rounds, one of three rounds without an image."""


@pytest.fixture(scope="module")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter with random weights that change what the model says."""
    out = tmp_path_factory.mktemp("adapter")
    model = attach_lora(load_model(tiny_base), LoraSettings(rank=4, alpha=8, dropout=0.0))
    torch.manual_seed(0)
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    for name, parameter in trained:
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    save_adapter(model, trained, torch.optim.AdamW([p for _, p in trained]), out, {})
    return out


def test_stock_transformers_answers_from_the_merged_folder_as_the_adapter_does(
    tiny_base: Path, adapter: Path, small_world: Path, tmp_path: Path
) -> None:
    write_merged(tiny_base, adapter, tmp_path / "model", "float32", "pad")
    ways = {
        "adapter": BatchedGenerator.load(tiny_base, adapter),
        "merged": BatchedGenerator.load(tmp_path / "model"),
        "base": BatchedGenerator.load(tiny_base),
    }
    table = RecordTable(small_world / "pool" / "records.arrow")
    rows = [table[i] for i in range(60) if table[i].images][:24]
    answers = {}
    for name, generator in ways.items():
        prompts = [
            generator.prompt([{"role": "user", "content": [
                {"type": "image", "url": Image.open(small_world / "images" / row.images[0])},
                {"type": "text", "text": row.conversations[0]["value"].replace("<image>", "")},
            ]}])
            for row in rows
        ]  # fmt: skip
        answers[name] = generator.answer(prompts, Decoding(max_new_tokens=6))
    assert answers["merged"] == answers["adapter"]
    assert answers["merged"] != answers["base"]


def test_the_copied_adapter_is_pefts_layout_and_names_no_local_path(
    adapter: Path, tmp_path: Path
) -> None:
    copy_adapter(adapter, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert config["base_model_name_or_path"] is None
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


@pytest.fixture
def exported(small_world: Path, tmp_path: Path) -> Path:
    table = RecordTable(small_world / "pool" / "records.arrow")
    chosen = tmp_path / "selection"
    chosen.mkdir()
    np.save(chosen / "positions.npy", KEPT)
    (chosen / "keys.txt").write_text("".join(f"{table[int(i)].key}\n" for i in KEPT))
    votes = np.where(np.isin(np.arange(len(table)), KEPT), 3.0, 1.0)
    pq.write_table(pa.table({"votes": votes}), chosen / "scores.parquet")
    export_subset(table, chosen, tmp_path / "subset", "icons 0.2, seed 0")
    return tmp_path / "subset"


def test_both_training_formats_hold_the_same_rows(exported: Path) -> None:
    llava = json.loads((exported / "subset.json").read_text())
    sharegpt = json.loads((exported / "sharegpt.json").read_text())
    assert [row["conversations"] for row in llava] == [row["conversations"] for row in sharegpt]
    for row in sharegpt:
        tags = sum(turn["value"].count("<image>") for turn in row["conversations"])
        assert tags == len(row["images"])
    entry = json.loads((exported / "dataset_info.json").read_text())["subset"]
    assert entry["file_name"] == "sharegpt.json"
    assert entry["columns"] == {"messages": "conversations", "images": "images"}


def test_the_subset_is_in_the_schema_of_llavas_trainer(exported: Path, small_world: Path) -> None:
    rows = json.loads((exported / "subset.json").read_text())
    assert {"image" in row for row in rows} == {True, False}
    for row in rows:
        roles = [turn["from"] for turn in row["conversations"]]
        assert roles == ["human", "gpt"] * (len(roles) // 2)
        tags = [turn["value"].count("<image>") for turn in row["conversations"]]
        assert tags == [int("image" in row), *[0] * (len(roles) - 1)]
        if "image" in row:
            assert (small_world / "images" / row["image"]).is_file()
    pool = json.loads((small_world / "pool.json").read_text())
    assert rows == [pool[i] for i in KEPT]


def test_the_sharegpt_file_is_what_its_entry_tells_llama_factory(exported: Path) -> None:
    entry = json.loads((exported / "dataset_info.json").read_text())["subset"]
    columns, tags = entry["columns"], entry["tags"]
    assert entry["formatting"] == "sharegpt"
    for row in json.loads((exported / entry["file_name"]).read_text()):
        turns = row[columns["messages"]]
        roles = [turn[tags["role_tag"]] for turn in turns]
        assert roles == [tags["user_tag"], tags["assistant_tag"]] * (len(roles) // 2)
        text = "".join(turn[tags["content_tag"]] for turn in turns)
        assert text.count("<image>") == len(row[columns["images"]])


def test_the_card_counts_sources_and_votes_and_gives_true_hashes(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    assert "| 3 | 4 | 4 |" in card
    assert "| 1 | 296 | 0 |" in card
    for name in ("subset.json", "sharegpt.json", "positions.npy", "keys.txt"):
        assert f"`{name}` {sha256(exported / name)}" in card
    assert "licence" in card

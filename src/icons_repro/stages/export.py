"""Export: the model, the adapter and the subset of a run, for other people's programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from icons_repro.core.artifacts import Step, Workspace
from icons_repro.core.settings import TrainerSettings

ADAPTER_FILES = ("adapter_model.safetensors", "projector.safetensors")


def export(
    trainer: TrainerSettings, base: Step, pool: Step, selection: Step, adapter: Step
) -> Step:
    """A merged model in the plain Hugging Face layout, PEFT's adapter, the subset with a card."""

    def build(ws: Workspace) -> dict[str, Any]:
        from icons_repro.data.export import export_subset
        from icons_repro.data.records import RecordTable

        write_merged(ws.inputs["base"], ws.inputs["adapter"], ws.out / "model", trainer.model_dtype)
        copy_adapter(ws.inputs["adapter"], ws.out / "adapter")
        table = RecordTable(ws.inputs["pool"] / "records.arrow")
        about = f"{selection.label} (selection {selection.fingerprint})"
        return export_subset(table, ws.inputs["selection"], ws.out / "subset", about)

    inputs = {"base": base, "pool": pool, "selection": selection, "adapter": adapter}
    return Step("export", build, {"dtype": trainer.model_dtype}, inputs, label=selection.label)


def write_merged(base: Path, adapter: Path, out: Path, dtype: str) -> None:
    """Add the adapter to the weights, once, and save model and processor to `out`."""
    import torch

    from icons_repro.evaluation.generation import load_merged
    from icons_repro.models.llava import load_processor

    load_merged(base, adapter, getattr(torch, dtype), "cpu").save_pretrained(out)
    load_processor(base).save_pretrained(out)


def copy_adapter(adapter: Path, out: Path) -> None:
    """Copy the adapter in PEFT's layout, without this machine's path to its base."""
    out.mkdir()
    for name in ADAPTER_FILES:
        shutil.copyfile(adapter / name, out / name)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")

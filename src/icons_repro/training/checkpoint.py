"""Adapter folders and resume points: only what was trained, whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import uuid
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json, write_text
from icons_repro.models.lora import projector_state
from icons_repro.training.sharding import is_sharded, whole

log = logging.getLogger(__name__)
Named = Iterable[tuple[str, nn.Parameter]]


def save_adapter(
    model: PeftModel,
    trained: Named,
    optimizer: torch.optim.Optimizer,
    out: Path,
    about: Mapping[str, Any],
    writes: bool = True,
) -> None:
    """Write a self-contained adapter folder.

    `adapter_model.safetensors` and `adapter_config.json` are PEFT's own; `projector.safetensors`
    holds the trained projector; `optimizer.safetensors` AdamW's moments by parameter name;
    `adapter.json` what the caller says `about` it.

    All ranks of a training run call it, since each may hold a share of the weights; one `writes`.
    """
    named = list(trained)
    if not writes and not any(is_sharded(p) for _, p in named):
        return
    weights = {name: _on_cpu(parameter) for name, parameter in named}
    moments = named_moments(named, optimizer)
    if not writes:
        return
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(out), state_dict=weights, save_embedding_layers=False)
    (out / "README.md").unlink(missing_ok=True)  # PEFT's model-card form, empty
    save_file(projector_state(model, weights), out / "projector.safetensors")
    save_file(moments, out / "optimizer.safetensors")
    text = json.dumps(dict(about), indent=2, sort_keys=True)
    write_text(out / "adapter.json", f"{text}\n")


def _on_cpu(value: torch.Tensor) -> torch.Tensor:
    return whole(value.detach()).cpu().contiguous()


def epoch_folder(warmup: Path, epoch: int) -> Path:
    """Return where the adapter stands as it was at the end of `epoch`, from 1."""
    return warmup / f"epoch_{epoch}"


def point_folder(run: Path, point: int) -> Path:
    """Return where the adapter stands as it was at a run's `point`, from 1."""
    return run / f"point_{point}"


def epoch_rates(warmup: Path) -> list[float]:
    """Return the mean learning rate of each epoch of a finished training run.

    Raises `DataError` if its `adapter.json` is not there, or cut.
    """
    about = read_json(warmup / "adapter.json")
    if not isinstance(about, dict) or "epoch_rates" not in about:
        raise DataError(
            f"{warmup / 'adapter.json'} does not say the epochs' learning rates: delete {warmup}, "
            "and it is trained again."
        )
    return list(about["epoch_rates"])


def named_moments(trained: Named, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return `{name}.exp_avg` and `{name}.exp_avg_sq` for each trained parameter, in float32.

    By name, because an index depends on how the optimizer's groups were made. A parameter that
    never had a gradient (a projector that saw no image) has zero moments.
    """
    moments = {}
    for name, parameter in trained:
        state = optimizer.state.get(parameter, {})
        for moment in ("exp_avg", "exp_avg_sq"):
            value = state.get(moment, torch.zeros_like(parameter))
            moments[f"{name}.{moment}"] = _on_cpu(value).float()
    return moments


def load_moments(folder: Path, names: Iterable[str]) -> dict[str, dict[str, torch.Tensor]]:
    """Return `{name: {"exp_avg", "exp_avg_sq"}}`. Raises `DataError` if one is missing."""
    stored = load_file(folder / "optimizer.safetensors")
    missing = [n for n in names if f"{n}.exp_avg" not in stored]
    if missing:
        raise DataError(
            f"{folder}/optimizer.safetensors has no moments for {missing[0]} "
            f"({len(missing)} missing): it belongs to another adapter."
        )
    return {name: {m: stored[f"{name}.{m}"] for m in ("exp_avg", "exp_avg_sq")} for name in names}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint writer, made atomic: a killed process leaves the older file whole."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write beside `path`, then rename."""
        part = f"{path}.part"
        super().save_checkpoint(checkpoint, part, storage_options)
        os.replace(part, path)


def whole_resume_point(path: Path) -> bool:
    """Whether there is a resume point to go on from; one that is cut or damaged is moved aside.

    torch writes a zip file with a checksum of each tensor, and does not look at it when it reads.
    """
    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        damaged = str(error)
    if damaged is None:
        return True
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.damaged")
    path.rename(aside)
    log.warning("%s is damaged (%s); training starts from its beginning", path.name, damaged)
    return False


def keep_trained(checkpoint: dict[str, Any], names: Iterable[str]) -> None:
    """Drop from a resume point every tensor that is not among the trained ones."""
    trained = set(names)
    state = checkpoint["state_dict"]
    checkpoint["state_dict"] = {key: value for key, value in state.items() if key in trained}


def name_moments(checkpoint: dict[str, Any], names: Sequence[str]) -> None:
    """Key a resume point's optimizer state by parameter, `names` being in the optimizer's order.

    A sharding strategy writes names, and can go on from nothing else: it takes an index for one
    among all parameters, the frozen ones too. One device goes on from either.
    """
    (state,) = checkpoint["optimizer_states"]
    groups = state.get("param_groups", [])  # nothing on a sharded run's other ranks
    if not any(isinstance(key, int) for group in groups for key in group["params"]):
        return
    checkpoint["optimizer_states"] = [
        {
            "state": {names[index]: moments for index, moments in state["state"].items()},
            "param_groups": [{**g, "params": [names[i] for i in g["params"]]} for g in groups],
        }
    ]


def require_trained(checkpoint: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise `DataError` unless a resume point holds exactly the trained parameters."""
    if set(names) != set(checkpoint["state_dict"]):
        raise DataError("the resume point holds other parameters; delete it and start again.")


def count_batches(checkpoint: dict[str, Any], accumulate: int) -> None:
    """Set a resume point's count of micro-batches to what one rank takes for its steps.

    It is written while its last batch is begun and not completed, which stays so.
    """
    done = checkpoint["global_step"] * accumulate
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        more = done - counts["ready"]
        counts.update({what: count + more for what, count in counts.items()})

"""Choose the attention kernel by what it does to gradients: the first that gives the same bits
twice and that padding leaves alone.

A fused kernel may treat a masked batch unlike an unmasked one (pytorch/pytorch issue 103462 has
such a case), and PyTorch picks kernels by shape and mask. Then a row's gradient depends on its
company. So each kernel is tried here with samples alone, and with the same ones padded in a batch.
Fused kernels of a GPU add with atomics in their backward pass unless torch is told not to, so each
is tried held to deterministic algorithms first. Times are noted and choose nothing: with times to
choose by, a pool and its targets once got different kernels.
"""

from __future__ import annotations

import logging
import math
import re
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from icons_repro.core.deterministic import is_refused
from icons_repro.core.errors import UserError
from icons_repro.gradients.attention import AttentionChoice, AttentionTrial
from icons_repro.gradients.memory import device_name
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.models.batches import IGNORE, take_rows

log = logging.getLogger(__name__)

FIRST_LAYER = re.compile(r"\.(language_model|text_model)\.layers\.0\.")
CANDIDATES = {
    "cpu": ("sdpa", "sdpa:math", "eager"),
    "cuda": ("sdpa", "sdpa:flash", "sdpa:cudnn", "sdpa:efficient", "sdpa:math", "eager"),
}
"""Kernels to try, by device; of equally fast ones the earliest is taken."""
LENGTHS = {"cpu": (48, 31, 17), "cuda": (1024, 640, 200, 77)}
"""Tokens of the probe's samples."""
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}
"""Difference that rounding explains: a matrix product of another shape adds in another order."""


def choose_attention(
    gradients: PerSampleGradients, precision: str = "32-true", seed: int = 0
) -> AttentionChoice:
    """Return the kernel for `gradients.attention`: the first whose gradients ignore padding.

    A kernel passes if its largest relative difference is within `TOLERANCE` or twice that of the
    best kernel here; those that repeat their bits come before all others. Random tokens, without
    images, stand for samples; gradients are compared in the first layer, which feels every later
    one.

    Args:
        gradients: of the model to test, on the device that it will run on.
        precision: Lightning's name; `bf16-mixed` tests under autocast.
        seed: of the probe.

    Raises:
        UserError: no kernel runs.
    """
    first = _first_layer(gradients)
    device = next(gradients.model.parameters()).device
    batch = probe(gradients, device, seed)
    dtype = next(gradients.model.parameters()).dtype
    autocast = precision == "bf16-mixed" and dtype != torch.float64
    computed = torch.bfloat16 if autocast else dtype
    choice = AttentionChoice("", str(computed).removeprefix("torch."), device_name(device))
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        trials = tuple(
            _tried(first, replace(choice, kernel=kernel), batch)
            for kernel in CANDIDATES.get(device.type, CANDIDATES["cpu"])
        )
    taken = pick(trials, TOLERANCE[computed])
    chosen = replace(choice, kernel=taken.kernel, deterministic=taken.deterministic, trials=trials)
    log.info("attention kernel: %s", chosen.kernel)
    return chosen


def pick(trials: Sequence[AttentionTrial], tolerance: float) -> AttentionTrial:
    """Return the first trial that repeats its bits and passes, else the first that passes."""
    ran = [t for t in trials if t.difference is not None and math.isfinite(t.difference)]
    if not ran:
        raise UserError(
            "no attention kernel gives gradients of this model on this device: "
            + "; ".join(f"{t.kernel}: {t.problem or 'not a number'}" for t in trials)
        )
    best = min(t.difference or 0.0 for t in ran)
    if best > tolerance:
        log.warning(
            "a sample's gradient depends on its batch by %.2g under every attention kernel, more "
            "than rounding explains (%.2g): take gradients in float32 or with "
            "gradients.per_sample=loop if that matters",
            *(best, tolerance),
        )
    passed = [t for t in ran if (t.difference or 0.0) <= max(tolerance, 2 * best)]
    repeatable = [t for t in passed if t.repeatable]
    if not repeatable:
        log.warning(
            "no attention kernel gives this model's gradients the same bits twice on this device, "
            "so a run made again may choose other rows"
        )
    return (repeatable or passed)[0]


def probe(
    gradients: PerSampleGradients, device: torch.device, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Return a padded batch of random tokens, of each sample the last quarter an answer."""
    config: Any = gradients.model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    longest = getattr(text, "max_position_embeddings", None) or 2**20
    lengths = [min(n, longest) for n in LENGTHS.get(device.type, LENGTHS["cpu"])]
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, text.vocab_size, (len(lengths), max(lengths)), generator=generator)
    image = gradients.image_token_id
    if image is not None:
        ids[ids == image] = (image + 1) % text.vocab_size
    column, length = torch.arange(max(lengths))[None], torch.tensor(lengths)[:, None]
    answer = (column < length) & (column >= length - length // 4)
    batch = {
        "input_ids": ids,
        "attention_mask": (column < length).long(),
        "labels": torch.where(answer, ids, IGNORE),
        "positions": torch.arange(len(lengths)),
    }
    return {name: value.to(device) for name, value in batch.items()}


def _first_layer(gradients: PerSampleGradients) -> PerSampleGradients:
    """Return what takes gradients of the first layer's chosen parameters, or of all."""
    every = list(zip(gradients.layout.names, gradients.parameters.values(), strict=True))
    first = [(n, p) for n, p in every if FIRST_LAYER.search(n)] or every
    return PerSampleGradients(gradients.model, first, gradients.method)  # type: ignore[arg-type]


def _tried(
    gradients: PerSampleGradients, choice: AttentionChoice, batch: dict[str, torch.Tensor]
) -> AttentionTrial:
    """Try a kernel; on a GPU held to deterministic algorithms, unless the model has none."""
    problem = ""
    for held in (True, False) if batch["input_ids"].device.type == "cuda" else (False,):
        gradients.attention = tried = replace(choice, deterministic=held)
        try:
            return _trial(gradients, tried, batch)
        except RuntimeError as error:
            problem = (str(error).splitlines() or [type(error).__name__])[0]
            if not is_refused(error):
                break
            log.warning("attention kernel %s: %s", choice.kernel, problem)
    return AttentionTrial(choice.kernel, problem=problem)


def _trial(
    gradients: PerSampleGradients, choice: AttentionChoice, batch: dict[str, torch.Tensor]
) -> AttentionTrial:
    n = len(batch["input_ids"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's reasons for not running a kernel
        together = _rows(gradients, batch)
        start = _now(together.device)
        again = _rows(gradients, batch)
        seconds = _now(together.device) - start
        alone = [_rows(gradients, take_rows(batch, [i], None)) for i in range(n)]
    off = torch.cat(alone) - together
    difference = (off.norm(dim=1) / together.norm(dim=1)).max()
    return AttentionTrial(
        choice.kernel,
        float(difference),
        round(seconds, 5),
        bool(torch.equal(together, again)),
        deterministic=choice.deterministic,
    )


def _rows(gradients: PerSampleGradients, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    parts, _ = gradients(batch)
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

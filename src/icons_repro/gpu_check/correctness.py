"""Is it right on this device? Each check holds the device to something that does not depend on it.

What should be equal but for rounding is asked in float32, at full width with two layers; what only
shows at full depth is asked in bfloat16, as it will run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration

from icons_repro.evaluation.generation import merge
from icons_repro.gpu_check.device_memory import (
    a_child_gives_its_memory_back,
    splits_when_out_of_memory,
)
from icons_repro.gpu_check.lines import Check, Found
from icons_repro.gpu_check.model import END, Rig
from icons_repro.gpu_check.passes import ALIKE, Extraction, answers, apart, train
from icons_repro.gradients.attention import AttentionTrial
from icons_repro.gradients.layout import ParameterLayout
from icons_repro.gradients.per_sample import PerSampleGradients
from icons_repro.gradients.projections import CountSketch, Rademacher
from icons_repro.gradients.projections.base import random_permutation, random_signs, random_words
from icons_repro.gradients.projections.rademacher import BLOCK
from icons_repro.gradients.self_test import choose_attention
from icons_repro.models.answers import answer_losses
from icons_repro.models.lora import gradient_parameters

SHALLOW = 2
"""Layers of the float32 checks."""
SAME = 1e-4
"""Relative difference that float32's rounding explains over a row's tokens."""
ROUNDED = math.sqrt(2 * (1 - ALIKE))
"""Relative difference of two rows of one length whose cosine is `ALIKE`."""
STEPS = 20
FEW_STEPS = 3
MERGED = 0.05
"""Relative change of the loss that rounding W + BA to bfloat16 explains."""
QUESTIONS = 64
TIE = {torch.float32: 1e-3, torch.bfloat16: 0.2}
"""Gap of two logits, in standard deviations of all, that rounding may reverse. The best of 32,000
lies four of them above the mean, so another answer by mistake is far beyond it."""


def mixed(rig: Rig) -> dict[str, torch.Tensor]:
    """Return rows of several lengths, one of them without an image."""
    text = rig.shape.text
    return rig.rows((text, text // 2, text // 3), (True, False, True))


def batched_is_loop(rig: Rig, dtype: torch.dtype, layers: int | None) -> Found:
    """Per-sample gradients of a batch are those of one backward pass a sample."""
    model, batch = rig.adapted(dtype, layers), mixed(rig)
    narrow = dtype == torch.bfloat16
    chosen = gradient_parameters(model, "lora" if narrow else "lora+projector")
    with torch.autocast(rig.device.type, torch.bfloat16, enabled=narrow):
        batched, _ = PerSampleGradients(model, chosen)(batch)
        loop, _ = PerSampleGradients(model, chosen, "loop")(batch)
    difference, cosine = apart(batched, loop)
    if narrow:
        return Found(cosine, "smallest cosine", cosine >= ALIKE, f"at least {ALIKE}")
    return Found(difference, "largest difference", difference <= SAME, f"at most {SAME}")


def whole_numbers(layout: ParameterLayout) -> torch.Tensor:
    """Return rows of small whole numbers `[3, D]` on the CPU: their sums are exact everywhere."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(-100, 101, (3, layout.dim), generator=generator).float()


def count_sketch_is_numpys(rig: Rig) -> Found:
    """The device's count-sketch is a scatter written in NumPy, bit by bit."""
    dim = rig.shape.dim
    layout = ParameterLayout(("a", "b"), ((37, 3 * dim), (dim // 3, 11)))
    rows = whole_numbers(layout)
    found = CountSketch(layout, dim, seed=5).project(rows.to(rig.device)).cpu().numpy()
    blocks = -(-layout.dim // dim)
    padded = np.zeros((3, blocks * dim), np.float32)
    padded[:, : layout.dim] = rows.numpy()
    expected = np.zeros((3, dim), np.float32)
    for block in range(blocks):
        order = random_permutation(5, (block, 0), dim)
        signs = random_signs(5, (block, 1), dim)
        expected += padded[:, block * dim : (block + 1) * dim][:, order] * signs
    wrong = int((found != expected).sum())
    return Found(wrong, f"of {found.size} differ", wrong == 0)


def rademacher_signs_are_numpys(rig: Rig) -> Found:
    """Every sign that the device multiplies with is the one that NumPy draws.

    Of both lengths of a row: those that the fused kernel takes, and others.
    """
    wrong = total = 0
    for dim in (rig.shape.dim, 65):
        differ = _signs(rig, dim)
        wrong, total = wrong + int(differ.sum()), total + differ.size
    return Found(wrong, f"of {total:,} signs differ", wrong == 0)


def _signs(rig: Rig, dim: int, blocks: int = 5, seed: int = 7) -> np.ndarray:
    """Return where the signs are others than NumPy's, for some rows of the matrix."""
    layout = ParameterLayout(("a",), ((blocks * BLOCK,),))
    places = torch.arange(0, layout.dim, 19)
    ones = torch.zeros(len(places), layout.dim)
    ones[torch.arange(len(places)), places] = 1.0
    found = Rademacher(layout, dim, seed).project(ones.to(rig.device)).sign().cpu().numpy()
    words = -(-dim // 64)
    drawn = [random_words(seed, (block,), BLOCK * words) for block in range(blocks)]
    bits = np.concatenate(drawn).astype("<u8").view(np.uint8).reshape(layout.dim, words * 8)
    signs = np.unpackbits(bits[places.numpy()], 1, bitorder="little")[:, :dim] * 2.0 - 1
    return found != signs


def trains_merges_answers(rig: Rig) -> Found:
    """A bfloat16 model learns a batch, keeps what it learnt when merged, and answers."""
    rig.drop()
    model = rig.trainable()
    batch = rig.rows((rig.shape.text,) * 2)
    losses = train(rig, model, batch, STEPS).losses
    with torch.no_grad(), rig.autocast():
        learnt = float(answer_losses(model, batch).mean())
    merged = merge(model, "the trained adapter")
    rig.drop()  # merging has used it up
    with torch.no_grad():
        kept = float(answer_losses(merged, batch).mean())
    said = answers(merged, rig.prompts((9, 5)), 4)
    fell = losses[-1] < losses[0] and all(map(math.isfinite, losses))
    same = abs(kept - learnt) <= MERGED * learnt
    note = f"loss {losses[0]:.3f} -> {losses[-1]:.3f}, {learnt:.3f} in eval, {kept:.3f} merged"
    return Found(STEPS, "steps", fell and same and all(said), note)


def answers_do_not_depend_on_the_batch(rig: Rig, dtype: torch.dtype, layers: int | None) -> Found:
    """A prompt is answered alike alone and in a batch of 64, but where two tokens nearly tie.

    Random weights tie often. Where answers part, the two tokens' logits must be as close as
    rounding explains, measured by the spread of all logits there.
    """
    model = rig.base(dtype, layers)
    together = rig.prompts([4 + 3 * i % 29 for i in range(QUESTIONS)])
    alone = [_alone(together, i) for i in range(QUESTIONS)]
    batched = answers(model, together, 6)
    single = [answers(model, prompt, 6)[0] for prompt in alone]
    apart_at = [i for i in range(QUESTIONS) if batched[i] != single[i]]
    gaps = [_gap(model, alone[i], batched[i], single[i]) for i in apart_at]
    note = f"where they part, a gap of {max(gaps):.2g} at most" if gaps else ""
    same = QUESTIONS - len(apart_at)
    return Found(same, f"of {QUESTIONS} the same", max(gaps, default=0.0) <= TIE[dtype], note)


@torch.inference_mode()
def _gap(
    model: LlavaForConditionalGeneration,
    prompt: dict[str, torch.Tensor],
    a: Sequence[int],
    b: Sequence[int],
) -> float:
    """Return how far apart the logits are of the two tokens at which two answers part."""
    pairs = list(zip_longest(a, b, fillvalue=END))
    at = next(i for i, (x, y) in enumerate(pairs) if x != y)
    said = torch.tensor([a[:at]], dtype=torch.int64, device=model.device)
    ids = torch.cat([prompt["input_ids"], said], 1)
    pixels = prompt["pixel_values"].to(model.dtype)
    logits = model(input_ids=ids, pixel_values=pixels, logits_to_keep=1).logits[0, -1].float()
    return float((logits[pairs[at][0]] - logits[pairs[at][1]]).abs() / logits.std())


def _alone(prompts: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """Cut one prompt with its image out of a batch padded on the left."""
    length = int(prompts["attention_mask"][row].sum())
    one = {name: value[row : row + 1] for name, value in prompts.items()}
    return one | {name: one[name][:, -length:] for name in ("input_ids", "attention_mask")}


def same_bits_twice(rig: Rig) -> Found:
    """The same batch gives the same rows in every run; if not, how far apart they are."""
    extraction, batch = Extraction(rig, rig.adapted()), mixed(rig)
    first, second = (extraction.rows(batch).values for _ in range(2))
    spread, _ = apart([first], [second])
    return Found(spread, "largest difference", torch.equal(first, second))


def trains_to_the_same_bits(rig: Rig) -> Found:
    """Training twice from one seed gives the same adapter."""
    batch = rig.rows((rig.shape.text,) * 2)

    def trained() -> list[torch.Tensor]:
        rig.drop()
        model = rig.trainable()
        torch.manual_seed(0)  # of the dropout
        train(rig, model, batch, FEW_STEPS)
        return [p.detach().flatten()[None].cpu() for _, p in gradient_parameters(model)]

    first, second = trained(), trained()
    rig.drop()
    spread, _ = apart(first, second)
    same = all(map(torch.equal, first, second))
    return Found(spread, "largest difference", same, f"after {FEW_STEPS} steps")


def alone_is_padded(rig: Rig, dtype: torch.dtype, layers: int | None) -> Found:
    """Some attention kernel gives a sample the same gradient alone and padded in a batch.

    Float32 shows whether a kernel feels the padding; bfloat16 how much its own rounding, which
    differs with a batch's shape, has become after all layers.
    """
    model = rig.adapted(dtype, layers)
    gradients = PerSampleGradients(model, gradient_parameters(model))
    narrow = dtype == torch.bfloat16
    choice = choose_attention(gradients, "bf16-mixed" if narrow else "32-true")
    if narrow:
        rig.attention = choice
    chosen = next(trial for trial in choice.trials if trial.kernel == choice.kernel)
    difference = math.inf if chosen.difference is None else chosen.difference
    limit = ROUNDED if narrow else SAME
    note = f"at most {limit:.2g}; {choice.kernel} is taken ({', '.join(map(_seen, choice.trials))})"
    return Found(difference, "largest difference", difference <= limit, note)


def _seen(trial: AttentionTrial) -> str:
    if trial.difference is None:
        return f"{trial.kernel} cannot"
    bits = "same bits" if trial.repeatable else "other bits"
    held = "" if trial.deterministic else ", not held"
    seconds = 1000 * (trial.seconds or 0.0)
    return f"{trial.kernel} {trial.difference:.1g}, {bits}{held}, {seconds:.0f} ms"


def checks() -> list[Check]:
    """Return the lines, in an order in which neighbours use the same model."""
    shallow: dict[str, Any] = {"dtype": torch.float32, "layers": SHALLOW}
    deep: dict[str, Any] = {"dtype": torch.bfloat16, "layers": None}
    loop, alike = batched_is_loop, answers_do_not_depend_on_the_batch
    asked: dict[str, Callable[[Rig], Found]] = {
        "count-sketch: the device's rows are NumPy's": count_sketch_is_numpys,
        "dense Rademacher: the device's signs are NumPy's": rademacher_signs_are_numpys,
        "per-sample gradients: batch = loop (float32)": partial(loop, **shallow),
        "answers: alone = in a batch (float32)": partial(alike, **shallow),
        "attention: alone = padded in a batch (float32)": partial(alone_is_padded, **shallow),
        "attention: alone = padded in a batch (bfloat16)": partial(alone_is_padded, **deep),
        "per-sample gradients: batch = loop (bfloat16)": partial(loop, **deep),
        "gradients: the same bits twice": same_bits_twice,
        "out of memory under a cap: split, no row lost": splits_when_out_of_memory,
        "bfloat16: train, merge, answer": trains_merges_answers,
        "training: the same bits twice": trains_to_the_same_bits,
        "answers: alone = in a batch (bfloat16)": partial(alike, **deep),
        "memory is given back when a child process ends": a_child_gives_its_memory_back,
    }
    return [Check("correctness", name, run, seconds=120) for name, run in asked.items()]

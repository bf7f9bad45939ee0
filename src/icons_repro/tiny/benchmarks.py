"""The target tasks: overlapping mixtures of skills, as real benchmarks overlap."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from icons_repro.tiny.questions import PRESENCE_TEXTS, YES_NO, ask
from icons_repro.tiny.sampling import Sampler
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.sources import Draft, draw_choice, presence_with
from icons_repro.tiny.streams import Split, stream


@dataclass(frozen=True)
class Task:
    """One target task."""

    name: str
    style: str
    """open: a short answer; choice: three options; presence: yes or no, balanced by text."""
    mixture: dict[str, float] = field(default_factory=dict)
    """Share of each kind of scene."""


TASKS: tuple[Task, ...] = (
    Task(
        "tiny_vqa",
        "open",
        {"shape": 0.2, "dots": 0.2, "spatial": 0.2, "digit": 0.2, "bars": 0.1, "text": 0.1},
    ),
    Task("tiny_gqa", "open", {"spatial": 0.4, "shape": 0.3, "dots": 0.3}),
    Task("tiny_mme", "open", {"text": 0.25, "dots": 0.25, "bars": 0.25, "digit": 0.25}),
    Task(
        "tiny_mmb",
        "choice",
        {"shape": 0.2, "dots": 0.2, "spatial": 0.15, "digit": 0.15, "bars": 0.15, "text": 0.15},
    ),
    Task("tiny_textvqa", "open", {"text": 0.6, "digit": 0.4}),
    Task("tiny_chartqa", "open", {"bars": 0.6, "text": 0.2, "dots": 0.2}),
    Task("tiny_pope", "presence", {"shape": 0.4, "dots": 0.3, "digit": 0.3}),
)


def make_rows(task: Task, split: Split, rows: int, settings: WorldSettings) -> list[Draft]:
    """Draw the questions of a task from one split; no question about an image occurs twice."""
    rng = stream(settings.seed, split, task.name)
    sampler = Sampler(split, stream(settings.seed, split, task.name, "scenes"))
    kinds = _kinds(task, rows)
    if task.style == "presence":
        return _presence_rows(kinds, sampler, rng)
    drafts: dict[tuple[bytes, str], Draft] = {}
    for kind in kinds:
        while (key := _key(draft := _draw(task, kind, sampler, rng))) in drafts:
            pass
        drafts[key] = draft
    return list(drafts.values())


def _draw(task: Task, kind: str, sampler: Sampler, rng: np.random.Generator) -> Draft:
    if task.style == "choice":
        return draw_choice(kind, sampler, rng)
    scene = sampler.draw(kind)
    return Draft(kind, scene.pixels, (ask(scene, rng),))


def _presence_rows(kinds: list[str], sampler: Sampler, rng: np.random.Generator) -> list[Draft]:
    """Ask every text in turn, once with yes and once with no, so that no text tells its answer."""
    drafts: dict[tuple[bytes, str], Draft] = {}
    for kind in dict.fromkeys(kinds):
        texts = rng.permutation(PRESENCE_TEXTS[kind])
        for i in range(kinds.count(kind)):
            text, wanted = str(texts[i // 2 % len(texts)]), YES_NO[i % 2]
            while (key := _key(draft := presence_with(kind, text, wanted, sampler))) in drafts:
                pass
            drafts[key] = draft
    return list(drafts.values())


def _kinds(task: Task, rows: int) -> list[str]:
    """Return the kind of every row; presence rows come in pairs of yes and no."""
    step = 2 if task.style == "presence" else 1
    edges = np.round(np.cumsum(list(task.mixture.values())) * rows / step).astype(int) * step
    counts = np.diff(np.minimum(edges, rows), prepend=0)
    return [kind for kind, n in zip(task.mixture, counts, strict=True) for _ in range(n)]


def _key(draft: Draft) -> tuple[bytes, str]:
    assert draft.pixels is not None
    return draft.pixels.tobytes(), draft.turns[0].text

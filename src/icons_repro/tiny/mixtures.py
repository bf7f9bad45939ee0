"""Target tasks by number and overlap: made of the pool's eight target-serving skills.

Task k of n owns the skills k, k + n, k + 2n, ... of `SKILLS`, so every skill is some task's own:

    mixture of a task = (1 - overlap) * its own skills, equally + overlap * all skills, equally

At 0 no two tasks ask the same, at 1 all of them ask alike. The pool is the same for every number
and overlap, and serves all of it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from icons_repro.tiny.benchmarks import TASKS, Task, make_rows
from icons_repro.tiny.sampling import KINDS
from icons_repro.tiny.settings import WorldSettings
from icons_repro.tiny.sources import Draft
from icons_repro.tiny.streams import Split

MIXED = "mixed"
_POPE = next(task for task in TASKS if task.style == "presence")
SKILLS: dict[str, Task] = {
    **{kind: Task(kind, "open", {kind: 1.0}) for kind in KINDS},
    "choice": Task("choice", "choice", dict.fromkeys(KINDS, 1 / len(KINDS))),
    "presence": replace(_POPE, name="presence"),
}
"""What a target-serving source of the pool practises, as a task of that alone."""


def tasks_of(settings: WorldSettings) -> tuple[Task, ...]:
    """Return a world's target tasks: the seven fixed ones, or as many as its settings say."""
    if settings.tasks is None:
        return TASKS
    count, shared = settings.tasks, settings.overlap or 0.0
    names = list(SKILLS)
    found = []
    for k in range(count):
        own = names[k::count]
        mixture = {
            skill: shared / len(names) + (1 - shared) * (skill in own) / len(own) for skill in names
        }
        kept = {skill: share for skill, share in mixture.items() if share}
        found.append(Task(f"tiny_task{k + 1}", MIXED, kept))
    return tuple(found)


def rows_of(task: Task, split: Split, rows: int, settings: WorldSettings) -> list[Draft]:
    """Draw a task's questions; those of a mixture skill by skill, each from a stream of its own."""
    if task.style != MIXED:
        return make_rows(task, split, rows, settings)
    edges = np.round(np.cumsum(list(task.mixture.values())) * rows).astype(int)
    counts = np.diff(edges, prepend=0)
    if len(counts) > 1 and "presence" in task.mixture and counts[-1] % 2:
        counts += [1, *[0] * (len(counts) - 2), -1]  # yes/no rows come in pairs, and stand last
    drafts: list[Draft] = []
    for skill, count in zip(task.mixture, counts, strict=True):
        part = replace(SKILLS[skill], name=f"{task.name}/{skill}")
        drafts += make_rows(part, split, int(count), settings)
    return drafts

"""Steps that read the user's files: the pool, the target tasks, and what is written in the rows."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.core.errors import DataError
from icons_repro.core.refs import ImagesRef, Ref
from icons_repro.core.settings import RecordPolicy
from icons_repro.core.step import Counts, Step, placement
from icons_repro.core.types import KEY_DTYPE, content_key
from icons_repro.core.work import Work

log = logging.getLogger(__name__)


class MadeData(Step):
    """A step that makes what else are the user's files, as the tiny world does.

    `pool.json`, `images/`, `targets/TASK.json` and `benchmarks/NAME.parquet`.
    """


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Step):
    """The pool's records as an Arrow table, and a link to its images."""

    stage = "pool"
    group = "prepare"
    version = 2  # all tags of a turn ask for a row's one image; labels are LLaVA's
    light = True

    policy: RecordPolicy
    world: MadeData | None = None
    """Where a step makes the pool."""
    source: Ref | None = None
    """Where it is the user's."""
    images: ImagesRef | None = None
    blocks: tuple[tuple[str, int], ...] = ()
    """Name and rows of each contiguous block of the file, in order."""

    def run(self, work: Work) -> Counts:
        """Write `records.arrow`, `skipped.jsonl` and the link `images`.

        Of a user's pool also `images.parquet`, what each image was.
        """
        from icons_repro.data.records import build_records

        if self.world:
            source, images = work.path(self.world) / "pool.json", work.path(self.world) / "images"
        else:
            assert self.source is not None
            assert self.images is not None
            source, images = Path(self.source.path), Path(self.images.folder)
        link(images, work.out / "images")
        counts = build_records(source, images, work.out, self.policy, dict(self.blocks) or None)
        _check_images(self.source, self.images, work)
        return counts


@dataclass(frozen=True, eq=False, kw_only=True)
class DrawnTargets(Step):
    """Target rows drawn from the benchmarks' own dev or train splits, with statements on them."""

    stage = "drawn_targets"
    group = "prepare"
    light = True

    rows: Mapping[str, int]
    """Task to the number of rows."""
    origin: Mapping[str, Any]
    """Task to the files, by name and size, or the hub's repository, that they are drawn from."""
    seed: int
    sources: str = placement()
    left_out: tuple[str, ...] = placement(())
    """Tasks asked for that publish test rows alone."""

    def run(self, work: Work) -> Counts:
        """Write `targets/TASK.json` with `targets/images`."""
        from icons_repro.data.targets.build import build_task

        targets = work.out / "targets"
        targets.mkdir()
        statements = {
            task: build_task(task, count, self.seed, Path(self.sources), targets)
            for task, count in self.rows.items()
        }
        (work.out / "images").symlink_to("targets/images")
        if self.left_out:
            log.warning(
                "targets not built: %s. Their benchmarks publish test rows alone; "
                "targets.test_rows=[%s] takes these, as the paper did.",
                *(", ".join(self.left_out), ",".join(self.left_out)),
            )
        return {"tasks": statements, "not_built": list(self.left_out)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Targets(Step):
    """One folder of validation records for each target task, and a link to their images."""

    stage = "targets"
    group = "prepare"
    version = 2  # as the pool's
    light = True

    policy: RecordPolicy
    tasks: list[str] | None
    """None takes every file."""
    made: MadeData | DrawnTargets | None = None
    """The step that makes the files, where they are not the user's."""
    source: Ref | None = None
    images: ImagesRef | None = None

    def made_tasks(self, work: Work) -> list[str]:
        """Return the tasks that the finished step holds, in order of name."""
        return sorted(path.parent.name for path in work.path(self).glob("*/records.arrow"))

    def run(self, work: Work) -> Counts:
        """Write `TASK/records.arrow` for each task."""
        from icons_repro.data.target_tasks import build_targets, find_tasks

        if self.made:
            folder, images = work.path(self.made) / "targets", work.path(self.made) / "images"
        else:
            assert self.source is not None
            assert self.images is not None
            folder, images = Path(self.source.path), Path(self.images.folder)
        link(images, work.out / "images")
        # of those asked for, the drawn ones are there
        wanted = None if isinstance(self.made, DrawnTargets) else self.tasks
        tasks = find_tasks(folder, wanted)
        counts = build_targets(folder, images, tasks, work.out, self.policy)
        _check_images(self.source, self.images, work)
        return counts


def _save_counts(
    pool: Path, out: Path, count: Callable[[Sequence[Mapping[str, str]]], int]
) -> Counts:
    """Save what `count` says of every usable row's turns, float32 `[N]`; NaN for the others."""
    from icons_repro.data.records import RecordTable

    table = RecordTable(pool / "records.arrow")
    found = np.full(len(table), np.nan, dtype=np.float32)
    for i in np.flatnonzero(table.usable):
        found[i] = count(table[int(i)].conversations)
    np.save(out, found)
    return {"rows": len(table)}


@dataclass(frozen=True, eq=False, kw_only=True)
class AnswerWords(Step):
    """The number of words of every row's answers."""

    stage = "answer_words"
    group = "features"
    light = True

    pool: Pool

    def run(self, work: Work) -> Counts:
        """Write `answer_words.npy`, float32 `[N]`, NaN for unusable rows."""

        def words(turns: Sequence[Mapping[str, str]]) -> int:
            return sum(len(turn["value"].split()) for turn in turns if turn["from"] == "gpt")

        return _save_counts(work.path(self.pool), work.out / "answer_words.npy", words)


@dataclass(frozen=True, eq=False, kw_only=True)
class Rounds(Step):
    """The number of rounds of every row: a question and its answer are one."""

    stage = "rounds"
    group = "features"
    light = True

    pool: Pool

    def run(self, work: Work) -> Counts:
        """Write `rounds.npy`, float32 `[N]`, NaN for unusable rows."""

        return _save_counts(
            work.path(self.pool), work.out / "rounds.npy", lambda turns: len(turns) // 2
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class ReleasedKeys(Step):
    """The content keys of a published subset, and of the pool without ids."""

    stage = "released_keys"
    group = "features"
    light = True

    pool: Pool
    subset: Ref

    def run(self, work: Work) -> Counts:
        """Write `subset.npy` and `text.npy` (the subset's keys), `pool_text.npy` (the pool's)."""
        from icons_repro.data.records import RecordTable, iter_rows

        table = RecordTable(work.path(self.pool) / "records.arrow")
        rows = [row for row, _ in iter_rows(Path(self.subset.path))]
        lines = (json.loads(table.json_line(i)) for i in range(len(table)))
        arrays = {
            "subset": [content_key(row) for row in rows],
            "text": [text_key(row) for row in rows],
            "pool_text": [text_key(row) for row in lines],
        }
        for name, keys in arrays.items():
            np.save(work.out / f"{name}.npy", np.array(keys, dtype=KEY_DTYPE))
        return {"pool": len(table), "subset": len(rows)}


def _check_images(source: Ref | None, images: ImagesRef | None, work: Work) -> None:
    """Write what the user's images are. Raises `DataError` if they have changed since the graph."""
    if source and images:
        from icons_repro.data.image_looks import ImageLooks

        ImageLooks(work.cache.root).check(source, images, work.out)


def text_key(raw: Any) -> str:
    """Return the key of a row's conversations and image alone; other fields may differ."""
    row = raw if isinstance(raw, Mapping) else {}
    return content_key({name: row.get(name) for name in ("conversations", "image")})


def link(target: Path, name: Path) -> None:
    """Make `name` a symbolic link to the existing `target`, or the one it is already."""
    if not target.exists():
        raise DataError(f"{target} does not exist; set its path in the config.")
    if not name.is_symlink():
        name.symlink_to(target.resolve())

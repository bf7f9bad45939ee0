"""What the steps of influence by validation row do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json
from icons_repro.core.step import Counts, Step
from icons_repro.core.types import InfluenceMatrix
from icons_repro.core.work import Work
from icons_repro.data.records import RecordTable
from icons_repro.data.row_text import row_text
from icons_repro.data.stage import link
from icons_repro.gradients.store import GradientStore, require_same
from icons_repro.influence.jobs import save, subtask_labels, task_folders
from icons_repro.influence.rows.bm25 import weigh_words
from icons_repro.influence.rows.embedder import EMBEDDERS
from icons_repro.influence.rows.files import (
    TermFiles,
    open_by_task,
    side_by_side,
    write_columns,
)
from icons_repro.influence.score import COMPARABLE, require_keys
from icons_repro.influence.stage import (
    Bm25Rows,
    EmbeddingRows,
    GradientRows,
    MadeRows,
    MeanInfluence,
    OwnTargetRows,
)
from icons_repro.training.checkpoint import epoch_rates


class ColumnNames:
    """The columns of an influence matrix, named as validation rows come."""

    def __init__(self, folders: Sequence[Path], split: list[str]) -> None:
        self._labels = subtask_labels(list(folders), split)
        self.tasks: list[str] = []
        self.groups: list[int] = []

    def add(self, task: str, usable: np.ndarray) -> None:
        """Name the columns of a task's rows where `usable` `[M]` is true."""
        labels = self._labels.get(task) or [""] * len(usable)
        for label, good in zip(labels, usable.tolist(), strict=True):
            name = f"{task}/{label}" if label else task
            if good and name not in self.tasks:
                self.tasks.append(name)
            if good:
                self.groups.append(self.tasks.index(name))
        if not usable.any():
            self.tasks.append(task)  # `write_columns` refuses it by name


def embedding_rows(step: EmbeddingRows, work: Work) -> Counts:
    """Read the validation rows of every task; leave the pool's where they are."""
    folders = task_folders(work.path(step.targets))
    names, vectors = ColumnNames(folders, step.subtasks), []
    for folder in folders:
        place = work.path(step.validation) / folder.name
        arrays = [np.load(place / f"{name}.npy") for name in step.arrays]
        rows = side_by_side(arrays, step.missing)(np.arange(len(arrays[0])))
        usable = np.isfinite(rows).all(axis=1)
        names.add(folder.name, usable)
        vectors.append(rows[usable])
    np.save(work.out / "validation-0.npy", np.concatenate(vectors))
    link(work.path(step.rows), work.out / "rows-0")
    term = TermFiles("arrays", arrays=list(step.arrays), missing=step.missing)
    return write_columns(work.out, names.tasks, names.groups, [term])


def gradient_rows(step: GradientRows, work: Work) -> Counts:
    """Read the validation gradients of every checkpoint; leave the pool's where they are."""
    rates = epoch_rates(work.path(step.warmup)) if step.warmup else [1.0]
    folders = task_folders(work.path(step.targets))
    pairs = zip(rates, step.train, step.validation, strict=True)
    used = [(rate, train, val) for rate, train, val in pairs if rate > 0]
    usable = _usable_rows(used, folders, work)
    names = ColumnNames(folders, step.subtasks)
    for folder in folders:
        names.add(folder.name, usable[folder.name])
    total = sum(rate for rate, _, _ in used)
    terms = []
    for number, (rate, train, validation) in enumerate(used):
        place = work.path(train)
        _require_pool(GradientStore.open(place), work.path(step.pool))
        rows = [_validation(work.path(validation), f.name, usable, step.raw) for f in folders]
        np.save(work.out / f"validation-{number}.npy", np.concatenate(rows))
        link(place, work.out / f"rows-{number}")
        terms.append(TermFiles("store", weight=rate / total))
    return write_columns(work.out, names.tasks, names.groups, terms)


def _require_pool(store: GradientStore, pool: Path) -> None:
    require_keys(store, RecordTable(pool / "records.arrow").keys)


def _usable_rows(
    used: Sequence[tuple[float, Step, Step]], folders: Sequence[Path], work: Work
) -> dict[str, np.ndarray]:
    """Return which rows of each task have a gradient at every checkpoint, bool `[M]`."""
    found = {}
    for folder in folders:
        stores = [GradientStore.open(work.path(val) / folder.name) for _, _, val in used]
        for (_, train, _), store in zip(used, stores, strict=True):
            other = GradientStore.open(work.path(train))
            require_same(COMPARABLE, other, store, f"{other.folder} and {store.folder}")
        found[folder.name] = np.all([store.ok for store in stores], axis=0)
    return found


def _validation(
    stores: Path, task: str, usable: Mapping[str, np.ndarray], raw: Sequence[str]
) -> np.ndarray:
    store = GradientStore.open(stores / task)
    rows = store.read().numpy()
    if task in raw:
        rows = rows * store.norms[:, None]
    return rows[usable[task]]


def made_rows(step: MadeRows, work: Work) -> Counts:
    """Say whose the columns of what another step made are; leave its arrays where they are."""
    made = work.path(step.made)
    columns = read_json(made / f"{step.columns}.json")
    if not isinstance(columns, dict):
        raise DataError(f"{made}: {step.columns}.json cannot be read; delete it, it is made again.")
    link(made, work.out / "rows-0")
    if step.kind == "arrays":
        np.save(work.out / "validation-0.npy", np.load(made / f"{step.columns}.npy"))
    arrays = ["rows"] if step.kind == "arrays" else []
    term = TermFiles(step.kind, arrays=arrays, unit=False)
    return write_columns(work.out, columns["tasks"], columns["groups"], [term])


def mean_influence(step: MeanInfluence, work: Work) -> Counts:
    """Average over each task's validation rows."""
    by_task = open_by_task(work.path(step.rows))
    keys = RecordTable(work.path(step.pool) / "records.arrow").keys
    values = by_task.whole()
    if len(values) != len(keys):
        raise DataError(
            f"{work.path(step.rows)}: influence of {len(values)} rows; the pool has {len(keys)}. "
            "It was made from another pool: delete the folder, it is made again."
        )
    return save(InfluenceMatrix(values, by_task.tasks, keys), work.out)


def own_rows(source: Mapping[str, Any], records: Path, images: Path, out: Path) -> Counts:
    """Let a source embed the usable rows of a records folder."""
    table = RecordTable(records / "records.arrow")
    usable = np.flatnonzero(table.usable)
    made = EMBEDDERS.build(source)
    rows_of = (table[int(i)] for i in usable)
    found = np.asarray(made.embed(rows_of, images), dtype=np.float32)
    if found.ndim != 2 or len(found) != len(usable):
        raise DataError(
            f"influence={made.name}: embed gave an array of shape {found.shape} for "
            f"{len(usable)} rows; give [rows, width]."
        )
    rows = np.full((len(table), found.shape[1]), np.nan, dtype=np.float32)
    rows[usable] = found
    np.save(out / "rows.npy", rows)
    return {"rows": len(table), "without_feature": int(np.isnan(rows).any(axis=1).sum())}


def own_target_rows(step: OwnTargetRows, work: Work) -> Counts:
    """Let a source embed the rows of every task."""
    counts = {}
    targets = work.path(step.targets)
    for folder in task_folders(targets):
        out = work.out / folder.name
        out.mkdir(exist_ok=True)
        counts[folder.name] = own_rows(step.source, folder, targets / "images", out)
    return counts


def bm25_rows(step: Bm25Rows, work: Work) -> Counts:
    """Weigh the words of the pool's rows; count those of the validation rows."""
    table = RecordTable(work.path(step.pool) / "records.arrow")
    usable = np.flatnonzero(table.usable)
    weights = weigh_words((row_text(table[int(i)]) for i in usable), step.k1, step.b, step.method)
    folders = task_folders(work.path(step.targets))
    names, queries = ColumnNames(folders, step.subtasks), []
    for folder in folders:
        records = RecordTable(folder / "records.arrow")
        names.add(folder.name, records.usable)
        queries.append(weights.queries(row_text(records[int(i)]) for i in _usable(records)))
    sparse.save_npz(work.out / "rows-0.npz", _spread(weights.matrix, usable, len(table)))
    sparse.save_npz(work.out / "validation-0.npz", sparse.vstack(queries, format="csr"))
    np.save(work.out / "without-0.npy", ~table.usable)
    return write_columns(work.out, names.tasks, names.groups, [TermFiles("sparse")])


def _usable(records: RecordTable) -> np.ndarray:
    return np.flatnonzero(records.usable)


def _spread(matrix: sparse.csr_array, usable: np.ndarray, n: int) -> sparse.csr_array:
    """Return the rows of `matrix` at the places `usable` of `n`, nothing elsewhere."""
    lengths = np.zeros(n, dtype=np.int64)
    lengths[usable] = np.diff(matrix.indptr)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_array((matrix.data, matrix.indices, starts), shape=(n, matrix.shape[1]))

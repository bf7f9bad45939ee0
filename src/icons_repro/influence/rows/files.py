"""The artifact of influence by validation row: what is multiplied, not the products.

A folder holds `columns.json` (tasks, whose each validation row is, and the terms) and, for each
term n, one of

    arrays   `validation-n.npy` [V, d], and in the linked folder `rows-n` an array for each part of
             a row: rows are read in blocks, each part is scaled to length one
    store    `validation-n.npy` [V, d], and the linked gradient store `rows-n`
    sparse   `validation-n.npz` [V, w], `rows-n.npz` [N, w], in SciPy's own format
    matrix   in the linked folder `rows-n` the products themselves, `values.npy` [N, V]
    some     in the linked folder `some` term n of another such artifact, of fewer rows, and
             `places.npy` [N]: which of them a row is, -1 for none
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import sparse

from icons_repro.core.errors import DataError
from icons_repro.core.files import read_json, write_json
from icons_repro.gradients.store import GradientStore
from icons_repro.influence.rows.blocks import ByRow, Given, Products, Term

COLUMNS = "columns.json"


@dataclass(frozen=True)
class TermFiles:
    """One term, as `columns.json` has it."""

    kind: Literal["arrays", "store", "sparse", "matrix", "some"]
    weight: float = 1.0
    arrays: list[str] = field(default_factory=list)
    """Of kind `arrays`: the arrays that make a row, side by side."""
    missing: Literal["exclude", "zero"] = "exclude"
    """Of kind `arrays`: whether a row that lacks a part is excluded, or has zeros there."""
    unit: bool = True
    """Of kind `arrays`: scale each part, and then the row, to length one."""


@dataclass(frozen=True)
class SparseProducts:
    """Inner products of sparse rows with sparse vectors."""

    matrix: sparse.csr_array
    """`[N, w]`."""
    vectors: sparse.csr_array
    """`[V, w]`."""
    without: np.ndarray
    """Rows that have none, bool `[N]`."""

    @property
    def shape(self) -> tuple[int, int]:
        """`(N, V)`."""
        return self.matrix.shape[0], self.vectors.shape[0]

    @property
    def width(self) -> int:
        """Numbers held for a row of the product."""
        return self.vectors.shape[0]

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """See `Term.rows`: a sparse row's sum goes through its own entries, in their order."""
        found = (self.matrix[positions] @ self.vectors.T).toarray().astype(np.float32)
        found[self.without[positions]] = np.nan
        return found

    def keep(self, columns: np.ndarray) -> SparseProducts:
        """See `Term.keep`."""
        return SparseProducts(self.matrix, self.vectors[columns], self.without)


@dataclass(frozen=True)
class SomeRows:
    """A term that has some of the rows; the others have none."""

    term: Term
    places: np.ndarray
    """Which row of the term, -1 for none: int64 `[N]`, ascending but for these."""

    @property
    def shape(self) -> tuple[int, int]:
        """`(N, V)`."""
        return len(self.places), self.term.shape[1]

    @property
    def width(self) -> int:
        """The term's."""
        return self.term.width

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """See `Term.rows`."""
        places = self.places[positions]
        there = places >= 0
        found = np.full((len(positions), self.shape[1]), np.nan, dtype=np.float32)
        if there.any():
            found[there] = self.term.rows(places[there])
        return found

    def keep(self, columns: np.ndarray) -> SomeRows:
        """See `Term.keep`."""
        return SomeRows(self.term.keep(columns), self.places)


def write_columns(
    out: Path, tasks: Sequence[str], groups: Sequence[int] | np.ndarray, terms: Sequence[TermFiles]
) -> dict[str, Any]:
    """Write `columns.json`; return its counts. Raises `DataError` for a task without rows."""
    groups = np.asarray(groups, dtype=np.int64)
    counts = np.bincount(groups, minlength=len(tasks))
    empty = [task for task, count in zip(tasks, counts, strict=True) if not count]
    if empty or not len(tasks):
        raise DataError(
            f"{', '.join(empty) or 'the targets'}: no usable validation row, so nothing to be "
            "influential on. Look at the rows of targets/TASK.json, or leave the task out "
            "(targets.tasks)."
        )
    value = {"tasks": list(tasks), "groups": groups.tolist(), "terms": [asdict(t) for t in terms]}
    write_json(out / COLUMNS, value)
    return {"columns": list(tasks), "validation_rows": int(counts.sum())}


def open_by_row(folder: Path, usable: np.ndarray | None = None) -> ByRow:
    """Open the artifact for the rows where `usable` `[N]` is true; None is all of them."""
    columns = _columns(folder)
    terms = [(t.weight, _open(folder, i, t)) for i, t in enumerate(_terms(columns))]
    n = terms[0][1].shape[0]
    positions = np.arange(n) if usable is None else np.flatnonzero(usable)
    return ByRow(tuple(columns["tasks"]), np.asarray(columns["groups"]), tuple(terms), positions)


def open_by_task(folder: Path) -> ByRow:
    """Open the artifact with the mean of each task's validation rows as its one column.

    Products are linear in the validation rows, so this is the mean over them.
    """
    columns = _columns(folder)
    groups, n_tasks = np.asarray(columns["groups"]), len(columns["tasks"])
    counts = np.bincount(groups, minlength=n_tasks)
    means = sparse.csr_array(
        (1.0 / counts[groups], (groups, np.arange(len(groups)))), shape=(n_tasks, len(groups))
    )
    terms: list[tuple[float, Term]] = []
    for i, files in enumerate(_terms(columns)):
        term = _open(folder, i, files)
        terms.append((files.weight, _averaged(term, means)))
    rows = np.arange(terms[0][1].shape[0])
    return ByRow(tuple(columns["tasks"]), np.arange(n_tasks), tuple(terms), rows)


def _averaged(term: Term, means: sparse.csr_array) -> Term:
    if isinstance(term, Products):
        vectors = np.ascontiguousarray((means @ term.vectors.astype(np.float64)).astype(np.float32))
        return Products(term.read, term.n_rows, vectors)
    if isinstance(term, SparseProducts):
        return SparseProducts(term.matrix, sparse.csr_array(means @ term.vectors), term.without)
    if isinstance(term, SomeRows):
        return SomeRows(_averaged(term.term, means), term.places)
    assert isinstance(term, Given)
    return Given(np.asarray(term.values @ means.T.toarray()))


def _columns(folder: Path) -> Mapping[str, Any]:
    columns = read_json(folder / COLUMNS)
    if not isinstance(columns, dict):
        raise DataError(f"{folder / COLUMNS} cannot be read; delete {folder}, it is made again.")
    return columns


def _terms(columns: Mapping[str, Any]) -> list[TermFiles]:
    return [TermFiles(**term) for term in columns["terms"]]


def _open(folder: Path, number: int, files: TermFiles) -> Term:
    if files.kind == "some":
        inner = folder / "some"
        term = _open(inner, number, _terms(_columns(inner))[number])
        return SomeRows(term, np.load(folder / "places.npy"))
    if files.kind == "matrix":
        return Given(np.load(folder / f"rows-{number}" / "values.npy", mmap_mode="r"))
    if files.kind == "sparse":
        matrix = sparse.csr_array(sparse.load_npz(folder / f"rows-{number}.npz"))
        vectors = sparse.csr_array(sparse.load_npz(folder / f"validation-{number}.npz"))
        return SparseProducts(matrix, vectors, np.load(folder / f"without-{number}.npy"))
    vectors = np.load(folder / f"validation-{number}.npy")
    place = folder / f"rows-{number}"
    if files.kind == "store":
        store = GradientStore.open(place)
        return Products(_store_reader(store), len(store), vectors)
    arrays = [np.load(place / f"{name}.npy", mmap_mode="r") for name in files.arrays]
    read = side_by_side(arrays, files.missing, files.unit)
    return Products(read, len(arrays[0]), vectors)


def _store_reader(store: GradientStore) -> Callable[[np.ndarray], np.ndarray]:
    def read(positions: np.ndarray) -> np.ndarray:
        low = int(positions[0])
        rows = store.read(low, int(positions[-1]) + 1).numpy()[positions - low]
        rows[~store.ok[positions]] = np.nan
        return rows

    return read


def side_by_side(
    arrays: Sequence[np.ndarray], missing: str = "exclude", unit: bool = True
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a reader of rows made of several arrays `[N, d_i]`: float32 `[n, sum of d_i]`.

    With `unit` each part is scaled to length one and the row then too, so that an inner product is
    the mean of the parts' cosines. A row that lacks a part (NaN) is NaN, or has zeros there.
    """

    def read(positions: np.ndarray) -> np.ndarray:
        parts = [np.asarray(array[positions], dtype=np.float32) for array in arrays]
        lacking = [~np.isfinite(part).all(axis=1) for part in parts]
        parts = [_unit(part) if unit else part for part in parts]
        for part, lack in zip(parts, lacking, strict=True):
            part[lack] = 0.0
        rows = np.concatenate(parts, axis=1)
        if unit:
            rows /= np.float32(np.sqrt(len(parts)))
        gone = np.any(lacking, axis=0) if missing == "exclude" else np.all(lacking, axis=0)
        rows[gone] = np.nan
        return rows

    return read


def _unit(rows: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
        return rows / np.where(lengths > 0, lengths, 1).astype(np.float32)[:, None]

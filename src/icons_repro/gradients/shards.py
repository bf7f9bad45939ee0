"""Stores made of shards: each machine writes its range of positions, nothing is copied."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from icons_repro.core.errors import DataError
from icons_repro.gradients.store import GradientStore, StoreInfo, require_same, status_counts


def shard_range(n_rows: int, shard: int, of: int) -> tuple[int, int]:
    """Return the positions `[start, stop)` of shard `shard` (from 0) of `of`, as even as can be."""
    if not 0 <= shard < of:
        raise DataError(f"shard {shard} of {of}: shards are counted from 0 to {of - 1}")
    return n_rows * shard // of, n_rows * (shard + 1) // of


def assemble(folder: Path | str, shards: Sequence[Path | str]) -> GradientStore:
    """Make a store of complete shards by writing one `info.json` that points at them.

    Args:
        folder: the assembled store's folder; made if need be.
        shards: the shards' folders, in any order.

    Raises:
        DataError: a shard is missing, there twice, incomplete, or of another store; names it.
    """
    folder = Path(folder)
    stores = sorted((GradientStore.open(s) for s in shards), key=lambda s: s.info.start)
    if not stores:
        raise DataError(f"{folder}: no shards to assemble")
    first = stores[0]
    for store in stores[1:]:
        _require_same_kind(first, store)
    _require_whole(stores)
    folder.mkdir(parents=True, exist_ok=True)
    info = StoreInfo(
        n_rows=first.info.total,
        dim=first.info.dim,
        dtype=first.info.dtype,
        identities=first.info.identities,
        total=first.info.total,
        shards=tuple(os.path.relpath(store.folder, folder) for store in stores),
        rows=status_counts(np.concatenate([store.status for store in stores])),
        made_with=first.info.made_with,
    )
    info.save(folder)
    return GradientStore.open(folder)


def _require_same_kind(first: GradientStore, other: GradientStore) -> None:
    names = f"shards {first.folder} and {other.folder}"
    require_same(sorted({*first.info.identities, *other.info.identities}), first, other, names)
    for name in ("dim", "dtype", "total"):
        a, b = getattr(first.info, name), getattr(other.info, name)
        if a != b:
            raise DataError(f"{names}: different {name}: {a} and {b}")


def _require_whole(stores: Sequence[GradientStore]) -> None:
    """Check that sorted shards cover every position once."""
    expected, before = 0, None
    for store in stores:
        start = store.info.start
        if start < expected:
            raise DataError(f"shards {before} and {store.folder} both hold position {start}")
        if start > expected:
            raise DataError(f"positions {expected} to {start - 1} are in no shard")
        expected, before = start + len(store), store.folder
    total = stores[0].info.total
    if expected != total:
        raise DataError(f"positions {expected} to {total - 1} are in no shard")

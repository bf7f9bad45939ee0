"""A store gives back what was written, refuses what does not belong, and survives a kill."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icons_repro.core import rowfiles
from icons_repro.core.errors import ConfigError, DataError
from icons_repro.gradients.rows import DTYPES, RowCodec
from icons_repro.gradients.store import GradientStore, RowStatus
from icons_repro.gradients.writer import (
    StoreWriter,
    open_writer,
    pending,
    remaining_batches,
    seal,
)

IDENTITIES = {"model": "m", "adapter": "a", "projection": {"kind": "srht", "seed": 0}}


def unit_rows(n: int, dim: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)


def new_writer(folder: Path, n: int = 10, dim: int = 40, **changes: object) -> StoreWriter:
    settings: dict = {"dtype": "float32", "identities": IDENTITIES, "flush_seconds": 0.0}
    return open_writer(folder, n_rows=n, dim=dim, **{**settings, **changes})


def filled(folder: Path, rows: torch.Tensor, **changes: object) -> GradientStore:
    n = len(rows)
    with new_writer(folder, n, rows.shape[1], **changes) as writer:
        norms = torch.arange(1, n + 1).float()
        writer.write(np.arange(n), rows, norms, [RowStatus.ok] * n)
    seal(folder)
    return GradientStore.open(folder)


def file_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("dtype", "cosine"),
    [
        ("float32", 1),
        ("float16", 0.999999),
        ("bfloat16", 0.99999),
        ("int8", 0.9998),
        ("bit1", 0.75),
    ],
)
def test_rows_come_back_with_length_one(tmp_path: Path, dtype: str, cosine: float) -> None:
    rows = unit_rows(9, 333)
    store = filled(tmp_path / "s", rows, dtype=dtype)
    back = store.read()
    assert back.dtype == torch.float32
    torch.testing.assert_close(back.norm(dim=1), torch.ones(9), rtol=1e-6, atol=0)
    assert float((back * rows).sum(dim=1).min()) >= cosine - 1e-6
    torch.testing.assert_close(store.read(4, 7), back[4:7])
    assert store.norms.tolist() == list(range(1, 10))


@pytest.mark.parametrize(
    ("dtype", "share"), [("float32", 1), ("float16", 2), ("bfloat16", 2), ("int8", 4), ("bit1", 32)]
)
def test_rows_take_the_bytes_that_their_dtype_says(tmp_path: Path, dtype: str, share: int) -> None:
    filled(tmp_path / "s", unit_rows(7, 5120), dtype=dtype)
    assert (tmp_path / "s" / "rows.bin").stat().st_size * share == 7 * 5120 * 4


@settings(max_examples=25, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
    dim=st.integers(1, 70),
    n=st.integers(0, 5),
)
def test_encoding_is_deterministic_and_row_by_row(dtype: str, seed: int, dim: int, n: int) -> None:
    codec = RowCodec(dtype, dim)
    rows = unit_rows(n + 1, dim, seed)
    data, scales = codec.encode(rows)
    assert data.shape == (n + 1, codec.row_bytes)
    alone, alone_scale = codec.encode(rows[-1:])
    assert np.array_equal(alone[0], data[-1])
    assert alone_scale[0] == scales[-1]


def test_an_all_zero_row_is_finite_in_every_dtype() -> None:
    for dtype in DTYPES:
        codec = RowCodec(dtype, 12)
        data, scales = codec.encode(torch.zeros(1, 12))
        back = codec.decode(torch.from_numpy(data)) * torch.from_numpy(scales)[:, None]
        assert bool(back.isfinite().all())


def test_writing_in_any_order_and_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    rows = unit_rows(10, 40)
    filled(tmp_path / "a", rows)
    with new_writer(tmp_path / "b") as writer:
        for position in [3, 9, 3, 0, 1, 2, 4, 8, 7, 6, 5, 0]:
            writer.write([position], rows[[position]], torch.tensor([position + 1.0]), [1])
    seal(tmp_path / "b")
    assert file_bytes(tmp_path / "a") == file_bytes(tmp_path / "b")


def test_an_incomplete_store_is_not_opened_and_says_how_much_is_missing(tmp_path: Path) -> None:
    with new_writer(tmp_path / "s") as writer:
        writer.write([0, 1, 5], unit_rows(3, 40), torch.ones(3), [1, 1, 1])
    assert pending(tmp_path / "s").tolist() == [2, 3, 4, 6, 7, 8, 9]
    with pytest.raises(DataError, match=r"7 of 10 rows are still missing"):
        GradientStore.open(tmp_path / "s")
    with pytest.raises(DataError, match=r"7 of 10 rows are still missing, first position 2"):
        seal(tmp_path / "s")
    seal(tmp_path / "s", unusable=[2, 3, 4, 6, 7, 8, 9])
    assert len(pending(tmp_path / "s")) == 0
    store = GradientStore.open(tmp_path / "s")
    assert store.excluded() == [(i, "unusable") for i in (2, 3, 4, 6, 7, 8, 9)]


def test_a_half_done_batch_is_planned_again_whole(tmp_path: Path) -> None:
    batches = [[0, 9], [1, 2], [3, 4, 5], [6], [7, 8]]
    assert remaining_batches(tmp_path / "s", batches) == batches
    with new_writer(tmp_path / "s") as writer:
        writer.write([0, 9, 1, 6], unit_rows(4, 40), torch.ones(4), [1, 1, 1, 1])
    assert remaining_batches(tmp_path / "s", batches) == [[1, 2], [3, 4, 5], [7, 8]]


def test_rows_are_marked_only_after_their_data(tmp_path: Path) -> None:
    writer = new_writer(tmp_path / "s", flush_seconds=1e9)
    writer.write([0, 1], unit_rows(2, 40), torch.ones(2), [1, 1])
    assert len(pending(tmp_path / "s")) == 10
    writer.flush()
    assert len(pending(tmp_path / "s")) == 8
    writer.close()


def test_statuses_and_reasons_are_kept(tmp_path: Path) -> None:
    rows = unit_rows(4, 8)
    rows[1:] = 0
    with new_writer(tmp_path / "s", 4, 8) as writer:
        writer.write(range(4), rows, torch.ones(4), [1, 2, 3, 5])
    seal(tmp_path / "s")
    store = GradientStore.open(tmp_path / "s")
    assert store.excluded() == [(1, "no_answer_tokens"), (2, "non_finite"), (3, "out_of_memory")]
    assert store.info.rows == {"ok": 1, "no_answer_tokens": 1, "non_finite": 1, "out_of_memory": 1}


def test_a_disk_that_is_too_small_is_refused_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**10, 0, 5 * 10**9))
    with pytest.raises(DataError, match=r"6\.8\d GB; the disk has 5\.00 GB free"):
        new_writer(tmp_path / "s", 665_298, 5120, dtype="float16")
    assert not (tmp_path / "s" / "rows.bin").exists()


def test_a_file_system_that_cannot_reserve_blocks_is_not_written_to_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS before version 4.2, where glibc's posix_fallocate writes a byte to each block."""

    class Nfs:
        def fallocate(self, *_: object) -> int:
            ctypes.set_errno(errno.EOPNOTSUPP)
            return -1

    for name, libc in {"nfs.bin": Nfs(), "no_linux.bin": object()}.items():
        monkeypatch.setattr(rowfiles, "_LIBC", libc)
        rowfiles.reserve(tmp_path, {name: 2**22}, "")
        found = (tmp_path / name).stat()
        assert (found.st_size, found.st_blocks) == (2**22, 0)


def test_a_disk_that_fills_up_while_files_are_reserved_is_named_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def fallocate(self, *_: object) -> int:
            ctypes.set_errno(errno.ENOSPC)
            return -1

    with monkeypatch.context() as patch:
        patch.setattr(rowfiles, "_LIBC", Full())
        with pytest.raises(DataError, match=r"rows\.bin: No space left on device\. Free"):
            rowfiles.reserve(tmp_path, {"rows.bin": 4096}, "Free some.")
    rowfiles.reserve(tmp_path, {"rows.bin": 4096}, "Free some.")
    assert (tmp_path / "rows.bin").stat().st_size == 4096


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 11},
        {"dim": 41},
        {"dtype": "int8"},
        {"identities": {**IDENTITIES, "adapter": "other"}},
        {"keys": [f"key{i}" for i in range(10)]},
    ],
)
def test_a_begun_store_of_another_description_is_not_continued(
    tmp_path: Path, changes: dict
) -> None:
    new_writer(tmp_path / "s").close()
    with pytest.raises(DataError, match="begun"):
        new_writer(tmp_path / "s", **changes)


def test_damaged_or_foreign_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a gradient store"):
        GradientStore.open(tmp_path)
    filled(tmp_path / "s", unit_rows(4, 8))
    (tmp_path / "s" / "norms.bin").write_bytes(b"1234")
    with pytest.raises(DataError, match=r"norms\.bin: 1 rows; info\.json promises 4"):
        GradientStore.open(tmp_path / "s")
    with pytest.raises(DataError, match="no row for a position"):
        new_writer(tmp_path / "t").write([10], unit_rows(1, 40), torch.ones(1), [1])
    with pytest.raises(DataError, match="3 keys for 10 rows"):
        new_writer(tmp_path / "u", keys=["a", "b", "c"])
    with pytest.raises(ConfigError, match="bit1"):
        new_writer(tmp_path / "v", dtype="int4")


def test_several_writers_fill_one_store_and_leave_no_trace(tmp_path: Path) -> None:
    rows = unit_rows(10, 40)
    filled(tmp_path / "one", rows)
    norms = torch.arange(1, 11).float()
    shares = [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8, 9]]  # 9 twice: a chunk taken over
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(new_writer(tmp_path / "many")) for _ in shares]
        for i in range(4):
            for writer, share in zip(writers, shares, strict=True):
                if i < len(share):
                    writer.write([share[i]], rows[[share[i]]], norms[[share[i]]], [1])
    assert len(list((tmp_path / "many" / "marks").iterdir())) == 3
    seal(tmp_path / "many")
    assert file_bytes(tmp_path / "one") == file_bytes(tmp_path / "many")


def test_a_mark_that_was_cut_in_the_middle_counts_as_none(tmp_path: Path) -> None:
    with new_writer(tmp_path / "s") as writer:
        writer.write([0, 1], unit_rows(2, 40), torch.ones(2), [1, 1])
    (log,) = (tmp_path / "s" / "marks").iterdir()
    log.write_bytes(log.read_bytes()[:-1])
    assert pending(tmp_path / "s").tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_a_store_of_an_older_format_says_what_to_do(tmp_path: Path) -> None:
    filled(tmp_path / "s", unit_rows(4, 8))
    info = tmp_path / "s" / "info.json"
    info.write_text(info.read_text().replace('"format": 3', '"format": 2'))
    with pytest.raises(DataError, match="store format 2, this program reads 3"):
        GradientStore.open(tmp_path / "s")

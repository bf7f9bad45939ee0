"""What is odd in a pool file is read, or named by file and row; nothing fills memory or hangs."""

import json
import os
import socket
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from pool_files import row

from icons_repro.core.errors import DataError
from icons_repro.core.provenance import file_fingerprint
from icons_repro.core.settings import RecordPolicy
from icons_repro.data import json_rows
from icons_repro.data.records import RecordTable, build_records, iter_rows

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("blanks", [0, 3, 5000])
@pytest.mark.parametrize("lines", [False, True])
def test_any_unicode_encoding_mark_and_leading_blanks_are_read(
    encoding: str, blanks: int, lines: bool, images: Path, tmp_path: Path
) -> None:
    rows = [row(), row(answer="é\u2028 😀")]
    dumped = [json.dumps(r, ensure_ascii=False) for r in rows]
    text = "\n\n".join(dumped) if lines else f"[{','.join(dumped)}]\n"
    source = tmp_path / "pool.json"
    source.write_bytes((" \n" * blanks + text).encode(encoding))
    build_records(source, images, tmp_path)
    table = RecordTable(tmp_path / "records.arrow")
    assert [dict(table[i].raw) for i in range(len(table))] == rows


ODD = {
    "a list as speaker": {"conversations": [{"from": [], "value": "x"}]},
    "an object as speaker": {"conversations": [{"from": {"a": 1}, "value": "x"}]},
    "turns that are numbers": {"conversations": [1, 2]},
    "turns that are a string": {"conversations": "hello"},
    "a number as image": {**row(), "image": 7},
    "numbers among images": {**row(), "image": ["a/x.png", 7]},
    "an empty name among images": {**row(), "image": [""]},
    "a name with a zero byte": row(image="a/x\0.png"),
    "a name too long for any disk": row(image="x" * 100_000),
    "a folder as image": row(image="a"),
    "null": None,
    "half a character as key": {**row(), "\udc00": 1},
    "an infinite number": row(score=float("inf")),
}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("lines", [False, True])
def test_an_odd_row_is_skipped_by_name_and_shifts_no_other(
    what: str, lines: bool, images: Path, tmp_path: Path
) -> None:
    rows = [row(), ODD[what], row(answer="no")]
    dumped = [json.dumps(r) for r in rows]
    source = tmp_path / "pool.json"
    source.write_text("\n".join(dumped) if lines else json.dumps(rows))
    with pytest.raises(DataError, match=r"pool\.json, row 1: .*on_bad_row=skip") as error:
        build_records(source, images, tmp_path)
    assert len(str(error.value)) < 1000
    build_records(source, images, tmp_path, RecordPolicy(on_bad_row="skip"))
    table = RecordTable(tmp_path / "records.arrow")
    assert table.usable.tolist() == [True, False, True]
    assert table[2].conversations[1]["value"] == "no"
    for position in range(3):
        json.loads(table.json_line(position), parse_constant=pytest.fail)


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("too_deep", "[" * 300_000 + "]" * 300_000),
        ("too_deep", '{"a":' * 300_000 + "1" + "}" * 300_000),
        ("too_long", '"' + r"\u00e9\"" * 600_000 + '"'),
        ("too_long", '{"conversations": ["' + "x" * 5_000_000 + '"]}'),
        ("not_json", "1" * 5000),
    ],
)
def test_a_row_that_would_fill_memory_is_passed_over(
    reason: str, text: str, lines: bool, images: Path, tmp_path: Path
) -> None:
    good = json.dumps(row())
    source = tmp_path / "pool.json"
    parts = [good, text, good]
    source.write_text("\n".join(parts) if lines else f"[{', '.join(parts)}]")
    counts = build_records(source, images, tmp_path, RecordPolicy(on_bad_row="skip"))
    assert (counts["rows"], counts["usable"], counts["skipped"]) == (3, 2, {reason: 1})


def test_nesting_does_not_take_memory(images: Path, tmp_path: Path) -> None:
    source = tmp_path / "deep.json"
    source.write_text("[" * 20_000_000)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"deep\.json stops being JSON after 0 rows.*no end"):
        build_records(source, images, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_line_that_is_not_json_is_a_bad_row_and_its_neighbours_are_kept(
    images: Path, tmp_path: Path
) -> None:
    source = tmp_path / "pool.jsonl"
    source.write_text("\n".join([json.dumps(row()), '{"id": 3,', json.dumps(row())]))
    with pytest.raises(DataError, match=r"pool\.jsonl, row 1: not JSON.*on_bad_row=skip"):
        build_records(source, images, tmp_path)
    counts = build_records(source, images, tmp_path, RecordPolicy(on_bad_row="skip"))
    assert counts["skipped"] == {"not_json": 1}


def test_bytes_of_another_encoding_are_a_bad_row(images: Path, tmp_path: Path) -> None:
    source = tmp_path / "pool.json"
    source.write_bytes(json.dumps([row(), row(answer="caf_")]).encode().replace(b"_", b"\xe9"))
    with pytest.raises(DataError, match=r"row 1: .*a byte that is not of the file's encoding"):
        build_records(source, images, tmp_path)


@pytest.mark.parametrize("text", ["[1, 2", "[1 2]", "[1,]", "[1] x", "[,]", "[1, nul]", "[tru"])
@pytest.mark.parametrize("policy", ["error", "skip"])
def test_an_array_that_is_no_json_is_an_error_whatever_the_policy(
    text: str, policy: Any, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "pool.json").write_text(text)
    with pytest.raises(DataError, match=r"pool\.json"):
        list(iter_rows(tmp_path / "pool.json"))
    with pytest.raises(DataError, match=r"pool\.json"):
        build_records(tmp_path / "pool.json", images, tmp_path, RecordPolicy(on_bad_row=policy))


def test_values_that_a_block_cuts_in_two_are_whole(tmp_path: Path) -> None:
    rows = [float(i) / 7 for i in range(9)] + [{"é" * i: '\\"' * i} for i in range(99)] + [True]
    source = tmp_path / "pool.json"
    source.write_text(json.dumps(rows))
    for block in range(1, 40):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_rows, "BLOCK", block)
            assert [r for r, _ in json_rows.read_rows(source)] == rows


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket"])
def test_a_pool_that_is_no_file_is_refused_without_hanging(
    kind: str, images: Path, tmp_path: Path
) -> None:
    source = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(source)
    elif kind == "folder":
        source.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(source))
    with pytest.raises(DataError, match=rf"cannot read .*{kind}: it is a "):
        build_records(source, images, tmp_path)
    with pytest.raises(DataError, match=rf"cannot read .*{kind}: it is a "):
        file_fingerprint(source, tmp_path / "files.json")

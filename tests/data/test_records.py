import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from pool_files import build, nested, row

from icons_repro.core.errors import DataError
from icons_repro.core.settings import RecordPolicy
from icons_repro.core.types import content_key
from icons_repro.data.json_rows import MAX_CHARACTERS, MAX_DEPTH
from icons_repro.data.records import RecordTable, build_records
from icons_repro.data.subset import write_subset


def test_rows_come_back_as_they_were_with_equal_ids_kept_apart(
    images: Path, tmp_path: Path
) -> None:
    rows = [row(), row(image=None), row(answer="no")]
    table, counts = build(rows, images, tmp_path)
    assert [dict(table[i].raw) for i in range(3)] == rows
    assert [table[i].key for i in range(3)] == [content_key(r) for r in rows]
    assert table.sources.tolist() == ["a", "text", "a"]
    assert table.words.tolist() == [4, 4, 4]
    assert table.image_counts.tolist() == [1, 0, 1]
    assert counts == {"rows": 3, "usable": 3, "skipped": {}, "images_unseen": 0}


def test_json_lines_give_the_same_table(images: Path, tmp_path: Path) -> None:
    rows = [row(), row(image=None)]
    table, _ = build(rows, images, tmp_path)
    lines = tmp_path / "pool.jsonl"
    lines.write_text("\n".join(json.dumps(r) for r in rows) + "\n")
    (tmp_path / "lines").mkdir()
    build_records(lines, images, tmp_path / "lines")
    other = RecordTable(tmp_path / "lines" / "records.arrow")
    assert np.array_equal(table.keys, other.keys)


BAD = {
    "missing_image": row(image="a/none.png"),
    "unreadable_image": row(image="a/broken.png"),
    "image_outside": row(image="../outside.png"),
    "no_answer": row(answer="  "),
    "unknown_speaker": {"conversations": [{"from": "bot", "value": "hello"}]},
    "turn_order": {"conversations": [*2 * [{"from": "human", "value": "hello"}]]},
    "no_conversations": {"id": "7"},
    "bad_turn": {"conversations": [{"from": "human", "value": None}]},
    "image_token_count": {**row(), "image": ["a/x.png", "a/x.png"]},
    "bad_image_field": {**row(), "image": {"path": "a/x.png"}},
    "not_an_object": "text",
    "broken_text": row(answer="cut \ud83d"),
    "not_finite": row(score=float("nan")),
    "too_long": row(answer="y" * (MAX_CHARACTERS + 1)),
    "too_deep": row(tree=nested(MAX_DEPTH)),
    "image_too_large": row(image="a/strip.png"),
    "not_a_file": row(image="a/pipe.png"),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_an_error_naming_file_and_row(
    reason: str, images: Path, tmp_path: Path
) -> None:
    policy = RecordPolicy(check_images="decode")
    with pytest.raises(DataError, match=r"pool\.json, row 1: .*on_bad_row=skip"):
        build([row(), BAD[reason]], images, tmp_path, policy)


def test_skipped_rows_keep_their_place_and_are_listed(images: Path, tmp_path: Path) -> None:
    policy = RecordPolicy(on_bad_row="skip", check_images="decode")
    table, counts = build([row(), *BAD.values(), row(answer="no")], images, tmp_path, policy)
    assert counts["usable"] == 2
    assert counts["skipped"] == dict.fromkeys(BAD, 1)
    assert np.flatnonzero(table.usable).tolist() == [0, len(BAD) + 1]
    assert table[len(BAD) + 1].conversations[1]["value"] == "no"
    listed = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [(item["row"], item["reason"]) for item in listed] == list(enumerate(BAD, start=1))


def test_a_cut_file_is_an_error_that_says_so(images: Path, tmp_path: Path) -> None:
    source = tmp_path / "cut.json"
    source.write_text(json.dumps([row(), row()])[:-40])
    with pytest.raises(DataError, match=r"cut\.json stops being JSON after 1 rows.*download it"):
        build_records(source, images, tmp_path)
    lines = tmp_path / "cut.jsonl"
    lines.write_text(json.dumps(row()) + "\n" + json.dumps(row())[:-9])
    with pytest.raises(DataError, match=r"cut\.jsonl, line 2: not JSON"):
        build_records(lines, images, tmp_path)


def test_blocks_name_the_sources_by_place_and_bad_rows_keep_their_place(
    images: Path, tmp_path: Path
) -> None:
    source, policy = tmp_path / "mix.json", RecordPolicy(on_bad_row="skip")
    rows = [row(source="own"), row(), row(answer=" "), row(image=None), row()]
    source.write_text(json.dumps(rows))
    build_records(source, images, tmp_path, policy, {"vqa": 2, "captions": 2, "chat": 1})
    table = RecordTable(tmp_path / "records.arrow")
    assert table.sources.tolist() == ["vqa", "vqa", "", "captions", "chat"]


@pytest.mark.parametrize("last", [0, 2])
def test_blocks_of_another_file_are_refused_with_the_remedy(
    last: int, images: Path, tmp_path: Path
) -> None:
    source = tmp_path / "mix.json"
    source.write_text(json.dumps([row(), row(), row()]))
    with pytest.raises(DataError, match=rf"3 rows, .*blocks are {2 + last}: .*data\.blocks=null"):
        build_records(source, images, tmp_path, None, {"a": 2, "b": last})


def test_a_file_without_rows_is_an_error(images: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no rows"):
        build([], images, tmp_path)


def test_subset_is_the_chosen_rows_in_the_pools_own_format(images: Path, tmp_path: Path) -> None:
    rows = [row(answer=str(i), note="é") for i in range(5)]
    table, _ = build(rows, images, tmp_path)
    write_subset(table, np.array([1, 4]), tmp_path / "subset.json")
    assert json.loads((tmp_path / "subset.json").read_text()) == [rows[1], rows[4]]


def test_a_row_with_an_image_and_no_tag_is_taken_by_its_text_and_counted(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    untagged = {**row(image=None), "image": "a/x.png"}
    table, counts = build([row(), untagged], images, tmp_path)
    assert counts["usable"] == 2
    assert counts["images_unseen"] == 1
    assert table[1].images == ()
    assert table.sources.tolist() == ["a", "a"]
    assert "1 rows have an image and no <image> tag" in caplog.text
    with pytest.raises(DataError, match=r"row 0: image 'a/none\.png' is not in"):
        build([{**untagged, "image": "a/none.png"}], images, tmp_path)


def test_a_table_travels_to_another_process_as_its_path(images: Path, tmp_path: Path) -> None:
    table, _ = build([row(answer=str(i)) for i in range(3)], images, tmp_path)
    packed = pickle.dumps(table)
    assert len(packed) < 1000
    assert pickle.loads(packed)[2] == table[2]

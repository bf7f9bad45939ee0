import json
from pathlib import Path

import pytest
from PIL import Image

from icons_repro.core.settings import RecordPolicy
from icons_repro.data.records import RecordTable, build_records
from icons_repro.preflight import images
from icons_repro.preflight.images import decode_all

ROWS = 10


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordTable:
    """Ten rows with an image each, in chunks of four; row 5's image is damaged."""
    monkeypatch.setattr(images, "CHUNK", 4)
    (tmp_path / "images").mkdir()
    rows = []
    for i in range(ROWS):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / "images" / f"{i}.png")
        turns = [{"from": "human", "value": "<image>\nwhat"}, {"from": "gpt", "value": "it"}]
        rows.append({"image": f"{i}.png", "conversations": turns})
    whole = (tmp_path / "images" / "5.png").read_bytes()
    (tmp_path / "images" / "5.png").write_bytes(whole[:-30])
    (tmp_path / "pool.json").write_text(json.dumps(rows))
    build_records(tmp_path / "pool.json", tmp_path / "images", tmp_path, RecordPolicy())
    return RecordTable(tmp_path / "records.arrow")


def test_every_image_is_decoded_and_bad_ones_are_listed_with_their_rows(
    table: RecordTable, tmp_path: Path
) -> None:
    rows, bad = decode_all(table, tmp_path / "images", tmp_path / "log.jsonl", workers=1)
    assert rows == ROWS
    assert dict(bad) == {"unreadable_image": 1}
    listed = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [item["row"] for line in listed for item in line["bad"]] == [5]


def test_a_second_look_goes_on_where_a_killed_one_stopped(
    table: RecordTable, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    first = decode_all(table, tmp_path / "images", log, workers=1)
    lines = log.read_text().splitlines()
    log.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:5])
    (tmp_path / "images" / "0.png").unlink()  # in a chunk that is done: not looked at again
    assert decode_all(table, tmp_path / "images", log, workers=1) == first

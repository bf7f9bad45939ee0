"""A published subset is read by `datasets`, and is a pool again."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from local_hub import COMMIT, local_hub
from whole_run import Cache, write_whole_run

from icons_repro.core.errors import DataError, UserError
from icons_repro.core.refs import Ref
from icons_repro.core.settings import RecordPolicy
from icons_repro.data.export import sha256
from icons_repro.data.formats.base import SourceSpec
from icons_repro.data.formats.commits import commit_of
from icons_repro.data.formats.jobs import fill, finish, part_names
from icons_repro.data.formats.stage import Converted
from icons_repro.data.records import RecordTable, build_records
from icons_repro.publish import parquet
from icons_repro.publish.__main__ import main, publish, write_dataset
from icons_repro.publish.push import push_to_hub


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> Path:
    cache = Cache.fill(tmp_path_factory.mktemp("publish") / "cache", small_world)
    return write_whole_run(cache.root.parent / "runs", cache)


@pytest.fixture(scope="module")
def published(run: Path) -> Path:
    out = run.parent / "published"
    main([str(run), str(out)])
    return out


def chosen(run: Path) -> np.ndarray:
    return np.load(
        Path(json.loads((run / "results.json").read_text())["selection"]) / "positions.npy"
    )


def test_datasets_reads_the_chosen_rows_with_their_pictures(
    run: Path, published: Path, small_world: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    read = datasets.load_dataset(str(published), split="train", streaming=True)
    table = RecordTable(small_world / "pool" / "records.arrow")
    rows = list(read)
    assert [row["position"] for row in rows] == chosen(run).tolist()
    for row in rows:
        record = table[row["position"]]
        assert row["conversations"] == [dict(turn) for turn in record.conversations]
        assert row["key"] == record.key
        assert len(row["images"]) == len(record.images)
        assert all(image.size[0] > 1 for image in row["images"])
    rows = list(read.decode(False))
    names = [(image["path"], image["bytes"]) for row in rows for image in row["images"]]
    assert names
    assert all((small_world / "images" / name).read_bytes() == data for name, data in names)


def test_the_card_says_what_the_hub_asks_and_gives_true_hashes(run: Path, published: Path) -> None:
    _, front, body = (published / "README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert told["size_categories"] == ["n<1K"]
    (file,) = (published / "data").iterdir()
    assert file.name == "train-00000-of-00001.parquet"
    assert f"`data/{file.name}` {sha256(file)}" in body
    assert f"{len(chosen(run))} of 300 rows" in body


def test_many_images_are_several_files_and_the_rows_stay_in_order(
    run: Path, small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "SHARD_BYTES", 4000)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 7)
    table = RecordTable(small_world / "pool" / "records.arrow")
    files = parquet.write_parquet(table, chosen(run), small_world / "images", tmp_path / "data")
    assert len(files) > 2
    assert files[1].name == f"train-00001-of-{len(files):05d}.parquet"
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [f.name for f in files]
    found = pa.concat_tables(pq.read_table(file) for file in files)["position"].to_pylist()
    assert found == chosen(run).tolist()


def converted(source: SourceSpec, out: Path) -> RecordTable:
    step = Converted(sources=(source,))
    for part in part_names(step):
        fill(step, out, part)
    finish(step, out)
    build_records(out / "pool.json", out / "images", out, RecordPolicy(check_images="decode"))
    return RecordTable(out / "records.arrow")


def test_a_published_subset_is_a_pool_again_whose_rows_keep_their_keys_from_then_on(
    published: Path, tmp_path: Path
) -> None:
    (file,) = (published / "data").iterdir()
    first = converted(SourceSpec("parquet", Ref(path=str(file))), tmp_path / "a")
    (tmp_path / "chosen").mkdir()
    np.save(tmp_path / "chosen" / "positions.npy", np.arange(0, len(first), 3))
    pq.write_table(
        pa.table({"score": np.zeros(len(first))}), tmp_path / "chosen" / "scores.parquet"
    )
    write_dataset(tmp_path / "a", tmp_path / "chosen", tmp_path / "again", "a test")
    (file,) = (tmp_path / "again" / "data").iterdir()
    second = converted(SourceSpec("parquet", Ref(path=str(file))), tmp_path / "b")
    assert second.keys.tolist() == first.keys[::3].tolist()


def test_nothing_is_overwritten_and_a_missing_image_leaves_nothing_half_done(
    run: Path, published: Path, small_world: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="published is there and holds something"):
        publish(run, published)
    pool = tmp_path / "pool"
    pool.mkdir()
    (pool / "images").mkdir()
    (pool / "records.arrow").symlink_to(small_world / "pool" / "records.arrow")
    (tmp_path / "chosen").mkdir()
    np.save(tmp_path / "chosen" / "positions.npy", chosen(run))
    with pytest.raises(DataError, match="is not in"):
        write_dataset(pool, tmp_path / "chosen", tmp_path / "out", "a test")
    assert not list((tmp_path / "out").iterdir())


def test_what_is_pushed_is_a_dataset_that_a_pool_is_fetched_from(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    with local_hub(tmp_path / "hub", tmp_path / "cache", monkeypatch):
        url = push_to_hub(published, "org/name", private=True)
        assert url.endswith("/datasets/org/name")
        for file in ("README.md", "data/train-00000-of-00001.parquet"):
            assert (tmp_path / "hub" / file).read_bytes() == (published / file).read_bytes()
        assert commit_of("org/name", None, tmp_path / "hub.json") == COMMIT
        ref = Ref(hub=f"org/name@{COMMIT}", path="org/name")
        fetched = converted(SourceSpec("hub", ref, split="train"), tmp_path / "a")
    (file,) = (published / "data").iterdir()
    local = converted(SourceSpec("parquet", Ref(path=str(file))), tmp_path / "b")
    assert fetched.keys.tolist() == local.keys.tolist()


def test_a_hub_that_cannot_be_reached_leaves_the_folder_and_says_what_to_do(
    published: Path,
) -> None:
    before = sorted(published.rglob("*"))
    with pytest.raises(
        UserError, match=r"cannot be reached.*whole in .*published; later: hf upload"
    ):
        push_to_hub(published, "org/name", private=True)
    with pytest.raises(UserError, match="is no name of a repository"):
        push_to_hub(published, "no/such/name", private=True)
    assert sorted(published.rglob("*")) == before

"""`data.hub`: folders that `datasets` wrote, and the hub's cache; the hub itself is never asked."""

import io
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from PIL import Image
from sources import answers, picture, pool, pool_graph

from icons_repro.core.errors import ConfigError, DataError, UserError

datasets = pytest.importorskip("datasets")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def opened(shade: int) -> Image.Image:
    return Image.open(io.BytesIO(picture(shade)))


@pytest.fixture(scope="module")
def made() -> object:
    """Four rows of TRL's messages with a column of images, as a person would make them."""
    datasets.disable_progress_bars()
    rows = {
        "messages": [
            [{"role": "user", "content": "what is it"},
             {"role": "assistant", "content": f"shade {shade}"}]
            for shade in range(4)
        ],
        "images": [[opened(shade)] for shade in range(4)],
    }  # fmt: skip
    dataset = datasets.Dataset.from_dict(rows)
    return dataset.cast_column("images", datasets.List(datasets.Image()))


@pytest.fixture
def repository(made: object, tmp_path: Path) -> Path:
    """A repository's folder, its split in two files."""
    folder = tmp_path / "repository"
    (folder / "data").mkdir(parents=True)
    for part in range(2):
        shard = made.shard(num_shards=2, index=part, contiguous=True)  # type: ignore[attr-defined]
        shard.to_parquet(folder / "data" / f"train-0000{part}-of-00002.parquet")
    return folder


def cached(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay a repository into the hub's cache as the hub's own client does: links into blobs."""
    home = tmp_path / "hub" / "datasets--org--name"
    for file in sorted(repository.rglob("*.parquet")):
        link = home / "snapshots" / COMMIT / file.relative_to(repository)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = home / "blobs" / file.name
        blob.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, blob)
        link.symlink_to(blob)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_folder_of_parquet_a_saved_dataset_and_a_dict_of_splits_are_one_pool(
    made: object, repository: Path, tmp_path: Path
) -> None:
    made.save_to_disk(tmp_path / "saved")  # type: ignore[attr-defined]
    datasets.DatasetDict({"train": made}).save_to_disk(tmp_path / "splits")
    pools = [
        pool(tmp_path / f"{n}", f"data.hub={folder}")
        for n, folder in enumerate((repository, tmp_path / "saved", tmp_path / "splits"))
    ]
    table, images = pools[0]
    assert answers(table) == [f"shade {shade}" for shade in range(4)]
    assert table[3].conversations[0]["value"] == "<image>\nwhat is it"
    assert (images / table[3].images[0]).read_bytes() == picture(3)
    assert all(other.keys.tolist() == table.keys.tolist() for other, _ in pools)


def test_a_folder_of_images_with_their_metadata_is_a_pool(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "1.png").write_bytes(picture(1))
    (folder / "metadata.csv").write_text("file_name,question,answer\n1.png,what is it,red\n")
    table, images = pool(tmp_path, f"data.hub={folder}")
    assert answers(table) == ["red"]
    assert (images / table[0].images[0]).read_bytes() == picture(1)


def test_the_hubs_cache_is_read_without_the_hub_and_the_commit_is_the_name(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(repository, tmp_path, monkeypatch)
    table, _ = pool(tmp_path, "data.hub=org/name")
    assert answers(table) == [f"shade {shade}" for shade in range(4)]
    main = pool_graph(tmp_path, "data.hub=org/name").pool.fingerprint
    pinned = pool_graph(tmp_path, "data.hub=org/name", f"data.revision={COMMIT}").pool.fingerprint
    other = "f" * 40
    assert main == pinned
    assert pool_graph(tmp_path, "data.hub=org/name", f"data.revision={other}").pool.fingerprint != (
        main
    )
    first, _ = pool(tmp_path, "data.hub=org/name", "data.files=[data/train-00000-*]")
    assert answers(first) == ["shade 0", "shade 1"]


def test_a_branch_that_moves_on_does_not_change_a_study_that_began(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(repository, tmp_path, monkeypatch)
    before = pool_graph(tmp_path, "data.hub=org/name").pool.fingerprint
    (tmp_path / "hub" / "datasets--org--name" / "refs" / "main").write_text("e" * 40)
    assert pool_graph(tmp_path, "data.hub=org/name").pool.fingerprint == before
    assert pool_graph(tmp_path / "new", "data.hub=org/name").pool.fingerprint != before


def test_a_hub_that_cannot_be_reached_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    said = r"data\.hub=org/name is not a folder.*cannot be reached.*hf download --repo-type dataset"
    with pytest.raises(UserError, match=said):
        pool_graph(tmp_path, "data.hub=org/name").pool  # noqa: B018
    with pytest.raises(UserError, match="org/name is not a folder here, not in the hub's cache"):
        pool(tmp_path, "data.hub=org/name", f"data.revision={COMMIT}")


def test_a_split_that_is_not_there_and_a_cut_file_are_named(
    repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"repository, split test: .*train.*data\.split"):
        pool(tmp_path, f"data.hub={repository}", "data.split=test")
    path = repository / "data" / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"repository.*fetch it again|data\.split"):
        pool(tmp_path, f"data.hub={repository}")


def test_an_image_path_that_leads_out_of_a_dataset_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(9))
    folder = tmp_path / "in"
    folder.mkdir()
    image = {"bytes": None, "path": str(tmp_path / "secret.png")}
    rows = {"question": ["q"], "answer": ["a"], "image": [image]}
    datasets.Dataset.from_dict(rows).to_parquet(folder / "train.parquet")
    with pytest.raises(DataError, match=r"data\.images=FOLDER"):
        pool(tmp_path, f"data.hub={folder}")


def test_path_and_hub_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path and data\.hub are set"):
        pool_graph(tmp_path, "data.hub=a/b", "data.path=x.json").pool  # noqa: B018

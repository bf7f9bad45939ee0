import io
import json
import tarfile
from pathlib import Path

import pytest
from sources import answers, embedded, picture, pool, turns, write_parquet

from icons_repro.core.errors import DataError

Files = dict[str, bytes]


def sample(shade: int, **more: bytes) -> Files:
    row = {"conversations": turns(f"shade {shade}"), "image": "on/their/disk.png"}
    return {f"{shade}.png": picture(shade), f"{shade}.json": json.dumps(row).encode(), **more}


def write_tar(files: Files, path: Path, mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("name", "mode"), [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.tgz", "w:gz")]
)
def test_samples_come_in_order_with_their_images(name: str, mode: str, tmp_path: Path) -> None:
    path = write_tar(sample(1) | sample(2), tmp_path / name, mode)
    table, images = pool(tmp_path, f"data.path={path}")
    assert answers(table) == ["shade 1", "shade 2"]
    assert (images / table[1].images[0]).read_bytes() == picture(2)
    assert table[0].raw["id"] == "1"


def test_texts_and_several_images_of_a_sample_are_fields(tmp_path: Path) -> None:
    files = {"a/7.0.png": picture(1), "a/7.1.png": picture(2), "a/7.txt": b"two reds\n",
             "a/8.json": json.dumps(turns("alone", "")).encode()}  # fmt: skip
    asked = json.dumps({"question": "what is it"}).encode()
    files = {"a/7.json": asked, **files}
    path = write_tar(files, tmp_path / "y.tar")
    columns = "data.columns={question: question, answer: txt}"
    table, images = pool(tmp_path, f"data.path={path}", columns)
    assert [t["value"] for t in table[0].conversations] == [
        "<image>\n<image>\nwhat is it", "two reds"]  # fmt: skip
    assert [(images / name).read_bytes() for name in table[0].images] == [picture(1), picture(2)]
    assert answers(table)[1] == "alone"


def test_the_same_rows_have_the_same_keys_in_a_tar_and_in_parquet(tmp_path: Path) -> None:
    tar, _ = pool(tmp_path / "a", f"data.path={write_tar(sample(1), tmp_path / 'x.tar')}",
                  "data.columns={source: null}")  # fmt: skip
    rows = [{**row, "source": "webdataset"} for row in embedded(1)]
    parquet, _ = pool(tmp_path / "b", f"data.path={write_parquet(rows, tmp_path / 'x.parquet')}")
    assert tar.keys.tolist() == parquet.keys.tolist()


@pytest.mark.parametrize("where", ["inside a file", "between files", "in a compressed one"])
def test_a_cut_tar_is_named_with_the_remedy(where: str, tmp_path: Path) -> None:
    files = sample(1) | sample(2)
    if where == "in a compressed one":
        path = write_tar(files, tmp_path / "x.tgz", "w:gz")
        path.write_bytes(path.read_bytes()[:-40])
    else:
        path = write_tar(files, tmp_path / "x.tar")
        with tarfile.open(path) as tar:
            last = tar.getmembers()[-1]
        cut = last.offset + (700 if where == "inside a file" else 0)
        path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"x\.t\w+ is no whole tar \(after .*download it again"):
        pool(tmp_path, f"data.path={path}")


def test_broken_json_is_one_bad_row_and_links_are_no_files(tmp_path: Path) -> None:
    path = write_tar(sample(1) | {"2.json": b"{cut"} | sample(3), tmp_path / "x.tar")
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("4.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DataError, match=r"x\.tar, row 1: 2\.json is not JSON"):
        pool(tmp_path, f"data.path={path}")
    table, _ = pool(tmp_path, f"data.path={path}", "data.on_bad_row=skip")
    assert table.usable.tolist() == [True, False, True]

import json
from pathlib import Path

import pytest
from sources import answers, embedded, picture, pool, pool_graph, turns, write_parquet

from icons_repro.core.build import Options, build
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.step_json import from_json, to_json
from icons_repro.data.formats import jobs
from icons_repro.data.formats.stage import Converted


def test_rows_and_embedded_images_come_out_as_they_went_in(tmp_path: Path) -> None:
    write_parquet(embedded(1, 2), tmp_path / "in" / "train-00000.parquet")
    write_parquet(embedded(3), tmp_path / "in" / "train-00001.parquet")
    table, images = pool(tmp_path, f"data.path={tmp_path}/in")
    assert answers(table) == ["shade 1", "shade 2", "shade 3"]
    assert [table[i].raw["id"] for i in range(3)] == ["1", "2", "3"]
    for row, shade in enumerate((1, 2, 3)):
        (name,) = table[row].images
        assert (images / name).read_bytes() == picture(shade)


def test_lists_of_images_and_plain_bytes_are_read_and_equal_images_are_one_file(
    tmp_path: Path,
) -> None:
    two = turns(tag="<image>\n<image>\n")
    rows = [
        {"conversations": two, "images": [picture(1), picture(2)]},
        {"conversations": turns(), "images": [picture(1)]},
        {"conversations": turns(tag=""), "images": []},
    ]
    table, images = pool(tmp_path, f"data.path={write_parquet(rows, tmp_path / 'a.parquet')}")
    assert table.image_counts.tolist() == [2, 1, 0]
    assert table[0].images[0] == table[1].images[0]
    assert len(list(images.glob("*/*"))) == 2
    assert set(table.sources) == {"parquet"}  # not the folders that images are kept in


def test_a_row_has_the_same_key_however_the_files_are_cut_and_wherever_they_lie(
    tmp_path: Path,
) -> None:
    whole = write_parquet(embedded(1, 2, 3), tmp_path / "a" / "x.parquet")
    write_parquet(embedded(1), tmp_path / "b" / "0.parquet")
    write_parquet(embedded(2, 3), tmp_path / "b" / "1.parquet")
    one, _ = pool(tmp_path / "o", f"data.path={whole}")
    cut, _ = pool(tmp_path / "p", f"data.path={tmp_path}/b")
    assert one.keys.tolist() == cut.keys.tolist()


def test_the_files_content_is_the_name_and_their_place_is_not(tmp_path: Path) -> None:
    paths = [
        write_parquet(embedded(*shades), tmp_path / name)
        for name, shades in {
            "a/x.parquet": (1, 2),
            "b/y.parquet": (1, 2),
            "c/x.parquet": (1, 3),
        }.items()
    ]
    a, b, c = (pool_graph(tmp_path, f"data.path={path}").pool.fingerprint for path in paths)
    assert a == b
    assert a != c
    step = pool_graph(tmp_path, f"data.path={paths[0]}").pool.world
    assert isinstance(step, Converted)
    assert from_json(to_json(step)).fingerprint == step.fingerprint


def test_an_unusable_row_keeps_its_place_and_is_named_by_its_own_file(tmp_path: Path) -> None:
    rows = embedded(1, 2, 3)
    rows[1]["image"] = {"bytes": None, "path": "photos/2.png"}
    write_parquet(embedded(0), tmp_path / "in" / "0.parquet")
    write_parquet(rows, tmp_path / "in" / "1.parquet")
    with pytest.raises(DataError, match=r"in/1\.parquet, row 1: .*photos/2\.png.*data\.images="):
        pool(tmp_path, f"data.path={tmp_path}/in")
    table, _ = pool(tmp_path, f"data.path={tmp_path}/in", "data.on_bad_row=skip")
    assert table.usable.tolist() == [True, True, False, True]
    assert table[3].conversations[1]["value"] == "shade 3"
    (skipped,) = (table.path.parent / "skipped.jsonl").read_text().splitlines()
    assert json.loads(skipped)["row"] == 2


def test_a_cut_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = write_parquet(embedded(1), tmp_path / "x.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"x\.parquet is no whole parquet file.*download it again"):
        pool(tmp_path, f"data.path={path}")


def test_a_pool_without_images_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    rows = [{"conversations": turns(tag=""), "photo": {"bytes": picture(1), "path": None}}]
    path = write_parquet(rows, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r'x\.parquet.*"photo".*no row has an image.*data\.columns'):
        pool(tmp_path, f"data.path={path}")
    table, _ = pool(tmp_path, f"data.path={path}", "data.columns={images: null}")
    assert table.image_counts.tolist() == [0]


def test_columns_of_any_name_are_read(tmp_path: Path) -> None:
    rows = [{"q": "what is it", "a": "red", "photo": picture(1), "from_where": "shop"}]
    path = write_parquet(rows, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r'"photo", "q".*no row can be used.*data\.columns'):
        pool(tmp_path, f"data.path={path}")
    columns = "data.columns={question: q, answer: a, images: photo, source: from_where}"
    table, _ = pool(tmp_path, f"data.path={path}", columns)
    assert table[0].conversations[0]["value"] == "<image>\nwhat is it"
    assert (answers(table), table.sources.tolist()) == (["red"], ["shop"])


def test_a_killed_conversion_goes_on_and_makes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in range(3):
        write_parquet(embedded(shard), tmp_path / "in" / f"{shard}.parquet")
    step = pool_graph(tmp_path, f"data.path={tmp_path}/in").pool.world
    assert isinstance(step, Converted)
    caches = [Cache(tmp_path / name) for name in ("whole", "killed")]
    build(step, caches[0])
    fill, filled = Converted.fill, []

    def noted(self: Converted, work: object, parts: object) -> None:
        def some() -> object:
            for part in parts:  # type: ignore[attr-defined]
                if len(filled) == 2:
                    raise KeyboardInterrupt
                filled.append(part)
                yield part

        fill(self, work, some())  # type: ignore[arg-type]

    monkeypatch.setattr(Converted, "fill", noted)
    with pytest.raises(KeyboardInterrupt):
        build(step, caches[1])
    monkeypatch.setattr(Converted, "fill", fill)
    left = caches[1].shared_attempt(step) / "rows"
    before = {path.name: path.stat().st_mtime_ns for path in left.glob("*.jsonl")}
    assert len(before) == 2
    build(step, caches[1], Options())
    whole, killed = (
        {str(p.relative_to(c.path(step))): p.read_bytes() for p in c.path(step).rglob("*")
         if p.is_file() and p.name != "manifest.json"}
        for c in caches
    )  # fmt: skip
    assert whole == killed


def test_a_kill_while_the_parts_are_removed_is_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(embedded(1, 2), tmp_path / "x.parquet")
    step = pool_graph(tmp_path, f"data.path={tmp_path}/x.parquet").pool.world
    assert isinstance(step, Converted)
    cache = Cache(tmp_path / "cache")

    def cut(folder: Path, **_: object) -> None:
        next(Path(folder).glob("*.json")).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(jobs.shutil, "rmtree", cut)
        with pytest.raises(KeyboardInterrupt):
            build(step, cache)
    build(step, cache)
    assert len((cache.path(step) / "pool.json").read_text().splitlines()) == 2
    assert not (cache.path(step) / "rows").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("data.path=nowhere", r"data\.path=nowhere: no such file"),
        ("data.path=x.txt", r"data\.path=x\.txt: no known format; .*\.parquet"),
        ("data.path=mixed data.json=x.txt", r"data\.json and data\.path are set"),
        ("data.path=empty", r"data\.path=empty holds no such file"),
        ("data.path=x.parquet data.columns={pictures: x}", r"data\.columns\.pictures: .*images"),
    ],
)
def test_what_names_no_source_is_refused_with_its_key(
    given: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.txt").touch()
    (tmp_path / "empty").mkdir()
    write_parquet(embedded(1), tmp_path / "x.parquet")
    with pytest.raises(ConfigError, match=said):
        pool_graph(tmp_path, *given.split(" ", given.count(" data."))).pool  # noqa: B018

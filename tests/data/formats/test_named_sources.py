from pathlib import Path

import pytest
from sources import answers, embedded, picture, pool, pool_graph, turns, write_parquet

from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.core.errors import ConfigError, DataError
from icons_repro.core.refs import Ref
from icons_repro.data.formats.base import SourceSpec
from icons_repro.data.formats.jobs import copies_of
from icons_repro.data.records import RecordTable

MANY = 4000


def given(*sources: str, key: str = "data.sources") -> str:
    return f"{key}=[{', '.join('{' + source + '}' for source in sources)}]"


def test_sources_stand_end_to_end_under_their_own_names(tmp_path: Path) -> None:
    first = write_parquet(embedded(1, 2), tmp_path / "a.parquet")
    rows = [{**row, "source": "what the row says"} for row in embedded(3)]
    second = write_parquet(rows, tmp_path / "b.parquet")
    table, _ = pool(tmp_path, given(f"name: one, path: {first}", f"name: two, path: {second}"))
    assert table.sources.tolist() == ["one", "one", "two"]
    assert answers(table) == ["shade 1", "shade 2", "shade 3"]


def test_one_source_of_texts_may_stand_beside_one_with_images(tmp_path: Path) -> None:
    first = write_parquet(embedded(1), tmp_path / "a.parquet")
    texts = write_parquet([{"conversations": turns(tag="")}], tmp_path / "b.parquet")
    table, _ = pool(tmp_path, given(f"name: one, path: {first}", f"name: two, path: {texts}"))
    assert table.image_counts.tolist() == [1, 0]


def drawn(weight: float, **more: int) -> list[int]:
    source = SourceSpec(format="json", files=Ref(digest="x"), name="s", weight=weight)
    return [copies_of(source, more.get("seed", 0), 0, row) for row in range(MANY)]


def test_a_weight_is_a_share_that_a_larger_one_holds_and_whole_ones_are_copies() -> None:
    third, half, more = drawn(0.3), drawn(0.5), drawn(2.5)
    assert sum(third) == pytest.approx(0.3 * MANY, rel=0.1)
    assert all(a <= b for a, b in zip(third, half, strict=True))
    assert [copies - 2 for copies in more] == half
    assert set(drawn(2.0)) == {2}
    assert drawn(0.5, seed=1) != half


def test_weighted_rows_keep_their_order_and_are_named_by_their_own_place(tmp_path: Path) -> None:
    rows = embedded(*range(20))
    rows[19]["image"] = {"bytes": None, "path": "19.png"}
    path = write_parquet(rows, tmp_path / "a.parquet")
    twice = given(f"name: one, path: {path}, weight: 2")
    table, _ = pool(tmp_path, twice, "data.on_bad_row=skip")
    assert [table[i].raw["id"] for i in range(4)] == ["0", "0", "1", "1"]
    with pytest.raises(DataError, match=r"a\.parquet, row 19: "):
        pool(tmp_path, twice)
    half = given(f"name: one, path: {path}, weight: 0.5")
    table, _ = pool(tmp_path, half, "data.on_bad_row=skip")
    kept = [int(table[i].raw["id"]) for i in range(len(table)) if table.usable[i]]
    assert kept == sorted(set(kept))
    assert 4 <= len(kept) < 19


def test_a_row_that_is_added_later_changes_no_earlier_one(tmp_path: Path) -> None:
    names = {}
    for count in (12, 16):
        path = write_parquet(embedded(*range(count)), tmp_path / f"{count}" / "a.parquet")
        table, _ = pool(tmp_path / f"{count}", given(f"name: s, path: {path}, weight: 0.5"))
        names[count] = [row for row in answers(table) if int(row.split()[1]) < 12]
    assert names[12] == names[16]


def test_weights_and_names_are_in_the_pools_name(tmp_path: Path) -> None:
    path = write_parquet(embedded(1), tmp_path / "a.parquet")
    configs = [
        (given(f"name: a, path: {path}"),),
        (given(f"name: b, path: {path}"),),
        (given(f"name: a, path: {path}, weight: 0.5"),),
        (given(f"name: a, path: {path}, weight: 0.5"), "data.weight_seed=1"),
    ]
    names = [pool_graph(tmp_path, *config).pool.fingerprint for config in configs]
    assert len(set(names)) == len(names)


def test_targets_come_from_any_format_and_are_named_by_their_files(tmp_path: Path) -> None:
    rows = [{**row, "category": "colour"} for row in embedded(1, 2)]
    one = write_parquet(rows, tmp_path / "a.parquet")
    two = write_parquet([{"question": "q", "answer": "a", "image": picture(3)}],
                        tmp_path / "b.parquet")  # fmt: skip
    chosen = given(f"name: one, path: {one}", f"name: two, path: {two}",
                   key="targets.task_sources")  # fmt: skip
    graph = pool_graph(tmp_path, chosen)
    made = obtain(graph.targets, Cache(tmp_path / "cache"))
    tables = {name: RecordTable(made / name / "records.arrow") for name in ("one", "two")}
    assert answers(tables["one"]) == ["shade 1", "shade 2"]
    assert tables["one"][0].raw["category"] == "colour"
    assert (made / "images" / tables["two"][0].images[0]).read_bytes() == picture(3)
    only = pool_graph(tmp_path, chosen, "targets.tasks=[two]")
    made = obtain(only.targets, Cache(tmp_path / "cache"))
    assert sorted(p.parent.name for p in made.glob("*/records.arrow")) == ["two"]
    rows[1]["image"] = {"bytes": b"", "path": None}
    write_parquet(rows, one)
    with pytest.raises(DataError, match=r"a\.parquet, row 1: "):
        obtain(pool_graph(tmp_path, chosen).targets, Cache(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("path: x.parquet", r"data\.sources\.1\.name: has no name"),
        ("name: one, path: x.parquet", r"data\.sources\.1\.name: 'one' is there twice"),
        ("name: a/b, path: x.parquet", r"data\.sources\.1\.name: 'a/b' has a slash"),
        ("name: two", r"data\.sources\.1: one of path and hub .* neither is"),
        ("name: two, paht: x.parquet", r"unknown key data\.sources\.1\.paht; did you mean .*path"),
        ("name: two, path: x.parquet, weight: 0", r"data\.sources\.1\.weight=0 is outside \(0,"),
        ("name: two, path: nowhere", r"data\.sources\.1\.path=nowhere: no such"),
    ],
)
def test_a_source_that_is_wrong_is_named_by_its_key(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_parquet(embedded(1), tmp_path / "x.parquet")
    with pytest.raises(ConfigError, match=said):
        pool_graph(tmp_path, given("name: one, path: x.parquet", source)).pool  # noqa: B018

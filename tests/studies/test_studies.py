"""A study's rows, what they say, and what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from icons_repro.core.errors import DataError, UserError
from icons_repro.studies.__main__ import main
from icons_repro.studies.analysis import analyse
from icons_repro.studies.rows import Row, merged, read, write
from icons_repro.studies.study import Study
from icons_repro.studies.tables import tables

BENCHMARKS = ("tiny_gqa", "tiny_vqa")
POOLS = range(201, 209)


def row(selector: str, pool: int, scores: Sequence[float], **changes: object) -> Row:
    made = {
        "world": "w", "pool": f"pool{pool}", "pool_seed": pool, "seed": 0, "selector": selector,
        "settings": "", "budget": 0.2, "regime": "same_epochs", "commit": "c",
        "scores": tuple(zip(BENCHMARKS, scores, strict=True)),
    }  # fmt: skip
    return Row(**(made | changes))  # type: ignore[arg-type]


def study_rows(gain: float = 5.0) -> list[Row]:
    """Full data, blind answers, random and a method that gains some points, with noise."""
    rng = np.random.default_rng(0)
    rows = []
    for pool in POOLS:
        luck = rng.normal(0, 1, 2)
        rows += [
            row("full", pool, [70, 80], budget=1.0, regime=""),
            row("blind", pool, [20, 30], budget=0.0, regime=""),
            row("random", pool, 50 + luck),
            row("icons", pool, 50 + luck + rng.normal(gain, 1, 2)),
        ]
    return rows


def write_study(folder: Path, rows: Sequence[Row]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(
        f"experiment: contest\nagainst: [random]\npools: {list(POOLS)}\n"
    )
    write(folder / "results.csv", rows)
    return folder


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    rows = merged([], study_rows())
    write(tmp_path / "results.csv", rows)
    again = read(tmp_path / "results.csv")
    assert [r.key for r in again] == [r.key for r in rows]
    np.testing.assert_allclose([s for r in again for _, s in r.scores],
                               [s for r in rows for _, s in r.scores], rtol=1e-5)  # fmt: skip
    write(tmp_path / "again.csv", merged(again, again))
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "results.csv").read_bytes()


def test_the_difference_is_the_paired_t_test_over_pools() -> None:
    rows = study_rows()
    (pair,) = analyse(rows, ["random"]).pairs
    above = {
        name: [
            np.mean([2 * dict(r.scores)["tiny_gqa"] - 40, 2 * dict(r.scores)["tiny_vqa"] - 60])
            for r in rows
            if r.selector == name
        ]
        for name in ("icons", "random")
    }
    expected = stats.ttest_rel(above["icons"], above["random"])
    interval = expected.confidence_interval()
    assert pair.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert pair.difference.interval() == pytest.approx((interval.low, interval.high), rel=1e-6)


def test_a_difference_that_stands_on_one_benchmark_is_shown_to() -> None:
    rng = np.random.default_rng(1)
    lopsided = [
        row(r.selector, r.pool_seed, [dict(r.scores)["tiny_gqa"] + 4, 30 + rng.normal()])
        if r.selector == "icons"
        else r
        for r in study_rows(gain=0.0)
    ]
    (pair,) = analyse(lopsided, ["random"]).pairs
    assert pair.difference.value < 0
    assert pair.apart["tiny_gqa"].interval()[0] > 0 > pair.apart["tiny_vqa"].interval()[1]
    assert pair.without["tiny_vqa"] == pair.apart["tiny_gqa"]  # of two, the other one
    assert pair.difference.value == pytest.approx(
        np.mean([pair.apart[name].value for name in BENCHMARKS])
    )
    shown = [table.markdown() for table in tables(analyse(lopsided, ["random"]))]
    (alone,) = (text for text in shown if "on each benchmark" in text)
    (without,) = (text for text in shown if "over all but one" in text)
    signs = [[cell[0] + cell[-1] for cell in line_of(text)] for text in (alone, without)]
    assert signs == [["+*", "-*"], ["-*", "+*"]]


def line_of(table: str) -> list[str]:
    """The figures of the method's line."""
    (line,) = (line for line in table.splitlines() if line.startswith("| icons"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_seeds_of_one_pool_are_one_observation() -> None:
    rows = study_rows()
    twice = rows + [Row(**(r.__dict__ | {"seed": 1})) for r in rows]
    once, both = analyse(rows, ["random"]).pairs[0], analyse(twice, ["random"]).pairs[0]
    assert both.difference == once.difference


def test_rows_of_another_world_are_counted_and_enter_no_mean() -> None:
    rows = study_rows()
    alien = row("icons", 201, [0, 0], world="old")
    found = analyse([*rows, alien], ["random"])
    assert found.pairs == analyse(rows, ["random"]).pairs
    assert any("1 rows of another world" in note for note in found.notes)


def test_runs_of_one_pool_and_seed_that_disagree_are_left_out_by_name() -> None:
    found = analyse([*study_rows(), row("icons", 203, [1, 2])], ["random"])
    assert any("icons at 0.2 on pool 203, seed 0" in n and "disagree" in n for n in found.notes)
    assert found.pairs[0].difference.pools == len(POOLS) - 1
    assert any(f"on {len(POOLS) - 1} of {len(POOLS)} pools" in note for note in found.notes)


def test_a_method_that_lacks_pools_is_compared_on_those_it_has_and_named() -> None:
    rows = [r for r in study_rows() if not (r.selector == "icons" and r.pool_seed > 204)]
    found = analyse(rows, ["random"])
    assert found.pairs[0].difference.pools == 4
    assert any("icons, same_epochs: on 4 of 8 pools" in note for note in found.notes)


def test_benchmarks_that_full_data_does_not_learn_are_in_no_mean() -> None:
    rows = [
        Row(**(r.__dict__ | {"scores": (*r.scores, ("tiny_x", 30.0 + (r.pool_seed % 3)))}))
        for r in study_rows()
    ]
    found = analyse(rows, ["random"])
    assert found.over == BENCHMARKS
    assert any(note.startswith("tiny_x: full data is not clearly above") for note in found.notes)


def test_the_same_method_with_other_settings_is_another_method() -> None:
    rows = [r for r in study_rows() if r.selector != "icons"]
    rows += [
        row("icons", pool, [60, 60], settings='{"floor": 0.05, "rule": "vote"}') for pool in POOLS
    ]
    rows += [
        row("icons", pool, [55, 60], settings='{"floor": 0.05, "rule": "mean"}') for pool in POOLS
    ]
    names = {method.name for method in analyse(rows, []).methods}
    assert names == {"random", "icons, rule=vote", "icons, rule=mean"}


def test_a_damaged_line_is_named_with_its_number(tmp_path: Path) -> None:
    write(path := tmp_path / "results.csv", study_rows())
    lines = path.read_text().splitlines()
    lines[4] = lines[4].rsplit(",", 1)[0] + ",nan"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"results\.csv:5"):
        read(path)


def test_a_study_without_rows_says_so(tmp_path: Path) -> None:
    write_study(tmp_path / "contest", [])
    with pytest.raises(SystemExit, match="no rows yet"):
        main([str(tmp_path / "contest")])


def test_a_folder_that_is_no_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no study"):
        Study.of(tmp_path)
    (tmp_path / "study.yaml").write_text("pool: [1]\n")
    with pytest.raises(UserError, match="wants experiment and pools"):
        Study.of(tmp_path)


def test_only_pools_without_rows_are_missing(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "contest", [r for r in study_rows() if r.pool_seed != 205])
    assert Study.of(folder).missing() == [205]


def test_the_command_writes_the_same_page_and_figure_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_study(tmp_path / "contest", study_rows())
    main([str(folder)])
    first = {name: (folder / name).read_bytes() for name in ("results.md", "results.svg")}
    main([str(folder)])
    assert {name: (folder / name).read_bytes() for name in first} == first
    assert "icons" in capsys.readouterr().out
    assert b"8 pools" in first["results.md"]


def test_a_pool_has_several_sweeps_and_one_that_fails_stops_no_other_pool(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.yaml").write_text(
        "experiment: no_such_experiment\npools: [1, 2]\nsweeps: [[budget=0.1], [budget=0.2]]\n"
    )
    with pytest.raises(UserError, match="pools 1, 2 did not end well"):
        Study.of(tmp_path).run(tmp_path / "outputs", again=False)
    assert capfd.readouterr().err.count("no_such_experiment") >= 4


def test_a_source_of_influence_makes_a_method_of_its_own() -> None:
    plain, rds = '{"k": 1}', '{"influence": "rds", "influence.pooling": "last", "k": 1}'
    rows = [
        *(r for r in study_rows() if r.selector != "icons"),
        *(row("round_robin", pool, [50 + pool % 3, 60], settings=plain) for pool in POOLS),
        *(row("round_robin", pool, [40, 50], settings=rds) for pool in POOLS),
    ]
    names = {method.name for method in analyse(rows, ["random"]).methods}
    assert names == {"random", "round_robin", "round_robin, influence=rds"}

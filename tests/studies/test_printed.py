"""The paper's printed numbers, and Rel. computed again from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from icons_repro.core.errors import DataError
from icons_repro.studies.paper_figures.printed import TABLES, cells, read_table, rows_of
from icons_repro.studies.paper_figures.printed_charts import charts

FOLDER = Path(__file__).parents[2] / "experiments" / "paper_figures" / "paper"
MAIN, RULES, UNSEEN, TRANSFER = TABLES


def test_the_table_of_methods_is_the_unweighted_mean_of_ratios() -> None:
    for table in (MAIN, TRANSFER):
        assert all(row.agrees for row in rows_of(FOLDER, table))


def test_rows_whose_printed_mean_is_another_are_named() -> None:
    apart = {row.name for row in rows_of(FOLDER, RULES) if not row.agrees}
    assert apart == {"mean", "max", "rank", "norm", "direct_merge"}
    assert "more than rounding apart: random, icons" in cells(FOLDER, UNSEEN).notes


def test_one_row_computed_by_hand() -> None:
    (random,) = (row for row in rows_of(FOLDER, UNSEEN) if row.name == "random")
    scores = (50.2, 15.1, 25.2, 24.3, 27.6, 11.1, 49.8, 21.9)
    full = (55.4, 17.5, 28.9, 26.5, 31.1, 12.4, 52.4, 22.1)
    ratios = [100 * a / b for a, b in zip(scores, full, strict=True)]
    assert random.recomputed == pytest.approx(sum(ratios) / 8)


def test_printed_numbers_stand_in_no_chart_or_table_without_the_papers_name() -> None:
    for spec, alt in charts(FOLDER).values():
        assert "paper" in alt
        assert "paper" in str(spec)
    assert all("paper" in cells(FOLDER, table).title for table in TABLES)


def test_a_damaged_table_is_named_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("# remark\nmethod,a,b\nicons,1,x\n")
    with pytest.raises(DataError, match=r"t\.csv, row icons"):
        read_table(tmp_path / "t.csv")

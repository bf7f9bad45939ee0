"""The paper's figures on the tiny world: their sweeps, what is missing, and their charts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icons_repro.core.errors import UserError
from icons_repro.studies.csv_rows import write_rows
from icons_repro.studies.paper_figures.__main__ import chosen, main
from icons_repro.studies.paper_figures.figure import figures_of
from icons_repro.studies.paper_figures.shared import Shared
from icons_repro.studies.rows import Row, write
from icons_repro.studies.sweeps import jobs_of

SHIPPED = Path(__file__).parents[2] / "experiments" / "paper_figures"
FIGURES = {figure.name: figure for figure in figures_of(SHIPPED)}
Settings = Mapping[str, Any]
NAMES = ("tiny_chartqa", "tiny_gqa", "tiny_mme", "tiny_vqa")


def row(
    pool: int, selector: str, above: float, budget: float = 0.2, settings: Settings | None = None
) -> Row:
    """A row that is `above` percent of the way from blind (20) to full data (70)."""
    trained = selector not in ("full", "blind")
    return Row(
        world="w", pool=f"p{pool}", pool_seed=pool, seed=pool, selector=selector,
        settings=json.dumps(settings) if settings else "", budget=budget,
        regime="same_epochs" if trained else "", commit="c",
        scores=tuple((name, 20 + above / 2) for name in NAMES),
    )  # fmt: skip


def references(pool: int, budgets: Sequence[float] = (0.2,)) -> list[Row]:
    luck = np.random.default_rng(pool).normal(0, 2)
    random = [row(pool, "random", 60 + luck, budget) for budget in budgets]
    return [row(pool, "full", 100, 1.0), row(pool, "blind", 0, 0.0), *random]


def folder_with(tmp_path: Path, name: str, rows: Sequence[Row]) -> Path:
    """A folder of the shipped figures in which one has rows."""
    (tmp_path / "figures.yaml").write_text((SHIPPED / "figures.yaml").read_text())
    (tmp_path / name).mkdir()
    write(tmp_path / name / "results.csv", rows)
    return tmp_path


def dimensions() -> list[Row]:
    rows = [r for pool in (301, 302, 303) for r in references(pool)]
    for pool in (301, 302, 303):
        rows += [row(pool, "icons", 60 + d, settings={"projection.dim": 4**d, "rule": "vote"})
                 for d in (3, 5, 6)]  # fmt: skip
    return rows


def test_jobs_are_counted_as_hydra_counts_them() -> None:
    assert jobs_of([]) == 1
    assert jobs_of(["a=1,2", "b.c=[x],[y,z],null", "d=4", "e=[1,2]"]) == 6
    with pytest.raises(UserError, match="cannot be read"):
        jobs_of(["a=[1"])


def test_every_shipped_figure_has_a_kind_and_sweeps_or_another_figures_runs() -> None:
    assert len(FIGURES) == 8
    for figure in FIGURES.values():
        assert figure.sweeps or figure.of in FIGURES
    assert FIGURES["ratio_curve"].jobs() == 25
    assert FIGURES["specialist_to_generalist"].jobs() == 8


def test_a_pool_that_lacks_a_method_is_missing(tmp_path: Path) -> None:
    rules = ("vote", "mean", "max", "rank", "norm_minmax", "direct_merge")
    rows = references(301) + [row(301, "icons", 60, settings={"rule": rule}) for rule in rules]
    rows += references(302) + [
        row(302, "icons", 60, settings={"rule": rule}) for rule in rules[:-1]
    ]
    folder_with(tmp_path, "aggregation_ablation", rows)
    (figure,) = chosen(tmp_path, ["aggregation_ablation"], None)
    assert figure.missing() == [302, 303, 304, 305]
    assert figure.first(2).missing() == [302]


def test_methods_are_named_by_what_they_differ_in() -> None:
    def label(name: str, settings: Settings) -> str:
        return FIGURES[name].called(row(1, "icons", 1, settings=settings))

    assert label("aggregation_ablation", {"rule": "max"}) == "max"
    assert label("specialist_to_generalist", {"tasks": ["tiny_vqa"]}) == "vqa"
    assert label("specialist_to_generalist", {"rule": "vote"}) == "all tasks"
    assert label("dimension", {"projection.dim": 64}) == "icons at 64"
    assert label("transfer", {"selection_model.width": 64}) == "chosen by the narrow one"


def test_unseen_benchmarks_are_averaged_apart(tmp_path: Path) -> None:
    rows = [r for pool in (301, 302) for r in references(pool)]
    for pool in (301, 302):
        made = row(pool, "icons", 60, settings={"targets.tasks": ["tiny_gqa", "tiny_vqa"]})
        scores = {"tiny_gqa": 60.0, "tiny_vqa": 60.0, "tiny_chartqa": 45.0, "tiny_mme": 45.0}
        rows.append(Row(**(made.__dict__ | {"scores": tuple(scores.items())})))
    folder_with(tmp_path, "unseen_tasks", rows)
    (figure,) = chosen(tmp_path, ["unseen_tasks"], None)
    above = {
        group: {m.name: m.above_blind.value for m in found.methods}["gqa vqa"]
        for group, found in figure.found().items()
    }
    assert above == pytest.approx({"seen": 80.0, "unseen": 50.0})


def test_a_curve_has_its_points_where_the_setting_is_and_random_rows_as_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_with(tmp_path, "dimension", dimensions())
    main([str(folder), "--only", "dimension"])
    page = (folder / "dimension" / "results.md").read_text()
    assert "icons at 4096 | 3 |" in page
    svg = (folder / "dimension" / "results.svg").read_text()
    assert "tiny world" in svg
    assert "paper" not in svg
    assert "results.svg" in capsys.readouterr().out


def test_a_figure_without_rows_is_named_and_its_folder_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_with(tmp_path, "dimension", dimensions())
    main([str(folder), "--only", "transfer"])
    assert "transfer: not run yet" in capsys.readouterr().out
    assert not (folder / "transfer").exists()
    with pytest.raises(SystemExit, match="no figure circles"):
        main([str(folder), "--only", "circles"])


def test_shared_rows_are_averaged_over_pools(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "specialist_to_generalist", [])
    shared = [
        Shared(pool, a, b, 100.0 if a == b else percent, 20.0)
        for pool, percent in ((301, 40.0), (302, 50.0)) for a in "xy" for b in "xy"
    ]  # fmt: skip
    write_rows(folder / "specialist_to_generalist" / "overlap.csv", shared, Shared)
    main([str(folder), "--only", "specialist_overlap"])
    page = (folder / "specialist_overlap" / "results.md").read_text()
    assert "| x | 100 | 45 |" in page
    assert "mean over 2 pools; by chance 20" in page

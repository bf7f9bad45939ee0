"""The map of consensus: its design, what it finds where it was planted, what it leaves out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from icons_repro.core.errors import DataError, UserError
from icons_repro.studies.consensus_map.__main__ import chosen, main, missing
from icons_repro.studies.consensus_map.design import LEVELS, Cell, cell_of, make_design, read_design
from icons_repro.studies.consensus_map.findings import RULES, MapFindings, findings
from icons_repro.studies.rows import Row, write

SHIPPED = Path(__file__).parents[2] / "experiments" / "consensus_map"
CELLS = make_design()
NAMES = ("tiny_task1", "tiny_task2")
Gain = Callable[[Cell, str], float]


def planted(gain: Gain, pools: int = 4, noise: float = 1.0) -> list[Row]:
    """Rows in which each rule is above random by `gain` points above blind, with noise."""
    rng = np.random.default_rng(0)
    rows = []
    for cell in CELLS:
        for pool in range(1, pools + 1):
            luck = rng.normal(0, 3)
            made = {"random": 60.0 + luck, "full": 100.0, "blind": 0.0}
            made |= {r: 60 + luck + gain(cell, r) + rng.normal(0, noise) for r in RULES}
            rows += [row(cell, pool, name, above) for name, above in made.items()]
    return rows


def row(cell: Cell, pool: int, name: str, above: float) -> Row:
    """A row whose scores are `above` percent of the way from blind (20) to full data (70)."""
    is_rule = name in RULES
    budget = {"full": 1.0, "blind": 0.0}.get(name, cell.budget)
    score = 20 + above / 2
    return Row(
        world=f"w{cell.cell}", pool=f"p{cell.seed(pool)}", pool_seed=cell.seed(pool),
        seed=cell.seed(pool), selector="icons" if is_rule else name,
        settings=json.dumps({"rule": name, "floor": 0.5}) if is_rule else "", budget=budget,
        regime="" if name in ("full", "blind") else "same_epochs", commit="c",
        scores=tuple((n, score) for n in NAMES),
    )  # fmt: skip


def by_overlap(cell: Cell, rule: str) -> float:
    return 10 * cell.overlap if rule == "vote" else 2.0


def level(found: MapFindings, rule: str, rival: str, factor: str, at: float) -> float:
    (one,) = (x for x in found.levels
              if (x.rule, x.rival, x.factor, x.level) == (rule, rival, factor, at))  # fmt: skip
    return one.difference.value


def test_any_two_levels_of_any_two_factors_meet_exactly_once() -> None:
    for a, b in combinations(LEVELS, 2):
        met = Counter((cell.level(a), cell.level(b)) for cell in CELLS)
        assert len(met) == len(LEVELS[a]) * len(LEVELS[b])
        assert set(met.values()) == {1}


def test_the_shipped_design_is_the_one_that_its_seed_draws() -> None:
    assert read_design(SHIPPED) == CELLS


def test_no_two_cells_share_a_pool_and_a_seed_tells_its_cell() -> None:
    seeds = [cell.seed(pool) for cell in CELLS for pool in range(1, 21)]
    assert len(set(seeds)) == len(seeds)
    assert all(cell_of(cell.seed(pool)) == cell.cell for cell in CELLS for pool in (1, 20))


def test_floors_of_all_tasks_together_never_exceed_the_budget() -> None:
    assert all(0.999 < cell.tasks * cell.floor <= 1 for cell in CELLS)


def test_a_gain_that_follows_one_factor_is_found_there_and_nowhere_else() -> None:
    found = findings(planted(by_overlap), CELLS)
    for overlap in LEVELS["overlap"]:
        at = level(found, "vote", "random", "overlap", overlap)
        assert at == pytest.approx(10 * overlap, abs=1.5)
    steps = {t.factor: t for t in found.trends if (t.rule, t.rival) == ("vote", "random")}
    assert steps["overlap"].step.value == pytest.approx(2.5, abs=0.4)
    assert steps["overlap"].p_value < 0.01
    assert all(t.p_value > 0.05 for factor, t in steps.items() if factor != "overlap")


def test_one_cell_alone_is_the_paired_t_test_over_its_pools() -> None:
    rows = [r for r in planted(by_overlap, pools=6) if cell_of(r.pool_seed) == 7]
    found = findings(rows, CELLS)
    values = {
        name: [
            dict(r.scores)[NAMES[0]] * 2 - 40
            for r in rows
            if name in (r.selector, json.loads(r.settings or "{}").get("rule"))
        ]
        for name in ("mean", "random")
    }
    (all_cells,) = (x for x in found.levels if (x.rule, x.rival) == ("mean", "random")
                    and x.factor == "all cells")  # fmt: skip
    expected = stats.ttest_rel(values["mean"], values["random"]).confidence_interval()
    ends = all_cells.difference.interval()
    assert ends == pytest.approx((expected.low, expected.high), rel=1e-6)


def test_the_interval_over_cells_covers_the_planted_gain_as_often_as_it_says() -> None:
    from icons_repro.studies.consensus_map.findings import estimate

    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        values = {c: list(rng.normal(c, 2, size=3 + c % 2)) for c in range(5)}
        made = estimate(values)
        assert made
        low, high = made.interval()
        covered += low <= 2 <= high
    assert 0.92 < covered / 400 < 0.98


def test_the_best_rule_of_each_cell_is_the_planted_one_and_ties_are_not_clear() -> None:
    sure = findings(planted(lambda _, rule: 8.0 * (rule == "mean")), CELLS)
    assert {w.rule for w in sure.winners} == {"mean"}
    assert sum(w.clear for w in sure.winners) > 20
    tied = findings(planted(lambda *_: 0.0), CELLS)
    assert sum(w.clear for w in tied.winners) < 5


def test_rows_of_another_world_and_a_cell_that_learnt_nothing_are_named() -> None:
    rows = planted(by_overlap)
    alien = Row(**(rows[3].__dict__ | {"world": "old"}))
    dull = [Row(**(r.__dict__ | {"scores": tuple((n, 20.0) for n in NAMES)}))
            if cell_of(r.pool_seed) == 2 else r for r in rows]  # fmt: skip
    found = findings([*dull, alien], CELLS)
    assert any(note.startswith("cell 1: 1 rows of another world") for note in found.notes)
    assert any(note.startswith("cell 2: full data is above blind on no") for note in found.notes)
    assert 2 not in found.above
    assert "without scores: cells 2" in found.notes


def test_only_what_lacks_a_rule_is_missing_and_first_pools_come_first(tmp_path: Path) -> None:
    kept = [r for r in planted(by_overlap, pools=2)
            if not (r.pool_seed == CELLS[3].seed(1) and "mean" in r.settings)]  # fmt: skip
    write(tmp_path / "results.csv", kept)
    todo = missing(tmp_path, CELLS, 3)
    assert [(c.cell, p) for c, p in todo] == [(CELLS[3].cell, 1), *((c.cell, 3) for c in CELLS)]


def test_cells_are_chosen_by_number() -> None:
    assert [cell.cell for cell in chosen(CELLS, "3,7")] == [3, 7]
    with pytest.raises(UserError, match="no cell 99"):
        chosen(CELLS, "99")


def test_a_level_that_is_none_is_refused_by_its_cell(tmp_path: Path) -> None:
    read_design(tmp_path)
    path = tmp_path / "design.csv"
    path.write_text(path.read_text().replace("1,0.1,0.4,4,0.25,0.1", "1,0.11,0.4,4,0.25,0.1"))
    with pytest.raises(DataError, match=r"cell 1: target_share 0\.11 is none of"):
        read_design(tmp_path)


def test_the_command_writes_the_same_page_and_chart_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "results.csv", planted(by_overlap, pools=2))
    made: list[Sequence[bytes]] = []
    for _ in range(2):
        main([str(tmp_path)])
        made.append([(tmp_path / name).read_bytes() for name in ("results.md", "results.svg")])
    assert made[0] == made[1]
    assert "Each rule minus vote" in capsys.readouterr().out

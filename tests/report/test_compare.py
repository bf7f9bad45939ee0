from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import POOL_ROWS, coins, nearly, write_run

from icons_repro.core.errors import UserError
from icons_repro.report.__main__ import main
from icons_repro.report.compare import Comparison, compare
from icons_repro.report.compare_tables import comparison_tables

BLIND = {"a": 20.0, "b": 20.0}


def two_methods(folder: Path, pools: int = 3, better: int = 10, sub: str = "", **more: Any) -> None:
    """`folder/icons` and `folder/less`, a run on each pool; ICONS answers a few more rightly."""
    for seed in range(pools):
        full = {"a": coins(0.9, seed), "b": coins(0.85, 10 + seed)}
        less = {"a": coins(0.6, 20 + seed), "b": coins(0.55, 30 + seed)}
        icons = {name: nearly(less[name], better + seed, seed) for name in less} if better else less
        rows = {"icons": range(10), "less": range(4, 14)}
        for selector, right in (("icons", icons), ("less", less)):
            write_run(
                folder / selector / sub / f"s{seed}", right, full, None, BLIND, selector, seed,
                f"pool{seed}", rows[selector], questions=f"pool {seed}, ", **more,
            )  # fmt: skip


def compared(folder: Path) -> Comparison:
    return compare(folder / "icons", folder / "less")


def test_differences_are_paired_by_pool_and_benchmark(tmp_path: Path) -> None:
    two_methods(tmp_path)
    found = compared(tmp_path)
    assert len(found.pairs) == len(found.scored) == 3
    assert not found.left_out
    a = found.benchmarks["a"]
    assert a.difference.value == pytest.approx(100 * 11 / 120)
    assert a.a.value - a.b.value == pytest.approx(a.difference.value)
    assert a.difference.interval()[0] > 0
    assert a.difference.chance_above_zero > 0.97
    assert np.diff(a.difference.interval())[0] < 0.5 * np.diff(a.b.interval())[0]
    assert found.above_blind is not None
    assert found.above_blind.difference.pools == 3
    assert found.blind_over == ("a", "b")


def test_benchmarks_share_holms_correction(tmp_path: Path) -> None:
    two_methods(tmp_path)
    found = compared(tmp_path).benchmarks
    raw = sorted(d.difference.p_value for d in found.values())
    assert sorted(d.p_value for d in found.values())[0] == pytest.approx(min(1, 2 * raw[0]))


def test_equal_methods_differ_by_nothing(tmp_path: Path) -> None:
    two_methods(tmp_path, better=0)
    found = compared(tmp_path).relative
    assert found is not None
    assert (found.difference.value, found.p_value) == (0.0, 1.0)


def test_two_single_runs_are_compared_over_test_questions(tmp_path: Path) -> None:
    two_methods(tmp_path)
    found = compare(tmp_path / "icons" / "s1", tmp_path / "less" / "s1")
    assert found.above_blind is not None
    assert found.above_blind.difference.covers == "test questions"
    notes = comparison_tables(found)[0].notes
    assert "one pool and seed: how much another would differ is not known" in notes


def test_rows_are_counted_by_who_keeps_them(tmp_path: Path) -> None:
    two_methods(tmp_path)
    kept = next(iter(compared(tmp_path).kept.values()))
    assert (kept.both, kept.only_a, kept.only_b, kept.neither) == (6, 4, 4, POOL_ROWS - 14)
    assert kept.by_chance == pytest.approx(2.0)


def test_make_up_stands_side_by_side(tmp_path: Path) -> None:
    two_methods(tmp_path)
    found = compared(tmp_path).sources
    assert found["shapes"] == pytest.approx((0.5, 1.0, 1.0))
    assert found["chat"] == pytest.approx((0.5, 0.0, 0.0))


def left_out(found: Comparison) -> dict[str, str]:
    return {"/".join(Path(name).parts[-2:]): reason for name, reason in found.left_out}


def test_runs_without_a_counterpart_are_named(tmp_path: Path) -> None:
    two_methods(tmp_path)
    write_run(tmp_path / "icons" / "seed", {"a": coins(0.5, 1)}, seed=9, pool="pool0")
    write_run(tmp_path / "less" / "pool", {"a": coins(0.5, 1)}, selector="less", pool="other")
    found = compared(tmp_path)
    assert len(found.pairs) == 3
    assert left_out(found) == {
        "icons/seed": "no run of the other side is on this seed (seed 9 on pool pool0)",
        "less/pool": "no run of the other side is on this pool (seed 0 on pool other)",
    }


def test_runs_of_other_setups_and_scales_are_named(tmp_path: Path) -> None:
    two_methods(tmp_path)
    write_run(tmp_path / "icons" / "paper", {"a": coins(0.5, 1)}, setup="llava_665k", scale="paper")
    found = compared(tmp_path)
    assert "setup llava_665k (paper scale)" in left_out(found)["icons/paper"]
    write_run(
        tmp_path / "p", {"a": coins(0.5, 1)}, selector="less", setup="llava_665k", scale="paper"
    )
    with pytest.raises(UserError, match=r"can be paired; 2 runs.*\n.*is of tiny.*\n.*is of llava"):
        compare(tmp_path / "icons" / "s0", tmp_path / "p")


def test_two_runs_of_a_pool_and_seed_that_disagree_are_never_averaged(tmp_path: Path) -> None:
    two_methods(tmp_path)
    shutil.copytree(tmp_path / "icons" / "s0", tmp_path / "icons" / "same")
    assert not compared(tmp_path).left_out, "a copy agrees"
    full = {"a": coins(0.9, 1), "b": coins(0.85, 11)}
    write_run(
        tmp_path / "icons" / "again", {"a": coins(0.5, 1), "b": coins(0.5, 2)}, full, None,
        BLIND, seed=1, pool="pool1",
    )  # fmt: skip
    found = compared(tmp_path)
    assert [pair.replicate.seed for pair in found.scored] == [0, 2]
    names = left_out(found)
    assert set(names) == {"icons/again", "icons/s1", "less/s1"}
    assert "disagrees with" in names["icons/s1"]


def test_a_missing_answers_folder_is_named_and_its_rows_still_compared(tmp_path: Path) -> None:
    two_methods(tmp_path)
    shutil.rmtree(tmp_path / "less" / "s2" / "evaluate")
    found = compared(tmp_path)
    assert (len(found.pairs), len(found.scored), len(found.kept)) == (3, 2, 3)
    assert "answers folder is missing" in left_out(found)["less/s2"]


def test_positions_of_another_pool_under_the_same_name_are_noticed(tmp_path: Path) -> None:
    two_methods(tmp_path)
    keys = tmp_path / "less" / "s0" / "selection" / "keys.txt"
    keys.write_text(keys.read_text().replace("pool0", "changed"))
    found = compared(tmp_path)
    assert len(found.pairs) == 2
    assert "row 4 of its pool is another" in left_out(found)["less/s0"]


def test_different_full_data_models_or_questions_give_no_difference(tmp_path: Path) -> None:
    two_methods(tmp_path)
    path = tmp_path / "less" / "s0" / "results.json"
    results = json.loads(path.read_text())
    results["relative"]["compared_with"]["full"]["a"] += 1
    path.write_text(json.dumps(results))
    answers = tmp_path / "less" / "s1" / "evaluate" / "this_run" / "answers" / "a.jsonl"
    answers.write_text(answers.read_text().replace("pool 1, 7", "pool 1, seven"))
    found = compared(tmp_path)
    assert len(found.scored) == 2
    assert "different full-data models" in left_out(found)["icons/s0"]
    assert "a" not in found.benchmarks
    assert "different questions (seed 1" in found.unused["a"]


def test_a_side_of_several_methods_is_refused_with_a_way_out(tmp_path: Path) -> None:
    two_methods(tmp_path)
    with pytest.raises(UserError, match=r"icons at 0\.2 \(3\), less at 0\.2 \(3\)\. Give one"):
        compare(tmp_path, tmp_path / "less")
    for steps in ("same_epochs", "same_steps"):
        old = {"finetune": {"steps": steps}}  # as runs had it before the key was renamed
        two_methods(tmp_path / "y", sub=steps, config=old)
    with pytest.raises(UserError, match=r"two methods: finetune\.regime=same_"):
        compared(tmp_path / "y")
    found = compare(
        tmp_path / "y" / "icons", tmp_path / "y" / "less", ["finetune.regime=same_steps"]
    )
    assert len(found.scored) == 3
    patterns = tmp_path / "y" / "*" / "same_epochs", tmp_path / "y" / "less" / "same_e*"
    with pytest.raises(UserError, match="several methods"):
        compare(*patterns)
    assert len(compare(tmp_path / "y" / "ic*" / "same_epochs", patterns[1]).scored) == 3


def test_settings_that_tell_the_methods_apart_are_shown(tmp_path: Path) -> None:
    for steps in ("same_steps", "same_epochs"):
        config = {"finetune": {"steps": steps}, "selector": {"own": steps}}
        two_methods(tmp_path / steps, pools=1, config=config)
    found = compare(tmp_path / "same_steps" / "icons", tmp_path / "same_epochs" / "less")
    assert found.settings == ("finetune.regime=same_steps", "finetune.regime=same_epochs")


def test_the_command_prints_both_methods_and_fits_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(tmp_path)
    write_run(tmp_path / "icons" / "seed", {"a": coins(0.5, 1)}, seed=9, pool="pool0")
    main(["compare", str(tmp_path / "icons"), str(tmp_path / "less")])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for part in ("A = icons at 20%, B = less at 20%, 3 pairs of one pool and seed", "P(A beats B)",
                 "above blind %", "rows kept by", "make-up by source", "1 run left out",
                 "no run of the other side",
                 "in 4 of 5 trials"):  # fmt: skip
        assert part in " ".join(text.split())
    main(["compare", "--markdown", str(tmp_path / "icons"), str(tmp_path / "less")])
    assert "| a | " in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no results"):
        main(["compare", str(tmp_path / "nowhere"), str(tmp_path / "less")])


def test_equal_methods_are_told_apart_as_often_as_stated(tmp_path: Path) -> None:
    """From answers to p-value: two methods of one quality, four pools with their own questions."""
    from icons_repro.evaluation.intervals import estimate
    from icons_repro.evaluation.measured import Measured, share_of
    from icons_repro.evaluation.statistics import replicates, units_of

    rng = np.random.default_rng(0)
    found = []
    for trial in range(250):
        differences = []
        for _ in range(4):
            chances = np.repeat(rng.random(40), PICTURES_EACH)
            quality = 0.6 + 0.08 * rng.normal(size=2)
            models = [chances < q for q in (*quality, 0.85)]
            rows = [
                [{"score": float(v), "cluster": f"p{i // PICTURES_EACH}"} for i, v in enumerate(m)]
                for m in models
            ]
            units = [unit for row in rows if (unit := units_of("mean", row))]
            drawn = replicates(units, 200, trial)
            a, b, full = ({"x": Measured(u.score(), d)} for u, d in zip(units, drawn, strict=True))
            differences.append(
                share_of(a, full, {"x": 0.2}, ["x"]) - share_of(b, full, {"x": 0.2}, ["x"])
            )
        draws = [d.draws for d in differences if d.draws is not None]
        found.append(estimate([d.value for d in differences], draws).p_value)
    assert 0.015 < np.mean(np.array(found) < 0.05) < 0.085


PICTURES_EACH = 4

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from run_folders import coins, nearly, write_run

from icons_repro.core.errors import UserError
from icons_repro.report.__main__ import main
from icons_repro.report.cells import sweep_tables
from icons_repro.report.gather import PageInputs
from icons_repro.report.results import write_results
from icons_repro.report.runs import SweepRun, collect
from icons_repro.report.sweep import Sweep, SweepRow, sweeps

BLIND = {"a": 20.0, "b": 20.0}


def sweep(folder: Path) -> Sweep:
    (found,) = sweeps(collect([folder]))
    return found


def row(found: Sweep, method: str) -> SweepRow:
    return next(row for row in found.rows if row.method == method)


def three_seeds(folder: Path, selector: str = "icons", better: int = 12, **more: Any) -> None:
    """Runs at three seeds whose scores are `better` right answers above random's."""
    for seed in range(3):
        full = {"a": coins(0.9, seed), "b": coins(0.85, 10 + seed)}
        random = {"a": coins(0.6, 20 + seed), "b": coins(0.55, 30 + seed)}
        mine = {name: nearly(random[name], better + seed, seed) for name in random}
        write_run(
            folder / f"{selector}{seed}", mine, full, random, BLIND, selector, seed, **more
        )  # fmt: skip


def test_rows_are_means_over_seeds_with_intervals_of_seeds_and_questions(tmp_path: Path) -> None:
    three_seeds(tmp_path)
    found = row(sweep(tmp_path), "icons")
    assert found.seeds == (0, 1, 2)
    assert found.relative is not None
    assert (found.relative.pools, found.relative.covers) == (3, "pools and test questions")
    runs = collect([tmp_path])
    shares = [
        np.mean([run.scores[b] / run.scores_of("full")[b] for b in ("a", "b")]) for run in runs
    ]
    assert found.relative.value == pytest.approx(100 * np.mean(shares))
    assert found.relative.between == pytest.approx(100 * np.std(shares, ddof=1) / math.sqrt(3))


def test_without_answers_the_interval_is_students_t_over_seeds(tmp_path: Path) -> None:
    three_seeds(tmp_path)
    for folder in tmp_path.glob("*/evaluate"):
        shutil.rmtree(folder)
    found = row(sweep(tmp_path), "icons")
    assert found.relative is not None
    assert found.relative.covers == "pools"
    assert row(sweep(tmp_path), "icons").benchmarks["a"].covers == "pools"


def test_the_difference_to_random_is_paired(tmp_path: Path) -> None:
    three_seeds(tmp_path)
    found = row(sweep(tmp_path), "icons")
    assert found.against_random is not None
    assert found.above_blind is not None
    low, high = found.against_random.interval()
    assert low > 0
    assert high - low < np.diff(found.above_blind.interval())[0]
    assert found.p_value < 0.05


def test_p_values_are_corrected_for_the_number_of_methods(tmp_path: Path) -> None:
    three_seeds(tmp_path)
    alone = row(sweep(tmp_path), "icons").p_value
    for rival in ("less", "el2n", "tive"):
        three_seeds(tmp_path, rival, better=1)
    found = sweep(tmp_path)
    assert row(found, "icons").p_value == pytest.approx(4 * alone)
    assert "over 4 method(s)" in "".join(sweep_tables([found])[0].notes)


def test_all_means_are_over_the_benchmarks_that_every_run_could_score(tmp_path: Path) -> None:
    three_seeds(tmp_path)
    only_a = {"a": coins(0.7, 50)}
    both = {"a": coins(0.9, 0), "b": coins(0.85, 10)}
    write_run(tmp_path / "less0", only_a, both, None, BLIND, "less")
    found = sweep(tmp_path)
    assert found.relative_over == found.blind_over == ("a",)
    assert found.left_out == {"b": "1 of 4 runs have no score"}
    less, icons = row(found, "less"), row(found, "icons")
    assert less.relative is not None
    assert less.relative.value == pytest.approx(100 * np.mean(only_a["a"]) / np.mean(both["a"]))
    assert set(icons.benchmarks) == {"a", "b"}, "scores stand for themselves"
    (text,) = {table.notes for table in sweep_tables([found])} - {()}
    assert "Rel. and above blind over 1: a" in text


def test_above_blind_is_over_what_full_data_learns_in_every_pool(tmp_path: Path) -> None:
    for seed, learnt in enumerate((0.9, 0.1)):
        full = {"a": coins(0.9, seed), "b": coins(learnt, 10 + seed)}
        mine = {"a": coins(0.7, 20 + seed), "b": coins(0.6, 30 + seed)}
        write_run(tmp_path / f"s{seed}", mine, full, None, BLIND, seed=seed, pool=f"pool{seed}")
    found = sweep(tmp_path)
    assert found.relative_over == ("a", "b")
    assert found.blind_over == ("a",)
    assert "not clearly above blind (seed 1 on pool pool1)" in found.left_out["b"]


def test_seeds_on_one_pool_are_no_pools(tmp_path: Path) -> None:
    for seed in range(4):
        full = {"a": coins(0.9, seed)}
        mine = {"a": coins(0.6 + 0.1 * (seed // 2), 20 + seed)}
        write_run(tmp_path / f"s{seed}", mine, full, seed=seed, pool=f"pool{seed // 2}")
    found = row(sweep(tmp_path), "icons")
    assert found.relative is not None
    assert (len(found.replicates), found.relative.pools) == (4, 2)


def test_tiny_and_paper_numbers_never_share_a_table(inputs: PageInputs) -> None:
    paper = replace(inputs.results, setup="llava_665k", scale="paper")
    tables = sweep_tables(sweeps([SweepRun(inputs.results), SweepRun(paper)]))
    assert len(tables) == 2
    texts = [table.markdown() for table in tables]
    assert sum("llava_665k" in text for text in texts) == 1


def test_a_seed_without_a_reference_gives_no_mean(inputs: PageInputs) -> None:
    compared = {"compared_with": {"full": {"tiny_vqa": 80.0}}}
    mine = replace(inputs.results, relative=compared, adapter="a")
    other = replace(mine, seed=1, relative=None, adapter="b")
    (found,) = sweeps([SweepRun(mine), SweepRun(other)])
    assert row(found, "icons").relative is None


def test_variants_of_a_selector_are_rows_of_their_own_best_first(tmp_path: Path) -> None:
    for rule, share in (("mean", 0.5), ("vote", 0.7)):
        for seed in range(3):
            config = {"selector": {"rule": rule}, "paths": {"run": f"{rule}{seed}"}}
            write_run(
                tmp_path / f"{rule}{seed}", {"a": coins(share, 3 + seed)}, {"a": coins(0.9, seed)},
                None, {"a": 20.0}, seed=seed, config=config,
            )  # fmt: skip
    found = sweep(tmp_path)
    assert [r.method for r in found.rows] == [
        "full",
        "icons, rule=vote",
        "icons, rule=mean",
        "blind",
    ]
    assert [len(r.replicates) for r in found.rows] == [3, 3, 3, 3]
    (table,) = sweep_tables([found])
    assert table.rows[0][:4] == ("full", "3", "100.0", "100.0")
    assert table.rows[3] == ("blind", "3", "-", "0.0", "20.0 ±0.0")


def test_a_repeated_run_counts_once(tmp_path: Path) -> None:
    three_seeds(tmp_path)
    three_seeds(tmp_path / "again", config={"selector": {"tasks": "all"}})
    for path in (tmp_path / "again").glob("*/results.json"):
        path.write_text(path.read_text().replace("/again/", "/"))  # came to the same adapter
    found = sweep(tmp_path)
    assert [r.seeds for r in found.rows] == [(0, 1, 2)] * 4


def test_references_that_differ_between_runs_are_not_shown_as_one(tmp_path: Path) -> None:
    write_run(tmp_path / "x", {"a": coins(0.6, 0)}, {"a": coins(0.9, 1)})
    write_run(tmp_path / "y", {"a": coins(0.6, 0)}, {"a": coins(0.8, 2)}, selector="less")
    found = sweep(tmp_path)
    assert sorted(r.method for r in found.rows) == ["icons", "less"]
    assert any(note.startswith("full: runs of one pool and seed") for note in found.notes)


def test_a_select_only_run_removes_no_row_and_enters_no_mean(tmp_path: Path) -> None:
    three_seeds(tmp_path)
    before = sweep(tmp_path)
    write_run(tmp_path / "selected", None, seed=7)
    write_run(tmp_path / "other", None, selector="less")
    found = sweep(tmp_path)
    assert [r.method for r in before.rows] == ["full", "icons", "random", "blind"]
    assert [r.method for r in found.rows] == ["full", "icons", "less", "random", "blind"]
    assert row(found, "icons") == row(before, "icons")
    assert "2 of 5 runs have no scores and enter no mean" in found.notes


def test_a_foreign_run_renames_no_method_and_joins_no_mean(tmp_path: Path) -> None:
    """Its pool is not one of the setup's; that makes it no variant of a method."""
    world = {"data": {"world": {"rows": 8000, "seed": 0}}, "warmup": {"seed": 0}}
    three_seeds(tmp_path, config=world)
    foreign = {"data": {"json": "mine.json"}, "finetune": {"steps": "same_steps"}, "new": {"k": 1}}
    write_run(
        tmp_path / "mine", {"a": coins(0.5, 9)}, {"a": coins(0.9, 1)}, config=foreign, pool="m"
    )
    ours, theirs = sweeps(collect([tmp_path]))
    assert "icons" in [r.method for r in ours.rows]
    assert [r.method for r in theirs.rows] == ["full", "icons"]
    assert theirs.world == "data.json=mine.json"


def test_a_run_without_its_config_renames_no_method(tmp_path: Path) -> None:
    three_seeds(tmp_path, config={"data": {"rows": 1}, "lora": {"rank": 4}})
    write_run(tmp_path / "old", {"a": coins(0.5, 9)}, {"a": coins(0.9, 1)}, seed=3)
    (tmp_path / "old" / "config.yaml").unlink()
    ours, theirs = sweeps(collect([tmp_path]))
    assert [r.method for r in ours.rows] == ["full", "icons", "random", "blind"]
    assert theirs.world == "runs without a config.yaml"


def test_other_seeds_and_devices_make_no_method(tmp_path: Path) -> None:
    for seed in range(2):
        config = {
            "data": {"world": {"seed": 100 + seed}},
            "warmup": {"seed": 100 + seed},
            "trainer": {"devices": 1 + seed},
            "gradients": {"token_budget": (4096, 512)[seed]},
            "finetune": {"gradient_checkpointing": bool(seed)},
            "model": {"shape": {"layers": 2 + seed}},
            "executor": {"kind": ("inline", "slurm")[seed], "partition": (None, "gpu")[seed]},
            "workers": (None, 8)[seed],
            "resources": {"extract": {"chunks": 1 + seed}},
            "verify": bool(seed),
        }
        write_run(
            tmp_path / f"s{seed}", {"a": coins(0.6, seed)}, {"a": coins(0.9, seed)},
            seed=seed, pool=f"pool{seed}", config=config,
        )  # fmt: skip
    found = sweep(tmp_path)
    assert [r.method for r in found.rows] == ["full", "icons"]
    assert row(found, "icons").seeds == (0, 1)


def test_long_lists_of_differing_settings_are_cut_in_the_name(tmp_path: Path) -> None:
    for rank in (1, 2):
        config = {"lora": {f"k{i}": rank for i in range(9)}}
        write_run(tmp_path / str(rank), {"a": coins(0.6, rank)}, None, config=config)
    names = {r.method for r in sweep(tmp_path).rows}
    assert names == {f"icons, lora.k0={r}, lora.k1={r}, lora.k2={r}, 6 more" for r in (1, 2)}


@pytest.mark.parametrize("benchmarks", [2, 8])
def test_no_number_is_cut_and_the_title_stands_once_at_80_columns(
    tmp_path: Path, benchmarks: int
) -> None:
    names = [f"tiny_scienceqa{i}" for i in range(benchmarks)]
    for seed in range(2):
        for selector, share in (("icons_as_released", 0.7), ("random_per_source", 0.6)):
            right = {name: coins(share, seed + i) for i, name in enumerate(names)}
            full = {name: coins(0.9, seed + i) for i, name in enumerate(names)}
            random = {name: coins(0.5, seed + i) for i, name in enumerate(names)}
            write_run(
                tmp_path / f"{selector}{seed}", right, full, random,
                dict.fromkeys(names, 20.0), selector, seed,
            )  # fmt: skip
    tables = sweep_tables(sweeps(collect([tmp_path])), width=80)
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in tables:
        table.show(console)
    text = console.export_text()
    assert "…" not in text
    assert text.count("% of the pool") == 1
    assert max(map(len, text.splitlines())) <= 80
    for table in tables:
        for cell in (c for r in table.rows for c in r[1:]):
            assert cell in text
    shown = {heading for table in tables for heading in table.headings}
    assert set(names) <= shown


def test_the_command_prints_the_sweep_or_says_what_is_missing(
    inputs: PageInputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"no results\.json below"):
        main([str(tmp_path)])
    with pytest.raises(UserError):
        collect([tmp_path])
    relative = {"value": 97.0, "compared_with": {"full": {"tiny_vqa": 63.0}}}
    write_results(tmp_path, replace(inputs.results, relative=relative, adapter="a"))
    main([str(tmp_path)])
    assert "icons" in capsys.readouterr().out
    main(["--markdown", str(tmp_path)])
    assert "| icons | 1 | 96.8 | 61.0 |" in capsys.readouterr().out


def test_a_cell_of_the_grid_is_named_by_its_source_and_rule(tmp_path: Path) -> None:
    target = "icons_repro.influence.sources"
    cells = {
        "older": None,  # from before there were sources
        "gradients": {"_target_": f"{target}.gradients.Gradients"},
        "rds": {"_target_": f"{target}.rds.Rds", "pooling": "weighted_mean"},
    }
    for seed, (name, influence) in enumerate(cells.items()):
        for rule in ("vote", "mean"):
            config: dict[str, Any] = {"selector": {"rule": rule}, "names": {"influence": name}}
            config |= {"influence": influence} if influence else {}
            right = {"a": coins(0.6, seed)}
            folder = tmp_path / f"{name}-{rule}"
            write_run(folder, right, {"a": coins(0.9, 9)}, seed=seed % 2, config=config)
    names = {row.method for row in sweep(tmp_path).rows}
    assert {"icons, influence=rds, rule=mean", "icons, rule=vote"} <= names
    assert not any("_target_" in name or "pooling" in name for name in names)
    assert sum("rule=vote" in name for name in names) == 2  # the older runs are gradients'

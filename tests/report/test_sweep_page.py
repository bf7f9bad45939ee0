from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import coins, nearly, write_run
from test_page import Balanced

from icons_repro.core.errors import UserError
from icons_repro.report.__main__ import main
from icons_repro.report.inventory import record_failure
from icons_repro.report.runs import collect
from icons_repro.report.sweep import sweeps
from icons_repro.report.sweep_charts import forest_of
from icons_repro.report.sweep_costs import choosing_seconds, stage_table
from icons_repro.report.sweep_page import write_sweep_page
from icons_repro.report.verdict import verdict

BLIND = {"a": 20.0, "b": 20.0}


def stages(selector: str, seed: int, budget: float) -> dict[str, dict[str, Any]]:
    return {
        "warmup": {"fingerprint": "w", "cached": False, "seconds": 10.0},
        "select": {"fingerprint": f"{selector}{seed}{budget}", "cached": False, "seconds": 2.0},
        "finetune": {"fingerprint": f"f{selector}{seed}{budget}", "cached": False, "seconds": 50.0},
        "evaluate_full": {"fingerprint": f"e{seed}", "cached": True, "seconds": 4.0},
    }


def write_sweep(
    folder: Path, better: dict[str, int], seeds: int = 2, budgets: tuple[float, ...] = (0.1, 0.2),
    **more: Any,
) -> None:  # fmt: skip
    """Runs of several methods; `better` is how many answers each has above random data."""
    for budget in budgets:
        for seed in range(seeds):
            full = {"a": coins(0.9, seed), "b": coins(0.85, 10 + seed)}
            random = {"a": coins(0.6, 20 + seed), "b": coins(0.55, 30 + seed)}
            for offset, (selector, count) in enumerate(better.items()):
                mine = {n: nearly(random[n], count + seed, seed) for n in random}
                rows = range(5 * offset, 5 * offset + 10)
                write_run(
                    folder / f"{selector}-b{budget}-s{seed}", mine, full, random, BLIND, selector,
                    seed, positions=rows, budget=budget, stages=stages(selector, seed, budget),
                    **more,
                )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_sweep(folder, {"icons": 20, "less": 6})
    return folder


def test_a_sweeps_page_is_one_well_formed_file_with_every_part(
    folder: Path, tmp_path: Path
) -> None:
    text = write_sweep_page(tmp_path / "sweep.html", [folder]).read_text()
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    for heading in ("Methods and budgets", "By budget", "10% of the pool", "Stages"):
        assert f"<h3>{heading}</h3>" in text
    alts = re.findall(r'<svg role="img" aria-label="([^"]+)"', text)
    begin = {alt.split(":")[0].split(" by ")[0] for alt in alts}
    assert begin == {"above blind %", "Cost against gain", "Overlap of selections",
                     "Difference to random data"}  # fmt: skip
    assert "http://www.w3.org/2000/svg" in text
    assert not re.search(r'(src|href)="http', text)


def test_the_first_method_and_how_sure_that_is_are_said_in_words(folder: Path) -> None:
    found = next(s for s in sweeps(collect([folder])) if s.budget == 0.2)
    said = verdict(found)
    assert said.startswith("At 20%, icons is first with ")
    assert "points against random data" in said
    assert "against less, the second, ahead with a probability of" in said
    assert found.lead is not None
    first, second = (next(r for r in found.rows if r.method == m) for m in ("icons", "less"))
    assert first.above_blind is not None
    assert second.above_blind is not None
    difference = first.above_blind.value - second.above_blind.value
    assert found.lead.value == pytest.approx(difference)


def test_the_lead_is_paired_so_it_is_surer_than_the_two_intervals(folder: Path) -> None:
    found = next(s for s in sweeps(collect([folder])) if s.budget == 0.2)
    widths = [np.diff(r.above_blind.interval())[0] for r in found.rows[1:3] if r.above_blind]
    assert found.lead is not None
    assert np.diff(found.lead.interval())[0] < max(widths)


def test_differences_to_random_are_those_of_each_benchmark(folder: Path) -> None:
    found = next(s for s in sweeps(collect([folder])) if s.budget == 0.2)
    icons = next(row for row in found.rows if row.method == "icons")
    runs = found.runs["icons"]
    for name, estimate in icons.differences.items():
        own = [run.scores[name] - run.scores_of("random")[name] for run in runs]
        assert estimate.value == pytest.approx(np.mean(own))
    drawn = forest_of(found)
    assert drawn is not None
    assert "var(--good)" in drawn.wide


def test_costs_count_what_choosing_needed_and_sharing_saved(folder: Path) -> None:
    runs = collect([folder])
    assert {choosing_seconds(run) for run in runs} == {12.0}
    head, rows = stage_table(runs)
    table = {row[0]: [cell["text"] for cell in row[1:]] for row in rows}
    assert head[1:4] == ["steps", "times used", "cache hits"]
    assert table["warmup"] == ["1", "8", "7", "10.0", "70.0"]
    assert table["select"] == ["8", "8", "0", "16.0", "0.0"]
    assert table["evaluate"] == ["2", "8", "8", "0.0", "32.0"]


def test_worlds_and_scales_get_sections_of_their_own(tmp_path: Path) -> None:
    write_sweep(tmp_path / "one", {"icons": 20}, budgets=(0.2,))
    write_sweep(tmp_path / "two", {"icons": 9}, budgets=(0.2,), setup="llava", scale="paper")
    write_sweep(
        tmp_path / "three", {"icons": 3}, budgets=(0.2,), config={"data": {"max_length": 9}}
    )
    text = write_sweep_page(tmp_path / "sweep.html", [tmp_path]).read_text()
    assert text.count('class="world"') == 3
    assert "The runs are of 3 worlds or scales" in text
    assert text.count("Tiny scale: not comparable") == 2


def test_runs_that_enter_no_number_are_listed_and_hostile_names_are_text(tmp_path: Path) -> None:
    write_sweep(tmp_path, {"icons": 20, "</script><b>x": 5}, budgets=(0.2,))
    bad = tmp_path / "<img src=x>"
    bad.mkdir()
    (bad / "config.yaml").write_text("seed: 0\n")
    record_failure(bad, "boom </script><script>alert(1)</script>")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "results.json").write_text("{")
    text = write_sweep_page(tmp_path / "sweep.html", [tmp_path], again="python run.py").read_text()
    assert "Runs that enter no number" in text
    assert "boom &lt;/script&gt;" in text
    assert "&lt;img src=x&gt;" in text
    assert "<b>x" not in text
    assert "<script>alert" not in text
    assert '<code class="command">python run.py</code>' in text


def test_only_unfinished_runs_still_make_a_page_and_none_at_all_is_an_error(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match="no run below"):
        write_sweep_page(tmp_path / "sweep.html", [tmp_path])
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").write_text("seed: 0\n")
    text = write_sweep_page(tmp_path / "sweep.html", [tmp_path]).read_text()
    assert "half-finished" in text


def test_runs_without_scores_make_no_chart_and_no_verdict(tmp_path: Path) -> None:
    write_run(tmp_path / "chosen_only", None)
    text = write_sweep_page(tmp_path / "sweep.html", [tmp_path]).read_text()
    assert "<svg" not in text
    assert "is first with" not in text
    assert "No run of this world has scores" in text


def test_a_budget_without_scores_does_not_change_what_the_others_are_measured_by(
    tmp_path: Path,
) -> None:
    write_sweep(tmp_path, {"icons": 20}, budgets=(0.2,))
    write_run(tmp_path / "chosen_only", None, selector="less", budget=0.3)
    text = write_sweep_page(tmp_path / "sweep.html", [tmp_path]).read_text()
    assert "Numbers are above blind %" in text


def test_the_command_writes_the_page(folder: Path, tmp_path: Path, capsys: Any) -> None:
    main(["--page", str(tmp_path / "s.html"), str(folder)])
    assert "s.html" in capsys.readouterr().out
    assert (tmp_path / "s.html").stat().st_size > 20_000


def test_fifty_runs_take_less_than_ten_seconds(tmp_path: Path) -> None:
    better = {"icons": 20, "less": 12, "el2n": 4, "tive": 2, "coincide": 1}
    write_sweep(tmp_path, better, seeds=5)
    started = time.process_time()
    write_sweep_page(tmp_path / "sweep.html", [tmp_path])
    assert time.process_time() - started < 10


def test_random_rows_in_the_second_place_are_named_once(tmp_path: Path) -> None:
    write_sweep(tmp_path, {"icons": 20, "random": 0}, budgets=(0.2,))
    (found,) = sweeps(collect([tmp_path]))
    said = verdict(found)
    assert "icons is first" in said
    assert "ahead with a probability of" in said
    assert said.count("random") == 1

"""The linear datamodelling score, and what its command reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from icons_repro.core.errors import DataError
from icons_repro.report.cells import DASH
from icons_repro.studies.counterfactual.__main__ import main
from icons_repro.studies.counterfactual.chosen import Chosen, Randoms, chosen_tables
from icons_repro.studies.counterfactual.losses import Loss
from icons_repro.studies.counterfactual.predictions import Predicted, names_of
from icons_repro.studies.counterfactual.score import findings, spearman
from icons_repro.studies.csv_rows import read_rows, write_rows

TASKS = ("tiny_gqa", "tiny_vqa")


def measured(subsets: int = 40, noise: float = 0.1) -> tuple[list[Loss], list[Predicted]]:
    """Subsets whose loss falls with their hidden worth; one source knows it, one does not."""
    rng = np.random.default_rng(0)
    losses, predicted = [], []
    for number in range(subsets):
        for task in TASKS:
            worth = rng.normal()
            name = f"s{number:03d}"
            for seed in (0, 1):
                losses.append(Loss("p", name, seed, task, float(-worth + noise * rng.normal())))
            predicted.append(Predicted("p", "knowing", name, task, float(worth)))
            predicted.append(Predicted("p", "guessing", name, task, float(rng.normal())))
    return losses, predicted


def test_the_rank_correlation_is_scipys_column_by_column_ties_included() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 5, (30, 3)).astype(float), rng.normal(size=(30, 3))
    expected = [stats.spearmanr(a[:, t], b[:, t]).statistic for t in range(3)]
    np.testing.assert_allclose(spearman(a, b), expected)


def test_a_source_that_knows_scores_near_the_ceiling_and_one_that_guesses_near_zero() -> None:
    table, _ = findings(*measured())
    score = {row[0]: float(row[1].split()[0]) for row in table.rows}
    assert list(score)[:2] == ["ceiling: a perfect score", "the same, by another seed"]
    assert score["knowing"] > 0.9
    assert abs(score["guessing"]) < 0.35
    assert score["ceiling: a perfect score"] > score["the same, by another seed"] > 0.9


def test_a_perfect_score_reaches_the_ceiling_which_one_noisy_twin_does_not() -> None:
    """Two trainings of equal noise and worth agree by .5; the worth itself by sqrt(2/3)."""
    table, _ = findings(*measured(subsets=1500, noise=1.0))
    score = {row[0]: float(row[1].split()[0]) for row in table.rows}
    assert score["the same, by another seed"] == pytest.approx(0.5, abs=0.05)
    assert score["ceiling: a perfect score"] == pytest.approx((2 / 3) ** 0.5, abs=0.04)
    assert score["knowing"] == pytest.approx(score["ceiling: a perfect score"], abs=0.05)


def test_sources_are_compared_with_gradients_over_the_same_subsets() -> None:
    losses, predicted = measured()
    renamed = [replace(p, source=p.source.replace("guessing", "gradients")) for p in predicted]
    table, _ = findings(losses, renamed)
    rows = {row[0]: row[2] for row in table.rows}
    assert rows["gradients"] == "+0.00 ±0.00"
    assert rows["knowing"].startswith("+")
    assert rows["knowing"].endswith("*")
    assert rows["ceiling: a perfect score"] == DASH


def test_a_source_is_named_by_what_it_does_not_share_with_most() -> None:
    plain = {"projection.dim": 5120, "selector.rule": "vote"}
    methods = [plain, {**plain, "influence": "rds"}, {**plain, "projection.dim": 64}, plain]
    runs = [SimpleNamespace(method=method) for method in methods]
    assert names_of(runs) == ["gradients", "rds", "gradients, projection.dim=64", "gradients"]
    seeded = [SimpleNamespace(method={**run.method, "selection_seed": 0}) for run in runs[:3]]
    assert names_of([*seeded, runs[3]]) == names_of(runs), "the draw of random rows is no source"


def test_too_few_subsets_are_refused_by_number() -> None:
    with pytest.raises(DataError, match="9 subsets"):
        findings(*measured(subsets=9))


def test_lines_survive_the_file(tmp_path: Path) -> None:
    losses, _ = measured(12)
    write_rows(tmp_path / "losses.csv", losses, Loss)
    again = read_rows(tmp_path / "losses.csv", Loss)
    assert [r.selection for r in again] == [r.selection for r in losses]
    assert again[3].loss == pytest.approx(losses[3].loss, rel=1e-5)
    text = (tmp_path / "losses.csv").read_text().replace("s001,0", "s001,x", 1)
    (tmp_path / "losses.csv").write_text(text)
    with pytest.raises(DataError, match=r"losses\.csv:6"):
        read_rows(tmp_path / "losses.csv", Loss)


def test_the_command_writes_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    losses, predicted = measured()
    write_rows(tmp_path / "losses.csv", losses, Loss)
    write_rows(tmp_path / "predicted.csv", predicted, Predicted)
    main([str(tmp_path)])
    assert "knowing" in capsys.readouterr().out
    assert "40 random subsets" in (tmp_path / "results.md").read_text()


def test_without_runs_the_command_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--add"):
        main([str(tmp_path)])


def chosen_set(
    source: str, rule: str, loss: float, seeds: tuple[int, ...] = (0, 1)
) -> list[Chosen]:
    return [Chosen("p", source, rule, f"c{source}", s, t, loss) for s in seeds for t in TASKS]


def test_what_is_chosen_is_held_against_the_mean_of_random_subsets() -> None:
    losses = [
        Loss("p", f"s{number}", seed, task, 1.0 + 0.1 * number)
        for number in range(11)
        for seed in (0, 1)
        for task in TASKS
    ]
    sets = chosen_set("gradients", "vote", 1.2) + chosen_set("rds", "vote", 1.9)
    table, by_task = chosen_tables(sets, losses, {"gradients": 0.3, "rds": 0.1})
    # two trainings of one set are equal here; the random mean, 1.5, has an error of .33 / sqrt(11)
    half = stats.t.ppf(0.975, 11) * np.std(0.1 * np.arange(11), ddof=1) / 11**0.5
    assert table.rows == (("gradients", "+0.30", "-0.300*"), ("rds", "+0.10", "+0.400*"))
    assert f"±{half:.3f}" in table.notes[1]
    assert by_task.rows[0] == ("gradients, vote", "-0.30", "-0.30")


def test_the_interval_of_the_chosen_covers_what_two_trainings_and_the_draw_leave_open() -> None:
    """Sets that are drawn as the random ones are: 95 of 100 intervals hold their difference."""
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(400):
        worth, luck = rng.normal(size=(21, 1, 1)), rng.normal(0, 0.5, size=(21, 2, 1))
        losses = worth + luck
        own = Randoms(losses[:20])
        inside += abs(losses[20].mean() - worth[20, 0, 0] - own.mean.mean()) < own.half_width()
    assert 0.92 < inside / 400 < 0.975


def test_sources_with_a_higher_score_are_said_to_choose_better_or_not() -> None:
    losses, _ = measured()
    names = {f"source{i}": 0.1 * i for i in range(5)}
    sets = [c for name, score in names.items() for c in chosen_set(name, "mean", -score)]
    noise = {"random": -0.5, "source4, projection.dim=64": 0.9}  # and train best and worst
    sets += chosen_set("random", "mean", -9.0) + chosen_set("source4, projection.dim=64", "mean", 9)
    table, _ = chosen_tables(sets, losses, names | noise)
    assert table.notes[2] == "mean: rank correlation with the score +1.00, p <.001"
    by_score = ["source4, projection.dim=64", *sorted(names, reverse=True), "random"]
    assert [row[0] for row in table.rows] == by_score


def test_a_set_that_one_seed_has_not_trained_is_not_averaged() -> None:
    losses, predicted = measured()
    sets = chosen_set("knowing", "vote", 0.1, (0,)) + chosen_set("guessing", "vote", 0.2)
    *_, table, _ = findings(losses, predicted, sets)
    assert [row[0] for row in table.rows] == ["guessing"]


def test_lines_of_two_pools_are_refused() -> None:
    losses, predicted = measured()
    other = [replace(c, pool="q") for c in chosen_set("knowing", "vote", 0.1)]
    with pytest.raises(DataError, match="2 pools"):
        findings(losses, predicted, other)


def test_two_sets_of_one_source_and_rule_are_refused_by_name() -> None:
    losses, predicted = measured()
    sets = chosen_set("knowing", "vote", 0.1)
    other = [replace(c, selection="cother") for c in sets]
    with pytest.raises(DataError, match=r"chosen\.csv: knowing, vote chose 2 sets \(cknowing, cot"):
        findings(losses, predicted, [*sets, *other])

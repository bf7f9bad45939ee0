"""The linear datamodelling score, and what its command reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from icons_repro.core.errors import DataError
from icons_repro.studies.counterfactual import Loss, Predicted, findings, main, spearman
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
    assert next(iter(score)) == "ceiling: another seed"
    assert score["knowing"] > 0.9
    assert abs(score["guessing"]) < 0.35
    assert score["ceiling: another seed"] > 0.9


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

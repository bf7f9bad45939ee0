from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from icons_repro.evaluation.statistics import replicates, standard_error, units_of


def yes_no(count: int, seed: int) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    words = ("yes", "no", "maybe")
    rows = []
    for i in range(count):
        answer, prediction = words[int(rng.integers(2))], words[int(rng.integers(3))]
        rows.append(
            {
                "question_id": str(i),
                "answer": answer,
                "prediction": prediction,
                "score": float(answer == prediction),
            }
        )
    return rows


def test_f1_of_answers_equals_lmms_evals_pope() -> None:
    from lmms_eval.tasks.pope.utils import pope_aggregate_f1_score

    rows = yes_no(101, seed=1)
    logged = [{"prediction": r["prediction"], "ground_truth": r["answer"]} for r in rows]
    units = units_of("f1", rows)
    assert units is not None
    assert units.score() == pytest.approx(pope_aggregate_f1_score(logged), abs=1e-12)


def test_f1_without_any_yes_is_zero() -> None:
    rows = [{"answer": "no", "prediction": "no", "score": 1.0}] * 3
    units = units_of("f1", rows)
    assert units is not None
    assert units.score() == 0.0


def test_mme_of_answers_equals_lmms_evals_mme() -> None:
    from lmms_eval.tasks.mme.utils import mme_aggregate_results

    rng = np.random.default_rng(2)
    rows = [
        {"category": category, "question_id": f"{category}{i}", "score": float(rng.integers(2))}
        for category, images in (("count", 7), ("OCR", 5))
        for i in range(images)
        for _ in range(2)
    ]
    units = units_of("mme", rows)
    assert units is not None
    assert units.score() == pytest.approx(mme_aggregate_results(rows), abs=1e-9)
    draws = replicates([units], 300, seed=0)[0]
    assert draws.mean() == pytest.approx(units.score(), rel=0.1)


def test_mme_needs_both_questions_of_an_image() -> None:
    assert units_of("mme", [{"category": "c", "question_id": "1", "score": 1.0}]) is None


def test_bootstrap_error_of_a_mean_approaches_the_exact_one() -> None:
    rows = [{"score": float(i % 3 == 0)} for i in range(300)]
    units = units_of("mean", rows)
    assert units is not None
    assert units.score() == pytest.approx(1 / 3)
    bootstrap = replicates([units], 4000, seed=0)[0].std(ddof=1)
    assert bootstrap == pytest.approx(standard_error(units), rel=0.06)


def test_paired_replicates_draw_the_same_questions() -> None:
    rows = yes_no(80, seed=3)
    units = units_of("mean", rows)
    assert units is not None
    first, second = replicates([units, units], 50, seed=1)
    np.testing.assert_array_equal(first, second)


def test_replicates_repeat_with_their_seed_in_any_number_of_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import icons_repro.evaluation.statistics as statistics

    units = units_of("mean", yes_no(50, seed=4))
    assert units is not None
    whole = replicates([units], 40, seed=9)
    monkeypatch.setattr(statistics, "CHUNK", 7 * 50)
    np.testing.assert_array_equal(replicates([units], 40, seed=9), whole)


def test_scores_that_no_answer_carries_cannot_be_recomputed() -> None:
    assert units_of("mean", [{"score": None}]) is None
    assert units_of("opaque", [{"score": 1.0}]) is None
    assert units_of("mean", []) is None


def test_ratio_is_the_models_points_over_the_references() -> None:
    units = units_of("ratio", [{"score": [8.0, 4.0]}, {"score": [10.0, 5.0]}])
    assert units is not None
    assert units.score() == pytest.approx(0.5)


def about_pictures(
    rng: np.random.Generator, pictures: int, each: int, spread: float
) -> list[dict[str, Any]]:
    """Yes/no questions, right with a chance that each picture shifts: POPE's shape."""
    rows = []
    for picture in range(pictures):
        chance = np.clip(0.8 + spread * rng.normal(), 0.02, 0.98)
        for question in range(each):
            answer = ("yes", "no")[question % 2]
            right = rng.random() < chance
            wrong = {"yes": "no", "no": "yes"}[answer]
            prediction = answer if right else wrong
            rows.append(
                {"answer": answer, "prediction": prediction, "score": float(right),
                 "cluster": f"picture {picture}"}
            )  # fmt: skip
    return rows


@pytest.mark.parametrize("statistic", ["f1", "mean"])
def test_the_error_is_the_spread_over_test_sets_of_other_pictures(statistic: str) -> None:
    rng = np.random.default_rng(0)
    scores, errors, by_question = [], [], []
    for _ in range(150):
        rows = about_pictures(rng, pictures=60, each=18, spread=0.15)
        units = units_of(statistic, rows)
        alone = units_of(statistic, [{**row, "cluster": None} for row in rows])
        assert units is not None
        assert alone is not None
        scores.append(units.score())
        errors.append(standard_error(units, resamples=200))
        by_question.append(standard_error(alone, resamples=200))
    true = np.std(scores, ddof=1)
    assert np.mean(errors) == pytest.approx(true, rel=0.12)
    assert np.mean(by_question) < 0.75 * true, "drawing questions understates it"


def test_a_mean_without_repeated_pictures_has_the_usual_error() -> None:
    rows = [{"score": float(i % 3 == 0), "cluster": f"p{i}"} for i in range(50)]
    units = units_of("mean", rows)
    assert units is not None
    values = np.array([row["score"] for row in rows])
    assert standard_error(units) == pytest.approx(values.std(ddof=1) / np.sqrt(50), rel=1e-12)


def test_the_clustered_error_is_lmms_evals_but_for_the_correction_for_few_clusters() -> None:
    from lmms_eval.api.metrics import clustered_stderr

    rng = np.random.default_rng(1)
    rows = about_pictures(rng, pictures=200, each=6, spread=0.2)
    units = units_of("mean", rows)
    assert units is not None
    theirs = clustered_stderr([r["score"] for r in rows], [r["cluster"] for r in rows])
    assert standard_error(units) == pytest.approx(theirs, rel=2e-2)


def test_all_questions_about_a_picture_are_drawn_together() -> None:
    rows = [{"score": float(i < 3), "cluster": ("a", "b")[i // 3]} for i in range(6)]
    units = units_of("mean", rows)
    assert units is not None
    assert set(replicates([units], 200, seed=0)[0]) == {0.0, 0.5, 1.0}


def test_rows_of_before_pictures_were_recorded_take_the_clusters_of_their_partner() -> None:
    rows = about_pictures(np.random.default_rng(2), pictures=20, each=6, spread=0.2)
    new = units_of("mean", rows)
    old = units_of("mean", [{k: v for k, v in row.items() if k != "cluster"} for row in rows])
    assert new is not None
    assert old is not None
    first, second = replicates([old, new], 50, seed=3)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(second, replicates([new], 50, seed=3)[0])

from __future__ import annotations

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

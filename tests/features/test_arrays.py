"""Feature arrays: rows by position, NaN where nothing came, resumable."""

import numpy as np
import pytest
import torch

from icons_repro.core.errors import DataError
from icons_repro.core.rowfiles import MARKS
from icons_repro.features.arrays import FeatureArrays, finish

COLUMNS = {"score": ((), "float32"), "vector": ((3,), "float16")}


def some(n: int) -> dict[str, torch.Tensor]:
    return {"score": torch.arange(n).double(), "vector": torch.ones(n, 3)}


def test_rows_land_at_their_positions_and_the_rest_is_nan(tmp_path) -> None:
    with FeatureArrays(tmp_path, 5, COLUMNS) as arrays:
        arrays.write(np.array([4, 1]), some(2))
    assert finish(tmp_path, 5, np.array([1, 4])) == {"rows": 5, "without_feature": 3}
    score = np.load(tmp_path / "score.npy")
    np.testing.assert_array_equal(score, np.array([np.nan, 1, np.nan, np.nan, 0], np.float32))
    assert np.load(tmp_path / "vector.npy").dtype == np.float16
    assert sorted(p.name for p in tmp_path.iterdir()) == ["score.npy", "vector.npy"]


def test_a_second_process_goes_on_where_the_first_was_killed(tmp_path) -> None:
    killed = FeatureArrays(tmp_path, 5, COLUMNS, flush_seconds=0)
    killed.write(np.array([0, 3]), some(2))  # never closed
    with FeatureArrays(tmp_path, 5, COLUMNS) as again:
        assert again.pending(np.arange(5)).tolist() == [1, 2, 4]
        again.write(np.array([1, 2, 4]), some(3))
    finish(tmp_path, 5, np.arange(5))
    assert np.load(tmp_path / "score.npy").tolist() == [0, 0, 1, 1, 2]
    assert not (tmp_path / MARKS).exists()


def test_a_row_that_should_have_come_is_missed_by_name(tmp_path) -> None:
    with FeatureArrays(tmp_path, 5, COLUMNS) as arrays:
        arrays.write(np.array([0, 3]), some(2))
    with pytest.raises(DataError, match="2 of 4 rows are missing, first position 1"):
        finish(tmp_path, 5, np.array([0, 1, 2, 3]))


def test_arrays_of_another_run_are_refused(tmp_path) -> None:
    with FeatureArrays(tmp_path, 5, COLUMNS) as arrays:
        arrays.write(np.array([0]), some(1))
    with pytest.raises(DataError, match="Delete its folder"):
        FeatureArrays(tmp_path, 5, COLUMNS | {"vector": ((4,), "float16")})


def test_a_value_too_large_for_float16_becomes_infinite(tmp_path) -> None:
    with FeatureArrays(tmp_path, 1, COLUMNS) as arrays:
        arrays.write(np.array([0]), {"score": torch.ones(1), "vector": torch.full((1, 3), 1e6)})
    assert np.isinf(np.load(tmp_path / "vector.npy")).all()

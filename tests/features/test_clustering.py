"""k-means and neighbours against slow references; the same numbers on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from icons_repro.features.clustering import kmeans
from icons_repro.features.neighbours import nearest_neighbours, neighbour_index
from icons_repro.features.rows import FeatureRows, finite_rows, ordered_map, unit_rows


def rows_of(n: int, d: int, seed: int = 0, unit: bool = False) -> FeatureRows:
    array = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return FeatureRows(array, np.arange(n), unit)


def lloyd(x: np.ndarray, centroids: np.ndarray, iterations: int, spherical: bool):
    """Row by row, in float64; no cluster may become empty."""
    for step in range(iterations + 1):
        labels = []
        for row in x:
            if spherical:
                labels.append(int(np.argmax([row @ c for c in centroids])))
            else:
                labels.append(int(np.argmin([((row - c) ** 2).sum() for c in centroids])))
        if step == iterations:
            return np.array(labels), centroids
        centroids = np.array([x[np.array(labels) == c].mean(axis=0) for c in range(len(centroids))])
        if spherical:
            centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    raise AssertionError


@pytest.mark.parametrize("spherical", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_kmeans_is_lloyds_algorithm(spherical, seed):
    rows = rows_of(60, 4, seed, unit=spherical)
    found = kmeans(rows, 3, np.random.default_rng(seed), iterations=4, spherical=spherical)
    start = np.sort(np.random.default_rng(seed).choice(60, 3, replace=False))
    x = rows.gather(slice(None)).astype(np.float64)
    labels, centroids = lloyd(x, x[start], 4, spherical)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.centroids, centroids, atol=1e-5)


def test_euclidean_kmeans_agrees_with_scikit_learn():
    rows = rows_of(300, 5)
    start = np.sort(np.random.default_rng(1).choice(300, 6, replace=False))
    theirs = KMeans(6, init=rows.array[start], n_init=1, max_iter=300, tol=0).fit(rows.array)
    ours = kmeans(rows, 6, np.random.default_rng(1), iterations=300, spherical=False)
    np.testing.assert_array_equal(ours.labels, theirs.labels_)
    np.testing.assert_allclose(ours.fit.sum(), theirs.inertia_, rtol=1e-4)


@pytest.mark.parametrize("spherical", [True, False])
def test_threads_change_no_bit(spherical):
    rows = rows_of(3000, 4096, unit=spherical)  # three blocks of 1,024 rows
    assert len(list(rows.blocks())) == 3
    first, *others = [
        kmeans(rows, 20, np.random.default_rng(0), 2, spherical, threads) for threads in (1, 2, 5)
    ]
    for other in others:
        np.testing.assert_array_equal(first.labels, other.labels)
        np.testing.assert_array_equal(first.centroids, other.centroids)
        np.testing.assert_array_equal(first.fit, other.fit)


@pytest.mark.parametrize(
    ("kind", "d"), [("Flat", 4096), ("IVF8,Flat", 64), ("IVF8,PQ4x4", 8), ("Flat", 8)]
)
def test_threads_change_no_neighbour(kind, d):
    rows = rows_of(1500, d)  # two blocks when d is 4,096
    found = [
        nearest_neighbours(rows, 3, neighbour_index(rows, kind, False, probes=8), threads)
        for threads in (1, 3)
    ]
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("cosine", [True, False])
def test_flat_neighbours_are_the_exact_ones(cosine):
    rows = rows_of(50, 3, unit=cosine)
    places, values = nearest_neighbours(rows, 4, neighbour_index(rows, "Flat", cosine))
    x = rows.gather(slice(None)).astype(np.float64)
    for i in range(50):
        score = x @ x[i] if cosine else -((x - x[i]) ** 2).sum(axis=1)
        order = [j for j in np.argsort(-score) if j != i][:4]
        assert places[i].tolist() == order
        np.testing.assert_allclose(values[i], score[order] if cosine else -score[order], atol=1e-5)


def test_missing_neighbours_are_minus_one():
    for n in (1, 2, 3):
        rows = rows_of(n, 2)
        places, values = nearest_neighbours(rows, 4, neighbour_index(rows, "Flat", False))
        assert ((places >= 0).sum(axis=1) == n - 1).all()
        np.testing.assert_array_equal(np.isnan(values), places < 0)


def test_a_row_is_never_its_own_neighbour_even_among_duplicates():
    rows = FeatureRows(np.ones((30, 4), dtype=np.float32), np.arange(30))
    places, _ = nearest_neighbours(rows, 5, neighbour_index(rows, "Flat", False))
    assert (places != np.arange(30)[:, None]).all()
    assert all(len(set(p)) == 5 for p in places.tolist())


@given(
    n=st.integers(1, 20),
    clusters=st.integers(1, 30),
    same=st.booleans(),
    spherical=st.booleans(),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_every_row_has_a_cluster_whatever_the_counts(n, clusters, same, spherical, seed):
    array = np.random.default_rng(seed).integers(0, 2, (n, 3)).astype(np.float32)
    rows = FeatureRows(np.ones_like(array) if same else array, np.arange(n), spherical)
    found = kmeans(rows, clusters, np.random.default_rng(seed), 5, spherical)
    assert found.centroids.shape == (min(n, clusters), 3)
    assert np.isfinite(found.centroids).all()
    members = found.members()
    assert sorted(np.concatenate(members).tolist()) == list(range(n))
    assert all((found.labels[m] == c).all() for c, m in enumerate(members))


def test_an_empty_cluster_restarts_at_a_badly_fitting_row():
    near = np.random.default_rng(0).normal(0, 0.01, (50, 2))
    array = np.concatenate([near, [[9.0, 9.0]], [[-9.0, 9.0]]]).astype(np.float32)
    rows = FeatureRows(np.concatenate([array[:1], array]), np.arange(53))  # a duplicated first row

    class FirstTwo:
        def choice(self, n, size, replace):
            return np.array([0, 1, 2])[:size]

    found = kmeans(rows, 3, FirstTwo(), 20, spherical=False)
    assert sorted(len(m) for m in found.members()) == [1, 1, 51]


def test_rows_follow_the_order_and_read_memory_maps_and_half_precision(tmp_path):
    array = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float16)
    np.save(tmp_path / "x.npy", array)
    order = np.random.default_rng(1).permutation(40)[:25]
    rows = FeatureRows(np.load(tmp_path / "x.npy", mmap_mode="r"), order, unit=True)
    whole = np.concatenate([block for _, block in rows.blocks()])
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole, unit_rows(array[order].astype(np.float32)))
    np.testing.assert_array_equal(rows.gather(np.array([3, 1])), whole[[3, 1]])


def test_unit_rows_keep_zero_rows_and_survive_huge_ones():
    x = np.array([[0, 0], [3e30, 4e30], [3e-30, 4e-30]], dtype=np.float32)
    np.testing.assert_allclose(unit_rows(x), [[0, 0], [0.6, 0.8], [0.6, 0.8]], rtol=1e-6)


def test_finite_rows_sees_each_kind_of_bad_number():
    x = np.ones((5, 2), dtype=np.float16)
    x[1, 0], x[2, 1], x[4, 0] = np.nan, np.inf, -np.inf
    assert finite_rows(x).tolist() == [True, False, False, True, False]
    assert finite_rows(np.zeros((0, 2))).tolist() == []


def test_ordered_map_keeps_the_order_and_passes_errors_on():
    assert list(ordered_map(lambda i: i * i, range(20), threads=3)) == [i * i for i in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda i: 1 // (3 - i), range(9), threads=2))

"""Sampled training, projection, streaming and torch's side, against the exact way on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from icons_repro.core.errors import ConfigError
from icons_repro.features.catalogue import FEATURES
from icons_repro.features.clustering import Clustering, kmeans
from icons_repro.features.neighbours import nearest_neighbours, neighbour_index
from icons_repro.features.on_device import TorchAssigner
from icons_repro.features.projection import random_projection
from icons_repro.features.rows import FeatureRows, Picked, SideBySide, unit_rows

TORCH = ["cpu:0", *(["cuda"] if torch.cuda.is_available() else [])]
"""Devices that go torch's way; faiss's way is called "cpu"."""


def planted(n: int, clusters: int, d: int, noise: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, clusters, n)
    centres = unit_rows(rng.standard_normal((clusters, d)).astype(np.float32))
    spread = rng.standard_normal((n, d), dtype=np.float32) * np.float32(noise / d**0.5)
    return centres[truth] + spread, truth


def rows_of(array: np.ndarray, unit: bool = True) -> FeatureRows:
    return FeatureRows(array, np.random.default_rng(1).permutation(len(array)), unit)


def same(a: Clustering, b: Clustering) -> None:
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.centroids, b.centroids)
    np.testing.assert_array_equal(a.fit, b.fit)


def cluster(rows: FeatureRows, clusters: int, **more: object) -> Clustering:
    return kmeans(rows, clusters, np.random.default_rng(0), **more)


@pytest.mark.parametrize("more", [{"training_rows": 900}, {"projected_dim": 64}])
@pytest.mark.parametrize("spherical", [True, False])
def test_approximations_agree_with_exact_clustering_on_planted_clusters(more, spherical):
    array, truth = planted(4000, 12, 400)
    rows = rows_of(array, spherical)
    exact = cluster(rows, 30, spherical=spherical)
    found = cluster(rows, 30, spherical=spherical, **more)
    # 30 centroids cover the 12 planted clusters; compare what they lump together
    for result in (exact, found):
        pure = [np.unique(truth[rows.order[m]]).size <= 1 for m in result.members()]
        assert np.mean(pure) > 0.9
    gap = abs(found.fit.mean() - exact.fit.mean()) / abs(exact.fit.mean())
    assert gap < 0.05


def test_sampled_training_finds_the_planted_clusters_that_full_training_finds():
    array, truth = planted(6000, 8, 64)
    rows = rows_of(array)

    class OneOfEach:
        """Starts every run at one row of each planted cluster; samples as NumPy does."""

        def __init__(self) -> None:
            self.rng = np.random.default_rng(3)

        def choice(self, n: int, size: int, replace: bool) -> np.ndarray:
            return self.rng.choice(n, size, replace) if size > 8 else self.starts[n]

    starts = OneOfEach()
    sampled = np.sort(np.random.default_rng(3).choice(6000, 1500, replace=False))
    full = truth[rows.order]
    starts.starts = {
        6000: np.array([np.flatnonzero(full == c)[0] for c in range(8)]),
        1500: np.array([np.flatnonzero(full[sampled] == c)[0] for c in range(8)]),
    }
    exact = kmeans(rows, 8, starts)
    found = kmeans(rows, 8, starts, training_rows=1500)
    assert adjusted_rand_score(exact.labels, full) == 1
    assert adjusted_rand_score(found.labels, full) == 1
    cosines = found.centroids @ exact.centroids.T
    np.testing.assert_allclose(cosines.max(axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("more", [{"training_rows": 2000}, {"projected_dim": 96}])
def test_settings_that_bind_nothing_change_no_bit_and_draw_nothing(more):
    array, _ = planted(2000, 5, 96)
    one, two = np.random.default_rng(0), np.random.default_rng(0)
    same(kmeans(rows_of(array), 9, one), kmeans(rows_of(array), 9, two, **more))
    assert one.integers(2**60) == two.integers(2**60)


def test_fewer_training_rows_than_clusters_are_refused():
    array, _ = planted(100, 5, 8)
    with pytest.raises(ConfigError, match="training_rows=10"):
        cluster(rows_of(array), 20, training_rows=10)


@pytest.mark.parametrize("spherical", [True, False])
@pytest.mark.parametrize("more", [{}, {"training_rows": 1000}, {"projected_dim": 70}])
def test_threads_change_no_bit_of_any_kind(spherical, more):
    array, _ = planted(2500, 20, 3000)  # two blocks, and several of the projection
    rows = rows_of(array.astype(np.float16), spherical)
    more = {"iterations": 3, "spherical": spherical, **more}
    first, *others = [cluster(rows, 40, threads=threads, **more) for threads in (1, 2, 5)]
    for other in others:
        same(first, other)


@pytest.mark.parametrize("more", [{}, {"training_rows": 800}, {"projected_dim": 70}])
def test_a_memory_map_gives_the_bits_of_memory(tmp_path, more):
    array, _ = planted(1500, 10, 3000)
    np.save(tmp_path / "rows.npy", array.astype(np.float16))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    in_memory = rows_of(array.astype(np.float16))
    same(cluster(in_memory, 25, **more), cluster(rows_of(mapped), 25, **more))


def test_a_shuffled_file_gives_the_same_clusters_in_projection():
    array, _ = planted(1500, 10, 900)
    shuffle = np.random.default_rng(7).permutation(1500)
    order = np.random.default_rng(1).permutation(1500)
    rows = FeatureRows(array, order, True)
    moved = FeatureRows(array[shuffle], np.argsort(shuffle)[order], True)
    same(cluster(rows, 25, projected_dim=70), cluster(moved, 25, projected_dim=70))


def test_projection_keeps_inner_products():
    array, _ = planted(300, 10, 5000, noise=1.0)
    rows = rows_of(array, unit=True)
    exact = rows.gather(slice(None))
    found = random_projection(rows, 512, np.random.default_rng(0)).array[:]
    error = found @ found.T - exact @ exact.T
    assert np.sqrt(np.mean(error**2)) < 1.5 / 512**0.5


def test_projected_clusters_have_the_means_and_fits_of_the_full_rows():
    array, _ = planted(700, 6, 300)
    rows = rows_of(array)
    found = cluster(rows, 12, projected_dim=50)
    x = rows.gather(slice(None)).astype(np.float64)
    for c, places in enumerate(found.members()):
        mean = x[places].mean(axis=0) if len(places) else np.zeros(300)
        mean /= max(np.linalg.norm(mean), 1e-30)
        np.testing.assert_allclose(found.centroids[c], mean, atol=1e-6)
        np.testing.assert_allclose(found.fit[places], x[places] @ mean, atol=1e-6)


def test_arrays_side_by_side_read_as_their_concatenation():
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((9, 3)), rng.standard_normal((9, 2)).astype(np.float16)
    shown = rng.random(9) < 0.5
    joint = SideBySide((left, right), (shown, None))
    whole = np.concatenate([np.where(shown[:, None], left, 0), right], axis=1, dtype=np.float32)
    assert joint.shape == (9, 5)
    for rows in (slice(2, 7), np.array([8, 0, 3]), slice(None)):
        np.testing.assert_array_equal(joint[rows], whole[rows])


def test_a_wide_feature_with_unusable_rows_is_not_copied_and_clusters_as_the_copy(tmp_path):
    array, _ = planted(400, 6, 50)
    np.save(tmp_path / "hidden_last.npy", array.astype(np.float16))
    usable = np.random.default_rng(0).random(400) < 0.9
    found = FEATURES["hidden_last"].load(tmp_path, usable)
    assert isinstance(found, Picked)
    assert isinstance(found.array, np.memmap)
    assert found.shape == (usable.sum(), 50)
    copied = array.astype(np.float16)[usable]
    same(cluster(rows_of(found), 9), cluster(rows_of(copied), 9))
    whole = FEATURES["hidden_last"].load(tmp_path, np.ones(400, dtype=bool))
    assert isinstance(whole, np.memmap)


@pytest.mark.parametrize("device", TORCH)
@pytest.mark.parametrize("spherical", [True, False])
def test_torch_clusters_as_faiss_does(device, spherical):
    array, _ = planted(3000, 15, 200, noise=1.0)
    rows = rows_of(array, spherical)
    faiss, torchs, again = (
        cluster(rows, 40, spherical=spherical, iterations=8, device=d, threads=t)
        for d, t in (("cpu", 2), (device, 1), (device, 4))
    )
    same(torchs, again)
    assert np.mean(faiss.labels == torchs.labels) > 0.999
    np.testing.assert_allclose(torchs.centroids, faiss.centroids, atol=1e-3)
    np.testing.assert_allclose(torchs.fit, faiss.fit, atol=1e-3)


@pytest.mark.parametrize("device", TORCH)
def test_torch_sums_the_rows_of_each_cluster(device):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 7)).astype(np.float32)
    assigner = TorchAssigner(device, x[:9], spherical=True)
    totals = assigner.totals()
    assert not totals.read(slice(0, 9)).any()
    labels = []
    for block in np.array_split(x, 3):
        _, which, part = assigner.search(block, sums=True)
        totals.add(part)
        labels.append(which)
    label = np.concatenate(labels)
    expected = np.stack([x[label == c].sum(axis=0, dtype=np.float64) for c in range(9)])
    np.testing.assert_allclose(totals.read(slice(0, 9)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("device", TORCH)
@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_torch_finds_the_neighbours_that_faiss_finds(device, cosine, dtype, monkeypatch):
    monkeypatch.setattr("icons_repro.features.on_device.TILE_FLOATS", 150_000)  # many tiles
    array, _ = planted(700, 30, 24, noise=1.0)
    rows = rows_of(array.astype(dtype), unit=cosine)
    places, values = nearest_neighbours(rows, 6, neighbour_index(rows, "Flat", cosine))
    index = neighbour_index(rows, "Flat", cosine, device=device)
    found_places, found = nearest_neighbours(rows, 6, index)
    np.testing.assert_allclose(found, values, atol=1e-5)
    assert np.mean(places == found_places) > 0.999
    wide, _ = index.search(rows.gather(slice(0, 2)), 700)
    assert wide.shape == (2, 700)


def test_a_device_takes_exact_neighbours_alone():
    array, _ = planted(50, 5, 8)
    with pytest.raises(ConfigError, match="IVF4,Flat"):
        neighbour_index(rows_of(array), "IVF4,Flat", True, device="cpu:0")


def test_a_large_index_is_trained_on_a_seeded_sample(monkeypatch):
    monkeypatch.setattr("icons_repro.features.neighbours.CODEBOOK_ROWS", 300)
    seen = []
    gather = FeatureRows.gather
    monkeypatch.setattr(FeatureRows, "gather", lambda r, i: seen.append(len(r)) or gather(r, i))
    array, _ = planted(3000, 30, 16)
    rows = rows_of(array)
    for kind in ("IVF8,Flat", "RR8,IVF8,Flat"):
        seen.clear()
        one, two = (
            neighbour_index(rows, kind, True, 4, np.random.default_rng(2)) for _ in range(2)
        )
        assert seen[0] == 512  # 64 rows for each of 8 cells
        a, b = nearest_neighbours(rows, 5, one), nearest_neighbours(rows, 5, two)
        np.testing.assert_array_equal(a[0], b[0])
    exact, _ = nearest_neighbours(rows, 5, neighbour_index(rows, "Flat", True))
    ivf, _ = nearest_neighbours(rows, 5, neighbour_index(rows, "IVF8,Flat", True, 8))
    np.testing.assert_array_equal(np.sort(ivf), np.sort(exact))

"""DataTailor: informative rows, unlike their cluster, of clusters that are like others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from icons_repro.core.bounds import Count, Within
from icons_repro.core.types import Pool
from icons_repro.features.clustering import members_of
from icons_repro.features.rows import FeatureRows, ordered_map
from icons_repro.selection.base import feature
from icons_repro.selection.random_per_source import highest_per_group
from icons_repro.selection.sets import Choice, SetSelector, canonical_rows, over_pool, quotas
from icons_repro.selection.ward import cluster_likeness, distance_sums, ward_labels


@dataclass(frozen=True)
class DataTailor(SetSelector):
    """Quotas by source from its strongest direction, rows by three ranks inside the source.

    Formula: quota_b ~ n_b (mean tau of b)^2, tau = sigma_1 / sum sigma of a row's states; v_i =
    (R_i r(I_i) + r(U_i) + r(P_i)) / (R_i + 2), r ranks inside the source, R_i rounds of the
    conversation, I = entropy of sigma / sum sigma; with Ward clusters of the last tokens' states,
    cut at `cut` of the last merge: U_i = sum_j d_ij I_j over the cluster, divided by its mean row
    sum of d; P_i = I_i times the mean of exp(cos) of its cluster's mean with the source's other
    clusters' means. Direction: high v. Source: Yuqifan1117/DataTailor, make_clustering.py:20-52,
    relationship_value_calculation.py (one line), datatailor_selector.py:19-28 (quotas) and 57-80
    (ranks, v); arXiv:2412.06293. A cluster whose rows are all one has no U and ranks highest, as
    that code's 0 / 0 does. Differences: a source of more than `ward_rows` rows is clustered on so
    many at random, and the others join the nearest cluster mean (it keeps all distances, 30 GB for
    86,417 rows); a source smaller than its quota is taken whole and the rest goes to the others;
    fractions go by largest remainder (it truncates); the model is the run's, not one in training.
    Complexity: O(sum |c|^2 d) time, O(ward_rows^2) memory beyond the features. Text-only rows are a
    source like any other; rows without finite features come last.
    """

    name: ClassVar[str] = "datatailor"
    requires: ClassVar[frozenset[str]] = frozenset({"spectrum", "rounds"})

    cut: Annotated[float, Within(0, 1)] = 0.1
    ward_rows: Count = 8000

    def choose(self, pool: Pool, k: int, rng: np.random.Generator) -> Choice:
        """Cluster, rank and take inside each source."""
        given = feature(pool, "spectrum")
        entropy, share = (np.asarray(given[n], dtype=float) for n in ("entropy", "top_share"))
        usable = np.isfinite(entropy) & np.isfinite(share)
        rows = canonical_rows(pool, given["last"], "spectrum", usable=usable)
        if not len(rows):
            return Choice(rows.order, np.full(len(pool), np.nan))
        entropy, share = entropy[rows.order], share[rows.order]
        rounds = np.asarray(feature(pool, "rounds"), dtype=float)[rows.order]
        names, source = np.unique(pool.sources[rows.order], return_inverse=True)
        sizes = np.bincount(source)
        value, clusters = np.empty(len(rows)), np.zeros(len(sizes), dtype=np.int64)
        for number, places in enumerate(members_of(source, len(sizes))):
            labels = ward_labels(rows, places, self.cut, self.ward_rows, rng)
            clusters[number] = labels.max() + 1
            ranks = _ranks(rows, places, labels, entropy[places])
            weights = np.stack([rounds[places], *np.ones((2, len(places)))])
            value[places] = (ranks * weights).sum(axis=0) / weights.sum(axis=0)
        strength = np.bincount(source, weights=share) / sizes
        take = quotas(sizes * strength**2, sizes, k)
        chosen = highest_per_group(value, source, take)
        notes = {
            "quota_by_source": dict(zip(names.tolist(), take.tolist(), strict=True)),
            "clusters_by_source": dict(zip(names.tolist(), clusters.tolist(), strict=True)),
        }
        return Choice(rows.order[chosen], over_pool(pool, rows, value), notes=notes)


def _ranks(
    rows: FeatureRows, places: np.ndarray, labels: np.ndarray, entropy: np.ndarray
) -> np.ndarray:
    """Ranks of informativeness, uniqueness and representativeness in [0, 1): float64 `[3, m]`."""
    members = members_of(labels, int(labels.max()) + 1)
    unique = np.empty(len(places))
    found = ordered_map(lambda m: (m, distance_sums(rows, places[m], entropy[m])), members)
    for own, (weighted, total) in found:
        unique[own] = weighted * len(own) / total if total > 0 else np.inf
    likeness = cluster_likeness(rows, [places[m] for m in members])
    kinds = np.stack([entropy, unique, likeness[labels] * entropy])
    return np.stack([_rank(values) for values in kinds])


def _rank(values: np.ndarray) -> np.ndarray:
    """Place of each value among all, from the lowest, over their number; ties in their order."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks / len(values)

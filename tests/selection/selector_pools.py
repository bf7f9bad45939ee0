"""Small random pools with every feature, and every selector in the variants that differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from icons_repro.core.types import InfluenceMatrix, Pool
from icons_repro.influence.rows.blocks import ByRow
from icons_repro.selection.clip_score import ClipScore
from icons_repro.selection.coincide import Coincide
from icons_repro.selection.d2_pruning import D2Pruning
from icons_repro.selection.datatailor import DataTailor
from icons_repro.selection.el2n import EL2N
from icons_repro.selection.full import Full
from icons_repro.selection.icons import RULES, Icons
from icons_repro.selection.less import Less
from icons_repro.selection.longest import Longest
from icons_repro.selection.mixture import Mixture
from icons_repro.selection.oracle import Oracle
from icons_repro.selection.perplexity import Perplexity
from icons_repro.selection.presel import PreSel
from icons_repro.selection.proportional import Proportional
from icons_repro.selection.random import Random
from icons_repro.selection.random_per_source import RandomPerSource
from icons_repro.selection.released import Released
from icons_repro.selection.round_robin import RoundRobin
from icons_repro.selection.scalselect import ScalSelect
from icons_repro.selection.self_filter import SelfFilter
from icons_repro.selection.self_sup import SelfSup
from icons_repro.selection.semdedup import SemDeDup
from icons_repro.selection.tive import Tive
from icons_repro.selection.xmas import Xmas

TASKS = ("vqa", "mme/ocr", "mme/count")

SELECTORS: dict[str, Callable[[], Any]] = {
    "random": Random,
    "random_per_source": RandomPerSource,
    "random_per_source_equal": lambda: RandomPerSource(allocation="equal"),
    "mixture": Mixture,
    "mixture_uniform": lambda: Mixture(weights="uniform"),
    "mixture_temperature": lambda: Mixture(weights="temperature"),
    "longest": Longest,
    "longest_answers": lambda: Longest(of="answers"),
    "oracle": Oracle,
    "el2n": EL2N,
    "el2n_high": lambda: EL2N(keep="high"),
    "perplexity": Perplexity,
    "clip_score": ClipScore,
    "clip_score_proportional": lambda: ClipScore(text_only="proportional"),
    "semdedup": SemDeDup,
    "semdedup_clusters": lambda: SemDeDup(clusters=5),
    "semdedup_epsilons": lambda: SemDeDup(clusters=3, epsilons=[0.5, 0.9, 0.1]),
    "d2_pruning": D2Pruning,
    "d2_pruning_literal": lambda: D2Pruning(clip=None, distance="euclidean", neighbours=2),
    "self_sup": lambda: SelfSup(clusters=4),
    "self_sup_image": lambda: SelfSup(features="clip_image", clusters=3, metric="euclidean"),
    "self_filter": SelfFilter,
    "self_filter_narrow": lambda: SelfFilter(neighbours=1, gamma=0.5),
    "coincide": Coincide,
    "coincide_clusters": lambda: Coincide(clusters=6, tau=0.01),
    "tive": Tive,
    "tive_excluding": lambda: Tive(scale=10.0, exclude_sources=["a"]),
    "scalselect": ScalSelect,
    "datatailor": DataTailor,
    "datatailor_sampled": lambda: DataTailor(ward_rows=4, cut=0.5),
    "xmas": Xmas,
    "xmas_clusters": lambda: Xmas(clusters=4, singular_values=2),
    "presel": PreSel,
    "presel_clusters": lambda: PreSel(cluster_share=0.3, neighbours=2, temperature=1.0),
    "less": Less,
    "less_single": lambda: Less(tasks=["mme"], influence="influence"),
    "round_robin": RoundRobin,
    "proportional": Proportional,
    "proportional_few": lambda: Proportional(percentile=95),
    "released_budget": lambda: Released(size="budget"),
    **{f"icons_{rule}": (lambda rule=rule: Icons(rule=rule, percentile=60)) for rule in RULES},
}
FIXED_SIZE = {"full": Full, "released": Released}


def hex_keys(rng: np.random.Generator, n: int) -> np.ndarray:
    """Distinct random content keys."""
    return np.array([f"{rng.bytes(8).hex()}{i:016x}".encode() for i in range(n)], dtype="S32")


def random_pool(
    seed: int, n: int, values: str = "normal", bad: float = 0.0, text: float = 0.3
) -> Pool:
    """A pool of `n` rows.

    `values`: "normal", "ties" (few distinct values), "huge" (squares overflow float32) or "same"
    (all rows alike); `bad`: share of
    non-finite feature rows; `text`: share of text-only rows.
    """
    rng = np.random.default_rng(seed)
    has_image = rng.random(n) >= text

    def draw(*shape: int) -> np.ndarray:
        if values == "normal":
            x = rng.standard_normal((n, *shape))
        elif values == "ties":
            x = rng.integers(0, 2, (n, *shape)).astype(float)
        elif values == "huge":
            x = rng.standard_normal((n, *shape)) * 1e30
        else:
            x = np.ones((n, *shape))
        x[rng.random(n) < bad] = rng.choice([np.nan, np.inf, -np.inf])
        return x.astype(np.float32)

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)

    keys = hex_keys(rng, n)
    with np.errstate(invalid="ignore", over="ignore"):
        image, words = unit(draw(6)), unit(draw(6))
    image[~has_image] = np.nan
    influence = draw(len(TASKS))
    influence[0] = rng.standard_normal(len(TASKS))  # no task is dead
    by_row = np.repeat(influence, 2, axis=1)
    tokens = draw(4)
    tokens[~has_image] = np.nan
    asked, unasked = abs(draw()), abs(draw()) + 1
    asked[rng.random(n) < 0.9] = np.nan
    half = max(1, n // 2)
    with np.errstate(over="ignore"):
        half_precision = draw(5).astype(np.float16)
    features = {
        "influence": InfluenceMatrix(influence, TASKS, keys),
        "influence_rows": ByRow.of(by_row, TASKS, np.repeat(np.arange(len(TASKS)), 2)),
        "influence_as_released": InfluenceMatrix(-influence, TASKS, keys),
        "influence_less": InfluenceMatrix(influence * 2, TASKS, keys),
        "validation_counts": {"vqa": 3, "mme/ocr": 1, "mme/count": 2},
        "forward_stats": {"loss": abs(draw()), "el2n": abs(draw()), "margin": draw()},
        "clip": {"image": image, "text": words},
        "hidden_last": half_precision,
        "hidden_mean": draw(5),
        "coincide": {"rows": np.tanh(draw(2 * 2 * 3)).astype(np.float16), "layers": 2},
        "vision_tokens": {"attended": tokens, "mean": tokens[:, ::-1].copy()},
        "spectrum": {"entropy": abs(draw()), "top_share": abs(draw()), "last": draw(5)},
        "rounds": rng.integers(1, 5, n).astype(np.float32),
        "image_cls": tokens,
        "question_losses": {"asked": asked, "unasked": unasked},
        "truth": {"on_target": rng.random(n) < 0.5, "mislabelled": rng.random(n) < 0.2},
        "self_filter": {"difficulty": draw()},
        "instance_gradients": {"rows": draw(7), "norms": abs(draw())},
        "attention_trajectory": abs(draw(4, 5)),
        "answer_words": rng.integers(1, 9, n),
        "released_keys": {"subset": keys[:half], "text": keys[:half], "pool_text": keys},
    }
    sources = np.array(["a", "b", "c"])[rng.integers(0, 3, n)]
    sources[0] = "a"  # `tive_excluding` leaves it out, so it must be there
    return Pool(keys, sources, rng.integers(1, 50, n), has_image, features)


def shuffled(pool: Pool, seed: int) -> Pool:
    """The same rows in another order."""
    order = np.random.default_rng(seed).permutation(len(pool))
    n = len(pool)

    def move(value: Any) -> Any:
        if isinstance(value, InfluenceMatrix):
            return InfluenceMatrix(value.values[order], value.tasks, value.keys[order])
        if isinstance(value, dict):
            return {name: move(part) for name, part in value.items()}
        if isinstance(value, np.ndarray) and len(value) == n:
            return value[order]
        return value

    features = {name: move(value) for name, value in pool.features.items()}
    released = pool.features["released_keys"]
    features["released_keys"] = {**released, "pool_text": released["pool_text"][order]}
    return Pool(
        pool.keys[order],
        pool.sources[order],
        pool.words[order],
        pool.has_image[order],
        features,
    )

"""BM25 as a product of sparse matrices is the library's score, and the formula's."""

from __future__ import annotations

import math

import bm25s
import numpy as np
import pytest

from icons_repro.influence.rows.bm25 import weigh_words, words_of

TEXTS = [
    "What colour is the cat? Black.",
    "how many cats are there? 2",
    "What is in the picture? A cat, a dog and a cat",
    "",
    "Which letter? B",
    "no other",
]
QUERIES = ["What colour is the dog?", "B B", "unheard of", "a cat and a cat"]


def literal(k1: float, b: float) -> np.ndarray:
    """Lucene's BM25, word by word."""
    documents = [words_of(text) for text in TEXTS]
    mean = np.mean([len(d) for d in documents])
    out = np.zeros((len(TEXTS), len(QUERIES)))
    for i, document in enumerate(documents):
        for j, query in enumerate(QUERIES):
            for word in words_of(query):
                having = sum(word in d for d in documents)
                if having:
                    tf = document.count(word)
                    idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
                    out[i, j] += idf * tf / (tf + k1 * (1 - b + b * len(document) / mean))
    return out


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.0)])
def test_products_are_the_formulas_scores(k1: float, b: float) -> None:
    weights = weigh_words(TEXTS, k1, b, "lucene")
    found = (weights.matrix @ weights.queries(QUERIES).T).toarray()
    np.testing.assert_allclose(found, literal(k1, b), rtol=1e-5, atol=1e-6)


def test_products_are_the_librarys_own_scores() -> None:
    weights = weigh_words(TEXTS, 1.5, 0.75, "lucene")
    index = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    ids = [[weights.vocabulary[w] for w in words_of(text)] for text in TEXTS]
    index.index((ids, dict(weights.vocabulary)), create_empty_token=False, show_progress=False)
    found = (weights.matrix @ weights.queries(QUERIES).T).toarray()
    for j, query in enumerate(QUERIES):
        known = [w for w in words_of(query) if w in weights.vocabulary]
        if known:
            np.testing.assert_allclose(found[:, j], index.get_scores(known), rtol=1e-6)


def test_another_order_of_the_texts_gives_the_same_bits() -> None:
    order = [3, 0, 5, 2, 4, 1]
    one = weigh_words(TEXTS, 1.5, 0.75, "lucene")
    two = weigh_words([TEXTS[i] for i in order], 1.5, 0.75, "lucene")
    first = (one.matrix @ one.queries(QUERIES).T).toarray()
    np.testing.assert_array_equal(first[order], (two.matrix @ two.queries(QUERIES).T).toarray())


def test_a_pool_without_a_word_has_no_influence() -> None:
    weights = weigh_words(["", "?!"], 1.5, 0.75, "lucene")
    assert (weights.matrix @ weights.queries(QUERIES).T).toarray().tolist() == [[0.0] * 4] * 2

"""BM25 by a kept library (bm25s), as two sparse matrices whose product is its scores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import bm25s
import numpy as np
from scipy import sparse

WORD = re.compile(r"\w+")
"""Every word and number, those of one letter too: answers are often one letter."""


@dataclass(frozen=True)
class WordWeights:
    """What each word of a corpus weighs in each document."""

    matrix: sparse.csr_array
    """float32 `[documents, words]`; words in alphabetical order."""
    vocabulary: Mapping[str, int]

    def queries(self, texts: Iterable[str]) -> sparse.csr_array:
        """Return how often each text has each word of the corpus: float32 `[texts, words]`.

        BM25's score of a text against a document is their product: a word counts as often as the
        text has it, words that the corpus lacks do not count.
        """
        known = [[self.vocabulary[w] for w in words_of(t) if w in self.vocabulary] for t in texts]
        starts = np.cumsum([0, *map(len, known)])
        columns = np.array([word for row in known for word in row], dtype=np.int64)
        ones = np.ones(len(columns), dtype=np.float32)
        counts = sparse.csr_array((ones, columns, starts), shape=(len(known), self.matrix.shape[1]))
        counts.sum_duplicates()
        return counts


def words_of(text: str) -> list[str]:
    """Return a text's words in lower case."""
    return WORD.findall(text.lower())


def weigh_words(texts: Iterable[str], k1: float, b: float, method: str) -> WordWeights:
    """Return the BM25 weight of each word in each text.

    The vocabulary is in alphabetical order, so that no sum depends on the order of the texts.
    """
    documents = [words_of(text) for text in texts]
    vocabulary = {w: i for i, w in enumerate(sorted({w for words in documents for w in words}))}
    ids = [[vocabulary[word] for word in words] for words in documents]
    if not vocabulary:
        return WordWeights(sparse.csr_array((len(ids), 0), dtype=np.float32), vocabulary)
    index = bm25s.BM25(k1=k1, b=b, method=method)
    index.index((ids, vocabulary), create_empty_token=False, show_progress=False)
    found = index.scores
    columns = (found["data"], found["indices"], found["indptr"])
    matrix = sparse.csr_array(sparse.csc_array(columns, shape=(len(ids), len(vocabulary))))
    matrix.sort_indices()
    return WordWeights(matrix, vocabulary)

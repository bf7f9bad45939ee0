"""The blind baseline: what a benchmark scores without looking at the picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from icons_repro.tiny.questions import Question, stem_and_options


class BlindAnswerer:
    """Answers with the commonest answer to the question's text.

    The counts come from correctly labelled pool rows and validation rows, never from test answers.
    A question with options gets the option that is commonest for its stem; an unknown text gets
    the commonest answer of the task's validation set.
    """

    def __init__(self, pool: Iterable[Question], validation: Sequence[Question]) -> None:
        self._by_stem: dict[str, Counter[str]] = {}
        self._all = Counter(question.answer for question in validation)
        for question in (*pool, *validation):
            stem, _ = stem_and_options(question.text)
            self._by_stem.setdefault(stem, Counter())[question.answer] += 1

    def answer(self, text: str) -> str:
        """Return the guess for a question's text; ties go to the alphabetically first answer."""
        stem, options = stem_and_options(text)
        counts = self._by_stem.get(stem, self._all)
        candidates = options or tuple(counts)
        return min(candidates, key=lambda option: (-counts[option], option))

    def score(self, questions: Sequence[Question]) -> float:
        """Return the share of questions that the guess answers exactly, from 0 to 1."""
        right = sum(self.answer(question.text) == question.answer for question in questions)
        return right / len(questions)

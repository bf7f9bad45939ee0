"""How each benchmark's row is asked and answered: the benchmark's own prompt, one right answer.

Each function takes a row as the benchmark publishes it and returns a `Question`, or None where the
row has no answer to learn from. The prompts are those that lmms-eval asks with the options of
conf/benchmarks/paper.yaml; tests/evaluation/test_target_prompts.py compares them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHORT = "\nAnswer the question using a single word or phrase."
UNANSWERABLE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."
LETTER = "\nAnswer with the option's letter from the given choices directly."
LETTER_CN = "\n请直接使用所提供的选项字母作为答案回答。"
MMBENCH_HEADING = "There are several options:"
MME_HINT = " Please answer yes or no."
MMBENCH_COPY = 1_000_000
"""MMBench repeats each question with rotated options; the copies' `index` is larger by this."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """One turn of a conversation about an image."""

    text: str
    answer: str
    category: str | None = None
    """MME's sub-task."""


def vqav2(row: Row) -> Question | None:
    """VQAv2: the annotators' most common answer, which the release names itself."""
    return Question(row["question"] + SHORT, row["multiple_choice_answer"])


def gqa(row: Row) -> Question | None:
    """GQA: the short answer."""
    return Question(row["question"] + SHORT, row["answer"])


def vizwiz(row: Row) -> Question | None:
    """VizWiz: the most common of ten answers; `Unanswerable` as the prompt spells it."""
    answers = [a["answer"] if isinstance(a, Mapping) else a for a in row["answers"]]
    answer = most_common(answers)
    answer = "Unanswerable" if answer.lower() == "unanswerable" else answer
    text = row["question"].capitalize() + UNANSWERABLE + SHORT
    return Question(text, answer) if answer else None


def scienceqa(row: Row) -> Question | None:
    """ScienceQA: hint, question, lettered choices; the letter. Rows without image are left out."""
    letters = [chr(ord("A") + i) for i in range(len(row["choices"]))]
    hint = f"Context: {row['hint']}\n" if row["hint"] else ""
    pairs = zip(letters, row["choices"], strict=True)
    choices = "\n".join(f"{letter}. {choice}" for letter, choice in pairs)
    return Question(f"{hint}{row['question']}\n{choices}{LETTER}", letters[row["answer"]])


def textvqa(row: Row) -> Question | None:
    """TextVQA with OCR tokens: the most common of ten answers."""
    tokens = f"\nReference OCR token: {', '.join(row['ocr_tokens'])}"
    answer = most_common(row["answers"])
    return Question(row["question"].capitalize() + tokens + SHORT, answer) if answer else None


def pope(row: Row) -> Question | None:
    """POPE: is an object there, yes or no."""
    return Question(row["question"].strip() + SHORT, row["answer"].strip().capitalize())


def mme(row: Row) -> Question | None:
    """MME: yes or no, sub-task kept."""
    text = row["question"].strip().replace(MME_HINT, "") + SHORT
    return Question(text, row["answer"], row["category"])


def mmbench_en(row: Row) -> Question | None:
    """MMBench, English: options and the letter; copies with rotated options are left out."""
    return _mmbench(row, LETTER)


def mmbench_cn(row: Row) -> Question | None:
    """MMBench, Chinese."""
    return _mmbench(row, LETTER_CN)


def llava_wild(row: Row) -> Question | None:
    """LLaVA-Bench (in the wild): the reference answer is GPT-4's, written without the image."""
    return Question(row["question"], row["gpt_answer"])


def most_common(answers: Sequence[str]) -> str:
    """Return the most common answer; of equally common ones, the first given."""
    return Counter(answers).most_common(1)[0][0].strip() if answers else ""


def _mmbench(row: Row, order: str) -> Question | None:
    if int(row["index"]) >= MMBENCH_COPY or row.get("answer") in (None, "", "nan"):
        return None
    options = [letter for letter in "ABCDE" if row.get(letter) not in (None, "", "nan")]
    listed = "\n".join(f"{letter}. {row[letter]}" for letter in options)
    hint = "" if row.get("hint") in (None, "nan") else f"{row['hint']} "
    return Question(f"{hint}{row['question']} {MMBENCH_HEADING}\n{listed}\n{order}", row["answer"])

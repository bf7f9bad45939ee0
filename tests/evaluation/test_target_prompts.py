"""Target rows are asked with the very prompts that conf/benchmarks/paper.yaml asks with."""

import importlib
from pathlib import Path
from typing import Any

import lmms_eval.tasks
import pytest
import yaml

from icons_repro.data.targets.builders import BUILDERS

TASKS = Path(lmms_eval.tasks.__file__).parent
PAPER = Path(__file__).parents[2] / "conf" / "benchmarks" / "paper.yaml"
ANSWERS = ["a dog"] * 6 + ["dog"] * 4
OPTIONS = {"A": "one", "B": "two", "C": "nan", "D": None, "category": "ocr", "L2-category": "x"}
MMBENCH = {**OPTIONS, "index": 7, "answer": "B", "source": "s", "split": "dev", "question": "Q?"}
ROWS: dict[str, list[dict[str, Any]]] = {
    "vqav2": [{"question": "What is it?", "multiple_choice_answer": "dog"}],
    "gqa": [{"question": "Is it red?", "answer": "yes"}],
    "vizwiz": [{"question": "what is THIS?", "answers": ANSWERS}],
    "scienceqa_img": [
        {"question": "Which?", "choices": ["a", "b", "c"], "answer": 2, "hint": hint}
        for hint in ("", "Look.")
    ],
    "textvqa": [{"question": "what Is it?", "answers": ANSWERS, "ocr_tokens": ["STOP", "5"]}],
    "pope": [{"question": "Is there a dog in the image? ", "answer": "no"}],
    "mme": [{"question": "Is it? Please answer yes or no.", "answer": "Yes", "category": "count"}],
    "mmbench_en": [MMBENCH | {"hint": hint} for hint in ("nan", None, "Read.")],
    "mmbench_cn": [MMBENCH | {"hint": hint} for hint in ("nan", None, "读。")],
    "llava_wild": [{"question": "Describe it.", "gpt_answer": "A dog."}],
}
MODULES = {
    "vqav2": ("vqav2.utils", "vqav2_doc_to_text", "vqav2/vqav2_val.yaml"),
    "gqa": ("gqa.utils", "gqa_doc_to_text", "gqa/gqa.yaml"),
    "vizwiz": (
        "vizwiz_vqa.utils",
        "vizwiz_vqa_doc_to_text",
        "vizwiz_vqa/_default_template_vqa_yaml",
    ),
    "scienceqa_img": ("scienceqa.utils", "sqa_doc_to_text", "scienceqa/scienceqa_img.yaml"),
    "textvqa": ("textvqa.utils", "textvqa_doc_to_text", None),
    "pope": ("pope.utils", "pope_doc_to_text", "pope/pope.yaml"),
    "mme": ("mme.utils", "mme_doc_to_text", "mme/mme.yaml"),
    "mmbench_en": (
        "mmbench.en_utils",
        "mmbench_doc_to_text",
        "mmbench/_default_template_mmbench_en_yaml",
    ),
    "mmbench_cn": (
        "mmbench.en_utils",  # as conf/benchmarks/paper.yaml says
        "mmbench_doc_to_text",
        "mmbench/_default_template_mmbench_cn_yaml",
    ),
    "llava_wild": (
        "llava-in-the-wild.utils",
        "llava_doc_to_text",
        "llava-in-the-wild/llava-in-the-wild.yaml",
    ),
}  # fmt: skip


class _NoFunctions(yaml.SafeLoader):
    """Reads lmms-eval's task files without importing their functions."""


_NoFunctions.add_constructor("!function", lambda loader, node: str(node.value))


def options(task: str, file: str | None) -> dict[str, Any]:
    if file is None:  # our own options
        settings = yaml.safe_load(PAPER.read_text())["tasks"][task]["options"]
    else:
        settings = yaml.load((TASKS / file).read_text(), _NoFunctions)
    return dict(settings["lmms_eval_specific_kwargs"]["default"])


def test_the_builders_are_the_papers_ten_benchmarks() -> None:
    assert list(BUILDERS) == list(yaml.safe_load(PAPER.read_text())["tasks"]) == list(ROWS)


@pytest.mark.parametrize("task", list(BUILDERS))
def test_prompts_are_the_benchmarks_own(task: str) -> None:
    module, function, file = MODULES[task]
    ask = getattr(importlib.import_module(f"lmms_eval.tasks.{module}"), function)
    for row in ROWS[task]:
        question = BUILDERS[task].ask(row)
        assert question is not None
        assert question.text == ask(row, options(task, file))


@pytest.mark.parametrize(
    ("task", "answer"),
    [("vizwiz", "a dog"), ("textvqa", "a dog"), ("scienceqa_img", "C"), ("pope", "No")],
)
def test_answers_are_what_the_benchmark_counts_as_right(task: str, answer: str) -> None:
    question = BUILDERS[task].ask(ROWS[task][0])
    assert question is not None
    assert question.answer == answer

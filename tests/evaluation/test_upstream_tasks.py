"""Upstream's own tasks and metric code, with the paper's settings, on copies of the hub's folders.

lmms-eval names its data by a hub path (`lmms-lab-encoder/GQA`). A folder of that name under the
working directory comes first, so the tasks run here as they are, on a few rows of the real schema.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml
from evaluation_samples import picture
from lmms_eval.api.task import _resolve_hf_datasets_cache_dir
from shared_pictures import leakage_step, scene

from icons_repro.core.build import obtain
from icons_repro.core.cache import Cache
from icons_repro.evaluation.answers import read_rows
from icons_repro.evaluation.measured import read_answers
from icons_repro.evaluation.result import Result
from icons_repro.evaluation.runner import evaluate
from icons_repro.evaluation.settings import benchmarks_from_config
from icons_repro.report.leakage import leakage_section, leaked

CONF = Path(__file__).parents[2] / "conf" / "benchmarks" / "paper.yaml"
PAPER = {b.name: b for b in benchmarks_from_config(yaml.safe_load(CONF.read_text())["tasks"])}

Rows = list[dict[str, Any]]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write rows as a configuration of a hub dataset; those without an image get a picture."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    _resolve_hf_datasets_cache_dir.cache_clear()  # of the test before, with rows of its own
    rng = np.random.default_rng(0)

    def write(name: str, config: str, split: str, rows: Rows, images: bool = True) -> None:
        folder = tmp_path / "lmms-lab-encoder" / name
        table = datasets.Dataset.from_list(
            [{"image": picture(rng), **row} if images else row for row in rows]
        )
        if images:
            table = table.cast_column("image", datasets.Image())
        file = f"{config}/{split}-00000-of-00001.parquet"
        (folder / config).mkdir(parents=True)
        table.to_parquet(str(folder / file))
        card = folder / "README.md"
        old = yaml.safe_load(card.read_text().split("---")[1]) if card.exists() else {"configs": []}
        entry = {"config_name": config, "data_files": [{"split": split, "path": file}]}
        card.write_text(f"---\n{json.dumps({'configs': [*old['configs'], entry]})}\n---\n")

    return write


@pytest.fixture
def score(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, list[str]], Result]:
    """Make the model say `words`, question by question, and score it as the paper's config says."""
    from icons_repro.evaluation.lmms_model import LlavaLmms

    def run(name: str, words: list[str]) -> Result:
        def answer(self: Any, requests: Any, batch: Any) -> list[str]:
            return [words[requests[row].args[3]] for row in batch[1]]

        monkeypatch.setattr(LlavaLmms, "_inputs", answer)
        monkeypatch.setattr(LlavaLmms, "_answer", lambda self, inputs, decoding: inputs)
        result = evaluate(tiny_base, None, [PAPER[name]], None, tmp_path / "out")[name]
        assert result["status"] == "ok", result
        return result

    return run


def prompt(out: Path, name: str) -> str:
    """The first question as the task asked it."""
    stored = json.loads((out / "metrics" / f"{name}.json").read_text())
    return str(stored["task"]["prompt"])


def ten(**counts: int) -> list[str]:
    """Ten annotators' answers; `_` in a name stands for a space."""
    answers = [word.replace("_", " ") for word, n in counts.items() for _ in range(n)]
    assert len(answers) == 10
    return answers


def test_popes_own_f1_is_reported_and_follows_from_the_answers(
    tmp_path: Path, hub: Any, score: Any
) -> None:
    truth = ["yes", "no", "yes", "no", "yes", "no"]
    rows = [
        {"id": str(i), "question_id": str(i), "question": f"Is it {i}?", "answer": a,
         "image_source": f"COCO_{i}", "category": "random"}
        for i, a in enumerate(truth)
    ]  # fmt: skip
    hub("POPE", "default", "test", rows)
    result = score("pope", ["Yes", "yes", "no", "No", "yes", "dog"])
    precision, recall = 2 / 3, 2 / 3
    assert result["score"] == pytest.approx(100 * 2 * precision * recall / (precision + recall))
    assert result["n"] == 6
    answers = read_answers(tmp_path / "out", "pope")
    assert answers is not None
    assert answers.units.score() * 100 == pytest.approx(result["score"])


def test_mme_counts_perception_only_in_points(tmp_path: Path, hub: Any, score: Any) -> None:
    rows = [
        {"question_id": image, "question": f"{i}?", "answer": "Yes", "category": category}
        for i, (image, category) in enumerate(
            [("a", "count"), ("a", "count"), ("b", "count"), ("b", "count"),
             ("c", "code_reasoning"), ("c", "code_reasoning")]
        )
    ]  # fmt: skip
    hub("MME", "default", "test", rows)
    result = score("mme", ["yes", "yes", "yes", "no", "yes", "yes"])
    assert result["score"] == pytest.approx(75.0 + 50.0), "accuracy 75, accuracy+ 50"
    assert result["n"] == 4
    assert result["stderr"] is not None
    stored = json.loads((tmp_path / "out" / "metrics" / "mme.json").read_text())["metrics"]
    clustered = stored["mme_perception_score_stderr_clustered,none"]
    assert clustered > 0, "lmms-eval clusters its own error by picture too"


def test_vqav2_leaves_one_annotator_out_and_wants_three_others(
    tmp_path: Path, hub: Any, score: Any
) -> None:
    said = {
        "Two.": (ten(**{"2": 10}), 1.0),
        "a dog": (ten(the_dog=3, cat=7), 0.9),
        "T shirt": (ten(**{"t-shirt": 2, "coat": 8}), 0.6),
        "Red!": (ten(red=1, blue=9), 0.3),
        "green": (ten(blue=10), 0.0),
        "dont know": (ten(**{"don't know": 4, "no": 6}), 1.0),
    }
    rows = [
        {"question_type": "what", "multiple_choice_answer": Counter(answers).most_common(1)[0][0],
         "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": k}
                     for k, a in enumerate(answers, 1)],
         "image_id": i, "answer_type": "other", "question_id": 1000 + i, "question": f"What {i}?"}
        for i, (answers, _) in enumerate(said.values())
    ]  # fmt: skip
    hub("VQAv2", "default", "validation", rows)
    result = score("vqav2", list(said))
    assert result["score"] == pytest.approx(100 * 3.8 / 6)
    kept = read_rows(tmp_path / "out" / "answers" / "vqav2.jsonl")
    assert [row["score"] for row in kept] == pytest.approx([share for _, share in said.values()])
    assert [row["answer"] for row in kept] == ["2", "cat", "coat", "blue", "blue", "no"]
    assert result["stderr"] is not None


def test_vizwiz_counts_unanswerable_like_any_answer(hub: Any, score: Any) -> None:
    said = {
        "Unanswerable.": ten(unanswerable=9, a_can=1),
        "1,000": ten(**{"1000": 3, "10": 7}),
        "soup": ten(tomato_soup=10),
    }
    rows = [
        {"question_id": f"VizWiz_val_{i:08d}", "question": "what is this?", "answers": answers,
         "category": "other"}
        for i, answers in enumerate(said.values())
    ]  # fmt: skip
    hub("VizWiz-VQA", "default", "val", rows)
    assert score("vizwiz", list(said))["score"] == pytest.approx(100 * 1.9 / 3)


def test_textvqa_reads_the_ocr_tokens_in_the_prompt(tmp_path: Path, hub: Any, score: Any) -> None:
    said = {
        "The Coca Cola": ten(**{"coca-cola": 10}),
        "stop": ten(stop=2, stop_sign=8),
        "seven": ten(**{"7": 1, "1": 9}),
        "left": ten(right=10),
    }
    rows = [
        {"image_id": f"{i:016x}", "question_id": i, "question": "what does it say?",
         "question_tokens": ["what"], "image_width": 32, "image_height": 32,
         "flickr_original_url": "", "flickr_300k_url": "", "answers": answers,
         "image_classes": ["Sign"], "set_name": "val", "ocr_tokens": ["STOP", "42"]}
        for i, answers in enumerate(said.values())
    ]  # fmt: skip
    hub("textvqa", "default", "validation", rows)
    result = score("textvqa", list(said))
    assert result["score"] == pytest.approx(100 * (1.0 + 0.6 + 0.3) / 4)
    assert prompt(tmp_path / "out", "textvqa") == (
        "What does it say?\nReference OCR token: STOP, 42"
        "\nAnswer the question using a single word or phrase."
    )


def test_gqa_joins_its_images_by_name_and_ignores_case_and_punctuation_only(
    tmp_path: Path, hub: Any, score: Any
) -> None:
    said = {"Yes": "yes", "left.": "left", "blue": "red", "the dining table": "dining table"}
    rows = [
        {"id": f"20{i}", "imageId": f"n{i % 2}", "question": f"Is it {i}?", "answer": answer,
         "fullAnswer": f"It is {answer}.", "isBalanced": True}
        for i, answer in enumerate(said.values())
    ]  # fmt: skip
    hub("GQA", "testdev_balanced_instructions", "testdev", rows, images=False)
    hub("GQA", "testdev_balanced_images", "testdev", [{"id": "n0"}, {"id": "n1"}])
    result = score("gqa", list(said))
    assert result["score"] == pytest.approx(50.0)
    assert result["n"] == 4
    assert read_rows(tmp_path / "out" / "answers" / "gqa.jsonl")[3]["answer"] == "dining table"


def test_scienceqa_takes_a_letter_or_a_letter_with_its_text(
    tmp_path: Path, hub: Any, score: Any
) -> None:
    said = ["B", "b", "B. the moon", "C. the moon", "The answer is B", "(B)", "the moon"]
    rows = [
        {"question": "Which one?", "choices": ["the sun", "the moon", "Mars"], "answer": 1,
         "hint": "Look up.", "task": "closed choice", "grade": "grade3",
         "subject": "natural science", "topic": "earth-science", "category": "Astronomy",
         "skill": "Name it", "lecture": "", "solution": ""}
        for _ in said
    ]  # fmt: skip
    hub("ScienceQA", "ScienceQA-IMG", "test", rows)
    assert score("scienceqa_img", said)["score"] == pytest.approx(100 * 3 / 7)
    assert prompt(tmp_path / "out", "scienceqa_img") == (
        "Context: Look up.\nWhich one?\nA. the sun\nB. the moon\nC. Mars"
        "\nAnswer with the option's letter from the given choices directly."
    )


CIRCULAR = [
    (1, "A", "A"), (1_000_001, "B", "B."),
    (2, "A", "A"), (1_000_002, "B", "A"),
    (3, "A", "C"), (1_000_003, "B", "B"),
    (4, "B", "It is a blue bird."), (1_000_004, "A", "(A)"),
    (5, "C", "Answer:C"),
    (6, "C", "dunno"),
]  # fmt: skip
"""Index, right letter, what is said. Six questions: 1, 4 and 5 are right in every copy."""


@pytest.mark.parametrize(
    ("benchmark", "config", "post"),
    [
        ("mmbench_en", "en", "Answer with the option's letter from the given choices directly."),
        ("mmbench_cn", "cn", "请直接使用所提供的选项字母作为答案回答。"),
    ],
)
def test_mmbench_wants_every_circular_copy_right_and_reads_letters_by_rules(
    tmp_path: Path, hub: Any, score: Any, benchmark: str, config: str, post: str
) -> None:
    options = {4: ("red cat", "blue bird"), 1_000_004: ("blue bird", "red cat")}
    rows = [
        {"index": index, "question": "What is it?", "hint": "nan", "answer": right,
         "A": options.get(index, ("one", "two"))[0], "B": options.get(index, ("one", "two"))[1],
         "C": "three", "D": "nan", "category": "counting", "source": "here",
         "L2-category": "perception", "comment": "nan", "split": "dev"}
        for index, right, _ in CIRCULAR
    ]  # fmt: skip
    hub("MMBench", config, "dev", rows)
    result = score(benchmark, [said for *_, said in CIRCULAR])
    assert result["score"] == pytest.approx(100 * 3 / 6)
    assert result["stderr"] is None, "questions are not rows"
    assert prompt(tmp_path / "out", benchmark) == (
        f"What is it? There are several options:\nA. one\nB. two\nC. three\n\n{post}"
    )


def test_pictures_of_a_task_are_compared_with_the_pool_and_one_that_is_not_there_is_named(
    hub: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    rows = [
        {"id": str(i), "question_id": str(i), "question": "Is there a dog?", "answer": "no",
         "image_source": f"COCO_{i}", "category": "popular", "image": shown}
        for i, shown in enumerate([scene(0), scene(0), scene(20), scene(1).resize((48, 48))])
    ]  # fmt: skip
    hub("POPE", "default", "test", rows)
    tasks = {"pope": None, "gqa": {"task": "gqa"}, "none": {"task": "no_such_task"}}
    step = leakage_step(tasks=tasks, world=None, targets=None)
    folder = obtain(step, Cache(tmp_path / "cache"))
    found = leaked(folder)
    pope = found["tests_in_pool"]["pope"]
    assert (pope["pictures"], pope["of"]) == (3, 4)
    assert (pope["same"], pope["near"], pope["shown"]) == (1, 1, 3)
    assert set(found["not_checked"]) == {"gqa", "none"}
    assert "lmms-lab-encoder/GQA" in found["not_checked"]["gqa"]
    assert "no_such_task" in found["not_checked"]["none"]
    section = leakage_section(folder)
    _, _, table = section["leak_tables"][0]
    assert [row[0] for row in table] == ["pope", "gqa", "none"]
    assert any(note.startswith("gqa: not checked: data: ") for note in section["leak_notes"])
    assert any("reads none" in note for note in section["leak_notes"])

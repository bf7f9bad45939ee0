"""Small files with the schema and the layout of each benchmark's own release."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Row = dict[str, Any]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(seed: int, form: str = "PNG") -> bytes:
    """Return an encoded image that no other seed has."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format=form)
    return out.getvalue()


def write_split(folder: Path, name: str, rows: Sequence[Row], images: Sequence[bytes]) -> None:
    """Write rows as the two parquet files `name-0000x-of-00002`, with an image column if given."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    half = (len(rows) + 1) // 2
    for part, block in enumerate((slice(0, half), slice(half, None))):
        table = pa.Table.from_pylist(list(rows[block]))
        if images:
            column = [{"bytes": b, "path": None} for b in images[block]]
            table = table.append_column("image", pa.array(column, type=IMAGE))
        pq.write_table(table, folder / f"{name}-{part:05d}-of-00002.parquet")


def gqa(folder: Path, split: str, seeds: Sequence[int]) -> None:
    rows = [
        {"id": str(s), "imageId": f"n{s}", "question": f"Is {s} red?", "answer": "yes"}
        for s in seeds
    ]
    write_split(folder / "GQA", f"{split}_balanced_instructions/{split}", rows, [])
    images = [{"id": f"n{s}"} for s in reversed(seeds)]
    pictures = [picture(s) for s in reversed(seeds)]
    write_split(folder / "GQA", f"{split}_balanced_images/{split}", images, pictures)


def scienceqa(folder: Path, split: str, seeds: Sequence[int]) -> None:
    rows = [
        {
            "question": f"Which is {s}?",
            "choices": ["this", "that", "other"],
            "answer": s % 3,
            "hint": "Look closely." if s % 2 else "",
            "task": "closed choice",
            "grade": "grade2",
            "subject": "natural science",
            "topic": "physics",
            "category": "Magnets",
            "skill": "Compare",
            "lecture": "",
            "solution": "",
        }
        for s in seeds
    ]
    write_split(folder / "ScienceQA", f"ScienceQA-IMG/{split}", rows, [picture(s) for s in seeds])


def textvqa(folder: Path, split: str, seeds: Sequence[int]) -> None:
    rows = [
        {
            "image_id": f"t{s}",
            "question_id": s,
            "question": "what does the sign say?",
            "question_tokens": ["what"],
            "image_width": 8,
            "image_height": 6,
            "flickr_original_url": "",
            "flickr_300k_url": "",
            "answers": ["go"] * 3 + [f"stop {s}"] * 6 + ["unanswerable"],
            "image_classes": ["Sign"],
            "set_name": split,
            "ocr_tokens": ["STOP", str(s)],
        }
        for s in seeds
    ]
    write_split(folder / "textvqa", f"data/{split}", rows, [picture(s) for s in seeds])


def pope_test(folder: Path, seeds: Sequence[int]) -> None:
    rows = [
        {
            "id": str(s),
            "question_id": str(s),
            "question": "Is there a dog in the image?",
            "answer": "no",
            "image_source": f"COCO_val2014_{s:012d}",
            "category": "popular",
        }
        for s in seeds
    ]
    write_split(folder / "POPE", "data/test", rows, [picture(s, "PNG") for s in seeds])


def mme(folder: Path, seeds: Sequence[int]) -> None:
    rows = [
        {
            "question_id": f"{kind}/{s}.png",
            "question": f"Is it {s}? Please answer yes or no.",
            "answer": "Yes" if s % 2 else "No",
            "category": kind,
        }
        for s in seeds
        for kind in ("existence", "artwork")
    ]
    write_split(folder / "MME", "data/test", rows, [picture(s) for s in seeds for _ in range(2)])


def mmbench(folder: Path, language: str, seeds: Sequence[int]) -> None:
    rows = [
        {
            "index": s + copy * 1_000_000,
            "question": f"What is {s}?",
            "hint": "Read the text." if s % 2 else "nan",
            "answer": "B",
            "A": "one",
            "B": "two",
            "C": "three" if s % 2 else "nan",
            "D": "nan",
            "category": "ocr",
            "source": "made",
            "L2-category": "perception",
            "comment": "nan",
            "split": "dev",
        }
        for s in seeds
        for copy in range(2)
    ]
    images = [picture(s) for s in seeds for _ in range(2)]
    write_split(folder / "MMBench", f"{language}/dev", rows, images)


def llava_wild(folder: Path, seeds: Sequence[int]) -> None:
    rows = [
        {
            "question_id": s,
            "question": f"Describe {s}.",
            "caption": "A thing.",
            "gpt_answer": f"It is {s}.",
            "category": "detail",
            "image_id": f"{s:03d}.jpg",
        }
        for s in seeds
    ]
    write_split(folder / "llava-bench-in-the-wild", "data/train", rows, [picture(s) for s in seeds])


def vqav2(folder: Path, train: Sequence[int], test: Sequence[int]) -> None:
    """Official train files with images under both of COCO's names; validation as parquet."""
    home = folder / "VQAv2"
    questions = [{"image_id": s, "question": f"How many {s}?", "question_id": s} for s in train]
    annotations = [
        {
            "question_type": "how many",
            "multiple_choice_answer": str(s),
            "answers": [{"answer": str(s), "answer_confidence": "yes", "answer_id": 1}],
            "image_id": s,
            "answer_type": "number",
            "question_id": s,
        }
        for s in train
    ]
    for name in ("train2014", "train2017"):
        (home / name).mkdir(parents=True, exist_ok=True)
    write_json(
        home / "v2_OpenEnded_mscoco_train2014_questions.json",
        {"info": {}, "data_type": "mscoco", "questions": questions},
    )
    write_json(
        home / "v2_mscoco_train2014_annotations.json",
        {"info": {}, "data_type": "mscoco", "annotations": annotations},
    )
    for i, s in enumerate(train):
        name = f"train2014/COCO_train2014_{s:012d}.jpg" if i % 2 else f"train2017/{s:012d}.jpg"
        (home / name).write_bytes(picture(s, "JPEG"))
    rows = [
        {
            "question_type": "how many",
            "multiple_choice_answer": str(s),
            "answers": [{"answer": str(s), "answer_confidence": "yes", "answer_id": 1}],
            "image_id": s,
            "answer_type": "number",
            "question_id": s,
            "question": f"How  many {s}?",
        }
        for s in test
    ]
    write_split(home, "data/validation", rows, [picture(s, "JPEG") for s in test])


def vizwiz(folder: Path, train: Sequence[int], test: Sequence[int]) -> None:
    home = folder / "VizWiz-VQA"
    (home / "train").mkdir(parents=True)
    rows = []
    for s in train:
        answers = ["unanswerable"] * 6 if s % 2 else [f"can {s}"] * 6
        rows.append(
            {
                "image": f"VizWiz_train_{s:08d}.jpg",
                "question": f"what is {s}?",
                "answers": [{"answer_confidence": "yes", "answer": a} for a in [*answers, "soup"]],
                "answer_type": "other",
                "answerable": 1 - s % 2,
            }
        )
        (home / "train" / f"VizWiz_train_{s:08d}.jpg").write_bytes(picture(s, "JPEG"))
    write_json(home / "train.json", rows)
    held = [
        {"question_id": f"VizWiz_val_{s:08d}.jpg", "question": "what?", "answers": ["soup"] * 10,
         "category": "other"}
        for s in test
    ]  # fmt: skip
    write_split(home, "data/val", held, [picture(s, "JPEG") for s in test])


def coco(folder: Path, objects: Mapping[int, Sequence[str]]) -> None:
    """Instance annotations: which objects each image shows."""
    home = folder / "coco"
    (home / "train2014").mkdir(parents=True, exist_ok=True)
    names = sorted({name for shown in objects.values() for name in shown})
    numbers = {name: 10 * i + 1 for i, name in enumerate(names)}
    content = {
        "categories": [{"id": numbers[n], "name": n, "supercategory": "thing"} for n in names],
        "images": [{"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg"} for i in objects],
        "annotations": [
            {"id": 100 * i + j, "image_id": i, "category_id": numbers[n], "bbox": [0, 0, 1, 1]}
            for i, shown in objects.items()
            for j, n in enumerate([*shown, *shown[:1]])
        ],
    }
    write_json(home / "instances_train2014.json", content)
    for i in objects:
        name = home / "train2014" / f"COCO_train2014_{i:012d}.jpg"
        name.write_bytes(picture(i, "PNG"))


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))

import json
from pathlib import Path

import benchmark_files as made
import numpy as np
import pytest

from icons_repro.core.errors import ConfigError, DataError, UserError
from icons_repro.core.settings import RecordPolicy
from icons_repro.data.records import RecordTable, build_records
from icons_repro.data.targets.build import build_task, choose_tasks, pixels_hash
from icons_repro.data.targets.builders import BUILDERS
from icons_repro.data.targets.coco import CocoObjects, rank_absent

SHORT = "\nAnswer the question using a single word or phrase."


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Every benchmark: rows 1 to 9; the test splits show 8, 9 and more."""
    folder = tmp_path / "sources"
    train, test = range(1, 10), range(8, 14)
    made.gqa(folder, "val", train)
    made.gqa(folder, "testdev", test)
    made.scienceqa(folder, "validation", train)
    made.scienceqa(folder, "test", test)
    made.textvqa(folder, "train", train)
    made.textvqa(folder, "validation", test)
    made.vqav2(folder, train, test)
    made.vizwiz(folder, train, test)
    shown = {i: ["cat", "dog", "cup", "orange"][: 2 + i % 3] for i in train}
    made.coco(folder, shown | {99: ["car", "bus", "sink", "oven"]})
    made.pope_test(folder, test)
    made.mme(folder, train)
    made.mmbench(folder, "en", train)
    made.mmbench(folder, "cn", train)
    made.llava_wild(folder, train)
    return folder


def rows_of(out: Path, task: str) -> list[dict]:
    return json.loads((out / f"{task}.json").read_text())


@pytest.mark.parametrize("task", list(BUILDERS))
def test_every_builder_writes_rows_that_the_reader_takes(
    task: str, sources: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    statement = build_task(task, 5, 0, sources, out)
    assert statement["rows"] == 5 == len(rows_of(out, task))
    (out / "records").mkdir()
    strict = RecordPolicy(check_images="decode")
    counts = build_records(out / f"{task}.json", out / "images", out / "records", strict)
    assert counts["usable"] == 5
    table = RecordTable(out / "records" / "records.arrow")
    assert table.image_counts.tolist() == [1] * 5


@pytest.mark.parametrize("task", [t for t, b in BUILDERS.items() if not b.tests_itself])
def test_images_of_the_test_split_are_left_out_and_counted(
    task: str, sources: Path, tmp_path: Path
) -> None:
    statement = build_task(task, 1000, 0, sources, tmp_path)
    test = {pixels_hash(made.picture(s, form)) for s in range(8, 14) for form in ("PNG", "JPEG")}
    kept = {path.stem for path in (tmp_path / "images" / task).iterdir()}
    assert kept
    assert not kept & test
    left_out = statement["left_out"]
    dropped = left_out.get("test_image", 0) + left_out.get("test_image_and_question", 0)
    assert dropped >= 2
    assert statement["test_images"] == 6
    total = statement["rows"] + sum(left_out.values())
    assert total == statement["of"]
    if task in ("vqav2", "gqa", "scienceqa_img", "textvqa"):
        assert left_out["test_image_and_question"] == 2  # the same wording, but for case and space


def test_splits_are_taken_from_the_hubs_cache(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "hub" / "datasets--lmms-lab-encoder--textvqa"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("a" * 40)
    (cached / "snapshots").mkdir()
    (sources / "textvqa").rename(cached / "snapshots" / ("a" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert build_task("textvqa", 3, 0, sources, tmp_path)["rows"] == 3


def test_the_draw_follows_its_seed_and_not_the_other_tasks(sources: Path, tmp_path: Path) -> None:
    drawn = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        statement = build_task("gqa", 4, seed, sources, tmp_path / name)
        drawn.append(statement["blake2b"])
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("task", "question", "answer"),
    [
        ("vqav2", f"How many 3?{SHORT}", "3"),
        ("gqa", f"Is 3 red?{SHORT}", "yes"),
        (
            "vizwiz",
            "What is 3?\nWhen the provided information is insufficient, respond with "
            f"'Unanswerable'.{SHORT}",
            "Unanswerable",
        ),
        (
            "scienceqa_img",
            "Context: Look closely.\nWhich is 3?\nA. this\nB. that\nC. other\n"
            "Answer with the option's letter from the given choices directly.",
            "A",
        ),
        ("textvqa", f"What does the sign say?\nReference OCR token: STOP, 3{SHORT}", "stop 3"),
        ("mme", f"Is it 3?{SHORT}", "Yes"),
        (
            "mmbench_en",
            "Read the text. What is 3? There are several options:\nA. one\nB. two\nC. three\n"
            "\nAnswer with the option's letter from the given choices directly.",
            "B",
        ),
        ("llava_wild", "Describe 3.", "It is 3."),
    ],
)
def test_each_benchmark_is_asked_as_it_asks(
    task: str, question: str, answer: str, sources: Path, tmp_path: Path
) -> None:
    build_task(task, 1000, 0, sources, tmp_path)
    turns = [row["conversations"] for row in rows_of(tmp_path, task)]
    assert [
        {"from": "human", "value": f"<image>\n{question}"},
        {"from": "gpt", "value": answer},
    ] in turns


def test_every_row_carries_its_own_image(sources: Path, tmp_path: Path) -> None:
    build_task("gqa", 1000, 0, sources, tmp_path)
    for row in rows_of(tmp_path, "gqa"):
        number = int(row["conversations"][0]["value"].split()[2])
        assert Path(row["image"]).stem == pixels_hash(made.picture(number))


def test_mme_keeps_its_subtasks_and_mmbench_leaves_copies_out(
    sources: Path, tmp_path: Path
) -> None:
    build_task("mme", 1000, 0, sources, tmp_path)
    assert {row["category"] for row in rows_of(tmp_path, "mme")} == {"existence", "artwork"}
    statement = build_task("mmbench_cn", 1000, 0, sources, tmp_path)
    assert statement["rows"] == 9
    assert statement["left_out"]["no_answer"] == 9
    assert "not held out" in statement["overlap"]


def test_pope_asks_as_often_about_what_is_there_as_about_what_is_not(
    sources: Path, tmp_path: Path
) -> None:
    shown = {99: {"car", "bus", "sink", "oven"}}
    shown |= {i: set(["cat", "dog", "cup", "orange"][: 2 + i % 3]) for i in range(1, 10)}
    rows = CocoObjects().open(sources).rows
    for row in rows:
        image = int(Path(row["file"]).stem.split("_")[-1])
        words = row["question"].removeprefix("Is there ").removesuffix(" in the image?").split()
        assert words[0] == ("an" if words[1] in ("oven", "orange") else "a")
        assert (row["answer"] == "yes") == (words[1] in shown[image])
    asked = {int(Path(row["file"]).stem.split("_")[-1]) for row in rows}
    assert asked == {image for image, objects in shown.items() if len(objects) > 2}
    assert {r["category"] for r in rows} == {"random", "popular", "adversarial"}
    answers = [r["answer"] for r in rows]
    assert answers.count("yes") == answers.count("no") == 3 * len({r["file"] for r in rows})


def test_absent_objects_are_ranked_as_pope_ranks_them() -> None:
    shows = np.array(
        [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0]], bool
    )
    together = shows.T.astype(int) @ shows
    rng = np.random.default_rng(0)
    assert rank_absent(shows[0], together, "popular", rng).tolist() == [3, 2, 4]
    assert rank_absent(shows[0], together, "adversarial", rng)[0] == 2
    assert sorted(rank_absent(shows[0], together, "random", rng)) == [2, 3, 4]


def test_benchmarks_without_a_split_of_their_own_must_be_asked_for() -> None:
    counts = {"gqa": 3, "mme": 3, "pope": 3}
    assert choose_tasks(counts, []) == ["gqa", "pope"]
    assert choose_tasks(counts, ["mme"]) == ["gqa", "mme", "pope"]
    with pytest.raises(ConfigError, match="vqa2"):
        choose_tasks({"vqa2": 3}, [])


def test_missing_and_broken_sources_are_named_with_their_remedy(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations = sources / "VQAv2" / "v2_mscoco_train2014_annotations.json"
    whole = annotations.read_text()
    annotations.write_text(whole[:-40])
    with pytest.raises(DataError, match=r"annotations\.json is not"):
        build_task("vqav2", 5, 0, sources, tmp_path)
    annotations.unlink()
    with pytest.raises(UserError, match=r"annotations\.json: no such file. Put"):
        build_task("vqav2", 5, 0, sources, tmp_path)
    for path in (sources / "coco" / "train2014").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="no image"):
        build_task("pope", 5, 0, sources, tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"cannot be reached.*nowhere/textvqa/data/train"):
        build_task("textvqa", 5, 0, tmp_path / "nowhere", tmp_path)
    made.vqav2(sources, range(1, 4), range(1))
    for path in (sources / "VQAv2" / "data").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"cannot be reached.*VQAv2/data/validation"):
        build_task("vqav2", 5, 0, sources, tmp_path)

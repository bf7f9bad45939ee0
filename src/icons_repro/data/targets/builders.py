"""The ten target tasks of the paper: rows from here, tested on there, asked like this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from icons_repro.data.targets import questions
from icons_repro.data.targets.coco import CocoObjects
from icons_repro.data.targets.questions import Question, Row
from icons_repro.data.targets.sources import HubSplit, OfficialFiles, Source

HUB = "lmms-lab-encoder"


@dataclass(frozen=True)
class Builder:
    """How one benchmark's rows become target rows."""

    rows: Source
    test: HubSplit
    """What conf/benchmarks/paper.yaml scores on; rows that show its images are left out."""
    ask: Callable[[Row], Question | None]

    @property
    def tests_itself(self) -> bool:
        """Whether the only public rows are the ones that the benchmark scores on."""
        return self.rows == self.test


def gqa_split(split: str) -> HubSplit:
    """GQA's balanced questions of a split, whose images are a table of their own."""
    images = HubSplit(f"{HUB}/GQA", split, f"{split}_balanced_images")
    return HubSplit(f"{HUB}/GQA", split, f"{split}_balanced_instructions", images)


def only_split(repository: str, split: str, config: str | None = None) -> tuple[HubSplit, HubSplit]:
    """A benchmark that publishes nothing but what it scores on."""
    one = HubSplit(f"{HUB}/{repository}", split, config)
    return one, one


BUILDERS = {
    "vqav2": Builder(
        OfficialFiles(
            folder="VQAv2",
            parts=(
                "v2_OpenEnded_mscoco_train2014_questions.json",
                "v2_mscoco_train2014_annotations.json",
            ),
            lists=("questions", "annotations"),
            image="image_id",
            image_folders=("train2014", "train2017"),
            image_names=("COCO_train2014_{:012d}.jpg", "{:012d}.jpg"),
            website="visualqa.org/download.html",
        ),
        HubSplit(f"{HUB}/VQAv2", "validation"),
        questions.vqav2,
    ),
    "gqa": Builder(gqa_split("val"), gqa_split("testdev"), questions.gqa),
    "vizwiz": Builder(
        OfficialFiles(
            folder="VizWiz-VQA",
            parts=("train.json",),
            lists=(None,),
            image="image",
            image_folders=("train",),
            website="vizwiz.org/tasks-and-datasets/vqa",
        ),
        HubSplit(f"{HUB}/VizWiz-VQA", "val"),
        questions.vizwiz,
    ),
    "scienceqa_img": Builder(
        HubSplit(f"{HUB}/ScienceQA", "validation", "ScienceQA-IMG"),
        HubSplit(f"{HUB}/ScienceQA", "test", "ScienceQA-IMG"),
        questions.scienceqa,
    ),
    "textvqa": Builder(
        HubSplit(f"{HUB}/textvqa", "train"),
        HubSplit(f"{HUB}/textvqa", "validation"),
        questions.textvqa,
    ),
    "pope": Builder(CocoObjects(), HubSplit(f"{HUB}/POPE", "test"), questions.pope),
    "mme": Builder(*only_split("MME", "test"), questions.mme),
    "mmbench_en": Builder(*only_split("MMBench", "dev", "en"), questions.mmbench_en),
    "mmbench_cn": Builder(*only_split("MMBench", "dev", "cn"), questions.mmbench_cn),
    "llava_wild": Builder(*only_split("llava-bench-in-the-wild", "train"), questions.llava_wild),
}

"""POPE's questions, asked anew about COCO images that POPE does not test on.

POPE publishes a test split alone. Its protocol (Li et al. 2023, "Evaluating Object Hallucination in
Large Vision-Language Models", section 5) needs object annotations only, so the same questions can
be asked about COCO's training images: for each image three objects that are there and three that
are not, the absent ones drawn at random, or the most frequent, or those that most often appear
together with the ones that are there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from icons_repro.core.errors import DataError, UserError
from icons_repro.data.targets.sources import BenchmarkRows, ImageKey

PER_IMAGE = 3
"""Objects that are there, and as many that are not; images with fewer are not asked about."""
NEGATIVES = ("random", "popular", "adversarial")


@dataclass(frozen=True)
class CocoObjects:
    """COCO's instance annotations and the images they are about."""

    folder: str = "coco"
    annotations: str = "instances_train2014.json"
    images: str = "train2014"
    website: str = "cocodataset.org"
    seed: int = 0

    @property
    def name(self) -> str:
        """The file, and where it is from."""
        return f"{self.annotations} ({self.website}), by POPE's protocol"

    def files(self, folder: Path) -> list[Path]:
        """Return the annotation file if it is there."""
        return [p for p in [folder / self.folder / self.annotations] if p.exists()]

    def open(self, folder: Path) -> CocoRows:
        """Open the annotations. They are not on the hub in this form."""
        home = folder / self.folder
        if not (home / self.annotations).is_file():
            raise UserError(
                f"{home / self.annotations}: no such file. Put it there from {self.website}, and "
                f"the images into {home / self.images}."
            )
        return CocoRows(self, home)


@dataclass(frozen=True)
class CocoRows(BenchmarkRows):
    """POPE's questions about every image with enough objects."""

    source: CocoObjects
    home: Path

    @cached_property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Six questions an image; the three kinds of absent objects take turns."""
        path = self.home / self.source.annotations
        try:
            content = json.loads(path.read_text())
            names = {c["id"]: c["name"] for c in content["categories"]}
            files = {i["id"]: i["file_name"] for i in content["images"]}
            seen = {(a["image_id"], a["category_id"]) for a in content["annotations"]}
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not COCO's instance annotations: {error!r}.") from error
        images, kinds = sorted(files), sorted(names)
        present = np.zeros((len(images), len(kinds)), dtype=bool)
        row, column = ({key: i for i, key in enumerate(keys)} for keys in (images, kinds))
        for image, kind in seen:
            present[row[image], column[kind]] = True
        rng = np.random.default_rng(self.source.seed)
        together = present.T.astype(np.int64) @ present
        found: list[dict[str, Any]] = []
        for turn, i in enumerate(np.flatnonzero(present.sum(axis=1) >= PER_IMAGE)):
            how = NEGATIVES[turn % len(NEGATIVES)]
            there = rng.permutation(np.flatnonzero(present[i]))
            absent = rank_absent(present[i], together, how, rng)
            for answer, objects in (("yes", there), ("no", absent)):
                for j in objects[:PER_IMAGE]:
                    found.append(
                        {
                            "question_id": len(found),
                            "question": f"Is there {with_article(names[kinds[j]])} in the image?",
                            "answer": answer,
                            "category": how,
                            "file": files[images[i]],
                        }
                    )
        return found

    def image_keys(self) -> Sequence[ImageKey | None]:
        """The image's file name."""
        return [row["file"] for row in self.rows]

    def images(self, wanted: Sequence[int]) -> Iterator[bytes]:
        """Read each image's file."""
        for i in wanted:
            path = self.home / self.source.images / self.rows[i]["file"]
            if not path.is_file():
                raise DataError(f"no image {path} for {self.source.name}.")
            yield path.read_bytes()


def rank_absent(
    present: np.ndarray, together: np.ndarray, how: str, rng: np.random.Generator
) -> np.ndarray:
    """Return the objects `[absent]` that an image `[C]` does not show, most wanted first.

    `together` `[C, C]` counts the images that show both objects; its diagonal counts each one's.
    Equally wanted ones come in random order.
    """
    absent = rng.permutation(np.flatnonzero(~present))
    if how == "random":
        return absent
    frequency = together.diagonal() if how == "popular" else together[present].sum(axis=0)
    return absent[np.argsort(-frequency[absent], kind="stable")]


def with_article(name: str) -> str:
    """Return "a dog", "an orange"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"

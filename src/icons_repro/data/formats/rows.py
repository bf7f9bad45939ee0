"""One row of a source as one of the pool's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from icons_repro.data.formats.base import Fields, SourceSpec, UnfitRow
from icons_repro.data.formats.pictures import Pictures
from icons_repro.data.formats.turns import column, conversation, shown
from icons_repro.data.validation import RowProblem, unusable_row


def pool_row(row: Fields | RowProblem, source: SourceSpec, pictures: Pictures) -> dict[str, Any]:
    """Return the row in LLaVA's schema, its images kept; an unfit one says what is wrong with it.

    Its image paths are of the images' content, so that the row's key is, too, wherever the images
    lay.
    """
    try:
        if isinstance(row, RowProblem):
            return unusable_row(row)
        if not isinstance(row, Mapping):
            raise UnfitRow("not_an_object", f"expected an object, found {type(row).__name__}")
        found = conversation(row, source.columns)
        names = [pictures.keep(image) for image in shown(found, _listed(row, source))]
    except UnfitRow as unfit:
        return unusable_row(unfit.problem)
    made: dict[str, Any] = {}
    for role in ("id", "category"):
        value = column(row, role, source.columns)
        made |= {role: str(value)} if value is not None else {}
    if names:
        made["image"] = names[0] if len(names) == 1 else names
    own = column(row, "source", source.columns)
    made["source"] = source.name or (own if isinstance(own, str) and own else source.format)
    return made | {"conversations": found.turns}


def image_paths(row: Fields | RowProblem, source: SourceSpec) -> Iterator[str]:
    """Yield the images of a row that are files below a folder."""
    if not isinstance(row, Mapping):
        return
    try:
        images = shown(conversation(row, source.columns), _listed(row, source))
    except UnfitRow:
        return
    for image in images:
        path = image.get("path") if isinstance(image, Mapping) and not image.get("bytes") else image
        if isinstance(path, str) and path and not path.startswith("data:"):
            yield path


def _listed(row: Fields, source: SourceSpec) -> Any:
    return column(row, "images", source.columns)

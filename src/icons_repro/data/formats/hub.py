"""Datasets of the Hugging Face hub, or folders in any layout that `datasets` reads.

Nothing of a dataset is run: `datasets` from version 4 on knows no loading scripts. Its files are
fetched once, at one commit, into the hub's own cache, and read from there as a stream, so that
`datasets` makes no copy of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from icons_repro.core.errors import ConfigError, DataError
from icons_repro.data.formats.base import Fields, Format, SourceSpec
from icons_repro.models.hub import fetch

ABOUT = ("README.md", "*.json", "*.jsonl")
"""Files that may say which files a split is of."""


class Hub(Format):
    """Shards as the dataset's files are."""

    def shards(self, source: SourceSpec) -> Sequence[str]:
        """Number them."""
        return [str(number) for number in range(opened(source).num_shards)]

    def rows(self, source: SourceSpec, shard: str, wanted: Collection[str]) -> Iterator[Fields]:
        """Read a shard's rows, images as the bytes that they are."""
        folder, stream = home(source), opened(source)
        stream = stream.shard(num_shards=stream.num_shards, index=int(shard))
        names = [name for name in stream.column_names or [] if name in wanted]
        stream = stream.select_columns(names) if names else stream
        try:
            for row in stream:
                yield {name: with_bytes(value, folder) for name, value in row.items()}
        except Exception as error:  # whatever the dataset's own format raises
            raise DataError(
                f"{source.where}, part {shard}, cannot be read ({error}). It is cut or damaged: "
                "fetch it again."
            ) from error

    def fields(self, source: SourceSpec, shard: str) -> list[str]:
        """Return the columns."""
        return sorted(opened(source).column_names or super().fields(source, shard))


def home(source: SourceSpec) -> Path:
    """Return the folder with the dataset's files, fetched if they are not here."""
    repository, _, commit = source.files.hub.rpartition("@")
    if not repository:
        return Path(source.files.path)
    patterns = [*source.patterns, *ABOUT] if source.patterns else ["*"]
    return fetch(repository, patterns, commit, kind="dataset")


def opened(source: SourceSpec) -> Any:
    """Return the split as a stream of rows, undecoded. Raises `DataError` if there is none."""
    datasets = the_library()
    folder = home(source)
    try:
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            return _saved(datasets.load_from_disk(str(folder)), source)
        chosen = {source.split: list(source.patterns)} if source.patterns else None
        return datasets.load_dataset(
            str(folder),
            source.subset or None,
            split=source.split,
            data_files=chosen,
            streaming=True,
        ).decode(False)
    except (ValueError, OSError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{source.where}, split {source.split}: {error} data.subset, data.split and data.files "
            "say what of a dataset to read."
        ) from error


def _saved(found: Any, source: SourceSpec) -> Any:
    """Return what `save_to_disk` wrote; a single dataset has no splits."""
    if isinstance(found, dict):
        if source.split not in found:
            raise ValueError(f"no such split among {sorted(found)}.")
        found = found[source.split]
    return found.to_iterable_dataset().decode(False)


def with_bytes(value: Any, folder: Path) -> Any:
    """Return a value in which images that are files of the dataset are their bytes.

    `datasets` names them by their whole path. One that leads out of the folder stays a path.
    """
    if isinstance(value, list):
        return [with_bytes(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    path = value.get("path")
    if isinstance(path, str) and value.get("bytes") is None and Path(path).is_absolute():
        real = Path(path).resolve()
        # the hub's cache has links from `snapshots/COMMIT/` into `blobs/`
        blobs = folder.parents[1] / "blobs" if folder.parent.name == "snapshots" else folder
        if real.is_relative_to(folder.resolve()) or real.is_relative_to(blobs.resolve()):
            return {"bytes": real.read_bytes(), "path": path}
    return {name: with_bytes(item, folder) for name, item in value.items()}


def the_library() -> Any:
    """Return the module `datasets`. Raises `ConfigError` where it is not installed."""
    try:
        import datasets
        import datasets.exceptions
    except ModuleNotFoundError as error:
        raise ConfigError(
            "data.hub needs the package `datasets`: pip install 'icons-repro[hub]'."
        ) from error
    return datasets

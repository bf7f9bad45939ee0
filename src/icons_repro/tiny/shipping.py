"""The bases that ship, beside what `experiment=pretrain_tiny` makes.

python -m icons_repro.tiny.shipping OUTPUT            compare every base made below OUTPUT
python -m icons_repro.tiny.shipping OUTPUT --ship     put them, and their manifests, in their place

A shipped base has a manifest beside its folder, the one of the step that made it. On the machine
that made it the same command makes the same bytes; on another, sums may round otherwise, even where
torch takes the same kernels: the processor's model counts too.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from icons_repro.core.commands import errors_in_a_line, parser_of
from icons_repro.core.errors import DataError, UserError
from icons_repro.core.files import content_hash, read_json, write_json
from icons_repro.tiny.model import WIDTH, weights_file

MADE = "shipped.safetensors"


@dataclass(frozen=True)
class MadeBase:
    """A finished pre-training."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def width(self) -> int:
        """Hidden size of its language model."""
        return int(self.manifest["config"]["settings"]["width"])

    @property
    def weights(self) -> Path:
        """What it would ship."""
        return self.folder / MADE


def manifest_file(width: int = WIDTH) -> Path:
    """Return the manifest of the shipped base of a width. Raises `ConfigError` if none ships."""
    folder = weights_file(width).parent
    return folder.with_name(f"{folder.name}.json")


def made_below(output: Path) -> Iterator[MadeBase]:
    """Yield the finished pre-trainings below a folder, by width.

    Raises `UserError` if there is none, or two of one width.
    """
    found: dict[int, MadeBase] = {}
    for path in sorted(output.rglob(f"pretrain/*/{MADE}")):
        manifest = read_json(path.parent / "manifest.json")
        if not isinstance(manifest, dict):
            continue  # an attempt that has not ended
        base = MadeBase(path.parent, manifest)
        if base.width in found:
            raise UserError(f"{found[base.width].folder} and {base.folder} have one width.")
        found[base.width] = base
    if not found:
        raise UserError(f"no base below {output}: run python run.py experiment=pretrain_tiny.")
    yield from (found[width] for width in sorted(found, reverse=True))


def ship(base: MadeBase) -> None:
    """Copy weights and manifest to where the package has them.

    Of the files that the step made the manifest names the one that ships: the others are a corpus
    of some 40,000 pictures. It also says which of its kernels torch took: they decide how sums
    round.
    """
    shutil.copyfile(base.weights, weights_file(base.width))
    told = {
        "files": {MADE: base.manifest["files"][MADE]},
        "kernels": _kernels(),
    }
    write_json(manifest_file(base.width), base.manifest | told)


def difference(base: MadeBase) -> str:
    """Say how a base differs from the shipped one, "" for not at all.

    Raises `DataError` if the shipped weights are not those of their manifest.
    """
    shipped = weights_file(base.width)
    told = read_json(manifest_file(base.width))
    if not isinstance(told, dict) or told["files"][MADE][1] != content_hash(shipped):
        raise DataError(f"{shipped} is not what {manifest_file(base.width)} says was made.")
    if content_hash(base.weights) == content_hash(shipped):
        return ""
    ours, theirs = (tree["config"] for tree in (base.manifest, told))
    if ours["settings"] != theirs["settings"] or base.manifest["version"] != told["version"]:
        return "another recipe than the shipped one's"
    made, here = (
        f"torch {manifest['versions']['torch']}, {manifest['machine']}, {kernels}"
        for manifest, kernels in ((told, told["kernels"]), (base.manifest, _kernels()))
    )
    return (
        f"other bytes, by the same recipe: the shipped one was made by {made}, this one by {here}; "
        "another model of processor rounds otherwise, too"
    )


def _kernels() -> str:
    return torch.backends.cpu.get_cpu_capability()


def main(arguments: list[str]) -> None:
    """Run the command; a difference is exit code 1."""
    parser = parser_of("tiny.shipping", __doc__)
    parser.add_argument("output", type=Path, help="where the pre-trainings were run")
    parser.add_argument("--ship", action="store_true", help="put them in the package's place")
    options = parser.parse_args(arguments)
    told = []
    with errors_in_a_line():
        for base in made_below(options.output):
            if options.ship:
                ship(base)
            told.append(difference(base))
            verdict = told[-1] or "the shipped base, bit for bit"
            sys.stdout.write(f"width {base.width}: {verdict}\n")
    sys.exit(1 if any(told) else 0)


if __name__ == "__main__":
    main(sys.argv[1:])

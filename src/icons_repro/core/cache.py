"""One folder for each result, named by what made it.

    <root>/<stage>/<fingerprint>/               complete: it has a manifest.json
    <root>/<stage>/<fingerprint>.<owner>.part/  an attempt: one owner's, never another's
    <root>/<stage>/<fingerprint>.shared.part/   an attempt that several workers fill (SharedStep)
    <root>/<stage>/<fingerprint>.<n>.damaged/   what was no longer whole when it was made again
    <root>/<stage>/<fingerprint>.claim          who is making it (claims.py)
    <root>/workers/<owner>.alive                heartbeats

A manifest lists the artifact's files (integrity.py). One of which a file is missing, or has another
size, counts as missing itself. Deleting any of it is always safe.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icons_repro.core.claims import WATCH, Heart, Owner, read_owner
from icons_repro.core.errors import UserError
from icons_repro.core.files import read_json, write_text
from icons_repro.core.integrity import MANIFEST, damage, describe, open_to_readers
from icons_repro.core.provenance import provenance
from icons_repro.core.step import FINGERPRINT_LENGTH, Counts, Step

log = logging.getLogger(__name__)
FINGERPRINT = re.compile(rf"[0-9a-f]{{{FINGERPRINT_LENGTH}}}")


@dataclass(frozen=True)
class Artifact:
    """A finished step."""

    step: Step
    path: Path
    cached: bool
    """True if nobody had to compute it for this run."""
    seconds: float
    """Time its computation took, whenever that was."""


class Cache:
    """Knows where each step's result is, or will be, and what the finished ones say."""

    def __init__(self, root: Path, verify: bool = False) -> None:
        """`verify` reads every artifact that is used, once, to see that its content is the same."""
        self.root = root
        self.verify = verify
        self._whole: set[tuple[Path, int]] = set()
        self._told: set[tuple[Path, str]] = set()

    def path(self, step: Step) -> Path:
        """Return where the finished step is, or will be."""
        return self.root / step.stage / step.fingerprint

    def is_ready(self, step: Step) -> bool:
        """Return whether the step is finished, and whole; one that is not is named once."""
        problem = self.damage(self.path(step))
        if problem and (self.path(step), problem) not in self._told:
            self._told.add((self.path(step), problem))
            log.warning("%s is damaged and counts as missing: %s", self.path(step), problem)
        return problem is None

    def damage(self, path: Path) -> str | None:
        """Say what is wrong with the artifact at `path`: "" if it is not there, None if nothing is.

        A whole one is looked at once, until its manifest is another.
        """
        try:
            written = (path / MANIFEST).stat().st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            return f"it has no {MANIFEST}" if path.exists() else ""
        if (path, written) in self._whole:
            return None
        manifest = read_json(path / MANIFEST)
        if not isinstance(manifest, dict):
            return f"{MANIFEST} is cut"
        files = manifest.get("files", {})  # older ones list none
        problem = damage(path, files, self.verify) or self._broken_link(files)
        if problem is None:
            self._whole.add((path, written))
        return problem

    def _broken_link(self, files: Mapping[str, Any]) -> str | None:
        """Say which link leads into another artifact that is not whole (a pool's to its world)."""
        root = self.root.resolve()
        for name, target in files.items():
            if not isinstance(target, str) or not Path(target).is_relative_to(root):
                continue
            parts = Path(target).relative_to(root).parts
            if len(parts) < 2 or not FINGERPRINT.fullmatch(parts[1]):
                continue
            problem = self.damage(root.joinpath(*parts[:2]))
            if problem is not None:
                return f"{name} leads into {'/'.join(parts[:2])}: {problem or 'it is gone'}"
        return None

    def manifest(self, step: Step) -> dict[str, Any]:
        """Return the manifest of a finished step. Raises `UserError` naming one that is cut."""
        found = read_json(self.path(step) / MANIFEST)
        if not isinstance(found, dict):
            raise UserError(
                f"{self.path(step) / MANIFEST} cannot be read; delete {self.path(step)}, and it is "
                "computed again."
            )
        return found

    def artifact(self, step: Step, cached: bool) -> Artifact:
        """Return a finished step as an artifact."""
        return Artifact(step, self.path(step), cached, float(self.manifest(step)["seconds"]))

    @property
    def owner(self) -> Owner:
        """This process, as an owner of claims and attempts."""
        return Heart.of(self.root / "workers").owner

    def claim(self, step: Step) -> Path:
        """Return the file that says who is making the step."""
        return self.path(step).with_suffix(".claim")

    def attempt(self, step: Step) -> Path:
        """Return this process's folder for the step, made, with what a dead attempt left.

        Only a resumable step takes up what is left; other leftovers are removed.
        """
        mine = self.path(step).with_suffix(f".{self.owner.id}.part")
        mine.parent.mkdir(parents=True, exist_ok=True)
        if mine.exists():
            return mine
        left = self.path(step).parent.glob(f"{step.fingerprint}.*.part")
        dead = [part for part in left if self.is_dead(part)]
        dead.sort(key=lambda part: part.stat().st_mtime)
        for part in dead[:-1] if step.resumable else dead:
            shutil.rmtree(part, ignore_errors=True)
        if step.resumable and dead:
            os.rename(dead[-1], mine)
        mine.mkdir(exist_ok=True)
        return mine

    def shared_attempt(self, step: Step) -> Path:
        """Return the folder that all workers on the step fill together, made."""
        part = self.path(step).with_suffix(".shared.part")
        part.mkdir(parents=True, exist_ok=True)
        return part

    def is_dead(self, part: Path) -> bool:
        """Whether the process that filled this attempt has died, as far as can be told by now."""
        name = part.name.split(".")[1]
        if name == "shared":
            return False
        card = self.root / "workers" / f"{name}.alive"
        owner = read_owner(card)
        return owner is None or WATCH.dead(owner)

    def publish(self, step: Step, part: Path, counts: Counts | None, seconds: float) -> bool:
        """Write the manifest and rename an attempt into place; False if another's was quicker.

        What stands there and is not whole is moved aside.
        """
        manifest = {
            **step.identity,
            "fingerprint": step.fingerprint,
            "label": step.label,
            "counts": dict(counts or {}),
            "seconds": round(seconds, 3),
            **provenance(),
        }
        files = describe(part)
        write_text(part / MANIFEST, _manifest_text(manifest, files))
        open_to_readers(part, files, part / MANIFEST)
        for _ in range(3):
            try:
                os.rename(part, self.path(step))
                return True
            except OSError:
                if not self.path(step).exists():
                    raise
            if self.is_ready(step):
                shutil.rmtree(part, ignore_errors=True)
                return False
            self._put_aside(step)
        raise UserError(f"{self.path(step)} comes back however often it is moved: who writes it?")

    def put_damaged_aside(self, steps: Iterable[Step]) -> None:
        """Clear the places of steps that are to be made, before the work on them starts.

        Their workers look at sizes alone, and would find whole what `verify` has found damaged.
        """
        for step in steps:
            if self.damage(self.path(step)):
                self._put_aside(step)

    def _put_aside(self, step: Step) -> None:
        """Move a damaged artifact out of the way of the whole one."""
        aside = self.path(step).with_suffix(f".{uuid.uuid4().hex[:8]}.damaged")
        os.rename(self.path(step), aside)
        log.info("%s was damaged and is moved to %s", self.path(step), aside.name)


def _manifest_text(manifest: Mapping[str, Any], files: Mapping[str, Any]) -> str:
    """Return the manifest as JSON with one line for each file."""
    head = json.dumps(manifest, indent=2).removesuffix("\n}")
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(was)}" for name, was in files.items())
    return f'{head},\n  "files": {{\n{lines}\n  }}\n}}\n'

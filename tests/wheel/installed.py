"""An installed copy: the wheel in a folder of its own, and beside it a package that extends it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "src", "conf")
SMALL = ["data.world.pool_size=120", "data.world.validation_rows=4", "data.world.test_rows=8"]

PLUGIN = '''"""Rows by how loud they are: a feature of its own, and the selector that reads it."""

from dataclasses import dataclass

import numpy as np

from icons_repro.core.step import Step
from icons_repro.data.stage import Pool
from icons_repro.features.extra import register_feature
from icons_repro.selection.base import Ranking, RankingSelector, feature


@dataclass(frozen=True, eq=False, kw_only=True)
class Loudness(Step):
    stage = "loudness"
    group = "features"

    pool: Pool

    def run(self, work):
        from icons_repro.data.records import RecordTable

        words = RecordTable(work.path(self.pool) / "records.arrow").words
        np.save(work.out / "loudness.npy", 1000.0 - words)
        return {"rows": len(words)}


class Loudest(RankingSelector):
    name = "loudest"
    requires = frozenset({"loudness"})

    def scores(self, pool, rng):
        return Ranking(feature(pool, "loudness"))


register_feature(
    "loudness",
    step=lambda graph: Loudness(pool=graph.pool),
    load=lambda folder, usable: np.load(folder / "loudness.npy")[usable],
)
'''
TASK = "task: loud_task\ndataset_path: parquet\noutput_type: generate_until\n"


@dataclass(frozen=True)
class Installed:
    """The package in `site`, where nothing of the clone is in sight."""

    site: Path

    def run(self, cwd: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command as a user of this installation types it."""
        environment = {k: v for k, v in os.environ.items() if k not in ("ICONS_OUTPUT", "COLUMNS")}
        environment |= {
            "PYTHONPATH": str(self.site),
            "PATH": os.pathsep.join([str(self.site / "bin"), os.environ.get("PATH", "")]),
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)

    def python(self, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Python with the installation on its path."""
        return self.run(cwd, [sys.executable, *words])


def install(folder: Path) -> Installed:
    """Build the wheel from a copy of what it is built from, without network, and install it."""
    source, wheels, site = folder / "source", folder / "wheels", folder / "site"
    source.mkdir()
    for name in BUILT_FROM:
        place = ROOT / name
        copy = shutil.copytree if place.is_dir() else shutil.copy
        options = {"symlinks": True, "ignore": IGNORED} if place.is_dir() else {}
        copy(place, source / name, **options)  # type: ignore[operator]
    (source / "conf" / "local").mkdir(exist_ok=True)
    (source / "conf" / "local" / "default.yaml").write_text("seed: 99\n")
    offline = ["--no-deps", "--disable-pip-version-check", "--quiet"]
    pip = [sys.executable, "-m", "pip"]
    build = ["wheel", *offline, "--no-build-isolation", "--wheel-dir", str(wheels), str(source)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    into = ["install", *offline, "--no-index", "--target", str(site), str(wheel)]
    subprocess.run([*pip, *into], check=True, capture_output=True)
    return Installed(site)


IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", "local")


def add_plugin(site: Path) -> None:
    """Install a package that brings a selector, its feature, and an lmms-eval task."""
    package, info = site / "loud_rows", site / "loud_rows-1.0.dist-info"
    for folder in (package / "conf" / "selector", package / "tasks", info):
        folder.mkdir(parents=True)
    (package / "__init__.py").write_text(PLUGIN)
    (package / "conf" / "selector" / "loudest.yaml").write_text("_target_: loud_rows.Loudest\n")
    (package / "tasks" / "loud_task.yaml").write_text(TASK)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loud-rows\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[icons_repro.plugins]\nloud = loud_rows\n")

"""The site of docs/ builds, shows every page, and asks nothing of the network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ASKED = re.compile(r"<(?:script|link|img)\b[^>]*?(?:src|href)=\"(?:https?:)?//[^\"]+\"")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build as `make docs` does; a link that leads nowhere fails it."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(out)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-3000:]
    return out


def test_every_page_of_the_docs_is_in_the_navigation(site: Path) -> None:
    home = (site / "index.html").read_text()
    for page in sorted((ROOT / "docs").glob("*.md")):
        target = f'href="{page.stem}.html"' if page.stem != "index" else 'href="index.html"'
        assert target in home, f"docs/{page.name} is in no menu: add it to mkdocs.yml"


def test_what_experiments_and_benchmarks_say_is_part_of_the_site(site: Path) -> None:
    for page in [*ROOT.glob("experiments/*/README.md"), ROOT / "benchmarks" / "README.md"]:
        assert (site / page.relative_to(ROOT).with_name("index.html")).is_file(), page


def test_no_page_asks_for_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not ASKED.findall(page.read_text()), page

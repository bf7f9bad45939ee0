"""Bring the READMEs of experiments/ and benchmarks/ into the site, and mend the links to them.

In the repository a page of docs/ links to `../experiments/X/README.md`; in the site both are below
one root.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
TAKEN = ("experiments/**/*.md", "experiments/**/*.svg", "benchmarks/**/*.md")
LINK = re.compile(r"(\]\()((?:\.\./)+)([^)\s]+)(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add what stands outside docs/."""
    for pattern in TAKEN:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make links that leave docs/, or come from outside it, fit the site's root."""
    here = PurePosixPath(page.file.src_uri).parent
    inside = not str(here).startswith(("experiments", "benchmarks"))

    def fitted(match: re.Match[str]) -> str:
        opening, ups, target, closing = match.groups()
        if inside:
            return f"{opening}{_listing(target)}{closing}"
        return f"{opening}{ups}{_listing(target.removeprefix('docs/'))}{closing}"

    return LINK.sub(fitted, markdown)


def _listing(target: str) -> str:
    """A folder of the repository has no page: its results do."""
    return "results.md" if target.rstrip("/") == "experiments" else target

"""The pages, and what of them a reader would follow or type."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
PAGES = [
    *(ROOT / f"{page}.md" for page in ("README", "CHANGELOG", "CONTRIBUTING")),
    ROOT / "benchmarks" / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("experiments/*/README.md")),
]
CONFIGS = sorted(CONF.rglob("*.yaml"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def comments(path: Path) -> str:
    """Return a YAML file's comments, and of `config.yaml` the help as well."""
    lines = path.read_text().splitlines()
    found = [line.partition("#")[2].strip() for line in lines if "#" in line]
    shown = [line.replace("${command:}", "python run.py") for line in lines]
    return "\n".join(found + (shown if path.name == "config.yaml" else []))


def text(path: Path) -> str:
    return comments(path) if path.suffix == ".yaml" else path.read_text()


@cache
def anchors(path: Path) -> frozenset[str]:
    """Return the names by which GitHub links to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return frozenset(heading.replace(" ", "-") for heading in plain)


def spans(file: Path) -> Iterator[str]:
    """Yield what a reader would type: code blocks, code in a line, comments; lines joined."""
    whole = re.sub(r"\\\n\s*", " ", text(file))
    if file.suffix != ".md":
        yield from whole.splitlines()
        return
    fenced = re.findall(r"^```\w*\n(.*?)^```", whole, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?<=\n\n)(?:    .*\n)+", whole)
    for block in fenced + indented:
        yield from block.splitlines()
    prose = re.sub(r"^```.*?^```", "", whole, flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))


def commands(start: str) -> list[tuple[str, str]]:
    """Return (file, what follows `start` in its line) of all pages and configs."""
    found = []
    for file in [*PAGES, *CONFIGS]:
        for span in spans(file):
            if start in span:
                found.append((name(file), span.partition(start)[2].strip()))
    return found


def overrides(command: str) -> list[str]:
    """Return the overrides of a command line: all up to the first word that is none."""
    words = shlex.split(command.rstrip(")."), comments=True)
    found = []
    for word in words:
        if not word.startswith("-") and not re.match(r"[+~]*[\w@./]+=", word):
            break
        found.append(word)
    return [word for word in found if not word.startswith("-")]

"""What the next person expects to find in a repository is there and true."""

import re
import tomllib
from pathlib import Path

import yaml
from longest import LONGEST

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_licence_is_the_one_that_is_declared() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    for part in (
        "Apache License",
        "Version 2.0, January 2004",
        "9. Accepting Warranty",
        "APPENDIX",
    ):
        assert part in text


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]
    (paper,) = citation["references"]
    assert paper["title"].startswith("ICONS: Influence Consensus")
    assert len(paper["authors"]) == 6


def test_the_changelog_has_the_version_and_what_is_not_released() -> None:
    heads = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] == "Unreleased"
    assert PROJECT["project"]["version"] in heads


def test_ci_lints_before_it_tests_and_a_failure_ends_it() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert "set -euo pipefail" in lines
    made = [line for line in lines if line.startswith("make ")]
    assert made == ["make lint", "make test"]
    assert lines[-1] == "make test"  # its summary is the last thing printed


def test_the_longest_files_are_begun_first() -> None:
    for name in LONGEST:
        assert (ROOT / "tests" / name).is_file()
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    assert "--no-loadscope-reorder" in recipe[1]  # else xdist sorts files by their number of tests


def test_commits_are_checked_by_what_lint_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    for tool in ("ruff check", "ruff format", "mypy"):
        assert any(hook["entry"].startswith(f".venv/bin/{tool}") for hook in hooks)
        assert tool in recipe[1]
    assert PROJECT["tool"]["mypy"]["strict"]
    assert PROJECT["tool"]["mypy"]["files"] == ["src"]

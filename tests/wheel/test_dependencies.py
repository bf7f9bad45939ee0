"""What the code imports is what is declared, and what is declared is pinned."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"icons_repro", "hydra_plugins"}
WITHOUT_IMPORT = {
    "torchvision": "transformers' image processors are made of it",
    "sentencepiece": "transformers reads tokenizer.model with it",
    "sqlalchemy": "MLflow keeps runs in a database by it",
    "alembic": "MLflow makes that database's tables by it",
}
"""Dependencies that no line imports, and why they are needed."""
COMES_WITH = {"triton": "torch, where there are CUDA devices; signs are drawn otherwise without it"}
EXTRA_OF = {
    "hub": {"data"},
    "eval": {"evaluation"},
    "cluster": {"engine", "preflight"},
    "transport": {"selection"},
    "mlflow": {"tracking"},
}
"""Packages of ours that may import what only an extra installs."""
BROUGHT_BY = {"mlflow": "mlflow-skinny"}
"""Modules of another name than what brings them, for where an extra is not installed."""

LOOSE = {p.stem for part in ("tests", "benchmarks") for p in (ROOT / part).rglob("*.py")}
LOOSE |= {"benchmarks"}
"""Modules that scripts and tests find beside themselves."""


def requirements(lines: list[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in parsed}


DECLARED = requirements(PROJECT["dependencies"])
EXTRAS = {k: requirements(v) for k, v in PROJECT["optional-dependencies"].items()}


@cache
def distributions() -> dict[str, set[str]]:
    """Return the distributions that may bring each top-level module, by canonical name."""
    found = packages_distributions()
    return {module: {canonicalize_name(name) for name in names} for module, names in found.items()}


def brought_by(module: str) -> set[str]:
    """Return the distributions that bring a module, whether or not they are installed."""
    return distributions().get(module, {BROUGHT_BY.get(module, module)})


def imports(path: Path) -> Iterator[str]:
    """Yield the top-level modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@cache
def foreign(folder: Path) -> dict[str, set[Path]]:
    """Return the modules of other people that the files of a folder import, and by whom."""
    files = sorted(folder.rglob("*.py"))
    known = OURS | set(sys.stdlib_module_names) | (set() if folder.name == "src" else LOOSE)
    found: dict[str, set[Path]] = {}
    for path in files:
        for module in set(imports(path)) - known:
            found.setdefault(module, set()).add(path)
    return found


def test_what_src_imports_is_declared_or_an_extra_of_the_package_that_does() -> None:
    for module, files in foreign(ROOT / "src").items():
        names = brought_by(module)
        if module in COMES_WITH or names & set(DECLARED):
            continue
        homes = [home for extra, home in EXTRA_OF.items() if names & set(EXTRAS[extra])]
        allowed = set().union(*homes)
        users = {path.relative_to(ROOT / "src" / "icons_repro").parts[0] for path in files}
        assert allowed, f"{module} of {sorted(names)} is not declared; {sorted(map(str, files))}"
        assert users <= allowed, f"{module} is imported by {users}, its extra is for {allowed}"


def test_what_is_declared_is_imported_or_says_why() -> None:
    used = set().union(*(brought_by(module) for module in foreign(ROOT / "src")))
    extras = set().union(*(EXTRAS[extra] for extra in EXTRA_OF))
    assert (set(DECLARED) | extras) - used == set(WITHOUT_IMPORT)
    assert not set(DECLARED) & extras


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "experiments"])
def test_what_tests_and_benchmarks_import_is_declared_somewhere(folder: str) -> None:
    known = set(DECLARED).union(*EXTRAS.values())
    for module, files in foreign(ROOT / folder).items():
        names = brought_by(module)
        assert module in COMES_WITH or names & known, f"{module}: {sorted(map(str, files))}"


def test_every_requirement_is_pinned_within_its_bounds() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins: dict[str, list[str]] = {}
    for line in lines:
        name, _, version = line.partition(";")[0].strip().partition("==")
        pins.setdefault(canonicalize_name(name), []).append(version)
    for group in (DECLARED, *(EXTRAS[name] for name in ("eval", "cluster", "dev"))):
        for name, wanted in group.items():
            assert name in pins, f"{name} is not in requirements.txt: make requirements"
            for version in pins[name]:
                assert wanted.specifier.contains(version), f"{name}=={version} is not {wanted}"


def test_overrides_are_what_is_pinned() -> None:
    """[tool.uv] holds the two versions that lmms-eval would not have by itself."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    pinned = (ROOT / "requirements.txt").read_text().splitlines()
    assert set(tool["override-dependencies"]) <= set(pinned)
    message = (ROOT / "src/icons_repro/evaluation/availability.py").read_text()
    assert set(re.findall(r"antlr4-python3-runtime==[\d.]+", message)) <= set(pinned)

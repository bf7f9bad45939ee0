"""What the pages, the READMEs and the configs' comments name is there."""

import importlib.util
import re
from collections.abc import Iterable, Iterator, Set
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf
from pages import CONF, CONFIGS, PAGES, ROOT, anchors, commands, name, overrides, spans, text

from icons_repro.config.register import register
from icons_repro.features.catalogue import FEATURES
from icons_repro.selection.resolve import build_selector

SETUPS = sorted(path.stem for path in (CONF / "setup").glob("*.yaml"))
SOURCES = sorted((ROOT / "src").rglob("*.py"))
SCRIPTS = [*sorted(ROOT.glob("benchmarks/*.py")), *sorted(ROOT.glob("experiments/*/*.py"))]
SHIPPED = [*PAGES, *CONFIGS, *SOURCES, *SCRIPTS, *sorted((ROOT / "tests").rglob("*.py"))]

ELSEWHERE = {
    "docs/Evaluation.md": "haotian-liu/LLaVA",
    "docs/MODEL_ZOO.md": "haotian-liu/LLaVA",
    "docs/index.html": "princetonvisualai/icons",
    "conf/local/default.yaml": "the reader's own, not tracked",
    "benchmarks/NAME.py": "any of them",
}
"""Paths that look like ours, and whose they are."""

PATH = r"(?<![\w./-])(?:docs|conf|tests|src|benchmarks|experiments)/(?:[\w./-]*\w)?"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place) if place else page
        assert file.exists(), f"{name(page)} links to {target}"
        assert not anchor or anchor in anchors(file), f"{name(page)} links to {target}"


def test_every_path_that_a_page_or_a_comment_names_exists() -> None:
    for file in [*PAGES, *CONFIGS]:
        for path in re.findall(PATH, text(file)):
            found = (ROOT / path).exists() or (ROOT / path).with_suffix(".py").exists()
            assert found or path in ELSEWHERE, f"{name(file)} names {path}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_module_path_in_backticks_exists(page: Path) -> None:
    """`selection/sets.py` is short for what is below the package."""
    packages = "|".join(p.name for p in (ROOT / "src" / "icons_repro").iterdir() if p.is_dir())
    for path in re.findall(rf"`((?:{packages})/[\w/]+\.py)\b", page.read_text()):
        assert (ROOT / "src" / "icons_repro" / path).exists(), f"{name(page)} names {path}"


def test_every_page_and_section_that_is_cited_is_there() -> None:
    for file in [*PAGES, *CONFIGS, *SOURCES, *SCRIPTS]:
        for page, anchor in re.findall(r"docs/(\w+\.md)(?:#([\w-]+))?", text(file)):
            cited = ROOT / "docs" / page
            assert cited.exists() or f"docs/{page}" in ELSEWHERE, f"{name(file)} cites {cited}"
            assert not anchor or anchor in anchors(cited), f"{name(file)} cites {page}#{anchor}"


def test_faults_are_numbered_from_one_and_only_those_are_cited() -> None:
    section = (ROOT / "docs" / "methods.md").read_text().partition("### Released code")[2]
    faults = section.partition("\n## ")[0]
    numbers = [int(number) for number in re.findall(r"^(\d+)\. \*\*", faults, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    for file in [*PAGES, *CONFIGS, *SOURCES]:
        for cited in re.findall(r"fault\s+(\d+)|#released-code\)?,\s+(\d+)", text(file)):
            assert int("".join(cited)) in numbers, f"{name(file)} cites fault {cited}"


def test_no_shipped_file_cites_a_note_that_no_reader_has() -> None:
    """A page in capitals is one of ours, or another project's page."""
    known = {page.name for page in PAGES} | {Path(path).name for path in ELSEWHERE}
    for file in [*SHIPPED, ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / "run.py"]:
        cited = set(re.findall(r"\b[A-Z][A-Z_]*\.md\b", file.read_text()))
        assert cited <= known, f"{name(file)} cites {cited - known}"


def keys_of(node: object, prefix: str = "") -> Iterator[str]:
    if isinstance(node, DictConfig | dict):
        plain = OmegaConf.to_container(node) if isinstance(node, DictConfig) else node
        assert isinstance(plain, dict)
        for key, value in plain.items():
            yield f"{prefix}{key}"
            yield from keys_of(value, f"{prefix}{key}.")


@cache
def known_keys(setup: str) -> frozenset[str]:
    """Return the dotted keys of a setup's config."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return frozenset(keys_of(compose("config", overrides=[f"setup={setup}"])))


@cache
def keys_of_choice(group: str, choice: str) -> frozenset[str]:
    """Return the dotted keys that a choice of a config group brings."""
    loaded = OmegaConf.load(CONF / group / f"{choice}.yaml")
    assert not isinstance(loaded, ListConfig)
    return frozenset(keys_of(loaded, f"{group}."))


def choices(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (group, choice) of the overrides that choose; a sweep's choices one by one."""
    for word in words:
        group, _, values = word.lstrip("+").partition("=")
        if (CONF / group.partition("@")[0]).is_dir():
            yield from ((group.partition("@")[0], value) for value in values.split(","))


def can_be_set(key: str, known: Set[str]) -> bool:
    """Whether Hydra takes `key=...`, or `+key=...` where the reader names a table's entry."""
    if key.startswith("+"):
        return key[1:] not in known and key[1:].rpartition(".")[0] in known
    return key in known


def check_overrides(words: list[str], where: str) -> None:
    chosen = list(choices(words))
    for group, choice in chosen:
        assert (CONF / group / f"{choice}.yaml").exists(), f"{where}: no {group}={choice}"
    setup = dict(chosen).get("setup", "tiny")
    known = set(known_keys(setup)).union(*(keys_of_choice(*pair) for pair in chosen))
    groups = {group for group, _ in chosen}
    for word in words:
        key = word.partition("=")[0]
        if key.lstrip("+~").partition("@")[0] not in groups and not key.startswith("hydra/"):
            assert can_be_set(key, known), f"{where}: no key {key} with setup={setup}"


RUNS = commands("python run.py")


def test_there_are_commands_to_check() -> None:
    assert len(RUNS) > 30


@pytest.mark.parametrize(("file", "command"), RUNS)
def test_every_key_and_choice_of_a_command_exists(file: str, command: str) -> None:
    if "--config-dir" not in command:  # the reader's own choices; the README's are tested elsewhere
        check_overrides(overrides(command), f"{file}: python run.py {command}")


@pytest.mark.parametrize(
    "command", sorted({c for _, c in RUNS if re.search("setup=|\\+|[{]|^-m ", c)})
)
def test_hydra_composes_what_is_more_than_keys_of_the_tiny_world(command: str) -> None:
    """Of a sweep, its first run."""
    register()
    first = [
        f"{one.get_key_element()}={next(iter(one.sweep_string_iterator()))}"
        if one.is_sweep_override()
        else str(one.input_line)
        for one in OverridesParser.create().parse_overrides(overrides(command))
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose("config", overrides=first)


@cache
def all_keys() -> frozenset[str]:
    """Return the dotted keys of every setup and of every choice."""
    known = set().union(*(known_keys(setup) for setup in SETUPS))
    for group in sorted({path.parent.name for path in CONFIGS} - {"conf", "setup", "experiment"}):
        for path in (CONF / group).glob("*.yaml"):
            known |= keys_of_choice(group, path.stem)
    return frozenset(known)


@pytest.mark.parametrize("page", [*PAGES, *CONFIGS], ids=name)
def test_every_dotted_key_in_backticks_exists(page: Path) -> None:
    known = all_keys()
    roots = {key.partition(".")[0] for key in known if "." in key}
    for span in re.findall(r"`([^`\n]+)`", text(page)):
        if "->" in span:  # who imports whom
            continue
        for key in re.findall(r"(?<![\w./-])(\+?[a-z_]+(?:\.[a-z_0-9]+)+)(?![\w./(*])", span):
            ours = key.lstrip("+").partition(".")[0] in roots
            if ours and not key.endswith((".py", ".json", ".parquet")):
                found = key.lstrip("+") in known or can_be_set(key, known)
                assert found, f"{name(page)}: no key {key}"


def source_of(module: str) -> Path:
    """Return the file that `python -m module` runs; raises if there is none."""
    found = importlib.util.find_spec(module)
    if found and found.submodule_search_locations:
        found = importlib.util.find_spec(f"{module}.__main__")
    origin = found.origin if found else None
    assert origin, f"no module {module}"
    return Path(origin)


MODULES = [(file, line) for file, line in commands("python -m ") if line.startswith("icons_repro")]
MODULES += [
    (name(path), match)
    for path in SOURCES
    for match in re.findall(r"`python -m (icons_repro[\w.]*[^`\n{]*)", path.read_text())
]


@pytest.mark.parametrize(("file", "line"), MODULES)
def test_every_module_that_is_run_exists_with_its_options(file: str, line: str) -> None:
    module = re.match(r"[\w.]+", line)
    assert module
    code = source_of(module[0].rstrip(".")).read_text()
    assert '__name__ == "__main__"' in code, f"{file}: {module[0]} runs nothing"
    for option in re.findall(r"--[a-z-]+", line.partition("#")[0]):
        assert f'"{option}"' in code, f"{file}: {module[0]} has no {option}"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for span in spans(page):
            if target := re.match(r"make ([a-z-]+)", span):
                assert target[1] in targets, f"{name(page)}: make {target[1]}"


def test_the_page_of_features_has_each_feature_and_who_reads_it() -> None:
    page = (ROOT / "docs" / "features.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", page, re.MULTILINE)
    readers = {feature: set(re.findall(r"\w+", by)) for feature, by in rows}
    assert set(readers) == set(FEATURES)
    for path in sorted((CONF / "selector").glob("*.yaml")):
        config = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        assert isinstance(config, dict)
        for feature in build_selector(config).requires:
            assert path.stem in readers[feature], f"docs/features.md: {path.stem} reads {feature}"

"""Who may import whom, as the picture in the README says."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "icons_repro"
ALLOWED = {
    "core": set(),
    "data": {"models"},
    "models": set(),
    "tiny": {"data", "models", "training"},
    "training": {"data", "models"},
    "gradients": {"models"},
    "influence": {"gradients"},
    "features": {"data", "influence", "models", "training"},
    "selection": {"influence", "features"},
    "evaluation": {"models"},
    "export": {"data", "evaluation", "models"},
    "leakage": {"data", "evaluation"},
    "tracking": set(),
    "engine": {"step"},  # `python -m icons_repro.step` is what its processes run
    "gpu_check": {"evaluation", "gradients", "influence", "models", "training"},
    "studies": {"data", "evaluation", "features", "influence", "models", "report"},
    "report": {
        *("evaluation", "tracking", "config", "experiment", "engine"),
        *("data", "influence"),
    },
    "graph": {"config", "data", "evaluation", "features", "influence", "selection", "tiny"},
    "preflight": {
        *("config", "data", "engine", "evaluation", "experiment", "graph", "models", "selection"),
        *("features", "gradients", "influence", "training"),  # the kinds of their steps
    },
}
"""What a package may import besides itself and core."""
JOBS = {
    "models": {"data"},
    "training": {"selection"},
    "gradients": {"data", "training"},
    "influence": {"data", "training"},
    "evaluation": {"data"},
    "selection": {"data"},
}
"""What its `jobs.py`, which does the work of its steps, may import besides."""
ONLY_IN = {
    "hydra": {"config", "launcher", "selection"},
    "omegaconf": {"config", "launcher"},
    "wandb": {"tracking"},
    "lmms_eval": {"evaluation"},
    "submitit": {"engine", "preflight"},
    "joblib": {"core"},
}
LIGHT = {"torch", "transformers", "lightning", "lmms_eval", "wandb", "peft"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    here = part(path)
    allowed = ALLOWED.get(here, set()) | {here, "core"}
    allowed |= JOBS.get(here, set()) if path.name == "jobs.py" else set()
    for name in imports(path):
        if name.startswith("icons_repro.") and here in ALLOWED and not is_step_type(name):
            assert name.split(".")[1] in allowed, f"{here} imports {name}"


def test_only_the_wiring_knows_of_the_tiny_world() -> None:
    """What serves every pool must not lean on the one that ships."""
    knows = {part(path) for path in FILES for name in imports(path) if "tiny" in name.split(".")}
    assert knows == {"tiny", "config", "graph"}


def test_no_two_files_lean_on_each_other() -> None:
    """Imports inside functions and for types count too, but a step's of what it does."""
    modules = {module_of(path): path for path in FILES}
    reads = {module: read_by(path, set(modules)) for module, path in modules.items()}
    for module, read in reads.items():
        if is_step_type(module):
            read -= {name for name in read if name.endswith(".jobs")}
    circles = strongly_connected(reads)
    # a step's `run` is given its Work, which names the step and the cache: for types alone
    assert circles == [{f"icons_repro.core.{name}" for name in ("cache", "step", "work")}]


def module_of(path: Path) -> str:
    """Return the dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def read_by(path: Path, modules: set[str]) -> set[str]:
    """Return the modules of the package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= named & modules or {node.module}
    return found & modules


def strongly_connected(reads: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of two or more that reach each other."""
    reach = {module: set(direct) for module, direct in reads.items()}
    for middle in reads:
        for seen in reach.values():
            if middle in seen:
                seen |= reach[middle]
    groups = {frozenset({m} | {o for o in reach[m] if m in reach[o]}) for m in reads}
    return [set(group) for group in groups if len(group) > 1]


def is_step_type(module: str) -> bool:
    """Steps are values that any package may name; what they do is their package's own."""
    return module.endswith(".stage")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("stage.py")), ids=str)
def test_a_step_type_imports_nothing_heavy(path: Path) -> None:
    """So that a plan, or the process that only looks on, loads no model's libraries."""
    tree = ast.parse(path.read_text())
    top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    for node in top:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
        for name in names:
            assert (name or "").split(".")[0] not in LIGHT
            inner = (name or "").startswith("icons_repro.") and not is_step_type(name or "")
            assert not inner or name.split(".")[1] in {"core", "data", part(path)}, (
                f"{path} imports {name}"
            )


def test_the_engine_reads_in_one_sitting() -> None:
    files = [*(PACKAGE / "engine").glob("*.py"), PACKAGE / "core" / "claims.py"]
    assert sum(lines_of_code(path) for path in files) < 900


def lines_of_code(path: Path) -> int:
    """Count lines that are neither blank, nor comment, nor docstring."""
    text = path.read_text()
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documented |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    return sum(bool(t) and not t.startswith("#") and n not in documented for n, t in lines)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_frameworks_stay_where_they_belong(path: Path) -> None:
    for name in imports(path):
        homes = ONLY_IN.get(name.split(".")[0])
        assert homes is None or part(path) in homes, f"{path} imports {name}"


def test_one_file_asks_how_many_cores_there_are() -> None:
    """Python's own answers are the machine's, not those of a job or container on it."""
    asking = {"cpu_count", "process_cpu_count", "sched_getaffinity"}
    for path in set(FILES) - {PACKAGE / "core" / "machine.py"}:
        found = {node.attr for node in ast.walk(ast.parse(path.read_text()))
                 if isinstance(node, ast.Attribute)}  # fmt: skip
        assert not asking & found, path


def test_selectors_never_see_a_model() -> None:
    for path in (PACKAGE / "selection").glob("*.py"):
        assert not {"torch", "transformers", "lightning"} & {n.split(".")[0] for n in imports(path)}


def test_influence_and_features_reach_only_the_store_and_the_clusters() -> None:
    methods = set((PACKAGE / "selection").glob("*.py")) - {PACKAGE / "selection" / "jobs.py"}
    for path in methods:
        reached = {n for n in imports(path) if n.startswith("icons_repro.features")}
        assert reached <= {
            f"icons_repro.features.{m}" for m in ("clustering", "neighbours", "rows")
        }


def test_nothing_is_written_twice() -> None:
    """Two functions with one body of two statements or more are one function."""
    homes: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                done = [s for s in node.body if not says_or_imports(s)]
                if len(done) > 1 and max(map(size, done)) > 12:
                    body = "\n".join(map(ast.dump, done))
                    homes.setdefault(body, []).append(f"{path.relative_to(PACKAGE)}: {node.name}")
    assert not [names for names in homes.values() if len(names) > 1]


def says_or_imports(statement: ast.stmt) -> bool:
    """Whether it is a docstring or an import."""
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, (ast.Import, ast.ImportFrom))


def size(statement: ast.stmt) -> int:
    return sum(1 for _ in ast.walk(statement))


def test_the_page_about_the_house_names_every_room() -> None:
    text = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text()
    tree = text.split("src/icons_repro/\n")[1].split("```")[0]
    rooms = {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    rooms |= {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    assert rooms
    for room in sorted(rooms):
        assert f" {room} " in tree, f"docs/architecture.md says nothing of {room}"

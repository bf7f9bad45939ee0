"""Who may import whom, as the picture in the README says."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "icons_repro"
ALLOWED = {
    "core": set(),
    "data": {"models"},
    "models": {"data"},  # models/tiny_clip is trained on the tiny world's captions
    "training": {"data", "models"},
    "gradients": {"models"},
    "influence": {"gradients"},
    "features": {"data", "models", "training"},
    "selection": {"influence", "features"},
    "evaluation": {"models"},
    "tracking": set(),
    "report": {"evaluation", "tracking", "config"},  # config for its type alone
}
ONLY_IN = {
    "hydra": {"config", "pipeline", "stages"},
    "omegaconf": {"config", "pipeline", "stages"},
    "wandb": {"tracking"},
    "lmms_eval": {"evaluation"},
}
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
    for name in imports(path):
        if name.startswith("icons_repro.") and here in ALLOWED:
            there = name.split(".")[1]
            assert there in ALLOWED[here] | {here, "core"}, f"{here} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_frameworks_stay_where_they_belong(path: Path) -> None:
    for name in imports(path):
        homes = ONLY_IN.get(name.split(".")[0])
        assert homes is None or part(path) in homes, f"{path} imports {name}"


def test_selectors_never_see_a_model() -> None:
    for path in (PACKAGE / "selection").glob("*.py"):
        assert not {"torch", "transformers", "lightning"} & {n.split(".")[0] for n in imports(path)}


def test_influence_and_features_reach_only_the_store_and_the_clusters() -> None:
    for path in (PACKAGE / "selection").glob("*.py"):
        reached = {n for n in imports(path) if n.startswith("icons_repro.features")}
        assert reached <= {
            f"icons_repro.features.{m}" for m in ("clustering", "neighbours", "rows")
        }

"""No file that a user names can run code when it is read."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("src", "benchmarks", "experiments")
FILES = sorted(path for part in PARTS for path in (ROOT / part).rglob("*.py"))
UNPICKLES = {"pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "dill.load"}
READS_WEIGHTS = {"torch.load", "torch.jit.load", "torch.hub.load", "load_from_checkpoint"}
SHORT = {"pickle", "joblib", "dill", "torch", "hydra.utils"}
"""Modules whose loaders must be called by their full names, or nothing below would see them."""
RUNS = {"eval", "exec", "hydra.utils.instantiate", "instantiate", "hydra.utils.call"}


def calls(path: Path) -> list[tuple[str, dict[str, ast.expr]]]:
    """Return the dotted name and the keyword arguments of every call in a file."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [(ast.unparse(c.func), {k.arg or "": k.value for k in c.keywords}) for c in found]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_unpickled_and_no_name_from_a_file_is_called(path: Path) -> None:
    for name, keywords in calls(path):
        assert name not in UNPICKLES | RUNS
        reads = any(name == reader or name.endswith(f".{reader}") for reader in READS_WEIGHTS)
        if reads or "weights_only" in keywords:  # Lightning's fit has it too
            assert ast.unparse(keywords["weights_only"]) == "True"
        for option in ("allow_pickle", "trust_remote_code"):
            assert option not in keywords or ast.unparse(keywords[option]) == "False"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_loader_goes_by_another_name(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in SHORT:
            names = {alias.name for alias in node.names}
            assert not names & {"load", "loads", "Unpickler", "instantiate", "call"}
        if isinstance(node, ast.Import):
            assert not any(a.name in SHORT and a.asname for a in node.names)


def test_lightning_restores_a_run_without_unpickling() -> None:
    """`Trainer.fit` reads the resume point; its default would be torch's own."""
    fits = [
        keywords
        for path in FILES
        for name, keywords in calls(path)
        if name.endswith("trainer.fit") and "ckpt_path" in keywords
    ]
    assert fits
    assert all("weights_only" in keywords for keywords in fits)

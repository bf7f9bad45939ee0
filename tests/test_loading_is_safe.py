"""No file that a user names can run code when it is read."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "icons_repro"
FILES = sorted(PACKAGE.rglob("*.py"))
UNPICKLES = {"pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "dill.load"}
RUNS = {"eval", "exec", "hydra.utils.instantiate", "instantiate", "hydra.utils.call"}


def calls(path: Path) -> list[tuple[str, dict[str, ast.expr]]]:
    """Return the dotted name and the keyword arguments of every call in a file."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [(ast.unparse(c.func), {k.arg or "": k.value for k in c.keywords}) for c in found]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_is_unpickled_and_no_name_from_a_file_is_called(path: Path) -> None:
    for name, keywords in calls(path):
        assert name not in UNPICKLES | RUNS
        if name == "torch.load" or "weights_only" in keywords:  # Lightning's fit has it too
            assert ast.unparse(keywords["weights_only"]) == "True"
        for option in ("allow_pickle", "trust_remote_code"):
            assert option not in keywords or ast.unparse(keywords[option]) == "False"

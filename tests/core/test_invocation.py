"""What the screen tells a user to type starts the same program again."""

import sys
from pathlib import Path

import pytest

from icons_repro.core import invocation

HERE = sys.executable


def start(patch: pytest.MonkeyPatch, argv0: str, *typed: str) -> None:
    patch.setattr(sys, "argv", [argv0, "budget=0.1", "data.json=my pool.json"])
    patch.setattr(sys, "orig_argv", [*typed, "budget=0.1", "data.json=my pool.json"])


@pytest.mark.parametrize(
    ("argv0", "typed", "command", "again"),
    [
        ("run.py", (HERE, "run.py"), f"{HERE} run.py", [HERE, "{cwd}/run.py"]),
        ("../clone/run.py", (HERE, "../clone/run.py"), f"{HERE} ../clone/run.py", None),
        (
            "/somewhere/icons_repro/__main__.py",
            (HERE, "-m", "icons_repro"),
            f"{HERE} -m icons_repro",
            [HERE, "-m", "icons_repro"],
        ),
        ("/no/bin/icons-repro", (HERE, "/no/bin/icons-repro"), "/no/bin/icons-repro", None),
        ("/usr/bin/pytest", (HERE, "/usr/bin/pytest"), "icons-repro", None),
        ("-c", (HERE, "-c"), "icons-repro", None),
    ],
)
def test_the_command_is_the_one_that_was_typed(
    argv0: str,
    typed: tuple[str, ...],
    command: str,
    again: list[str] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    start(monkeypatch, argv0, *typed)
    assert invocation.command() == command
    assert invocation.same_again() == f"{command} budget=0.1 'data.json=my pool.json'"
    if again:
        words = [word.format(cwd=tmp_path) for word in again]
        assert invocation.relaunched("more=1") == [*words, *sys.argv[1:], "more=1"]


def test_the_script_has_its_plain_name_only_where_the_shell_finds_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "icons-repro").write_text("#!/bin/sh\n")
        (tmp_path / name / "icons-repro").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "mine"))
    start(monkeypatch, str(tmp_path / "mine" / "icons-repro"), HERE)
    assert invocation.command() == "icons-repro"
    start(monkeypatch, str(tmp_path / "theirs" / "icons-repro"), HERE)
    assert invocation.command() == str(tmp_path / "theirs" / "icons-repro")


def test_a_name_of_python_is_kept_where_it_is_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python3.99").symlink_to(HERE)
    monkeypatch.setenv("PATH", str(tmp_path))
    start(monkeypatch, "run.py", "python3.99", "run.py")
    assert invocation.command() == "python3.99 run.py"
    assert invocation.module_command("report") == "python3.99 -m icons_repro.report"
    start(monkeypatch, "run.py", "python3.98", "run.py")
    assert invocation.command() == f"{HERE} run.py"

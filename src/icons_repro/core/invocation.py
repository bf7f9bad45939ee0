"""How the user started this program, so that what the screen tells them to type works for them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

SCRIPT = "icons-repro"
MODULE = "icons_repro"


def command() -> str:
    """Return the words before the overrides, as typed, quoted for a shell.

    That is `icons-repro`, `python -m icons_repro` or `python run.py`; where another program has
    imported this package, the script that comes with it.
    """
    return shlex.join(_words())


def same_again() -> str:
    """Return the whole command line, quoted for a shell."""
    return shlex.join([*_words(), *sys.argv[1:]])


def module_command(module: str) -> str:
    """Return how this user starts another module of the package, such as `report`."""
    return shlex.join([_interpreter(), "-m", f"{MODULE}.{module}"])


def relaunched(*more: str) -> list[str]:
    """Return what starts this program again from any folder, with its overrides and `more`."""
    start = ["-m", MODULE] if _is_module() else [str(_script().absolute())]
    return [sys.executable, *start, *sys.argv[1:], *more]


def _words() -> list[str]:
    if _is_module():
        return [_interpreter(), "-m", MODULE]
    script = _script()
    if script.suffix == ".py":
        return [_interpreter(), sys.argv[0]]
    if script.name == SCRIPT:
        return [SCRIPT if _finds(script) else sys.argv[0]]
    return [SCRIPT]


def _script() -> Path:
    return Path(sys.argv[0] or SCRIPT)


def _is_module() -> bool:
    """Whether it is `python -m icons_repro`, whose first argument Python replaces by a path."""
    return _script().name == "__main__.py" and _script().parent.name == MODULE


def _finds(script: Path) -> bool:
    """Whether the shell finds this very script by its name."""
    found = shutil.which(script.name)
    return found is not None and Path(found).resolve() == script.resolve()


def _interpreter() -> str:
    """Return the Python that was typed; its path where something else started it."""
    typed = sys.orig_argv[0] if sys.orig_argv else ""
    is_python = os.path.basename(typed).startswith("python")
    started_by_name = is_python and _script().suffix == ".py"
    if started_by_name and (os.sep in typed or shutil.which(typed)):
        return typed
    return sys.executable or "python"

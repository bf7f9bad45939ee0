"""Commands worth typing after a run: this process's own command line, with a word changed."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icons_repro.config.run import RunConfig
from icons_repro.report.lines import FULL, RANDOM, Line

WITH_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
"""Options of Hydra that a later command needs as well, with their values."""


@dataclass(frozen=True)
class CommandLine:
    """How this process was started, taken apart."""

    program: tuple[str, ...]
    options: tuple[str, ...]
    overrides: tuple[str, ...]

    @classmethod
    def of(cls, arguments: Sequence[str]) -> CommandLine:
        """Take `sys.argv` apart; what only says how to sweep or what to show is left out."""
        options: list[str] = []
        overrides: list[str] = []
        rest = iter(arguments[1:])
        for word in rest:
            if word.startswith(WITH_VALUE):
                options += [word] if "=" in word else [word, next(rest, "")]
            elif not word.startswith("-") and ("=" in word or word.startswith("~")):
                overrides.append(word)
        return cls(_program(arguments[0]), tuple(options), tuple(overrides))

    def but(self, *changed: str, sweep: bool = False, without: Sequence[str] = ()) -> str:
        """Return the command with some overrides set anew, and those of `without` left out."""
        keys = {_key(word) for word in changed} | set(without)
        kept = [word for word in self.overrides if _key(word) not in keys]
        words = [*self.program, *self.options, *(["-m"] if sweep else []), *kept, *changed]
        return " ".join(map(_quoted, words))


def _program(name: str) -> tuple[str, ...]:
    path = Path(name)
    if path.name == "__main__.py":
        return ("python", "-m", path.parent.name)
    return ("python", name) if path.suffix == ".py" else (path.name,)


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _quoted(word: str) -> str:
    """Quote what a shell would change; brackets and commas may stay as people write them."""
    plain = word.replace("[", "").replace("]", "")
    return word if shlex.quote(plain) == plain else shlex.quote(word)


def try_next(config: RunConfig, arguments: Sequence[str] | None = None) -> list[str]:
    """Return commands that are true for this run: its setup, its data, its configs' folder."""
    line = CommandLine.of(sys.argv if arguments is None else arguments)
    once = ("plan", "stages", "verify", "reference")
    if config.names.selector == "full":
        change = ["selector=icons", "budget=0.2"]
        found = [line.but(*change, without=(*once, "experiment"))]
    else:
        found = [line.but(*_rivals(config, line), sweep=True, without=once)]
    found.append(line.but(f"finetune.regime={_other_steps(config)}", without=once))
    found.append(line.but("plan=true", without=("verify",)))
    return [_with_path(config) + command for command in found]


def missing_references(config: RunConfig, lines: Sequence[Line]) -> list[str]:
    """Say which runs there is nothing to compare with, and the command that makes them."""
    if "evaluate" not in config.stages or config.reference == "compute":
        return []
    there = {line.name for line in lines} | {config.names.selector}
    useful = (FULL,) if config.budget == 1.0 else (FULL, RANDOM)
    wanted = [name for name in useful if name not in there]
    if not wanted:
        return []
    command = CommandLine.of(sys.argv).but("reference=compute", without=("plan", "stages"))
    return [f"not compared with {' and '.join(wanted)}, which are not finished; to train them:",
            f"  {command}"]  # fmt: skip


def _rivals(config: RunConfig, line: CommandLine) -> list[str]:
    """Return a sweep around this run: another method, unless its own arguments were set."""
    around = ["budget=0.05,0.1,0.4", "seed=0,1"]
    if any(_key(word).startswith("selector.") for word in line.overrides):
        return around
    other = "random" if config.names.selector != "random" else "icons"
    return [f"selector={config.names.selector},{other}", *around]


def _other_steps(config: RunConfig) -> str:
    return "same_epochs" if config.finetune.regime == "same_steps" else "same_steps"


def _with_path(config: RunConfig) -> str:
    """Return the assignment that a selector from outside the package needs before its command."""
    ours = str(config.selector.get("_target_", "")).startswith("icons_repro.")
    path = os.environ.get("PYTHONPATH", "")
    return "" if ours or not path else f"PYTHONPATH={shlex.quote(path)} "

"""W&B as a mirror: names, groups, modes; the package is imported when a run starts."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import netrc
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from icons_repro.core.settings import LoggerSettings

log = logging.getLogger(__name__)
P = ParamSpec("P")

DEFAULT_URL = "https://api.wandb.ai"


def run_id(group: str, run_dir: Path) -> str:
    """Return a W&B id that stays the same for the same experiment (its directory has a hash)."""
    return hashlib.blake2b(f"{group}/{run_dir.name}".encode(), digest_size=8).hexdigest()


def has_key() -> bool:
    """Return whether W&B could log in: `WANDB_API_KEY`, or a netrc entry for its host."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", DEFAULT_URL).split("//")[-1].split("/")[0].split(":")[0]
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    return False


def mode_of(settings: LoggerSettings) -> str:
    """Return "online", "offline" or "off"; the variable `WANDB_MODE` has the last word."""
    if settings.kind == "none":
        return "off"
    chosen = os.environ.get("WANDB_MODE", settings.mode)
    if chosen == "disabled":
        return "off"
    if chosen in ("online", "offline"):
        return chosen
    return "online" if has_key() else "offline"


def _never_fatal(
    method: Callable[Concatenate[WandbRun, P], None],
) -> Callable[Concatenate[WandbRun, P], None]:
    """Turn any failure of W&B into one warning, and W&B off."""

    @functools.wraps(method)
    def wrapped(self: WandbRun, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.mode == "off":
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # W&B raises whatever its service, network or disk does
            self.give_up(error)

    return wrapped


class WandbRun:
    """One W&B run, or nothing at all."""

    def __init__(
        self,
        run_dir: Path,
        name: str,
        group: str,
        config: Mapping[str, Any],
        settings: LoggerSettings,
        job_type: str,
    ) -> None:
        self.mode = mode_of(settings)
        self.id = run_id(group, run_dir)
        self.folder = run_dir / "wandb"
        self._run: Any = None
        self._stages: set[str] = set()
        self._problem = ""
        self._group = group
        self._start(run_dir, name, config, settings, job_type)

    @_never_fatal
    def _start(
        self,
        run_dir: Path,
        name: str,
        config: Mapping[str, Any],
        settings: LoggerSettings,
        job_type: str,
    ) -> None:
        import wandb

        self._forget_older_segments()
        self._run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            id=self.id,
            name=name,
            group=self._group,
            job_type=job_type,
            config=dict(config),
            dir=str(run_dir),
            mode="online" if self.mode == "online" else "offline",
            resume="allow",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_stats=self.mode == "offline",
                init_timeout=30,
            ),
        )

    def _forget_older_segments(self) -> None:
        """Remove offline segments of this same run: the new one holds all that they held."""
        for old in self.folder.glob(f"offline-run-*-{self.id}"):
            shutil.rmtree(old)

    @_never_fatal
    def log_step(self, stage: str, line: Mapping[str, float]) -> None:
        """Log one line under `stage/`, on the stage's own step axis."""
        if stage not in self._stages:
            self._run.define_metric(f"{stage}/step", hidden=True)
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            self._stages.add(stage)
        self._run.log({f"{stage}/{key}": value for key, value in line.items()})

    @_never_fatal
    def summary(self, values: Mapping[str, Any]) -> None:
        """Set final numbers, and log them once so that they can be plotted over a group."""
        known = {key: value for key, value in values.items() if value is not None}
        self._run.log({k: v for k, v in known.items() if isinstance(v, int | float)})
        self._run.summary.update(known)

    @_never_fatal
    def finish(self, failed: bool) -> None:
        """End the run once."""
        if self._run is not None:
            self._run.finish(exit_code=1 if failed else 0)
            self._run = None

    def give_up(self, error: Exception) -> None:
        """Say once what went wrong, and go on without W&B."""
        self._problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        log.warning("W&B is off for this run (%s); metrics.jsonl has every number.", self._problem)
        self.mode = "off"

    def describe(self) -> dict[str, Any]:
        """Return mode, id, group, and where to look."""
        if self.mode == "off":
            return {"mode": "off"} | ({"problem": self._problem} if self._problem else {})
        described = {"mode": self.mode, "id": self.id, "group": self._group}
        url = getattr(self._run, "url", None) if self.mode == "online" else None
        return described | ({"url": url} if url else {"folder": str(self.folder)})

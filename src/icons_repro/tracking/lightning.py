"""TensorBoard, MLflow and CSV files, by Lightning's own loggers."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from icons_repro.core.settings import LoggerSettings
from icons_repro.core.trees import flatten
from icons_repro.tracking.about import About, Product, Sheet
from icons_repro.tracking.mlflow import open_mlflow, store_of

log = logging.getLogger(__name__)

SCORES = ("/score", "relative/value")
"""How the names of the numbers end that runs are compared by."""


class LightningMirror:
    """One of Lightning's loggers, fed with the lines of our stages under `stage/`."""

    def __init__(self, kind: str, about: About, settings: LoggerSettings) -> None:
        self.kind = kind
        self.folder = about.folder / kind
        self._place = ""
        self._config = _plain(about.config)
        self._logger: Any = None
        try:
            self._logger = self._open(about, settings)
            self._logger.log_hyperparams(self._config)
        except Exception as error:  # whatever a logger's service or disk does
            self._give_up(error)

    def _open(self, about: About, settings: LoggerSettings) -> Any:
        if self.kind == "mlflow":
            self._place = store_of(about, settings)
            return open_mlflow(about, settings)
        from lightning.pytorch import loggers

        shutil.rmtree(self.folder, ignore_errors=True)  # the new run holds all of the old one
        self._place = str(self.folder)
        if self.kind == "csv":
            return loggers.CSVLogger(str(about.folder), name=self.kind, version="")
        return loggers.TensorBoardLogger(
            str(about.folder), name=self.kind, version="", default_hp_metric=False
        )

    def log_step(self, stage: str, line: Mapping[str, float]) -> None:
        """Log one line under `stage/`, at the stage's own step."""
        values = {f"{stage}/{key}": value for key, value in line.items() if key != "step"}
        self._do("log_metrics", values, step=int(line["step"]))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Log the final numbers at step 0; TensorBoard's table of runs shows the scores."""
        numbers = {k: float(v) for k, v in values.items() if _is_number(v)}
        if numbers:
            self._do("log_metrics", numbers, step=0)
        if self.kind == "tensorboard":
            scores = {k: v for k, v in numbers.items() if k.endswith(SCORES)}
            self._do("log_hyperparams", self._config, scores)

    def sheet(self, name: str, sheet: Sheet) -> None:
        """Lightning's loggers share no tables."""

    def lineage(self, products: Sequence[Product]) -> None:
        """Lightning's loggers share no lineage."""

    def describe(self) -> dict[str, Any]:
        """Say where to look."""
        return {"where": self._place} if self._logger is not None else {"mode": "off"}

    def finish(self, failed: bool) -> None:
        """Write what is left, and end the run."""
        self._do("save")
        self._do("finalize", "failed" if failed else "success")
        self._logger = None

    def _do(self, method: str, *arguments: Any, **named: Any) -> None:
        if self._logger is None:
            return
        try:
            getattr(self._logger, method)(*arguments, **named)
        except Exception as error:  # whatever a logger's service or disk does
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        words = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        log.warning("%s is off for this run (%s); metrics.jsonl has all.", self.kind, words)
        self._logger = None


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config as flat names and scalars, as MLflow and TensorBoard show them."""
    flat = dict(flatten(config))
    return {k: v if isinstance(v, str | Real) else json.dumps(v) for k, v in flat.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)

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

log = logging.getLogger(__name__)


class LightningMirror:
    """One of Lightning's loggers, fed with the lines of our stages under `stage/`."""

    def __init__(self, kind: str, about: About, settings: LoggerSettings) -> None:
        self.kind = kind
        self.folder = about.folder / kind
        self._place = ""
        self._logger: Any = None
        try:
            self._logger = self._open(about, settings)
            self._logger.log_hyperparams(_plain(about.config))
        except Exception as error:  # whatever a logger's service or disk does
            self._give_up(error)

    def _open(self, about: About, settings: LoggerSettings) -> Any:
        from lightning.pytorch import loggers

        if self.kind == "mlflow":
            uri = settings.mlflow_uri or f"sqlite:///{about.folder.absolute() / 'mlflow.db'}"
            self._place = uri
            tags = {"group": about.group, "job_type": about.job_type}
            return loggers.MLFlowLogger(
                experiment_name=settings.project,
                run_name=about.name,
                tracking_uri=uri,
                tags=tags | dict.fromkeys(about.tags, "true"),
                artifact_location=str(self.folder.absolute()),
            )
        shutil.rmtree(self.folder, ignore_errors=True)  # the new run holds all of the old one
        self._place = str(self.folder)
        kind = loggers.CSVLogger if self.kind == "csv" else loggers.TensorBoardLogger
        return kind(str(about.folder), name=self.kind, version="")

    def log_step(self, stage: str, line: Mapping[str, float]) -> None:
        """Log one line under `stage/`, at the stage's own step."""
        values = {f"{stage}/{key}": value for key, value in line.items() if key != "step"}
        self._do("log_metrics", values, step=int(line["step"]))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Log the final numbers at step 0."""
        self._do("log_metrics", {k: float(v) for k, v in values.items() if _is_number(v)}, step=0)

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

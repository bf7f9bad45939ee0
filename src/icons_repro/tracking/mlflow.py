"""MLflow: one database for all runs, so that it compares them, with each run in it once."""

from __future__ import annotations

import logging
import os
from typing import Any

from icons_repro.core.settings import LoggerSettings
from icons_repro.tracking.about import About

DATABASE = "mlflow.db"
FOLDER = "icons_repro.folder"
"""Tag by which a run is found again when the same command is given once more."""


def store_of(about: About, settings: LoggerSettings) -> str:
    """Return where MLflow keeps runs: what the user says, else a file beside all of theirs."""
    return settings.mlflow_uri or f"sqlite:///{about.shared.absolute() / DATABASE}"


def open_mlflow(about: About, settings: LoggerSettings) -> Any:
    """Return Lightning's logger of a new run; an older run of the same folder is deleted.

    The new run holds all that the older one did. MLflow keeps what is deleted, out of sight, until
    `mlflow gc`.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from lightning.pytorch.loggers import MLFlowLogger
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # set anew by its import
    uri, folder = store_of(about, settings), str(about.folder.absolute())
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(settings.project)
    if experiment is None:
        # a server knows where its artifacts go; a database would put them where one happens to be
        where = None if settings.mlflow_uri else str(about.shared.absolute() / "mlflow")
        client.create_experiment(settings.project, artifact_location=where)
    else:
        same = f"tags.`{FOLDER}` = '{folder}'"
        for run in client.search_runs([experiment.experiment_id], same):
            client.delete_run(run.info.run_id)
    tags = {"group": about.group, "job_type": about.job_type, FOLDER: folder}
    return MLFlowLogger(
        experiment_name=settings.project,
        run_name=about.name,
        tracking_uri=uri,
        tags=tags | dict.fromkeys(about.tags, "true"),
    )

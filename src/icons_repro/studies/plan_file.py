"""The YAML of a study's folder: what it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from icons_repro.core.errors import UserError


def read_plan(path: Path, what: str) -> Any:
    """Read a folder's YAML. Raises `UserError` naming the file, and `what` lacks where it does."""
    if not path.is_file():
        raise UserError(f"{path} is not there: {path.parent} holds no {what}.")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {error}") from error

"""A checkpoint by its folder, or by its name on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from icons_repro.core.errors import UserError

WEIGHTS = ("*.safetensors", "*.json", "*.model", "*.jinja", "*.txt")
"""What a checkpoint needs; without these, PyTorch's own format is fetched too."""


def fetch(
    name: str,
    patterns: Sequence[str] = WEIGHTS,
    revision: str | None = None,
    kind: Literal["model", "dataset"] = "model",
) -> Path:
    """Return the folder `name`, or the hub repository `name` downloaded once to the hub's cache.

    Raises `UserError` saying what to do where the hub is down, offline or wants a token.
    """
    if Path(name).exists():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = snapshot_download(
            name, allow_patterns=list(patterns), revision=revision, repo_type=kind
        )
        return Path(folder)
    except (HFValidationError, OSError) as error:  # what it says of names, leave and connections
        raise UserError(_reason(name, error)) from error


def refusal(name: str) -> str | None:
    """Ask the hub for leave to read the model `name`; return why it is not given, or None."""
    from huggingface_hub import HfApi

    try:
        HfApi().auth_check(name)
    except Exception as error:  # a lost connection is of the client's HTTP library, whichever it is
        return _reason(name, error)
    return None


def _reason(name: str, error: Exception) -> str:
    """Say why the hub did not give the repository `name`, and what to do."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    if isinstance(error, HFValidationError):
        return f"{name}: no such folder, and not a name on the hub."
    if isinstance(error, GatedRepoError):
        return f"{name} is gated on the hub: accept its licence there, then set HF_TOKEN."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{name}: no such folder and no such repository on the Hugging Face hub (a private one "
            "needs HF_TOKEN)."
        )
    return (
        f"{name} is not a folder here, not in the hub's cache, and the Hugging Face hub cannot "
        "be reached. Download it where there is a network (`hf download`), then give the "
        "folder or point HF_HOME at the cache."
    )


def already_here(name: str) -> Path | None:
    """Return the folder `name`, or the hub repository's in the hub's cache; None if it is not."""
    if Path(name).exists():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None

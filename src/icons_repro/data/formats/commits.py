"""Which commit of a dataset on the hub is meant, so that its name says what was read."""

from __future__ import annotations

import re
from pathlib import Path

from icons_repro.core.errors import UserError
from icons_repro.core.files import read_json, write_json

COMMIT = re.compile(r"[0-9a-f]{40}")


def commit_of(repository: str, revision: str | None, memory: Path) -> str:
    """Return the commit that a revision is: itself, what the hub's cache has, or the hub's answer.

    The answer is kept in the file `memory`, so that a dataset which is changed on the hub does not
    change under a study; `data.revision` takes another. Raises `UserError` where nobody can say.
    """
    wanted = revision or "main"
    if COMMIT.fullmatch(wanted):
        return wanted
    known = read_json(memory) or {}
    name = f"{repository}@{wanted}"
    if name not in known:
        known[name] = _cached(repository, wanted) or _asked(repository, wanted)
        write_json(memory, known)
    return str(known[name])


def _cached(repository: str, revision: str) -> str | None:
    """Return the commit that the hub's cache has for a branch or tag."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{repository.replace('/', '--')}"
    path = folder / "refs" / revision
    return path.read_text().strip() if path.is_file() else None


def _asked(repository: str, revision: str) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        return str(HfApi().dataset_info(repository, revision=revision, timeout=30).sha)
    except HFValidationError as error:
        raise UserError(
            f"data.hub={repository}: no such folder, and not a name on the hub."
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"data.hub={repository}: no such folder and no such dataset on the Hugging Face hub (a "
            "private or gated one needs HF_TOKEN)."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise UserError(
            f"data.hub={repository} is not a folder here, not in the hub's cache, and the Hugging "
            f"Face hub cannot be reached ({type(error).__name__}). Download it where there is a "
            f"network (`hf download --repo-type dataset {repository}`), then give the folder or "
            "point HF_HOME at the cache."
        ) from error

"""A dataset's folder, sent to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from icons_repro.core.errors import UserError


def push_to_hub(folder: Path, repository: str, private: bool) -> str:
    """Make the repository if it is not there, and upload the folder as one commit; return its URL.

    Raises `UserError` where the hub cannot be reached or refuses; the folder stays as it is.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    later = f"The dataset is whole in {folder}; later: hf upload --repo-type dataset {repository} ."
    try:
        api = HfApi()
        made = api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            folder_path=folder,
            repo_id=made.repo_id,
            repo_type="dataset",
            commit_message="A subset chosen by icons-repro",
            allow_patterns=["README.md", "data/*.parquet"],
        )
    except HFValidationError as error:
        raise UserError(f"{repository} is no name of a repository: {error} {later}") from error
    except HfHubHTTPError as error:
        raise UserError(
            f"the Hugging Face hub refused {repository}: {error}. HF_TOKEN, or `hf auth login`, "
            f"must have the right to write there. {later}"
        ) from error
    except OSError as error:
        raise UserError(
            f"the Hugging Face hub cannot be reached ({type(error).__name__}). {later}"
        ) from error
    return str(made)

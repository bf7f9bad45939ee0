from pathlib import Path

import pytest
from installed import Installed, install


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, installed once; the folder is inside a repository that is not ours."""
    folder: Path = tmp_path_factory.mktemp("installed")
    return install(folder)

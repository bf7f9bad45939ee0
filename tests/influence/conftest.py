"""What the tests of sources share: one cache, so that a warm-up and its gradients are made once."""

from __future__ import annotations

import pytest

from icons_repro.core.cache import Cache


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Where the steps of all tests of sources are made, each once."""
    return Cache(tmp_path_factory.mktemp("grid") / "cache")

"""The small random LLaVA that the gradient tests share."""

from __future__ import annotations

import pytest
from gradient_models import small_llava, with_adapter
from peft import PeftModel


@pytest.fixture(scope="session")
def llava64() -> PeftModel:
    """The small model in float64 with its adapter."""
    return with_adapter(small_llava())

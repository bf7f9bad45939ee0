"""The entry point by which lmms-eval finds our model: `lmms-eval --model icons_llava`."""

from __future__ import annotations

from typing import Any

MODEL_ID = "icons_llava"


def manifest() -> Any:
    """Return lmms-eval's `ModelManifest` (entry-point group `lmms_eval.models`)."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id=MODEL_ID, chat_class_path="icons_repro.evaluation.lmms_model.LlavaLmms"
    )

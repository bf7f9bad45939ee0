"""Why a model is not supported, in a sentence."""

from __future__ import annotations

from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

REASONS = {
    ("mllama", "idefics"): (
        "images reach its text through cross-attention, not as tokens, and those layers are no "
        "part of what is trained here."
    ),
    ("blip-2", "instructblip", "instructblipvideo", "kosmos-2", "kosmos-2.5"): (
        "queries stand between its tower and its text, and it has no chat template."
    ),
    ("paligemma", "git", "shieldgemma2"): "it has no chat template, so no characters are answers.",
    ("chameleon", "emu3", "janus"): "its images are tokens of a vocabulary, not features.",
}
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def refusal(config: Any) -> str:
    """Return the reason why `config` describes no model that can be used here."""
    for types, reason in REASONS.items():
        if config.model_type in types:
            return reason
    if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return "it is no image-text model (AutoModelForImageTextToText)."
    text = config.get_text_config()
    if getattr(config, "is_encoder_decoder", False) or getattr(text, "is_encoder_decoder", False):
        return "it is an encoder and a decoder; labels and gradients here are of decoders."
    if any(getattr(text, name, None) for name in EXPERTS):
        return "its experts are stacked tensors that neither LoRA nor per-sample gradients reach."
    return "no adapter is written and proven for it."

"""Idefics3, and the first SmolVLM, whose checkpoints are of this type: tiles as SmolVLM."""

from icons_repro.models.families.smolvlm import SmolVLM

IDEFICS3 = SmolVLM(
    model_type="idefics3",
    title="Idefics3",
    language="text_model",
    vision=("vision_model",),
    projectors=("connector",),
    by_prompt=True,
)

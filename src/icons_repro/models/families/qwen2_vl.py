"""Qwen2-VL: patches as Qwen2.5-VL, through a tower without windows."""

from icons_repro.models.families.qwen2_5_vl import Patched

QWEN2_VL = Patched(
    model_type="qwen2_vl",
    title="Qwen2-VL",
    vision=("visual",),
    projectors=("visual.merger",),
    token_types="mm_token_type_ids",
)

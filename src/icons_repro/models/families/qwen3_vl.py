"""Qwen3-VL: patches as Qwen2.5-VL; inner layers of the tower feed the language model too.

Each of those layers has a merger of its own, whose output is added to the image tokens' states in
the first layers of the language model.
"""

from icons_repro.models.families.qwen2_5_vl import Patched

QWEN3_VL = Patched(
    model_type="qwen3_vl",
    title="Qwen3-VL",
    vision=("visual",),
    projectors=("visual.merger", "visual.deepstack_merger_list"),
    token_types="mm_token_type_ids",
)

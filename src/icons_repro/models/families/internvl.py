"""InternVL: tiles of one size and an overview, `[U, 3, H, W]`, between two marks in the text."""

from icons_repro.models.families.base import Family

INTERNVL = Family(model_type="internvl", title="InternVL")

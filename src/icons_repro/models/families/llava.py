"""LLaVA-1.5: every image takes the same number of tokens, so none is opened to count them.

Its rows go through `ConversationEncoder` and `Collator` (data/), which prepare the images of a
whole batch at once.
"""

from icons_repro.models.families.base import Family

LLAVA = Family(model_type="llava", title="LLaVA-1.5", squared=True)

"""The weights that ship with the package: where they are."""

from pathlib import Path

_HERE = Path(__file__).parent
TINY_BASE = _HERE / "base"
"""The shipped base: `model.safetensors`, `vocabulary.txt`, `chat_template.jinja`."""
NARROW_BASE = _HERE / "narrow"
"""The same recipe at another width: `model.safetensors` alone."""
TINY_CLIP = _HERE / "clip"
"""The shipped pair of encoders, a plain Hugging Face folder."""

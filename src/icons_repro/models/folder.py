"""A base model that is somebody's folder: linked, not copied."""

from __future__ import annotations

from pathlib import Path

from icons_repro.models.llava import load_processor
from icons_repro.models.template import chat_template


def link_model(folder: Path, template: str | None, out: Path) -> None:
    """Link a model folder's files to `out`; with `template`, write its processor anew."""
    processor = load_processor(folder) if template else None
    if processor and template:
        processor.chat_template = chat_template(template, processor.tokenizer)
        processor.save_pretrained(out)
    for path in sorted(folder.iterdir()):
        if path.is_file() and not (out / path.name).exists():
            (out / path.name).symlink_to(path.resolve())

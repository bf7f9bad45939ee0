"""A base model that is somebody's folder: linked, not copied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icons_repro.core.errors import ConfigError
from icons_repro.core.types import IMAGE_TOKEN
from icons_repro.data.encoders import make_encoder, require_ends
from icons_repro.models.families import family_of
from icons_repro.models.llava import load_processor
from icons_repro.models.template import chat_template


def link_model(
    folder: Path, template: str | None, out: Path, images: Mapping[str, Any] | None = None
) -> None:
    """Link a model folder's files to `out`.

    With a `template`, or with settings of its image processor to change in `images`, the processor
    is written anew, so that all that reads the base sees the same images.

    Raises `DataError` for a model or processor that cannot be used, here rather than in the middle
    of a run; `ConfigError` for settings that its processor does not have.
    """
    family = family_of(folder)
    processor = load_processor(folder)
    if template:
        _require_our_token(template, family.title, processor)
        processor.chat_template = chat_template(template, processor.tokenizer)
    change_images(processor, images or {})
    if template or images:
        processor.save_pretrained(out)
    require_ends(make_encoder(family, processor))
    for path in sorted(folder.iterdir()):
        if path.is_file() and not (out / path.name).exists():
            (out / path.name).symlink_to(path.resolve())


def change_images(processor: Any, settings: Mapping[str, Any]) -> None:
    """Change settings of a processor's image processor (`size`, `do_image_splitting`, ...).

    Raises `ConfigError` for one that it does not have, or that its class overrules.
    """
    if not settings:
        return
    known = processor.image_processor
    unknown = [name for name in settings if not hasattr(known, name)]
    fixed = processor._merge_kwargs(processor.valid_processor_kwargs)["images_kwargs"]
    overruled = [name for name, value in settings.items() if fixed.get(name, value) != value]
    for names, why in ((unknown, "has no such setting"), (overruled, "sets it itself")):
        if names:
            raise ConfigError(
                f"model.images.{names[0]}: {type(processor).__name__} {why}. Take it out."
            )
    options = {**known.to_dict(), **settings}
    options.pop("image_processor_type", None)
    processor.image_processor = type(known)(**options)


def _require_our_token(template: str, title: str, processor: Any) -> None:
    if processor.image_token != IMAGE_TOKEN:
        raise ConfigError(
            f"model.template={template} writes {IMAGE_TOKEN} for an image, and {title} reads "
            f"{processor.image_token}: leave model.template=null, which takes the folder's own."
        )

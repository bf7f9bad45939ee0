"""One page: a template filled in, with its style, script and data inside, and nothing else.

A page shows text that strangers wrote. It comes in two ways alone: through the templates, which
escape what they are given, and as JSON that scripts write with `textContent`. The page's policy
lets the browser load nothing and run no script but the one whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icons_repro.core.files import write_text

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

STYLE = "page.css"
COMMON = ("elements.js", "tables.js")
"""Scripts that every page has."""
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""What could end a script element, or a line of one, inside of JSON."""


def write_page(
    path: Path,
    template: str,
    scripts: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    **values: Any,
) -> Path:
    """Write a page, whole or not at all, and return its path.

    `data` maps the id of an element to what scripts find in it; `values` are the template's.
    """
    from markupsafe import Markup

    script = "\n".join(static(name) for name in (*COMMON, *scripts))
    text = (
        environment()
        .get_template(template)
        .render(
            policy=policy(script),
            style=Markup(static(STYLE)),
            script=Markup(script),
            data={name: embedded(value) for name, value in (data or {}).items()},
            **values,
        )
    )
    write_text(path, text.encode("utf-8", "replace").decode())  # half a surrogate pair has no UTF-8
    return path


def policy(script: str) -> str:
    """Return a Content-Security-Policy: nothing is loaded, and no other script runs."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def embedded(value: Any) -> Markup:
    """Return a value as JSON that stands safely inside a script element. NaN is an error."""
    from markupsafe import Markup

    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character, escape in ESCAPES.items():
        text = text.replace(character, escape)
    return Markup(text)


@lru_cache
def static(name: str) -> str:
    """Return a file of `static/`."""
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8").strip()


@lru_cache
def environment() -> Environment:
    """Return the templates; a value that one lacks is an error, and all text is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("icons_repro.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

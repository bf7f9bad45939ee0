"""What the small commands beside the main one share: their help, and errors in a line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from icons_repro.core.errors import UserError
from icons_repro.core.invocation import MODULE


def parser_of(module: str, about: str | None) -> argparse.ArgumentParser:
    """Return the parser of a module of this package; `about` is the module's docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m {MODULE}.{module}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@contextmanager
def errors_in_a_line() -> Iterator[None]:
    """Make a `UserError` a line on stderr and exit code 1."""
    try:
        yield
    except UserError as error:
        sys.exit(f"Error: {error}")

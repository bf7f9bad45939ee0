"""Where multiprocessing keeps its sockets, whose paths may have about a hundred bytes."""

from __future__ import annotations

import os
import tempfile
from multiprocessing import util

LONGEST = 70
"""Of a temporary folder: a socket's path has at most 103 bytes everywhere, 32 of them below it."""


def keep_sockets_short() -> None:
    """Let multiprocessing's folder be in /tmp where TMPDIR, as a cluster sets it, is too long.

    It makes that folder once and its children inherit it, so call this before it starts any.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= LONGEST:
        return
    before, tempfile.tempdir = tempfile.tempdir, "/tmp"
    try:
        util.get_temp_dir()
    finally:
        tempfile.tempdir = before

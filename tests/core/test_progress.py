"""On a terminal, steps made one by one show what is running, how many are done, for how long."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

CODE = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from steps import Number
from icons_repro.core.cache import Cache
from icons_repro.engine.inline import InlineExecutor
from icons_repro.engine.ledger import Ledger
import logging
logging.basicConfig(format="%(message)s", level=logging.INFO)
first = Number(value=1, seconds=1.2)
second = Number(value=2, reads=(first,), seconds=1.2)
InlineExecutor({}).run(Ledger([second], Cache(Path(sys.argv[1]))))
print("the end", file=sys.stderr)
"""


def on_a_terminal(*arguments: str) -> str:
    """Return what a Python program writes to its terminal, stdout and stderr together."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-c", CODE, *arguments]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0, shown.decode()
    return shown.decode()


def test_inline_steps_have_a_live_count_that_leaves_nothing_behind(tmp_path: Path) -> None:
    shown = on_a_terminal(str(tmp_path), str(Path(__file__).parent))
    assert re.search(r"0/2 number \(1\) 0:01", shown), shown
    assert re.search(r"1/2 number \(2\) 0:0\d.* about 0:0\d left", shown), shown
    last = shown.rstrip().splitlines()[-1]
    assert last.split("\r")[-1].strip() == "the end"

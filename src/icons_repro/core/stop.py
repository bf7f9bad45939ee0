"""Stop when told to, with everything kept: Ctrl-C, SIGTERM, SIGUSR1, SIGUSR2 end a step well.

A training loop is told by a flag, saves, and raises `Stopped`; everything else is interrupted where
it stands, which loses at most the seconds since the last write.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

STOPPED = 75
"""Exit code of a step that was stopped and can go on (EX_TEMPFAIL)."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Stopped(BaseException):
    """The process was told to stop; what was done is kept.

    Not an `Exception`: nobody handles it by accident.
    """

    def __init__(self, number: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name}; run it again, and it goes on from there")
        self.number = number


class _Asked:
    """The signal that came, and how many loops look for it themselves."""

    signal: int | None = None
    deferred = 0


BEGUN_NOTHING = "\nStopped before any work began. Nothing is lost; give the same command again.\n"


def stop_at_once() -> None:
    """Until `heed_signals`: end in one line, whatever is being imported or composed.

    An exception would come out of the middle of somebody's import, as a traceback.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, BEGUN_NOTHING.encode())
    os._exit(128 + number)


def heed_signals() -> None:
    """Make the signals end the work in good order; those that are ignored stay so.

    Only the main thread can ask for this; elsewhere it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    _Asked.signal = number
    if not _Asked.deferred:
        raise Stopped(number)


def asked_to_stop() -> int | None:
    """Return the signal that asked, or None."""
    return _Asked.signal


@contextmanager
def born_deaf() -> Iterator[None]:
    """Processes started in this block ignore Ctrl-C from birth: a terminal sends it to all.

    Ours is only held back meanwhile. Elsewhere than in the main thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


@contextmanager
def deferred() -> Iterator[None]:
    """Within this block a signal only sets the flag; the loop calls `stop_if_asked` when it can."""
    _Asked.deferred += 1
    try:
        yield
    finally:
        _Asked.deferred -= 1


def leave(code: int) -> NoReturn:
    """End the process: what is registered for the end runs, and nothing is taken apart.

    No thread of a library can keep the process then, or change its code; and Python spares the
    seconds in which it would take torch and Lightning apart, object by object.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def stop_if_asked() -> None:
    """Raise `Stopped` if a signal has come."""
    if _Asked.signal is not None:
        raise Stopped(_Asked.signal)

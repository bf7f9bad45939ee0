"""Who is working on what: claims that survive kills, hosts and file systems without locks.

A claim is a file made by exclusive creation, which holds on one machine and over NFS alike. It says
who owns it: host, process and a heartbeat file that a thread of the owner touches. An owner on this
machine that has died is known at once; one elsewhere is given up when its heartbeat has stood still
for `LEASE` seconds by the observer's own clock. A live one is never touched.

Claims save work, and nothing else hangs on them: every attempt writes to a folder of its own and
the finished one is renamed into place, so where claims do not exclude, the work is done twice and
the artifact is still one writer's.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import psutil

BEAT = 5.0
"""Seconds between two heartbeats."""
LEASE = float(os.environ.get("ICONS_LEASE_SECONDS", 60))
"""Seconds without a heartbeat after which an owner on another host counts as dead."""


@dataclass(frozen=True)
class Owner:
    """One process of this program, on any host."""

    id: str
    host: str
    pid: int
    namespace: str
    """Boot and process namespace: only there does `pid` mean anything."""
    started: float
    """When the process started; a later process may have the same `pid`."""
    heartbeat: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def gone(self) -> bool:
        """Whether it is a process of this machine that no longer runs."""
        if self.namespace != _namespace():
            return False
        try:
            return psutil.Process(self.pid).create_time() != self.started
        except psutil.NoSuchProcess:
            with suppress(FileNotFoundError):  # /proc may hide what is another user's (hidepid)
                return os.geteuid() in (0, os.stat(self.heartbeat).st_uid)
            return True


@cache
def _namespace() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{platform.node()}/{psutil.boot_time()}"


class Heart:
    """This process, alive: its owner's card, and the thread that touches its heartbeat file."""

    _beating: Heart | None = None

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._forget_old(folder)
        identity = uuid.uuid4().hex[:12]
        self.path = folder / f"{identity}.alive"
        here = (socket.gethostname(), os.getpid(), _namespace(), psutil.Process().create_time())
        self.owner = Owner(identity, *here, str(self.path))
        self.path.write_text(json.dumps(asdict(self.owner)))
        threading.Thread(target=self._beat, daemon=True).start()

    @classmethod
    def of(cls, folder: Path) -> Heart:
        """Return this process's heart in `folder`; a forked child gets one of its own."""
        found = cls._beating
        if found is None or found.owner.pid != os.getpid() or found.path.parent != folder:
            cls._beating = found = cls(folder)
        return found

    @classmethod
    def stop(cls) -> None:
        """Say that this process works no more: what it left may be taken up at once."""
        if cls._beating is not None and cls._beating.owner.pid == os.getpid():
            cls._beating.path.unlink(missing_ok=True)
            cls._beating = None

    @staticmethod
    def _forget_old(folder: Path) -> None:
        """Remove the cards of processes that have not beaten for a day."""
        for card in folder.glob("*.alive"):
            # another process was quicker, or it is another user's in a folder like /tmp
            with suppress(FileNotFoundError, PermissionError):
                if time.time() - card.stat().st_mtime > 86_400:
                    card.unlink()

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            try:
                os.utime(self.path)
            except FileNotFoundError:  # the cache was deleted under us; claims in it are gone too
                return
            except OSError:  # a network file system that stumbles: the next beat may reach it
                continue


def read_owner(path: Path) -> Owner | None:
    """Return who holds the claim at `path`; None if nobody does, or it was cut while written."""
    try:
        return Owner(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


class Watch:
    """Tells a dead owner from a live one, over several looks."""

    def __init__(self, lease: float | None = None) -> None:
        self.lease = LEASE if lease is None else lease
        self._seen: dict[str, tuple[float, float]] = {}

    def dead(self, owner: Owner) -> bool:
        """Whether `owner` has died, as far as can be told by now."""
        if owner.gone:
            return True
        try:
            beat = os.stat(owner.heartbeat).st_mtime
        except OSError:
            beat = 0.0
        now = time.monotonic()
        last, since = self._seen.get(owner.id, (None, now))
        if last != beat:
            self._seen[owner.id] = (beat, now)
            return False
        return now - since > self.lease


WATCH = Watch()


def acquire(path: Path, owner: Owner, watch: Watch = WATCH) -> Owner | None:
    """Claim `path` for `owner`, taking it over from a dead one; return a live holder, or None.

    A cut claim file (its writer died in the act) is taken over once it is older than the lease.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            with path.open("x") as file:
                file.write(json.dumps(asdict(owner)))
            return None
        except FileExistsError:
            holder = read_owner(path)
        if holder is None:
            if not _cut(path, watch.lease):
                continue
        elif holder.id == owner.id:
            return None
        elif not watch.dead(holder):
            return holder
        _put_aside(path, holder)


def _cut(path: Path, lease: float) -> bool:
    """Whether the claim has been unreadable for so long that nobody is writing it."""
    time.sleep(0.05)
    try:
        return time.time() - path.stat().st_mtime > min(lease, 5.0)
    except FileNotFoundError:
        return False


def _put_aside(path: Path, holder: Owner | None) -> None:
    """Remove a dead owner's claim, unless somebody was quicker and it is another's by now."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.stale")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    moved = read_owner(aside)
    if moved is not None and (holder is None or moved.id != holder.id):
        # It was a live one's: give it back. A third may have claimed it meanwhile, or there are no
        # links here; then the work is done twice, and published once.
        with suppress(OSError):
            os.link(aside, path)
    aside.unlink()


def release(path: Path, owner: Owner) -> None:
    """Give up a claim that is `owner`'s; leave anybody else's alone."""
    holder = read_owner(path)
    if holder is not None and holder.id == owner.id:
        path.unlink(missing_ok=True)


@contextmanager
def claimed(
    path: Path,
    owner: Owner,
    on_wait: Callable[[Owner], None],
    done: Callable[[], bool],
    poll: float = 0.2,
) -> Iterator[bool]:
    """Hold the claim at `path`; wait for a live holder, unless `done` says nothing is left to do.

    Yields whether the claim is held. `on_wait` is told, once each, whom it waits for.
    """
    told: set[str] = set()
    while (holder := acquire(path, owner)) is not None:
        if done():
            yield False
            return
        if holder.id not in told:
            told.add(holder.id)
            on_wait(holder)
        time.sleep(poll)
    try:
        yield True
    finally:
        release(path, owner)

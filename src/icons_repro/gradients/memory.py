"""Running out of memory: what is remembered of it, by device and workload."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from icons_repro.core.files import write_json


def device_name(device: torch.device) -> str:
    """Return the device's name with its memory: two cards of one name may differ in that."""
    if device.type != "cuda":
        return device.type
    found = torch.cuda.get_device_properties(device)
    return f"{found.name}, {found.total_memory / 2**30:.0f} GiB"


class TokenLimits:
    """How many padded tokens fit at once, for each device and workload, learnt from failures.

    Half of what did not fit is taken to fit; where that fails too, it is halved again. Limits only
    fall. A limit that something else on the device caused goes with the file, which may be deleted.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Read what `path` remembers, `{device: {workload: tokens}}`; None remembers nothing."""
        self._path = path
        self._limits: dict[str, dict[str, int]] = {}
        self._merge_file()

    def get(self, device: str, workload: str) -> int | None:
        """Return the limit, in padded tokens; None while nothing has failed."""
        return self._limits.get(device, {}).get(workload)

    def did_not_fit(self, device: str, workload: str, tokens: int) -> None:
        """Learn from a batch of `tokens` padded tokens, and write it down."""
        self._merge_file()  # another process may have learnt something since
        self._lower(device, workload, max(1, tokens // 2))
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, self._limits)

    def _lower(self, device: str, workload: str, tokens: int) -> None:
        known = self._limits.setdefault(device, {})
        known[workload] = min(tokens, known.get(workload, tokens))

    def _merge_file(self) -> None:
        if self._path is None or not self._path.is_file():
            return
        for device, workloads in json.loads(self._path.read_text()).items():
            for workload, tokens in workloads.items():
                self._lower(device, workload, tokens)

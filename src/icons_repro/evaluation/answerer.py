"""Which model answers the benchmarks' questions, as a value."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answerer:
    """Which model answers, and how."""

    model_dir: Path
    adapter_dir: Path | None = None
    """None scores the model as it is."""
    batch_size: int = 128
    device: str = "cpu"
    dtype: str = "float32"
    image_transform: Any = None
    """What training did to images before the processor."""

    def identity(self) -> dict[str, Any]:
        """Return what decides the answers."""
        weights = weights_identity(self.model_dir, self.adapter_dir)
        return {"weights": weights, "dtype": self.dtype}


def weights_identity(model_dir: Path, adapter_dir: Path | None) -> str:
    """Return a hash of what answers: the adapter's bytes, the base's config and file sizes."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update((model_dir / "config.json").read_bytes())
    for path in sorted(model_dir.glob("*.safetensors")):
        digest.update(f"{path.name}:{path.stat().st_size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 22))
    for path in sorted(adapter_dir.glob("*.safetensors")) if adapter_dir else []:
        if path.name != "optimizer.safetensors":
            digest.update(path.read_bytes())
    return digest.hexdigest()

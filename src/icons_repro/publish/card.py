"""The card of a published subset, as the hub reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from icons_repro.data.export import sections
from icons_repro.data.records import RecordTable

SIZES = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")]
"""The hub's words for the number of rows; more are `1M<n<10M`."""


def card(
    table: RecordTable, positions: np.ndarray, selection: Path, files: Sequence[Path], about: str
) -> str:
    """Return the card: what the hub shows, how the rows were chosen, counts, hashes, licences."""
    size = next((word for most, word in SIZES if len(positions) < most), "1M<n<10M")
    named = {f"data/{path.name}": path for path in files}
    front = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
            }
        ],
        "task_categories": ["image-text-to-text"],
        "size_categories": [size],
        "tags": ["data-selection", "visual-instruction-tuning"],
    }
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).rstrip(),
        "---",
        "# A subset for visual instruction tuning",
        "",
        f"{len(positions):,} of {len(table):,} rows, chosen by {about}. `position` and `key` name "
        "a row in the pool that it is from; `id` repeats in some pools.",
        "",
        "`conversations` are in LLaVA's schema, `images` the bytes as they were in the pool:",
        "",
        "```python",
        'datasets.load_dataset("THIS REPOSITORY", split="train")',
        "```",
        "",
        *sections(table, positions, selection, named, "its image, which is inside"),
    ]
    return "\n".join(lines)

"""What the export step does."""

from __future__ import annotations

from icons_repro.core.step import Counts
from icons_repro.core.work import Work
from icons_repro.data.export import export_subset
from icons_repro.data.records import RecordTable
from icons_repro.export.merge import copy_adapter, write_merged
from icons_repro.export.stage import Export


def export(step: Export, work: Work) -> Counts:
    """Merge, copy, and write the subset with its card."""
    base, adapter = work.path(step.base), work.path(step.adapter)
    write_merged(base, adapter, work.out / "model", step.dtype, step.aspect_ratio)
    copy_adapter(adapter, work.out / "adapter")
    table = RecordTable(work.path(step.pool) / "records.arrow")
    about = f"{step.selection.label} (selection {step.selection.fingerprint})"
    return export_subset(table, work.path(step.selection), work.out / "subset", about)

"""What the tiny world's heavier steps do: train the base that ships, from its corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from icons_repro.core.settings import DataSettings, RecordPolicy
from icons_repro.core.step import Counts
from icons_repro.core.work import Work
from icons_repro.data.records import build_records
from icons_repro.tiny.corpus import write_corpus
from icons_repro.tiny.model import MAX_TOKENS, build_tiny_llava, save_tiny_llava, save_weights
from icons_repro.tiny.stage import Pretrain
from icons_repro.training.fit import fit
from icons_repro.training.job import FitJob, counted


def pretrain(step: Pretrain, work: Work) -> Counts:
    """Write the corpus and the first weights, and train all of them."""
    settings = step.settings
    corpus, records, first = (work.out / name for name in ("corpus", "records", "first"))
    if not (first / "config.json").is_file():
        _write_first(step, corpus, records, first)
    np.save(work.out / "positions.npy", np.arange(settings.rows))
    job = FitJob(
        model_dir=str(first),
        records=str(records),
        image_root=str(corpus / "images"),
        positions=str(work.out / "positions.npy"),
        seed=settings.seed,
        lora=None,
        train=settings.train,
        data=DataSettings(max_length=MAX_TOKENS),
        trainer=step.trainer,
    )
    counts = counted(fit(job, work.out, work.on_metrics))
    save_weights(work.out, work.out / "shipped.safetensors")
    return counts


def _write_first(step: Pretrain, corpus: Path, records: Path, first: Path) -> None:
    settings = step.settings
    records.mkdir(exist_ok=True)
    write_corpus(corpus, settings.rows, settings.seed)
    no_check = RecordPolicy(check_images="none")
    build_records(corpus / "pretrain.json", corpus / "images", records, no_check)
    save_tiny_llava(build_tiny_llava(settings.seed, settings.width), first)

"""The trainings that rows are looked at with: of a slice, of the whole pool, of a proxy's run."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

from icons_repro.graph.inputs import Inputs
from icons_repro.training.stage import FullRunWarmUp, ProxyRun, SliceWarmUp


class WarmUps:
    """Adapters of the selection base, none of which is the one that is scored."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    @cached_property
    def of_slice(self) -> SliceWarmUp:
        """The adapter that gradients are taken at."""
        c = self._inputs.config.warmup
        return SliceWarmUp(**self._trained, train=c.train, fraction=c.fraction)

    @cached_property
    def of_full_run(self) -> FullRunWarmUp:
        """The adapter of the run over the whole pool, part of the way."""
        stop = self._inputs.config.warmup.full_run_steps
        return FullRunWarmUp(**self._trained, **self._full_run, stop_after=stop)

    def proxy(self, points: int) -> ProxyRun:
        """The run over the whole pool with `points` adapters kept on the way."""
        return ProxyRun(**self._trained, **self._full_run, points=points)

    @property
    def _full_run(self) -> dict[str, Any]:
        return {"train": replace(self._inputs.config.finetune, regime="same_epochs")}

    @property
    def _trained(self) -> dict[str, Any]:
        """What every warm-up is made of."""
        i = self._inputs
        return {
            "base": i.selection_base,
            "pool": i.whole_pool,
            "lora": i.config.lora,
            "encoding": i.encoding,
            "trainer": i.trainer,
            "seed": i.config.warmup.seed,
        }

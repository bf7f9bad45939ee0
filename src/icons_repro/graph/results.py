"""What becomes of a selection: its training, its scores, its export, what leaked into them."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

from icons_repro.core.refs import existing, folder_ref
from icons_repro.core.step import ordered
from icons_repro.data.stage import Targets
from icons_repro.evaluation.settings import chosen_tasks
from icons_repro.evaluation.stage import Evaluate
from icons_repro.export.stage import Export
from icons_repro.graph.inputs import Inputs
from icons_repro.leakage.stage import Leakage, PoolPrints
from icons_repro.selection.stage import Select
from icons_repro.training.stage import FineTune


class ResultSteps:
    """The steps after a selection."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def adapter(self, chosen: Select, seed: int) -> FineTune:
        """The adapter trained on `chosen`, from the base model.

        All of the pool takes the same steps in both regimes, so it is trained once for both.
        """
        i, c = self._inputs, self._inputs.config
        whole = chosen.selector == c.references["full"]
        return FineTune(
            base=i.base,
            pool=i.pool,
            selection=chosen,
            train=replace(c.finetune, regime="same_epochs") if whole else c.finetune,
            lora=c.lora,
            encoding=i.encoding,
            trainer=i.trainer,
            seed=seed,
        )

    def scores(self, adapter: FineTune) -> Evaluate:
        """The benchmark scores of an adapter."""
        i = self._inputs
        return Evaluate(
            base=i.base,
            adapter=adapter,
            aspect_ratio=i.encoding.aspect_ratio,
            trainer=i.trainer,
            batch_size=i.config.benchmarks.batch_size,
            **self._tests,
        )

    def leakage(self, chosen: Select) -> Leakage:
        """Pictures that the tests share with the pool, and with the targets that `chosen` reads."""
        threads = self._inputs.encoding.num_workers
        read = [step for step in ordered([chosen]) if isinstance(step, Targets)]
        return Leakage(
            pool=PoolPrints(pool=self._inputs.pool, threads=threads),
            targets=read[0] if read else None,
            threads=threads,
            **self._tests,
        )

    @cached_property
    def _tests(self) -> dict[str, Any]:
        """The benchmarks: lmms-eval's, or files of a world or the user."""
        i, group = self._inputs, self._inputs.config.benchmarks
        own = group.local and not i.world
        folder = existing(group.folder, "benchmarks.folder") if own else None
        return {
            "tasks": {} if group.local else chosen_tasks(group.tasks, group.only),
            "only": group.only if group.local else None,
            "world": i.world if group.local else None,
            "folder": folder_ref(folder, i.index, "*.parquet") if folder else None,
        }

    def export(self, chosen: Select, adapter: FineTune) -> Export:
        """The merged model, the adapter and the subset, for other people's programs."""
        i = self._inputs
        return Export(
            base=i.base,
            pool=i.pool,
            selection=chosen,
            adapter=adapter,
            dtype=i.trainer.model_dtype,
            aspect_ratio=i.encoding.aspect_ratio,
        )

"""One process, one step after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from icons_repro.core.build import Options, build
from icons_repro.core.errors import UserError
from icons_repro.core.faults import in_one_line, keep_traceback
from icons_repro.core.step import Step
from icons_repro.engine.ledger import Ledger
from icons_repro.engine.logs import log_of
from icons_repro.engine.resources import Table, check_gpus, local_gpus, of_step

log = logging.getLogger(__name__)
OnMetrics = Callable[[Step, dict[str, float]], None]


@dataclass(frozen=True)
class InlineExecutor:
    """Runs everything here; a step that fails stops only what needs it."""

    table: Table
    on_metrics: OnMetrics | None = None
    workers: int = 1

    def check(self, ledger: Ledger) -> None:
        """Raise `ConfigError` if a step asks for more GPUs than this machine has."""
        check_gpus(self.table, ledger.needed.values(), len(local_gpus()))

    def run(self, ledger: Ledger) -> None:
        """Compute what is ready until nothing is."""
        while ready := ledger.ready():
            self._make(ready[0], ledger)

    def _make(self, step: Step, ledger: Ledger) -> None:
        ledger.start(step)
        tell = partial(self.on_metrics, step) if self.on_metrics else None
        try:
            build(step, ledger.cache, Options(of_step(self.table, step).chunks, on_metrics=tell))
        except UserError as error:
            ledger.fail(step, str(error))
        except Exception as error:  # whatever a step's libraries raise; the rest goes on
            path = log_of(ledger.cache, step)
            keep_traceback(path)
            ledger.fail(step, in_one_line(error, step), path)
        else:
            ledger.finish(step)

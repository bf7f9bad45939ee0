"""What ranks note of their failures, and what the step makes of it."""

from __future__ import annotations

from pathlib import Path

import torch
from graphs import NOWHERE, composed

from icons_repro.config.checks import typed
from icons_repro.core.cache import Cache
from icons_repro.core.errors import DataError, UserError
from icons_repro.core.faults import in_one_line
from icons_repro.core.step import ordered
from icons_repro.experiment import Experiment
from icons_repro.training.failures import RankError, note_failure, take_failure

LOST = RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:7")


def test_what_the_others_lost_is_not_the_cause_and_memory_has_its_remedy(tmp_path: Path) -> None:
    note_failure(tmp_path, 0, LOST)
    note_failure(tmp_path, 1, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    failure = take_failure(tmp_path)
    assert isinstance(failure, RankError)
    assert not failure.lost
    goals = Experiment(typed(composed()), Cache(NOWHERE / "cache")).goals()
    warmup = next(step for step in ordered(goals) if step.group == "warmup")
    said = in_one_line(failure, warmup)
    assert said.startswith(
        "not enough memory for it: take warmup.train.gradient_checkpointing=true"
    )
    assert "rank 1: OutOfMemoryError" in said
    assert not list(tmp_path.iterdir())


def test_an_error_of_a_users_stays_one(tmp_path: Path) -> None:
    note_failure(tmp_path, 1, DataError("row 7 has no answer"))
    failure = take_failure(tmp_path)
    assert isinstance(failure, UserError)
    assert str(failure) == "row 7 has no answer"


def test_a_lost_connection_alone_is_a_worker_that_died(tmp_path: Path) -> None:
    note_failure(tmp_path, 0, LOST)
    failure = take_failure(tmp_path)
    assert isinstance(failure, RankError)
    assert failure.lost
    assert str(failure).startswith("a worker died, or the connection to it did (rank 0:")
    assert take_failure(tmp_path) is None

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluation_samples import answers_of

from icons_repro.core.errors import UserError
from icons_repro.evaluation.tasks import write_local_tasks


def answers(
    tiny_base: Path, adapter: Path, include: Path, names: list[str], batch_size: int
) -> dict[str, list[Any]]:
    from icons_repro.evaluation.lmms_model import LlavaLmms

    return answers_of(LlavaLmms(tiny_base, adapter, batch_size=batch_size), include, names)


@pytest.fixture
def include(tmp_path: Path, write_benchmark: Callable[..., Path]) -> Path:
    write_benchmark(tmp_path / "parquet", "first", rows=23)
    write_benchmark(tmp_path / "parquet", "second", rows=17, answers=("yes", "no"))
    write_local_tasks(tmp_path / "parquet", tmp_path / "include")
    return tmp_path / "include"


def test_batch_size_does_not_change_answers_or_their_order(
    tiny_base: Path, adapter: Path, include: Path
) -> None:
    names = ["first", "second"]
    one = answers(tiny_base, adapter, include, names, batch_size=1)
    assert answers(tiny_base, adapter, include, names, batch_size=16) == one
    assert len({text for texts in one.values() for text in texts}) > 3


def test_pictures_of_the_next_batch_are_prepared_while_the_model_answers(
    tiny_base: Path, adapter: Path, include: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from icons_repro.evaluation.lmms_model import LlavaLmms

    plain = answers(tiny_base, adapter, include, ["first"], batch_size=8)
    prepared = [threading.Event() for _ in range(3)]
    inputs, answer = LlavaLmms._inputs, LlavaLmms._answer
    order = iter(range(3))

    def noted(self: Any, requests: Any, batch: Any) -> Any:
        made = inputs(self, requests, batch)
        next(event for event in prepared if not event.is_set()).set()
        return made

    def waits_for_the_next(self: Any, made: Any, decoding: Any) -> list[str]:
        assert prepared[min(next(order) + 1, 2)].wait(30)
        return answer(self, made, decoding)

    monkeypatch.setattr(LlavaLmms, "_inputs", noted)
    monkeypatch.setattr(LlavaLmms, "_answer", waits_for_the_next)
    assert answers(tiny_base, adapter, include, ["first"], batch_size=8) == plain


def test_lmms_eval_finds_the_model_by_its_manifest(tiny_base: Path) -> None:
    from lmms_eval.models.registry_v2 import ModelRegistryV2

    from icons_repro.evaluation.lmms_model import LlavaLmms
    from icons_repro.evaluation.plugin import MODEL_ID, manifest

    registry = ModelRegistryV2()
    registry.register_manifest(manifest())
    found = registry.get_model_class(MODEL_ID)
    assert found is LlavaLmms
    model = found.create_from_arg_string(
        f"model_dir={tiny_base}", {"batch_size": 3, "device": "cpu"}
    )
    assert model.batch_size == 3


def test_model_survives_lmms_evals_clean(tiny_base: Path) -> None:
    from icons_repro.evaluation.lmms_model import LlavaLmms

    model = LlavaLmms(tiny_base)
    model.clean()
    assert model._generator.model is not None


def test_log_likelihood_tasks_are_refused_in_words(tiny_base: Path) -> None:
    from lmms_eval.api.instance import Instance

    from icons_repro.evaluation.lmms_model import LlavaLmms

    request = Instance(
        request_type="loglikelihood", arguments=("", ""), idx=0,
        metadata={"task": "some_task", "doc_id": 0, "repeats": 1},
    )  # fmt: skip
    with pytest.raises(UserError, match=r"some_task.*generate_until"):
        LlavaLmms(tiny_base).loglikelihood([request])

from __future__ import annotations

import http.server
import importlib.util
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from icons_repro.core.errors import UserError
from icons_repro.evaluation import availability
from icons_repro.evaluation.settings import BenchmarkSettings

JUDGED = BenchmarkSettings("llava_wild", needs_judge=True)


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_error(401, "bad key")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def refusing_judge() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_a_judge_without_a_key_is_named() -> None:
    assert "OPENAI_API_KEY is not set" in (availability.judge_problem(JUDGED) or "")
    assert availability.judge_problem(BenchmarkSettings("gqa")) is None


def test_a_judge_that_refuses_the_key_is_found_before_the_run(
    monkeypatch: pytest.MonkeyPatch, refusing_judge: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    monkeypatch.setenv("OPENAI_API_URL", refusing_judge)
    assert "401" in (availability.judge_problem(JUDGED) or "")


def test_an_unknown_kind_of_judge_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TYPE", "oracle")
    assert "API_TYPE='oracle'" in (availability.judge_problem(JUDGED) or "")


def test_hub_data_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "hub_reachable", lambda: False)
    problem = availability.dataset_problem("lmms-lab-encoder/POPE", {"token": True})
    assert problem is not None
    assert "HF_HOME" in problem
    assert availability.dataset_problem("parquet", {}) is None


def test_a_missing_lmms_eval_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"make setup.*lmms-eval==0\.7\.3"):
        availability.require_lmms_eval()

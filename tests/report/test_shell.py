"""A page shows what strangers wrote as text, and lets nothing in."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_page import data_of

from icons_repro.report.gather import PageInputs
from icons_repro.report.html.shell import COMMON, embedded, policy, static, write_page
from icons_repro.report.page import write_page as write_run_page

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\u2028'\""


@given(st.text())
def test_embedded_json_reads_back_and_cannot_end_its_element(text: str) -> None:
    found = embedded({"x": text})
    assert json.loads(found) == {"x": text}
    assert not re.search("[<>&\u2028\u2029]", found)


def test_nan_is_refused_and_not_written_as_bad_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        embedded([float("nan")])


def test_the_policy_names_the_very_script_of_the_page(tmp_path: Path) -> None:
    path = write_page(tmp_path / "x.html", "base.html", ("list.js",), title="t")
    text = path.read_text()
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script
    digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in text
    assert "default-src &#39;none&#39;" in text
    assert policy("a") != policy("b")


DANGEROUS = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\("


@pytest.mark.parametrize("name", [*COMMON, "list.js", "rows.js", "answers.js", "charts.js"])
def test_no_script_writes_markup_or_runs_text(name: str) -> None:
    assert re.findall(DANGEROUS, static(name)) == []


def test_hostile_names_and_rows_are_text(inputs: PageInputs, tmp_path: Path) -> None:
    pool = inputs.pool
    assert pool is not None
    row = json.loads((pool / "pool.json").read_text())
    assert row
    hostile = replace(
        inputs,
        results=replace(inputs.results, selector=HOSTILE, experiment=HOSTILE),
        lines={"this run": {HOSTILE: inputs.lines["this run"]["tiny_vqa"]}},
        files={HOSTILE: tmp_path / "a\ud800<b>"},
        config_text=HOSTILE,
        rivals={},
    )
    text = write_run_page(tmp_path, hostile).read_text()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert data_of(text, "rows-data")["method"] == HOSTILE


def test_a_value_that_a_template_lacks_is_an_error(tmp_path: Path) -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        write_page(tmp_path / "x.html", "sweep.html", title="t")
    assert not list(tmp_path.iterdir())

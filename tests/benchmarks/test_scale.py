"""docs/scale.md says what its script computes, from what benchmarks/README.md says was measured."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from icons_repro.gradients.rows import RowCodec

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import scale as module

    yield module
    del sys.modules["scale"]


def test_the_page_has_the_tables_that_the_script_makes(scale: ModuleType) -> None:
    page = scale.PAGE.read_text()
    assert scale.filled(page) == page, "run: python benchmarks/scale.py --write"
    assert page.count("<!--") == 2 * len(scale.TABLES)


def test_what_it_calls_measured_stands_where_it_was_measured(scale: ModuleType) -> None:
    told = (ROOT / "benchmarks" / "README.md").read_text()
    m = scale.MEASURED
    for name, value in m.items():
        if name.startswith("through"):
            first, share = name.removeprefix("through, ").split()
            recall = m[f"recall, {first} {share}"]
            row = (
                rf"\| {first} \| {share} \| {scale.short(value, 2)} \| {scale.short(recall, 2)} \|"
            )
            assert re.search(row, told), f"benchmarks/README.md has no {row}"
    int8, bit1 = (scale.short(m[f"overlap, {name}"], 3) for name in ("int8", "1 bit"))
    assert f"(1 bit) | .99 | {int8} ({bit1}) |" in told
    assert f"| icons | 2.4 | {scale.short(m['selection, GB at 665,298 rows'], 2)} GB |" in told
    assert f"{m['vote, ns a number']:g} ns a number" in told
    assert f"{m['vote, MB']:g} MB" in told
    scoring = (ROOT / "src" / "icons_repro" / "influence" / "stream.py").read_text()
    assert f"{m['scoring, us a row']:g} us a row for 10 tasks, measured" in scoring


def test_a_row_on_disk_is_what_the_store_writes(scale: ModuleType) -> None:
    by_name = {way.name: way for way in scale.ways()}
    for name, dtype in (("float16", "float16"), ("int8", "int8"), ("1 bit", "bit1")):
        beside = by_name[name].row_bytes - RowCodec(dtype, scale.DIM).row_bytes
        assert beside == 4 + 4 + 1 + 32  # norms.bin, scales.bin, status.bin, keys.bin
    assert by_name["int8"].store(1000) < by_name["float16"].store(1000)
    assert by_name["float16"].gpu_hours(10**9) == pytest.approx(10**9 * scale.TOKENS / 13000 / 3600)

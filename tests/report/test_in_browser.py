"""The pages in a real Chromium: they open, filter, sort, and obey the keyboard, at both widths."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import SLOW, Browser, why_not
from test_sweep_page import write_sweep
from whole_run import Cache, write_whole_run

from icons_repro.report.compare import compare
from icons_repro.report.compare_page import write_compare_page
from icons_repro.report.gather import PageInputs
from icons_repro.report.html.shell import embedded
from icons_repro.report.page import write_page
from icons_repro.report.results import read_results
from icons_repro.report.sweep_page import write_sweep_page

pytestmark = pytest.mark.browser
SIZES = [(1280, False), (1280, True), (390, False), (390, True)]
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    reason = why_not()
    if reason and os.environ.get("REQUIRE_BROWSER"):
        pytest.exit(reason, returncode=1)
    if reason:
        pytest.skip(reason)
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> Cache:
    """A pool whose third row is hostile, and whose fifth picture is gone."""
    root = tmp_path_factory.mktemp("browser")
    world = root / "world"
    shutil.copytree(small_world, world, symlinks=True)
    rows = json.loads((world / "pool.json").read_text())
    rows[3]["conversations"][1]["value"] = HOSTILE
    (world / "pool.json").write_text(json.dumps(rows))
    cache = Cache.fill(root / "cache", world)
    gone = next(row for row in (cache.table[i] for i in range(5, 300)) if row.images)
    (world / "images" / gone.images[0]).unlink()
    return cache


def inputs_of(run: Path, cache: Cache, rivals: dict[str, Path] | None = None) -> PageInputs:
    results = read_results(run)
    return PageInputs(
        results=results,
        lines={"this run": results.benchmarks},
        selection=Path(results.selection),
        pool=cache.root / "pool" / "p0",
        rivals=rivals or {},
        evaluations={name: Path(path) for name, path in results.evaluations.items()},
        run="outputs/runs/x",
    )


@pytest.fixture(scope="module")
def run(cache: Cache) -> Path:
    return write_whole_run(cache.root.parent / "runs", cache)


@pytest.fixture(scope="module")
def run_page(run: Path, cache: Cache) -> Path:
    return write_page(run, inputs_of(run, cache, {"random": cache.select("random", 0.2, 7)}))


@pytest.fixture(scope="module")
def pages(run_page: Path, run: Path, cache: Cache) -> dict[str, Path]:
    from rich.console import Console

    from icons_repro.explain.__main__ import explain

    folder = cache.root.parent
    other = write_whole_run(folder / "runs", cache, "random")
    write_sweep(folder / "sweep", {"icons": 20, "less": 6})
    return {
        "run": run_page,
        "sweep": write_sweep_page(folder / "sweep.html", [folder / "sweep"]),
        "compare": write_compare_page(folder / "compare.html", compare(run, other)),
        "explain": explain(run, "row:3", Console(quiet=True)),
    }


@pytest.mark.parametrize("name", ["run", "sweep", "compare", "explain"])
def test_a_page_opens_without_complaint_and_fits(
    name: str, browser: Browser, pages: dict[str, Path]
) -> None:
    for width, dark in SIZES:
        browser.open(pages[name], width, dark=dark)
        assert browser.errors() == []
        assert browser.overflow() <= 0, f"{name} at {width} pixels can be pushed sideways"
        back = browser.run("return getComputedStyle(document.body).backgroundColor")
        assert (back == "rgb(255, 255, 255)") != dark
        assert browser.driver.title != "owned"
        unnamed = browser.run(
            "return [...document.querySelectorAll('img, [role=img]')]"
            ".filter((e) => !e.alt && !e.getAttribute('aria-label')).length"
        )
        assert unnamed == 0


def chosen(inputs: PageInputs) -> np.ndarray:
    assert inputs.selection is not None
    found: np.ndarray = np.load(inputs.selection / "positions.npy")
    return found


def test_filters_and_sorts_show_the_rows_that_they_name(
    browser: Browser, run: Path, run_page: Path, cache: Cache
) -> None:
    browser.open(run_page)
    assert browser.text("rows-count") == "300 of 300 rows"
    browser.run("document.querySelector('[name=rows-status][value=chosen]').click()")
    assert browser.text("rows-count") == "60 of 300 rows"
    mine = set(chosen(inputs_of(run, cache)).tolist())
    theirs = set(np.load(cache.root / "select" / "random-0.2-7" / "positions.npy").tolist())
    browser.set("rows-method", "alone:0")
    assert browser.text("rows-count") == f"{len(mine - theirs)} of 300 rows"
    browser.run("document.querySelector('[name=rows-status][value=all]').click()")
    browser.set("rows-method", "instead:0")
    assert browser.text("rows-count") == f"{len(theirs - mine)} of 300 rows"
    browser.set("rows-method", "")
    browser.set("rows-search", cache.table[17].key[:12])
    assert browser.text("rows-count") == "1 of 300 rows"
    assert cache.table[17].key in browser.text("rows-detail")
    browser.set("rows-search", "")
    browser.set("rows-sort", "position")
    assert "Row 0" in browser.text("rows-detail")
    browser.run("document.getElementById('rows-direction').click()")
    assert "Row 299" in browser.text("rows-detail")
    assert browser.errors() == []


def test_hostile_text_and_missing_pictures_are_shown_as_such(
    browser: Browser, run_page: Path
) -> None:
    browser.open(run_page)
    browser.set("rows-search", "onerror=alert")
    assert browser.text("rows-count") == "1 of 300 rows"
    assert HOSTILE in browser.text("rows-detail")
    browser.set("rows-search", "")
    missing = browser.run("return JSON.parse(document.getElementById('rows-data').textContent)")
    place = missing["image"].index(-2)
    browser.set("rows-search", missing["key"][place])
    assert "no picture" in browser.text("rows-list")
    assert browser.driver.title != "owned"
    assert browser.errors() == []


def test_rows_and_tables_obey_the_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(pages["run"])
    browser.set("rows-sort", "position")
    browser.run("document.getElementById('rows-list').focus()")
    browser.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert "Row 2" in browser.text("rows-detail")
    browser.keys(Keys.END)
    assert "Row 299" in browser.text("rows-detail")
    active = "document.getElementById('rows-list').getAttribute('aria-activedescendant')"
    assert browser.run(f"return document.getElementById({active}).getAttribute('aria-selected')")
    browser.open(pages["run"], 390)
    browser.run("document.getElementById('rows-list').focus()")
    browser.keys(Keys.ENTER)
    assert browser.run("return document.activeElement.id") == "rows-detail"
    browser.keys(Keys.ESCAPE)
    assert browser.run("return document.activeElement.id") == "rows-list"
    browser.open(pages["sweep"])
    browser.run("document.querySelector('table.sortable th:nth-child(2) button').focus()")
    column = (
        "return [...document.querySelector('table.sortable').tBodies[0].rows]"
        ".map((r) => parseFloat(r.cells[1].textContent)).filter((v) => !isNaN(v))"
    )
    browser.keys(Keys.ENTER)
    values = browser.run(column)
    assert values == sorted(values, reverse=True)
    browser.keys(Keys.ENTER)
    assert browser.run(column) == sorted(values)


def test_answers_can_be_filtered_by_what_changed(browser: Browser, run_page: Path) -> None:
    browser.open(run_page)
    data = browser.run("return JSON.parse(document.getElementById('answers-data').textContent)")
    right = np.array(data["right"]).reshape(-1, len(data["models"]))
    random = data["models"].index("random")
    won = int(((right[:, 0] == 1) & (right[:, random] == 0)).sum())
    browser.set("answers-change", f"won:{random}")
    assert browser.text("answers-count") == f"{won} of {len(right)} questions"
    shown = browser.run("return document.querySelector('#answers-list .entry').innerText")
    assert "✓" in shown
    assert "✗" in shown
    assert browser.errors() == []


def test_ten_thousand_rows_open_and_filter_at_once(
    browser: Browser, run: Path, run_page: Path, tmp_path: Path
) -> None:
    """The page of 300 rows, grown: the same columns, each row and picture many times."""
    text = run_page.read_text()
    start = text.index('id="rows-data">') + len('id="rows-data">')
    end = text.index("</script>", start)
    page = tmp_path / "large.html"
    page.write_text(text[:start] + str(embedded(grown(json.loads(text[start:end])))) + text[end:])
    assert page.stat().st_size < 25_000_000
    browser.open(page)
    assert browser.text("rows-count") == "10,000 of 10,000 rows"
    timing = "const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd"
    assert browser.run(timing) < 2000 * SLOW
    for field, values in (
        ("rows-search", ("red", "square", "blue dots")),
        ("rows-sort", ("rank:1", "length", "position")),
        ("rows-method", ("instead:0", "both:0", "")),
    ):
        chosen = f"const e = document.getElementById('{field}');"
        send = "e.dispatchEvent(new Event('input', {bubbles: true}));"
        times = [browser.timed(f"{chosen} e.value = '{value}'; {send}") for value in values]
        assert min(times) < 200 * SLOW, field
    assert browser.errors() == []


def grown(data: dict[str, Any], rows: int = 10_000) -> dict[str, Any]:
    """Return the same columns for more rows."""
    n, tasks = len(data["key"]), len(data["tasks"])
    places = [i % n for i in range(rows)]
    found = dict(data)
    for name, column in data.items():
        if isinstance(column, list) and len(column) == n:
            found[name] = [column[i] for i in places]
    found["ranks"] = [r for i in places for r in data["ranks"][i * tasks : (i + 1) * tasks]]
    found["key"] = [f"{i:032x}" for i in range(rows)]
    found["pos"] = list(range(rows))
    return found


def test_the_page_works_where_a_method_has_neither_votes_nor_tasks(
    browser: Browser, cache: Cache, tmp_path: Path
) -> None:
    other = write_whole_run(tmp_path, cache, "random", seed=3)
    page = write_page(other, replace(inputs_of(other, cache), evaluations={}))
    browser.open(page)
    assert browser.text("rows-count") == "300 of 300 rows"
    assert not browser.run("return document.getElementById('rows-task').offsetParent")
    assert browser.errors() == []


def test_a_narrow_screen_shows_every_chart_and_the_scores_whole(
    pages: dict[str, Path], browser: Browser
) -> None:
    browser.open(pages["run"], 390)
    cut = browser.run(
        "return [...document.querySelectorAll('#benchmarks .scroll, .chart.scroll')]"
        ".filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.ariaLabel)"
    )
    shown = browser.run("return document.querySelectorAll('.chart.scroll .narrow svg').length")
    assert shown >= 4
    assert cut == []

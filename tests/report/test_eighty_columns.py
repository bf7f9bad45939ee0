"""What is printed fits 80 columns: names may be folded, numbers are whole, brackets are text."""

import re
from pathlib import Path

import pytest
from rich.console import Console

from icons_repro.core.cache import Cache
from icons_repro.preflight.findings import Finding, print_findings
from icons_repro.report.cells import Cells
from icons_repro.report.lines import FULL, RANDOM, THIS_RUN
from icons_repro.report.summary import print_files
from icons_repro.report.tables import end_table

WIDTH = 80


def console() -> Console:
    return Console(record=True, width=WIDTH, file=open("/dev/null", "w"))


def lines(shown: Console, but: str = "") -> list[str]:
    """What was shown, without lines that begin with `but`: a path is whole whatever its length."""
    text = shown.export_text()
    assert "…" not in text
    found = [line for line in text.splitlines() if not (but and line.startswith(but))]
    assert max(map(len, found)) <= WIDTH
    return found


def result(score: float, stderr: float | None = 22.2) -> dict[str, object]:
    return {"score": score, "stderr": stderr, "status": "ok"}


def test_the_end_table_folds_names_and_keeps_every_number_whole() -> None:
    names = ("mme", "a_benchmark_with_a_rather_long_name", "[/red]", "[bold]")
    ends = {
        heading: {name: result(1510.7 + i) for i, name in enumerate(names)}
        for heading in (FULL, RANDOM, THIS_RUN)
    }
    shown = console()
    shown.print(end_table(ends, dict.fromkeys(names, 1000.0), "icons [/red] at 20%"))
    found = lines(shown)
    text = "\n".join(found)
    assert text.count("1510.7 ±22.2") == 3
    assert text.count("1000.0") == len(names)
    assert text.count("100.0%") == len(names)
    for odd in ("[/red]", "[bold]"):
        assert odd in text


def test_a_table_of_a_sweep_shows_brackets_as_text() -> None:
    shown = console()
    rows = (("[/red]", "97.2 ±1.4"), ("[link=x]icons", "98.0"))
    Cells("tiny [/x]", ("method", "Rel. %"), rows).show(shown)
    text = "\n".join(lines(shown))
    for word in ("[/red]", "[link=x]icons", "tiny [/x]", "97.2 ±1.4"):
        assert word in text


def test_a_finding_keeps_the_brackets_of_its_remedy() -> None:
    shown = console()
    print_findings([Finding("warning", "[/red]", "a [b] c", "targets.test_rows=[mme]")], shown)
    text = re.sub(r"[│\s]+", " ", "\n".join(lines(shown)))
    assert "test_rows=[mme]" in text.replace(" ", "")
    assert "a [b] c" in text


def test_paths_are_links_where_the_terminal_has_them_and_text_elsewhere(tmp_path: Path) -> None:
    odd = tmp_path / "[red]" / "page.html"
    shown = console()
    print_files({"page": odd}, shown)
    assert str(odd) in shown.export_text(clear=False)
    terminal = Console(force_terminal=True, width=WIDTH, record=True, legacy_windows=False)
    with terminal.capture() as capture:
        print_files({"page": odd}, terminal)
    assert odd.as_uri() in capture.get()


@pytest.mark.parametrize("stage", ["influence_over_many_epochs"])
def test_the_plan_keeps_fingerprints_whole(stage: str, tmp_path: Path) -> None:
    from icons_repro.preflight.plan import print_plan
    from icons_repro.tiny.settings import WorldSettings
    from icons_repro.tiny.stage import World

    world = World(settings=WorldSettings())
    shown = console()
    print_plan([world], Cache(tmp_path / ("x" * 60)), shown)
    assert any(world.fingerprint in line for line in lines(shown, but="Plan, cache "))

"""One page about two methods: the paired difference, the rows of each, the answers that changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from icons_repro.report import chart_specs
from icons_repro.report.answer_book import AnswerBook, answer_book
from icons_repro.report.cells import signed
from icons_repro.report.charts import Chart, chart
from icons_repro.report.compare import Comparison, Difference
from icons_repro.report.compare_tables import chance_text, comparison_tables, p_text
from icons_repro.report.gather import scored
from icons_repro.report.html.shell import write_page
from icons_repro.report.lines import THIS_RUN
from icons_repro.report.page import SCRIPTS, said_of_answers, said_of_rows, strata_table
from icons_repro.report.pairing import Pair
from icons_repro.report.runs import SweepRun
from icons_repro.report.samples import Samples, samples
from icons_repro.report.sweep_charts import interval_of, sign_of
from icons_repro.report.sweep_page import table_of


def write_compare_page(path: Path, found: Comparison) -> Path:
    """Write the page; rows and answers are those of the first pair."""
    tables = {cells.title: cells for cells in comparison_tables(found)}
    first, *others = tables.values()
    kept = next((cells for cells in others if cells.title.startswith("rows kept")), None)
    make_up = next((cells for cells in others if cells.title.startswith("make-up")), None)
    rows, answers = _rows(found), _answers(found)
    data: dict[str, Any] = {"rows-data": rows.data} if rows else {}
    data |= {"answers-data": answers.data} if answers else {}
    return write_page(
        path,
        "compare.html",
        ("charts.js", *(SCRIPTS if data else ())),
        data,
        title=f"{found.a} against {found.b}",
        facts=_facts(found),
        said=_said(found),
        differences=_differences(found),
        scores=table_of(first),
        notes=first.notes,
        kept=table_of(kept, "pair") if kept else None,
        make_up=table_of(make_up) if make_up else None,
        rows=rows is not None,
        rows_said=f"{_of_pair(found.pairs)} {said_of_rows(rows)}" if rows else "",
        strata=strata_table(rows) if rows else (),
        answers=answers is not None,
        answers_said=f"{_of_pair(found.scored)} {said_of_answers(answers)}" if answers else "",
    )


def _facts(found: Comparison) -> list[tuple[str, str]]:
    counts = [("pairs", str(len(found.pairs))), ("left out", str(len(found.left_out)))]
    if found.kept:
        shares = [k.both / max(k.both + k.only_a, 1) for k in found.kept.values()]
        counts.append(("of A's rows, B keeps", f"{100 * sum(shares) / len(shares):.0f}%"))
    return counts


def _said(found: Comparison) -> list[str]:
    lines = []
    for name, d in (("Rel.", found.relative), ("above blind", found.above_blind)):
        if d is not None:
            lines.append(
                f"{name}: A {d.a.value:.1f}%, B {d.b.value:.1f}%; A - B is {signed(d.difference)} "
                f"points (A beats B with a probability of {chance_text(d.difference)}, "
                f"p = {p_text(d.p_value)})."
            )
    return lines or ["The two share no scores: their rows alone are compared."]


def _differences(found: Comparison) -> Chart | None:
    overall = {"Rel.": found.relative, "above blind": found.above_blind}
    named: dict[str, Difference] = dict(found.benchmarks)
    named |= {name: d for name, d in overall.items() if d is not None}
    rows = [
        {"method": name, **ends, "sign": sign_of(ends)}
        for name, d in named.items()
        if (ends := interval_of(d.difference))
    ]
    if not rows:
        return None
    alt = "A - B: " + ", ".join(f"{r['method']} {r['value']:+.1f}" for r in rows)
    caption = "A - B in points with 95% intervals; grey ones hold zero."
    return chart(chart_specs.differences(rows, "A - B, points"), alt, caption)


def _of_pair(pairs: tuple[Pair, ...]) -> str:
    more = f", the first of {len(pairs)} pairs" if len(pairs) > 1 else ""
    return f"Of {pairs[0].replicate}{more}."


def _rows(found: Comparison) -> Samples | None:
    """Return the rows of the first pair's pool; None where files are gone."""
    pair = found.pairs[0]
    mine, theirs = (run.located(run.results.selection) for run in (pair.a, pair.b))
    pool = pool_of(pair.a)
    if pool is None or not all((path / "scores.parquet").is_file() for path in (mine, theirs)):
        return None
    a, b = scored(mine), scored(theirs)
    if len(a.chosen) != len(b.chosen):
        return None
    names = labels(found)
    return samples(
        a, mine, pool, {names[1]: b.chosen.nonzero()[0]},
        method=names[0], run=str(pair.a.folder), beside={names[1]: b},
    )  # fmt: skip


def pool_of(run: SweepRun) -> Path | None:
    """Return the pool step's folder, beside the selection in the cache; None if it is gone."""
    if not run.replicate.pool:
        return None
    folder = run.located(run.results.selection).parents[1] / "pool" / run.replicate.pool
    return folder if (folder / "records.arrow").is_file() else None


def labels(found: Comparison) -> tuple[str, str]:
    """Return short names of the two: their methods, or A and B where these are the same."""
    a, b = (run.results.selector for run in (found.pairs[0].a, found.pairs[0].b))
    return (a, b) if a != b else ("A", "B")


def _answers(found: Comparison) -> AnswerBook | None:
    if not found.scored:
        return None
    pair = found.scored[0]
    folders = [run.evaluation(THIS_RUN) for run in (pair.a, pair.b)]
    known = {n: f for n, f in zip(labels(found), folders, strict=True) if f is not None}
    return answer_book(known, start="differ") if len(known) == 2 else None

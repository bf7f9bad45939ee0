"""One self-contained HTML page for a run: no outside file, readable in ten years."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icons_repro.report import svg
from icons_repro.report.gather import (
    PageInputs,
    Scored,
    losses,
    overlaps,
    scored,
    sources,
    vote_counts,
)
from icons_repro.report.html.shell import write_page as write_html
from icons_repro.report.leakage import leakage_section
from icons_repro.report.lines import FULL, RANDOM, THIS_RUN
from icons_repro.report.results import SCALES
from icons_repro.report.tables import DASH, relative_text, score_text

if TYPE_CHECKING:
    from icons_repro.report.answer_book import AnswerBook
    from icons_repro.report.samples import Samples

FILE = "report.html"
SCRIPTS = ("list.js", "rows.js", "answers.js")
Table = tuple[Sequence[str], list[Sequence[Any]]]
"""Headings and rows."""


def write_page(run_dir: Path, inputs: PageInputs) -> Path:
    """Write `report.html` in the run directory, whole or not at all, and return its path."""
    found = scored(inputs.selection) if inputs.selection else None
    rows, answers = _rows(run_dir, inputs, found), _answers(inputs)
    values = _header(inputs) | _scores(inputs) | _selection(inputs, found) | _work(inputs)
    values |= {"rows": rows is not None, "answers": answers is not None}
    values |= {"rows_said": "", "strata": (), "answers_said": ""}
    values |= leakage_section(inputs.leakage)
    data: dict[str, Any] = {}
    if rows:
        data["rows-data"] = rows.data
        values |= {"rows_said": said_of_rows(rows), "strata": strata_table(rows)}
    if answers:
        data["answers-data"] = answers.data
        values["answers_said"] = said_of_answers(answers)
    titles = ("Benchmarks", "Sources", "Votes", "Tasks", "Rows", "Answers", "Leakage", "Training",
              "Stages")  # fmt: skip
    keys = ("bullets", "make_up", "votes", "overlap", "rows", "answers", "leakage", "curves",
            "stages")  # fmt: skip
    values["sections"] = [(t, bool(values[k])) for t, k in zip(titles, keys, strict=True)]
    return write_html(run_dir / FILE, "run.html", SCRIPTS if data else (), data, **values)


def _header(inputs: PageInputs) -> dict[str, Any]:
    r = inputs.results
    facts = (
        ("rows", f"{r.n_selected:,} of {r.n_pool:,}"),
        ("budget", f"{100 * r.budget:g}%"),
        ("seed", str(r.seed)),
        *((what, relative_text(found)) for what, found in inputs.relatives.items() if found),
    )
    title = f"{r.selector} {r.budget:g} · {r.setup}"
    return {"results": r, "facts": facts, "scale": SCALES[r.scale], "title": title}


def _scores(inputs: PageInputs) -> dict[str, Any]:
    run = inputs.lines.get(THIS_RUN, {})
    bars = [_bullet(inputs, name) for name, result in run.items() if result["status"] == "ok"]
    missing = [(n, str(r["reason"])) for n, r in run.items() if r["status"] != "ok"]
    legend = (
        ("run", "this run, with 95% interval"),
        *((("full", "full data"),) if FULL in inputs.lines else ()),
        *((("random", "random rows, same budget"),) if RANDOM in inputs.lines else ()),
        *((("blind", "answering without the picture"),) if inputs.blind else ()),
    )
    return {
        "bullets": svg.drawn(partial(svg.bullets, bars)) if bars else "",
        "missing": missing,
        "legend": legend,
        "score_table": _score_table(inputs) if bars else ((), []),
    }


def _bullet(inputs: PageInputs, name: str) -> svg.Bullet:
    result = inputs.lines[THIS_RUN][name]
    marks = {
        line: results[name]["score"]
        for line, results in inputs.lines.items()
        if line != THIS_RUN and results.get(name, {}).get("status") == "ok"
    }
    if name in inputs.blind:
        marks["blind"] = inputs.blind[name]
    values = [result["score"], *marks.values()]
    top = 100.0 if max(values) <= 100 else 1.1 * max(values)
    return svg.Bullet(name, result["score"], 1.96 * (result["stderr"] or 0.0), marks, top)


def _score_table(inputs: PageInputs) -> Table:
    lines = dict(sorted(inputs.lines.items(), key=lambda line: line[0] == THIS_RUN))
    head = ["benchmark", "metric", *(["blind"] if inputs.blind else []), *lines]
    rows: list[Sequence[Any]] = []
    for name, result in inputs.lines[THIS_RUN].items():
        blind = [f"{inputs.blind[name]:.1f}" if name in inputs.blind else DASH]
        scores = [_score_cell(results.get(name)) for results in lines.values()]
        metric = {"text": str(result["metric"]), "kind": "left spare"}
        rows.append([name, metric, *(blind if inputs.blind else []), *scores])
    return head, rows


def _score_cell(result: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"text": score_text(result), "sort": (result or {}).get("score")}


def _selection(inputs: PageInputs, found: Scored | None) -> dict[str, Any]:
    """Return the charts of what was chosen; empty where there is nothing to draw."""
    charts: dict[str, Any] = dict.fromkeys(("make_up", "votes", "overlap"), "")
    if inputs.selection and (shares := sources(inputs.selection)):
        charts["make_up"] = svg.drawn(partial(svg.shares, shares))
    if found and found.votes is not None:
        charts["votes"] = svg.drawn(partial(svg.histogram, *vote_counts(found)))
    if found and found.influence:
        names, shares_of = overlaps(found)
        columns = [*names, "chosen"]
        charts["overlap"] = svg.drawn(partial(svg.heat_map, names, shares_of, columns))
    return charts


def _rows(run_dir: Path, inputs: PageInputs, found: Scored | None) -> Samples | None:
    from icons_repro.report.samples import positions_of, samples

    if found is None or inputs.selection is None or inputs.pool is None:
        return None
    pages = {p.stem: f"explain/{p.name}" for p in sorted((run_dir / "explain").glob("*.html"))}
    taken = {name: positions_of(path) for name, path in inputs.rivals.items()}
    return samples(
        found,
        inputs.selection,
        inputs.pool,
        {name: rows for name, rows in taken.items() if rows is not None},
        method=inputs.results.selector,
        run=inputs.run or str(run_dir),
        explained=pages,
    )


def strata_table(rows: Samples) -> list[tuple[str, str, str]]:
    """Return each stratum's name, rows and rows shown, as text."""
    return [(name, f"{size:,}", f"{shown:,}") for name, size, shown in rows.shown.strata]


def said_of_rows(rows: Samples) -> str:
    """Say what the browser of rows holds."""
    said = (
        "Contested rows stand at the cut: the tie rule, or a little more budget, decides about "
        "them. Starved rows were left although they are among the best that some task could ask "
        "for as its fair share of the budget. Squares are tasks, darker for a higher rank, ringed "
        "where the task votes for the row."
    )
    count = len(rows.shown.positions)
    if rows.shown.strata:
        return (
            f"{count:,} of the {rows.rows:,} rows, drawn at random within each stratum, as many "
            f"from each as it has or as fit; counts below are of these. {said}"
        )
    return f"All {count:,} rows of the pool. {said}"


def _answers(inputs: PageInputs) -> AnswerBook | None:
    from icons_repro.report.answer_book import answer_book

    order = [name for name in (THIS_RUN, FULL, RANDOM) if name in inputs.evaluations]
    return answer_book({name: inputs.evaluations[name] for name in order}) if order else None


def said_of_answers(answers: AnswerBook) -> str:
    """Say what the browser of answers holds."""
    said = f"All {answers.asked:,} questions."
    if answers.shown < answers.asked:
        said = (
            f"{answers.shown:,} of {answers.asked:,} questions, drawn at random within each "
            "benchmark and pattern of right and wrong; counts below are of these."
        )
    if answers.without_pictures:
        named = ", ".join(answers.without_pictures)
        said += f" The pictures of {named} do not lie on this disk as files of its own."
    return f"{said} An answer counts as right from half a point on."


def _work(inputs: PageInputs) -> dict[str, Any]:
    lines = {stage: losses(path) for stage, path in inputs.metrics.items()}
    known = {stage: line for stage, line in lines.items() if len(line[0])}
    names = [(f"c{n % 4}", stage.replace("_", ", ")) for n, stage in enumerate(known)]
    stages = [
        (
            name,
            str(s["fingerprint"]),
            "cached" if s["cached"] else "computed",
            f"{s['seconds']:.1f}",
        )
        for name, s in inputs.results.stages.items()
    ]
    return {
        "curves": svg.drawn(partial(svg.curves, known)) if known else "",
        "curve_names": names,
        "stages": stages,
        "files": [(name, str(path)) for name, path in inputs.files.items()],
        "config": inputs.config_text.strip(),
    }

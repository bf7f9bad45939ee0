"""One self-contained HTML page for a run: no script, no outside file, readable in ten years."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from icons_repro.core.files import write_text
from icons_repro.report import svg
from icons_repro.report.gather import (
    PageInputs,
    Sample,
    Scored,
    gallery,
    losses,
    overlaps,
    scored,
    sources,
    vote_counts,
)
from icons_repro.report.lines import FULL, THIS_RUN
from icons_repro.report.results import SCALES
from icons_repro.report.style import CSS
from icons_repro.report.tables import DASH, relative_text, score_text

FILE = "report.html"


def write_page(run_dir: Path, inputs: PageInputs) -> Path:
    """Write `report.html` in the run directory, whole or not at all, and return its path."""
    found = scored(inputs.selection) if inputs.selection else None
    parts = [_header(inputs), _scores(inputs)]
    if inputs.selection and found:
        parts += [_make_up(inputs.selection), _votes(found), _overlap(found)]
        parts.append(_gallery(inputs, found))
    parts += [_curves(inputs), _stages(inputs), _files(inputs), _config(inputs)]
    title = f"{inputs.results.selector} {inputs.results.budget:g} · {inputs.results.setup}"
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )
    path = run_dir / FILE
    write_text(path, text)
    return path


def _section(title: str, said: str, *body: str) -> str:
    if not any(body):
        return ""
    return f"<section><h2>{escape(title)}</h2><p>{said}</p>{''.join(body)}</section>"


def _header(inputs: PageInputs) -> str:
    r = inputs.results
    facts = (
        ("rows", f"{r.n_selected:,} of {r.n_pool:,}"),
        ("budget", f"{100 * r.budget:g}%"),
        ("seed", str(r.seed)),
        *((what, relative_text(found)) for what, found in inputs.relatives.items() if found),
    )
    cells = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    return (
        f'<header><p class="kicker">{escape(r.experiment)} · {escape(r.setup)}</p>'
        f"<h1>{escape(r.selector)}</h1><dl>{cells}</dl><p>{SCALES[r.scale]}</p></header>"
    )


def _scores(inputs: PageInputs) -> str:
    run = inputs.lines.get(THIS_RUN, {})
    rows = []
    for name, result in run.items():
        if result["status"] != "ok":
            continue
        marks = {
            line: results[name]["score"]
            for line, results in inputs.lines.items()
            if line != THIS_RUN and results.get(name, {}).get("status") == "ok"
        }
        if name in inputs.blind:
            marks["blind"] = inputs.blind[name]
        values = [result["score"], *marks.values()]
        top = 100.0 if max(values) <= 100 else 1.1 * max(values)
        error = 1.96 * (result["stderr"] or 0.0)
        rows.append(svg.Bullet(name, result["score"], error, marks, top))
    missing = [
        f"<li><b>{escape(name)}</b> {escape(str(result['reason']))}</li>"
        for name, result in run.items()
        if result["status"] != "ok"
    ]
    legend = _legend(
        ("run", "this run, with 95% interval"),
        *((("full", "full data"),) if FULL in inputs.lines else ()),
        *((("random", "random rows, same budget"),) if "random" in inputs.lines else ()),
        *((("blind", "answering without the picture"),) if inputs.blind else ()),
    )
    body = [legend + svg.bullets(rows) + _score_table(inputs)] if rows else []
    if missing:
        body.append(f"<p>Not available:</p><ul>{''.join(missing)}</ul>")
    return _section("Benchmarks", "Scores in percent unless a benchmark counts points.", *body)


def _score_table(inputs: PageInputs) -> str:
    lines = dict(sorted(inputs.lines.items(), key=lambda line: line[0] == THIS_RUN))
    head = ["benchmark", "metric", *(["blind"] if inputs.blind else []), *lines]
    rows = []
    for name, result in inputs.lines[THIS_RUN].items():
        blind = [f"{inputs.blind[name]:.1f}" if name in inputs.blind else DASH]
        scores = [score_text(results.get(name)) for results in lines.values()]
        rows.append([name, str(result["metric"]), *(blind if inputs.blind else []), *scores])
    return _table(head, rows)


def _legend(*entries: tuple[str, str]) -> str:
    items = "".join(f'<li><i class="key {k}"></i>{escape(text)}</li>' for k, text in entries)
    return f'<ul class="legend">{items}</ul>'


def _make_up(selection: Path) -> str:
    rows = sources(selection)
    body = (
        _legend(("pool", "share of the pool"), ("run", "share of the selection")) + svg.shares(rows)
        if rows
        else ""
    )
    said = "Where the chosen rows come from. The factor says how much a source is favoured."
    return _section("Make-up by source", said, body)


def _votes(found: Scored) -> str:
    if found.votes is None:
        return ""
    body = _legend(("run", "chosen"), ("pool", "left")) + svg.histogram(*vote_counts(found))
    return _section("Votes", "Pool rows by the number of target tasks that vote for them.", body)


def _overlap(found: Scored) -> str:
    if not found.influence:
        return ""
    names, shares = overlaps(found)
    said = (
        "Each row takes a task's own best rows, as many as were chosen. The cells say how many of "
        "them (in percent) are among the best of another task; the last column how many were "
        "chosen: a task with a low last number was starved."
    )
    return _section("Tasks", said, svg.heat_map(names, shares, [*names, "chosen"]))


def _gallery(inputs: PageInputs, found: Scored) -> str:
    chosen, left = gallery(inputs, found)
    body = "".join(
        f"<h3>{title}</h3><div class=gallery>{''.join(map(_figure, samples))}</div>"
        for title, samples in (("Chosen", chosen), ("Left", left))
        if samples
    )
    return _section("Rows", "Drawn at random among rows with a picture.", body)


def _figure(sample: Sample) -> str:
    note = f"<small>{escape(sample.note)}</small>" if sample.note else ""
    return (
        f'<figure><img src="{sample.image}" alt=""><figcaption>{escape(_cut(sample.question))} '
        f"<b>{escape(_cut(sample.answer))}</b>{note}</figcaption></figure>"
    )


def _cut(text: str, most: int = 70) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _curves(inputs: PageInputs) -> str:
    lines = {stage: losses(path) for stage, path in inputs.metrics.items()}
    known = {stage: line for stage, line in lines.items() if len(line[0])}
    said = "Mean answer loss (nats a token) by optimizer step, smoothed over a tenth of each run."
    names = [(f"c{n % 4}", stage.replace("_", ", ")) for n, stage in enumerate(known)]
    return _section("Training", said, _legend(*names) + svg.curves(known) if known else "")


def _stages(inputs: PageInputs) -> str:
    rows = [
        (
            name,
            str(s["fingerprint"]),
            "cached" if s["cached"] else "computed",
            f"{s['seconds']:.1f}",
        )
        for name, s in inputs.results.stages.items()
    ]
    said = "A stage's result lies in a directory named by its fingerprint."
    return _section("Stages", said, _table(("stage", "fingerprint", "", "seconds"), rows))


def _files(inputs: PageInputs) -> str:
    rows = [(name, str(path)) for name, path in inputs.files.items()]
    return _section("Files", "", _table(("what", "where"), rows))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>" if body else ""


def _config(inputs: PageInputs) -> str:
    if not inputs.config_text:
        return ""
    text = escape(inputs.config_text.strip())
    return (
        f"<section><details><summary>Configuration</summary><pre>{text}</pre></details></section>"
    )

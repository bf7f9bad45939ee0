"""The map of consensus as tables."""

from __future__ import annotations

import math
from collections import Counter

from icons_repro.report.cells import DASH, MARKS, Cells, signed
from icons_repro.report.lines import RANDOM
from icons_repro.studies.consensus_map.charts import TITLES, level_text
from icons_repro.studies.consensus_map.design import LEVELS
from icons_repro.studies.consensus_map.findings import ALL, RULES, VOTE, Level, MapFindings, Trend

STEP = "a level up"


def tables(found: MapFindings) -> list[Cells]:
    """Return, against random rows and against the vote, each factor's levels; then the winners."""
    return [*(_against(found, rival) for rival in (RANDOM, VOTE)), _winners(found), _cells(found)]


def _against(found: MapFindings, rival: str) -> Cells:
    rules = [rule for rule in (*RULES, RANDOM) if rule != rival]
    made = {(one.rule, one.factor, level_key(one.level)): _text(one)
            for one in found.levels if one.rival == rival}  # fmt: skip
    steps = {(one.rule, one.factor): _text(one) for one in found.trends if one.rival == rival}
    rows = [(ALL, *(made.get((rule, ALL, None), DASH) for rule in rules))]
    for factor, levels in LEVELS.items():
        for level in levels:
            cells = (made.get((rule, factor, level), DASH) for rule in rules)
            rows.append((f"{TITLES[factor]}: {level_text(factor, level)}", *cells))
        rows.append((f"{TITLES[factor]}: {STEP}", *(steps.get((r, factor), DASH) for r in rules)))
    pools = sum(len(own) for own in found.against(rules[0], rival).values())
    notes = (
        f"above blind, paired by pool; {len(found.above)} of {len(found.cells)} cells, "
        f"{pools} pools; ± is half of the 95% interval over pools of these cells",
        "* p < .05, ** p < .01 by Holm's correction: over all levels of this table, and over its "
        f"rows '{STEP}', which are slopes",
    )
    return Cells(f"Each rule minus {rival}", ("cells with", *rules), tuple(rows), notes)


def level_key(level: float) -> float | None:
    """Return a level as a key: NaN, all cells, equals nothing."""
    return None if math.isnan(level) else level


def _text(one: Level | Trend) -> str:
    found = one.difference if isinstance(one, Level) else one.step
    mark = next((f" {mark}" for level, mark in MARKS if one.p_value < level), "")
    return f"{signed(found)}{mark}"


def _winners(found: MapFindings) -> Cells:
    first = Counter(winner.rule for winner in found.winners)
    clear = Counter(winner.rule for winner in found.winners if winner.clear)
    rows = tuple((rule, str(first[rule]), str(clear[rule])) for rule in (*RULES, RANDOM))
    notes = ("clear: the 95% interval of its lead over the second is above zero; picked after "
             "seeing who leads, so some are by luck",)  # fmt: skip
    return Cells("In how many cells each rule is best", ("rule", "cells", "clear"), rows, notes)


def _cells(found: MapFindings) -> Cells:
    rows = []
    for winner in found.winners:
        cell = winner.cell
        levels = (level_text(factor, cell.level(factor)) for factor in LEVELS)
        rows.append((str(cell.cell), *levels, winner.rule, winner.second, signed(winner.lead)))
    headings = ("cell", *TITLES.values(), "best", "second", "lead")
    return Cells("Cell by cell", headings, tuple(rows))

"""A sweep in a sentence: which method is first, and how sure that is."""

from __future__ import annotations

import math

from icons_repro.report.cells import MARKS, mean_text, signed
from icons_repro.report.compare_tables import chance_text, p_text
from icons_repro.report.lines import FULL, RANDOM
from icons_repro.report.runs import BLIND
from icons_repro.report.sweep import Sweep


def verdict(sweep: Sweep) -> str:
    """Say in a sentence which method is first, and how sure that is."""
    rows = [row for row in sweep.rows if row.method not in (FULL, BLIND) and row.replicates]
    ranked = [row for row in rows if row.above_blind or row.relative]
    if not ranked:
        return ""
    best = ranked[0]
    what, own = ("above blind", best.above_blind) if best.above_blind else ("Rel.", best.relative)
    parts = [f"At {100 * sweep.budget:g}%, {best.method} is first with {mean_text(own)}% {what}"]
    if best.against_random is not None:
        sure = _surely(best.p_value)
        parts.append(f"{signed(best.against_random)} points against random data ({sure})")
    if sweep.lead is not None and len(ranked) > 1:
        chance = chance_text(sweep.lead)
        ahead = f"ahead with a probability of {chance}" if sweep.lead.known else ""
        said = ranked[1].method == RANDOM and best.against_random is not None
        lead = "" if said else f"{signed(sweep.lead)} against {ranked[1].method}, the second"
        if lead or ahead:
            parts.append(", ".join(filter(None, (lead, ahead))))
    alone = max(len(row.replicates) for row in ranked) == 1
    more = " One run of each: another pool or seed may differ by more than the intervals say."
    return "; ".join(parts) + "." + (more if alone else "")


def _surely(p: float) -> str:
    if math.isnan(p):
        return "no interval"
    said = p_text(p) if p < 0.001 else f"= {p_text(p)}"
    return f"p\u00a0{said}, corrected" + ("" if p < MARKS[1][0] else ": not settled")

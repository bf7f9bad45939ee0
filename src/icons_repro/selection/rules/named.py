"""The rules that ship as classes, by name; a rule's libraries are loaded when it is asked for."""

from __future__ import annotations

from icons_repro.selection.rules.base import RULES, Rule

HERE = __package__
NAMED = {
    "proportional": f"{HERE}.proportional.Proportional",
    "round_robin_rows": f"{HERE}.round_robin_rows.RoundRobinRows",
    "doubly_greedy": f"{HERE}.doubly_greedy.DoublyGreedy",
    "uot": f"{HERE}.transport.Transport",
    "knn": f"{HERE}.neighbours.Neighbours",
}


def rule_class(rule: str) -> type[Rule] | None:
    """Return the class of a rule by name or as `module.Class`; None if it is neither.

    Raises `ConfigError` for a `module.Class` that is no rule.
    """
    target = NAMED.get(rule, rule)
    return RULES.named(target, "rule") if "." in target else None

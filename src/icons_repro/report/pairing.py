"""Which runs of two methods are counterparts, and why the others are not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from icons_repro.core.errors import UserError
from icons_repro.core.names import new_name
from icons_repro.report.lines import FULL, THIS_RUN
from icons_repro.report.overlap import different_pools, same_rows
from icons_repro.report.runs import Replicate, SweepRun, collect, distinguishing, frozen

CHOOSE = "Give one, by a pattern such as 'FOLDER/icons-*' or by --where KEY=VALUE."


@dataclass(frozen=True)
class Pair:
    """Two runs of one pool and one seed."""

    replicate: Replicate
    a: SweepRun
    b: SweepRun


@dataclass
class LeftOut:
    """Collects runs that enter no number."""

    found: list[tuple[str, str]] = field(default_factory=list)

    def add(self, run: SweepRun, reason: str) -> None:
        """Name a run and the reason."""
        self.found.append((run.name, reason))


def one_method(path: Path, where: Sequence[str], left_out: LeftOut) -> dict[Replicate, SweepRun]:
    """Return the runs of one side by pool and seed; what disagrees is left out."""
    runs = [run for run in collect(_matching(path)) if all(_has(run, text) for text in where)]
    if not runs:
        raise UserError(f"no run below {path} has {' and '.join(where)}.")
    if len({(run.results.selector, float(run.results.budget)) for run in runs}) > 1:
        raise UserError(f"{path} holds several methods: {_count(runs)}. {CHOOSE}")
    groups: dict[tuple[str, str, frozenset[tuple[str, str]]], list[SweepRun]] = defaultdict(list)
    for run in runs:
        groups[run.results.setup, run.results.scale, frozen(run.method)].append(run)
    (main, members), *others = sorted(groups.items(), key=lambda item: -len(item[1]))
    if others and len(others[0][1]) == len(members):
        second = others[0][0]
        names = [_apart(main, second), _apart(second, main)]
        raise UserError(f"{path} holds two methods: {' and '.join(names)}. {CHOOSE}")
    for key, group in others:
        for run in group:
            left_out.add(run, f"differs from most runs of {path}: {_apart(key, main)}")
    return _agreeing(members, left_out)


def _apart(
    own: tuple[str, str, frozenset[tuple[str, str]]],
    other: tuple[str, str, frozenset[tuple[str, str]]],
) -> str:
    """Say what a group of runs has that another has not."""
    if own[:2] != other[:2]:
        return f"setup {own[0]} ({own[1]} scale)"
    return distinguishing(own[2], [other[2]]) or "lacks settings of the other"


def _matching(path: Path) -> list[Path]:
    """Return the path, or what a pattern in it stands for."""
    if path.exists() or not any(mark in str(path) for mark in "*?["):
        return [path]
    anchor = Path(path.anchor) if path.is_absolute() else Path()
    return sorted(anchor.glob(str(path.relative_to(anchor) if path.is_absolute() else path)))


def _has(run: SweepRun, text: str) -> bool:
    key, separator, value = text.partition("=")
    if not separator:
        raise UserError(
            f"--where {text}: write it as KEY=VALUE, such as finetune.regime=same_steps."
        )
    key = new_name(key) or key
    r = run.results
    own = {"selector": r.selector, "budget": f"{r.budget:g}", "seed": str(r.seed)}
    return str((run.settings or {}).get(key, own.get(key))) == value


def _count(runs: Sequence[SweepRun]) -> str:
    counts = Counter(f"{run.results.selector} at {run.results.budget:g}" for run in runs)
    return ", ".join(f"{name} ({count})" for name, count in counts.items())


def _agreeing(runs: Sequence[SweepRun], left_out: LeftOut) -> dict[Replicate, SweepRun]:
    """Return one run for each pool and seed; where two disagree, none."""
    groups: dict[Replicate, list[SweepRun]] = defaultdict(list)
    for run in runs:
        if run.replicate.pool:
            groups[run.replicate].append(run)
        else:
            left_out.add(run, "its pool is not recorded, and its selection is gone")
    found = {}
    for replicate, group in groups.items():
        last = group[-1]
        if all(run.scores == last.scores and same_rows(run, last) for run in group):
            found[replicate] = last
            continue
        for run in group:
            others = ", ".join(other.name for other in group if other is not run)
            left_out.add(run, f"disagrees with {others} on {replicate}")
    return found


def pairs_of(
    a: Mapping[Replicate, SweepRun], b: Mapping[Replicate, SweepRun], left_out: LeftOut
) -> list[Pair]:
    """Return the runs of one pool and seed; those without a counterpart are left out."""
    pairs = []
    for mine, theirs in ((a, b), (b, a)):
        for replicate, run in mine.items():
            partner = theirs.get(replicate)
            if reason := _cannot_pair(run, partner, theirs.values()):
                left_out.add(run, reason)
            elif mine is a and partner:
                pairs.append(Pair(replicate, run, partner))
    return sorted(pairs, key=lambda pair: pair.replicate)


def _cannot_pair(
    run: SweepRun, partner: SweepRun | None, rivals: Collection[SweepRun]
) -> str | None:
    """Return why a run has no counterpart, or None."""
    place = (run.results.setup, run.results.scale)
    there = sorted({(other.results.setup, other.results.scale) for other in rivals})
    if place not in there:
        found = ", ".join(f"{setup} ({scale} scale)" for setup, scale in there) or "no runs"
        return f"it is of {place[0]} ({place[1]} scale), the other side of {found}"
    if partner is None:
        same_pool = any(other.replicate.pool == run.replicate.pool for other in rivals)
        what = "this seed" if same_pool else "this pool"
        return f"no run of the other side is on {what} ({run.replicate})"
    if run.world != partner.world:
        own = run.world[2] and partner.world[2] and distinguishing(run.world[2], [partner.world[2]])
        return f"another world than {partner.name}: {own or 'settings that one of them lacks'}"
    return different_pools(run, partner)


def has_scores(pair: Pair, left_out: LeftOut) -> bool:
    """Whether both runs can be scored; what stops them is named."""
    runs = (pair.a, pair.b)
    problems = [_no_scores(run) for run in runs]
    full = [run.scores_of(FULL) for run in runs]
    if not any(problems) and all(full) and full[0] != full[1]:
        problems = ["the two were compared with different full-data models"] * 2
    for run, problem in zip(runs, problems, strict=True):
        if problem:
            left_out.add(run, f"{problem}; rows alone are compared")
    return not any(problems)


def _no_scores(run: SweepRun) -> str | None:
    if not run.scores:
        return "it has no scores"
    if run.evaluation() is None:
        where = run.results.evaluations.get(THIS_RUN, "not named in its results.json")
        return f"its answers folder is missing ({where})"
    return None

"""The summary of a page: the most important numbers, and what they do not say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gallop.errors import counted
from gallop.evaluation.intervals import interval_generator
from gallop.evaluation.statistics import SeedSummary, finite, summarise, summarise_seeds
from gallop.report.figures import short
from gallop.report.pages.comparing import Compared, Gap, findings_of, returns_of
from gallop.report.pages.facts import Judged, RunFacts, Side, mean_of, training_seeds
from gallop.report.pages.frame import warnings
from gallop.report.pages.html import Content, Html, element, joined
from gallop.report.pages.parts import alert, code, duration, interval, signed, tiles, words
from gallop.report.pages.returns import verdict
from gallop.run_folder.seed_group import SeedGroup

FEW_SEEDS = 6

_ONE_SEED = (
    "This is one training seed. It says nothing about the next one: trained again with another "
    "seed, the same settings may end far higher or lower. The intervals on this page are over "
    "starting positions of this one policy, not over trainings. "
)


# --- one run -------------------------------------------------------------------------------------


def run_summary(run: RunFacts) -> Html:
    """Return the most important numbers of a run, and what they do not say."""
    rows = []
    baseline, last, best = run.policy("random"), run.last, run.policy("best")
    if last is not None:
        name = "Final policy" if last.key == "final" else f"Policy at {last.label}"
        rows.append((name, signed(mean_of(last.episodes)), _between(last)))
    if best is not None:
        told = f"{_between(best)}\nfrom timestep {best.timestep:,}"
        rows.append(("Best policy", signed(mean_of(best.episodes)), told))
    if baseline is not None:
        rows.append(("Random policy", signed(mean_of(baseline.episodes)), _between(baseline)))
    rows.append(("Trained for", short(run.timestep), f"of {run.horizon:,} timesteps"))
    if math.isfinite(run.seconds):
        speed = f"{run.timesteps_a_second:,.0f} timesteps a second"
        rows.append(("Training took", duration(run.seconds, coarse=True), speed))
    group = run.folder.group
    more: list[Content] = [_ONE_SEED]
    if group is not None:
        n = len(SeedGroup(group).seeds_there())
        more.append(
            f"It is one of {counted(n, 'run')} of the group {group.name}, whose page is about all."
            if n > 1
            else "Its group has no other."
        )
    else:
        more += [
            code("gallop run --seeds 0..4"),
            " trains several, and has an interval over seeds.",
        ]
    return joined(
        *warnings(run),
        tiles(rows),
        _verdict(run),
        element("p", *more),
        element("p", f"Returns are {run.returns_note}.") if run.returns_note else None,
    )


def _between(judged: Judged) -> str:
    s = summarise(judged.episodes.returns, interval_generator())
    if s.n < 2:
        return f"return of {counted(s.n, 'episode')}"
    return f"mean return, 95 % interval\n{interval(s.mean_interval)}"


def _verdict(run: RunFacts) -> Html | None:
    """Return what the audit of the latest milestone found, in one sentence."""
    audited = run.audited
    if audited is None or audited.audit is None:
        return None
    found = audited.audit.findings
    if not found:
        return element("p", f"The audit of the policy at {audited.percent} % has no findings.")
    told = []
    for kind, title in (("warning", "Warnings"), ("trait", "Traits")):
        names = [f"{f.name} ({f.episodes} of {counted(f.of, 'episode')})" for f in found
                 if f.kind == kind]  # fmt: skip
        if names:
            told.append(joined(element("strong", f"{title}: "), ", ".join(names), ". "))
    return element(
        "p", f"How the policy at {audited.percent} % moves. ", *told,
        element("a", "See the audit", href="#audit"), ". A return does not show any of this.",
    )  # fmt: skip


# --- a group of training seeds -------------------------------------------------------------------


def group_summary(side: Side) -> Html:
    """Return the most important numbers of a group, and how far they can be trusted."""
    rows = []
    last = "final" if returns_of(side, "final").size else _latest_key(side)
    returns = finite(returns_of(side, last)) if last else np.zeros(0)
    s = summarise_seeds(returns, interval_generator()) if returns.size else None
    if s is not None and last is not None:
        name = "Final policies" if last == "final" else f"Policies at {int(last)} %"
        over = f"over {counted(s.n, 'training seed')}"
        sure = f"95 % interval\n{interval(s.iqm_interval)}\n{over}" if s.n > 1 else over
        rows.append((f"{name}: IQM of the returns", signed(s.iqm), sure))
        if s.n > 1:
            rows.append(("Worst and best seed", f"{signed(float(returns.min()))} … "
                         f"{signed(float(returns.max()))}", "mean return of each"))  # fmt: skip
    baseline = side.runs[0].policy("random")
    if baseline is not None:
        rows.append(("Random policy", signed(mean_of(baseline.episodes)), _between(baseline)))
    rows.append(("Training seeds", str(len(side.runs)), training_seeds(side.runs)))
    alerts = [w for run in side.runs for w in warnings(run, f"seed {run.seed}")]
    alerts += [alert(f"seed {seed} was left out: {why}") for seed, why in side.unusable.items()]
    found = findings_of(side)
    return joined(
        *alerts,
        tiles(rows),
        element("p", element("strong", "How they move: "), "; ".join(found), ".")
        if found
        else None,
        element("p", _about_seeds(s, len(side.runs))) if s is not None else None,
    )


def _about_seeds(s: SeedSummary, n_runs: int) -> str:
    if s.n == 1 and n_runs > 1:
        return (
            f"Only one of {n_runs} training seeds has this result so far. One seed says nothing "
            "about the next: there is no interval over training seeds yet."
        )
    if s.n == 1:
        return _ONE_SEED
    told = (
        f"With {s.n} training seeds the interquartile mean of the returns is {signed(s.iqm)}, and "
        f"its 95 % interval over training seeds {interval(s.iqm_interval)}. That is how much it "
        "would vary if everything were trained again with other seeds."
    )
    if s.n < FEW_SEEDS:
        told += (
            f" {s.n} seeds are few, and such an interval is then too narrow: that of three seeds "
            "contains the true value in about three of four cases, not in 95 of 100."
        )
    return told


def _latest_key(side: Side) -> str | None:
    keys = {each.key for run in side.runs for each in run.judged if each.key.isdecimal()}
    return max(keys, default=None)


# --- several -------------------------------------------------------------------------------------


def comparison_summary(found: Compared) -> Html:
    """Say how the last policies differ, and how sure that is."""
    sides = found.sides
    alerts = [w for s in sides for run in s.runs for w in warnings(run, _called(s, run))]
    rows = []
    for side in sides:
        mine = [row for row in found.rows if row.side is side and row.key != "random"]
        row = mine[-1] if mine else None
        if row is not None:
            what = "IQM" if side.is_group else "mean"
            value = row.iqm if side.is_group else row.mean
            of = counted(row.n, row.of.removesuffix("s"))
            rows.append((f"{side.label} ({row.label}): {what} return", signed(value),
                         f"95 % interval\n{interval(row.interval)}\n{of}"))  # fmt: skip
    finals = [gap for gap in found.gaps if gap.policy == "final"] or list(found.gaps[-1:])
    singles = [side for side in sides if not side.is_group or len(side.runs) == 1]
    honest = (
        f"{listed_names(singles)} {'is' if len(singles) == 1 else 'are'} one training seed each. "
        "Which settings are better cannot be told from single seeds: after another training they "
        "may come out in the other order. The intervals are over starting positions of these "
        "policies."
        if singles
        else "The intervals of groups are over training seeds: they tell how the difference would "
        "vary if everything were trained again."
    )
    return joined(
        *alerts,
        tiles(rows),
        words(gap_in_words(gap, sides) for gap in finals),
        element("p", honest),
        words(found.notes),
    )


def listed_names(sides: Sequence[Side]) -> str:
    """Return the names of sides: A, B and C."""
    names = [side.label for side in sides]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def gap_in_words(gap: Gap, sides: Sequence[Side]) -> Html:
    """Say in a sentence how a policy differs from the first side's."""
    ours, _, theirs = gap.label.partition(" − ")
    names = {side.letter: side.name for side in sides}
    what = f"{gap.policy} policy"
    return verdict(
        f"the {what} of {ours} ({names[ours]})", f"that of {theirs} ({names[theirs]})",
        gap.difference.mean, gap.difference.interval, gap.p_sign_flip, gap.how,
    )  # fmt: skip


def _called(side: Side, run: RunFacts) -> str:
    return f"{side.label}, seed {run.seed}" if side.is_group else side.label

"""Runs and groups of training seeds side by side: returns, differences, movement.

A single run is described by its evaluation episodes, a group by one mean return per training seed.
Two runs are compared start by start; two groups over training seeds. A run against a group has no
interval: one training seed says nothing about the spread over seeds.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.environments.identity import differences
from gallop.errors import ExperimentError, RunError
from gallop.evaluation.intervals import interval_generator
from gallop.evaluation.statistics import (
    Difference,
    Interval,
    Probability,
    compare,
    difference_of_few,
    finite,
    paired_difference_of_few,
    probability_of_improvement,
    sign_flip_test,
    signed_rank_test,
    summarise,
    summarise_seeds,
)
from gallop.report.pages.audit_record import Measure
from gallop.report.pages.facts import RunFacts, Side, mean_of, read_side

Floats = NDArray[np.float64]
MAX_SIDES = 26


class PolicyRow(NamedTuple):
    """The returns of one policy of one side."""

    side: Side
    key: str
    label: str
    timestep: int
    n: int
    of: str
    """episodes or training seeds."""
    mean: float
    iqm: float
    interval: Interval
    """Of the mean for a run, of the IQM for a group; NaN for a group of one seed."""


class Gap(NamedTuple):
    """How far a policy of one side is from that of the first side."""

    label: str
    """Such as "B − A"."""
    policy: str
    difference: Difference
    """Its interval is NaN where nothing can be said."""
    probability: Probability | None
    p_sign_flip: float
    p_wilcoxon: float
    how: str
    """What the pairs are, or why there is no interval."""


class Compared(NamedTuple):
    """Several sides."""

    sides: tuple[Side, ...]
    rows: tuple[PolicyRow, ...]
    gaps: tuple[Gap, ...]
    notes: tuple[str, ...]


def read_sides(paths: Sequence[Path]) -> tuple[Side, ...]:
    """Read runs and groups, and give them letters.

    Raises:
        RunError: if one cannot be read.
        ExperimentError: if there are too many, one is given twice, or they have different tasks.
    """
    if len(paths) > MAX_SIDES:
        raise ExperimentError(f"{len(paths)} runs: at most {MAX_SIDES} can be compared")
    places = [path.resolve() for path in paths]
    for place, path in enumerate(paths):
        if places[place] in places[:place]:
            raise ExperimentError(f"{path} is given twice")
    single = len(paths) == 1
    sides = tuple(
        read_side(path, "" if single else chr(ord("A") + place)) for place, path in enumerate(paths)
    )
    for side in sides:
        if not side.runs:
            why = next(iter(side.unusable.values()), "it has no runs yet")
            raise RunError(f"{side.path}: none of its runs can be read: {why}")
    for side in sides[1:]:
        first, other = sides[0].runs[0].experiment.env, side.runs[0].experiment.env
        if first != other:
            raise ExperimentError(
                f"{side.path} is for {other}, {sides[0].path} for {first}: only runs of one task "
                "can be compared"
            )
    return sides


def compare_sides(sides: Sequence[Side]) -> Compared:
    """Compare each side with the first."""
    keys = {each.key: each.label for side in sides for run in side.runs for each in run.judged}
    order = sorted(k for k in keys if k.isdecimal()) + [k for k in ("best", "final") if k in keys]
    if "random" in keys:
        order = ["random", *order]
    rows = [row for key in order for side in sides if (row := _row(side, key, keys[key]))]
    gaps, notes = [], []
    for side in sides[1:]:
        different = task_differences(sides[0].runs[0], side.runs[0])
        if different:
            notes.append(
                f"{side.letter} and {sides[0].letter} were scored on different tasks, so they are "
                f"not compared start by start: {'; '.join(different)}"
            )
        for key in order:
            if key != "random" and (gap := _gap(sides[0], side, key, keys[key], bool(different))):
                gaps.append(gap)
    return Compared(tuple(sides), tuple(rows), tuple(gaps), tuple(notes))


def task_differences(first: RunFacts, other: RunFacts) -> list[str]:
    """Say how the tasks of two runs differ, as far as their files tell."""
    a, b = first.folder.read_task(), other.folder.read_task()
    if a is not None and b is not None:
        return differences(b, a)
    found = []
    for name in ("evaluation_env_kwargs", "wrappers"):
        ours, theirs = (getattr(run.experiment, name) for run in (other, first))
        if ours != theirs:
            found.append(f"{name.removeprefix('evaluation_')} {ours} and {theirs}")
    return found


def returns_of(side: Side, key: str) -> Floats:
    """Return the returns of a policy: of its episodes, or the mean of each training seed."""
    found = [judged.episodes for run in side.runs if (judged := run.policy(key))]
    if not side.is_group:
        return found[0].returns if found else np.zeros(0)
    return np.array([mean_of(episodes) for episodes in found])


def _row(side: Side, key: str, label: str) -> PolicyRow | None:
    returns = returns_of(side, key)
    if not finite(returns).size:
        return None
    timestep = next(judged.timestep for run in side.runs if (judged := run.policy(key)))
    if side.is_group:
        seeds = summarise_seeds(returns, interval_generator())
        nothing = Interval(math.nan, math.nan)
        interval = seeds.iqm_interval if seeds.n > 1 else nothing
        return PolicyRow(side, key, label, timestep, seeds.n, "training seeds", seeds.mean,
                         seeds.iqm, interval)  # fmt: skip
    s = summarise(returns, interval_generator())
    return PolicyRow(side, key, label, timestep, s.n, "episodes", s.mean, s.iqm, s.mean_interval)


def _gap(first: Side, other: Side, key: str, policy: str, differ: bool) -> Gap | None:
    ours, theirs = returns_of(other, key), returns_of(first, key)
    if not finite(ours).size or not finite(theirs).size:
        return None
    label = f"{other.letter} − {first.letter}"
    if first.is_group and other.is_group:
        return _over_seeds(first, other, key, label, policy)
    difference = float(finite(ours).mean() - finite(theirs).mean())
    unknown = Difference(0, difference, Interval(math.nan, math.nan))
    if first.is_group or other.is_group:
        how = "one training seed against several: no interval"
        return Gap(label, policy, unknown, None, math.nan, math.nan, how)
    a, b = (side.runs[0].policy(key) for side in (first, other))
    same = a is not None and b is not None and np.array_equal(a.episodes.seeds, b.episodes.seeds)
    repeats = not any(side.runs[0].probed.ignores_seed for side in (first, other))
    if differ or not same or not repeats:
        how = "not the same starts: no pairs" if repeats else "the task ignores seeds: no pairs"
        how = "different tasks: no pairs" if differ else how
        return Gap(label, policy, unknown, None, math.nan, math.nan, how)
    found = compare(ours, theirs, interval_generator())
    return Gap(
        label, policy, found.difference, found.probability_of_improvement, found.p_sign_flip,
        found.p_wilcoxon, "start by start",
    )  # fmt: skip


def _over_seeds(first: Side, other: Side, key: str, label: str, policy: str) -> Gap:
    by_seed = [
        {
            run.seed: mean
            for run in side.runs
            if (judged := run.policy(key)) and math.isfinite(mean := mean_of(judged.episodes))
        }
        for side in (first, other)
    ]
    theirs, ours = (np.array(list(each.values())) for each in by_seed)
    chance = probability_of_improvement(ours, theirs, interval_generator())
    common = [seed for seed in by_seed[1] if seed in by_seed[0]]
    if len(common) > 1 and len(common) == len(by_seed[0]) == len(by_seed[1]):
        a, b = (np.array([each[seed] for seed in common]) for each in by_seed)
        return Gap(
            label, policy, paired_difference_of_few(b, a), chance,
            sign_flip_test(b - a, interval_generator()),
            signed_rank_test(b - a, interval_generator()),
            f"{len(common)} training seeds, pair by pair",
        )  # fmt: skip
    how = f"{ours.size} against {theirs.size} training seeds"
    return Gap(label, policy, difference_of_few(ours, theirs), chance, math.nan, math.nan, how)


# --- movement ------------------------------------------------------------------------------------


def measures_of(side: Side) -> dict[str, Measure]:
    """Return label -> measure: over the episodes of a run, or over the means of a group's runs."""
    audits = [run.audited.audit for run in side.runs if run.audited and run.audited.audit]
    if not side.is_group:
        return dict(audits[0].measures) if audits else {}
    labels = dict.fromkeys(label for audit in audits for label in audit.measures)
    found = {}
    for label in labels:
        having = [audit.measures[label] for audit in audits if label in audit.measures]
        found[label] = having[0]._replace(values=tuple(each.mean for each in having))
    return found


def findings_of(side: Side) -> list[str]:
    """Return the findings of the latest audited milestones, each with how often it was found."""
    audits = [run.audited.audit for run in side.runs if run.audited and run.audited.audit]
    if not side.is_group:
        return [
            f"{each.name} ({each.episodes} of {each.of} episodes)"
            for audit in audits
            for each in audit.findings
        ]
    names = [{each.name for each in audit.findings} for audit in audits]
    once = dict.fromkeys(each.name for audit in audits for each in audit.findings)
    return [
        f"{name} ({sum(name in each for each in names)} of {len(audits)} training seeds)"
        for name in once
    ]


# --- CSV -----------------------------------------------------------------------------------------

COLUMNS = (
    *("kind", "run", "policy", "timestep", "name", "value", "low", "high", "n", "n_of"),
    *("probability_of_improvement", "p_sign_flip", "p_wilcoxon", "note"),
)


def as_csv(found: Compared) -> str:
    """Return everything as a table with one value a row; unknown values are empty."""
    rows: list[dict[str, object]] = []
    for row in found.rows:
        what = "iqm" if row.side.is_group else "mean"
        value = row.iqm if row.side.is_group else row.mean
        rows.append(
            {
                **{"kind": "return", "run": row.side.label, "policy": row.key, "name": what},
                **{"timestep": row.timestep, "value": value, "n": row.n, "n_of": row.of},
                **{"low": row.interval.low, "high": row.interval.high},
            }
        )
    names = {side.letter: side.label for side in found.sides}  # two may have the same name
    for gap in found.gaps:
        ours, _, theirs = gap.label.partition(" − ")
        rows.append(
            {
                **{"kind": "difference", "run": f"{names[ours]} − {names[theirs]}"},
                **{"policy": gap.policy, "name": "mean", "value": gap.difference.mean},
                **{"low": gap.difference.interval.low, "high": gap.difference.interval.high},
                **{"n": gap.difference.n or "", "note": gap.how},
                "probability_of_improvement": gap.probability.value if gap.probability else "",
                **{"p_sign_flip": gap.p_sign_flip, "p_wilcoxon": gap.p_wilcoxon},
            }
        )
    for side in found.sides:
        of = "training seeds" if side.is_group else "episodes"
        for label, measure in measures_of(side).items():
            values = finite(np.array(measure.values))
            low, high = (values.min(), values.max()) if values.size else (math.nan, math.nan)
            rows.append(
                {
                    **{"kind": "measure", "run": side.label, "name": label, "value": measure.mean},
                    **{"low": float(low), "high": float(high), "n": values.size, "n_of": of},
                    "note": measure.unit,
                }
            )
        rows += [{"kind": "finding", "run": side.label, "name": f} for f in findings_of(side)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    return "" if isinstance(value, float) and not math.isfinite(value) else value

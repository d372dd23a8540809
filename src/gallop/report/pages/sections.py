"""The sections of pages about returns: summary, curves, tables, settings, cost, provenance."""

from __future__ import annotations

import datetime
import math
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gallop import __version__
from gallop.errors import counted, shortened
from gallop.evaluation.intervals import interval_generator
from gallop.evaluation.statistics import (
    Comparison,
    Interval,
    SeedSummary,
    compare,
    curve_over_seeds,
    finite,
    summarise,
    summarise_seeds,
)
from gallop.experiments.seeding import spans
from gallop.experiments.yaml_file import settings_of
from gallop.fields import flat
from gallop.report.display import left_out_lines, slope_sentence
from gallop.report.figures import short
from gallop.report.group_report import evaluations_over_seeds
from gallop.report.pages import charts
from gallop.report.pages.comparing import Compared, Gap, findings_of, returns_of
from gallop.report.pages.facts import Judged, RunFacts, Side, mean_of, training_seeds
from gallop.report.pages.html import Content, Html, element, joined
from gallop.report.pages.parts import (
    Head,
    alert,
    code,
    duration,
    facts,
    hidden,
    interval,
    note,
    p_value,
    signed,
    table,
    tiles,
    whole_percent,
    words,
)
from gallop.run_folder.provenance import now
from gallop.run_folder.seed_group import SeedGroup

FEW_SEEDS = 6
_ONE_SEED = (
    "This is one training seed. It says nothing about the next one: trained again with another "
    "seed, the same settings may end far higher or lower. The intervals on this page are over "
    "starting positions of this one policy, not over trainings. "
)
_HOW_TO_READ = (
    ("Return", "the sum of all rewards in one episode. Each policy plays the same ten episodes, "
     "from ten starting positions that are never used in training."),
    ("95 % interval", "with ten other starting positions the mean would have come out somewhat "
     "different. The interval shows by how much (a bootstrap: the ten returns are redrawn 10,000 "
     "times). It does not show how much another training seed would change."),
    ("IQM", "the interquartile mean: the mean of the middle half, without the best and the worst "
     "quarter. If it is far above the mean, a few episodes went wrong."),
    ("Difference", "both policies play the same starts, so they are compared start by start, and "
     "the mean of the ten differences is given. If the interval does not contain 0, the "
     "difference is hardly a matter of the starts alone."),
    ("P(better)", "the probability that an episode of the one policy returns more than an episode "
     "of the other; 50 % means that neither is better."),
    ("Sign-flip p and Wilcoxon p", "suppose that the two policies were equally good: so often "
     "would mere chance give a difference at least this large. Below 0.05 is usually called "
     "significant. The first test looks at the differences themselves, the second at their ranks, "
     "so that one extreme episode cannot decide it. With ten episodes neither can be below 0.002. "
     "Several tests are shown and none is corrected for that: of twenty tests of equal policies, "
     "one is expected to be below 0.05."),
)  # fmt: skip


# --- the frame -----------------------------------------------------------------------------------


def header(title: str, head: Sequence[str], status: Html, names: Sequence[str]) -> Html:
    """Return title, status and links to the sections."""
    links = [
        element("li", element("a", name, href=f"#{_id(name)}"))
        for name in names
        if name != "Summary"
    ]
    return element(
        "header",
        element("h1", title),
        element("p", *(element("span", part) for part in head), status, class_="sub"),
        element("nav", element("ul", *links), aria_label="Sections"),
    )


def main(parts: Mapping[str, Html]) -> Html:
    """Return all sections."""
    return element(
        "main",
        *(
            element("section", element("h2", name, id=f"{_id(name)}-title"), part, id=_id(name),
                    aria_labelledby=f"{_id(name)}-title")
            for name, part in parts.items()
        ),
    )  # fmt: skip


def footer() -> Html:
    """Return who wrote the page, and when."""
    return element("footer", f"Written by Gallop {__version__} on {_moment(now())}.")


def _id(name: str) -> str:
    return name.lower().replace(" ", "-")


def status_of(runs: Sequence[RunFacts]) -> Html:
    """Return whether the runs are finished."""
    states = {run.status for run in runs}
    if states == {"finished"}:
        return element("span", "finished", class_="pill")
    if len(runs) == 1:
        return element("span", runs[0].status, class_="pill warn")
    n = sum(run.status == "finished" for run in runs)
    return element("span", f"{n} of {len(runs)} finished", class_="pill warn")


def warnings(run: RunFacts, label: str = "") -> list[Html]:
    """Say what a reader must know before any number."""
    before = f"{label}: " if label else ""
    share = f"{100 * run.timestep / run.horizon:.0f} %" if run.horizon else ""
    so_far = f"{run.timestep:,} of {run.horizon:,} timesteps ({share})"
    told = {
        "running": f"{before}training goes on: {so_far} when this page was written. All numbers "
        "are those so far.",
        "stopped": f"{before}training stopped at {so_far}, and was not finished. All numbers are "
        "those up to there.",
        "diverged": f"{before}training diverged at about {so_far}: {run.reason}. The numbers are "
        "those from before.",
    }
    found = [alert(told[run.status])] if run.status in told else []
    if run.probed.note:
        found.append(alert(f"{before}{run.probed.note}."))
    return found


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
        speed = f"{_sps(run)} timesteps a second"
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
    return f"mean return\n95 % interval {interval(s.mean_interval)}"


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


def run_curve(run: RunFacts) -> Html:
    """Return the learning curve of a run, with the random policy's band."""
    line, band = _line(run, "evaluation return", 0), _band(run)
    n = 0 if run.evaluations is None else run.evaluations.results.shape[1]
    meaning = (
        f"Line and band: mean ± one standard deviation of {counted(n, 'episode')} on the "
        "validation seeds, which also choose the best policy. Point at the chart, or focus it and "
        "use the arrow keys."
    )
    n_evaluations = 0 if run.evaluations is None else len(run.evaluations.timesteps)
    slope = (
        slope_sentence(run.slope, run.horizon)
        if run.slope
        else (f"Too few evaluations ({n_evaluations}) to tell whether the return is still rising.")
    )
    lines = [line] if line is not None else []
    return element(
        "div",
        charts.curves("Learning curve", lines, band, run.horizon),
        charts.legend(lines, band, meaning) if lines else None,
        element("p", slope),
        _numbers(lines),
        class_="card",
    )


def _line(run: RunFacts, name: str, colour: int) -> charts.Curve | None:
    evaluations = run.evaluations
    if evaluations is None:
        return None
    there = np.isfinite(evaluations.results).any(axis=1)
    rows = [finite(row) for row in evaluations.results[there]]
    mean = np.array([row.mean() for row in rows])
    std = np.array([row.std() for row in rows])
    texts = [
        f"{name} {signed(m)} ± {signed(s)} ({counted(row.size, 'episode')})"
        for m, s, row in zip(mean, std, rows, strict=True)
    ]
    x = evaluations.timesteps[there].astype(np.int64)
    return charts.Curve(name, x, mean, mean - std, mean + std, colour, texts)


def _band(run: RunFacts) -> charts.Band | None:
    baseline = run.policy("random")
    values = finite(baseline.episodes.returns) if baseline else np.zeros(0)
    if not values.size:
        return None
    mean, std = float(values.mean()), float(values.std())
    name = f"random policy: {signed(mean)} ± {signed(std)}, {counted(values.size, 'episode')}"
    return charts.Band(name, mean, mean - std, mean + std)


def _numbers(lines: Sequence[charts.Curve]) -> Html | None:
    """Return the points of curves as a table, on demand."""
    timesteps = sorted({int(t) for line in lines for t in line.x})
    if not timesteps:
        return None
    step = math.ceil(len(timesteps) / charts.MAX_POINTS)
    at = [dict(zip(line.x.tolist(), line.texts, strict=True)) for line in lines]
    rows = [[f"{t:,}", *(texts.get(t, "–") for texts in at)] for t in timesteps[::step]]
    heads = [Head("timesteps", "word"), *(Head(line.name, "word") for line in lines)]
    return hidden("The numbers", table("Numbers of the learning curve", heads, rows))


# --- milestones ----------------------------------------------------------------------------------


def milestones(run: RunFacts) -> Html:
    """Return the table of policies, and the comparisons of each with the one before."""
    judged = run.judged
    if not judged:
        return note("Nothing has been evaluated yet.")
    growing = [each for each in judged if each.key not in ("best", "final")]
    pairs = list(pairwise(growing))
    if run.policy("best") and run.policy("final"):
        pairs.append((judged[-1], judged[-2]))
    compared = {}
    if not run.probed.ignores_seed:
        compared = {
            (after.key, before.key): compare(
                after.episodes.returns, before.episodes.returns, interval_generator()
            )
            for before, after in pairs
            if np.array_equal(after.episodes.seeds, before.episodes.seeds)
        }
    return element(
        "div",
        _returns_table(judged),
        words(_left_out(run)),
        element("h3", "Is each better than the one before?") if compared else None,
        _pairs_table(compared, {each.key: each.label for each in judged}) if compared else None,
        words(
            _in_words(run.policy(ours), run.policy(theirs), c)
            for (ours, theirs), c in compared.items()
        ),
        hidden("How to read these numbers", facts(dict(_HOW_TO_READ))),
        class_="card",
    )


def _returns_table(judged: Sequence[Judged]) -> Html:
    everything = finite(np.concatenate([each.episodes.returns for each in judged]))
    low, high = (everything.min(), everything.max()) if everything.size else (0.0, 1.0)
    rows = []
    for each in judged:
        s = summarise(each.episodes.returns, interval_generator())
        rows.append([
            each.label, f"{each.timestep:,}", signed(s.mean), interval(s.mean_interval),
            signed(s.std), signed(s.iqm),
            charts.dots(each.episodes.returns, float(low), float(high)),
        ])  # fmt: skip
    heads = [Head("policy", "word"), *map(Head, ("timestep", "mean return", "95 % interval", "std",
             "IQM")), Head("each episode, and the mean", "word")]  # fmt: skip
    seeds = spans(judged[0].episodes.seeds.tolist())
    n = judged[0].episodes.seeds.size
    caption = f"{counted(n, 'episode')} each, on the evaluation seeds {seeds}"
    return table("Returns of the policies", heads, rows, shortened(caption, 200))


def _pairs_table(compared: Mapping[tuple[str, str], Comparison], labels: Mapping[str, str]) -> Html:
    rows = [
        [
            f"{labels[ours]} − {labels[theirs]}", signed(c.difference.mean, "+"),
            interval(c.difference.interval, "+"), _percent(c.probability_of_improvement.value),
            p_value(c.p_sign_flip), p_value(c.p_wilcoxon),
        ]
        for (ours, theirs), c in compared.items()
    ]  # fmt: skip
    names = ("difference", "95 % interval", "P(better)", "sign-flip p", "Wilcoxon p")
    return table(
        "Differences between policies", [Head("policies", "word"), *map(Head, names)], rows
    )


def _in_words(ours: Judged | None, theirs: Judged | None, c: Comparison) -> Html:
    assert ours is not None and theirs is not None
    names = {"random": "the random policy", "best": "the best policy", "final": "the final policy"}
    one, other = (names.get(each.key, f"the policy at {each.label}") for each in (ours, theirs))
    return verdict(one, other, c.difference.mean, c.difference.interval, c.p_sign_flip,
                   f"over {counted(c.difference.n, 'start')}")  # fmt: skip


def verdict(one: str, other: str, mean: float, bounds: Interval, p: float, how: str) -> Html:
    """Say in a sentence which of two policies is better, and how sure that is."""
    one = one[:1].upper() + one[1:]
    if not math.isfinite(bounds.low):
        return joined(f"{one} and {other}: the means differ by {signed(mean, '+')}; {how}.")
    by = f"{signed(abs(mean))} (95 % interval of the difference: {interval(bounds, '+')}; {how})"
    chance = (
        ""
        if not math.isfinite(p)
        else (
            f" If they were equally good, chance would give such a difference in {_chance(p)} of "
            "cases."
        )
    )
    if bounds.low > 0 or bounds.high < 0:
        better = "more" if mean > 0 else "less"
        return joined(
            element("strong", f"{one} returns {better} than {other}"), f", by {by}.", chance
        )
    return joined(
        element("strong", f"No clear difference between {one[:1].lower() + one[1:]} and {other}"),
        f": {signed(mean, '+')} (95 % interval: {interval(bounds, '+')}; {how}).", chance,
    )  # fmt: skip


def _chance(p: float) -> str:
    if p < 0.001:
        return "less than 0.1 %"
    return f"{100 * p:.{0 if p >= 0.1 else 1}f} %"


def _percent(share: float) -> str:
    return whole_percent(share) if math.isfinite(share) else "–"


def _left_out(run: RunFacts) -> list[str]:
    names = {each.key: each.label for each in run.judged}
    not_finite = {
        each.label: (n, each.episodes.returns.size)
        for each in run.judged
        if (n := each.episodes.n_not_finite)
    }
    cut = {names[key]: cut for key, cut in run.cut.items() if key in names}
    return left_out_lines(cut, not_finite)


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
        sure = f"95 % interval {interval(s.iqm_interval)}\n{over}" if s.n > 1 else over
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
        f"its 95 % interval over training seeds {interval(s.iqm_interval)}: so much it would vary "
        "if everything were trained again with other seeds."
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


def group_curve(side: Side) -> Html:
    """Return the IQM over training seeds with its interval, and a line per seed."""
    lines = [line for line in [_over_seeds(side, "IQM over training seeds", 0)] if line]
    seeds = [_line(run, f"seed {run.seed}", 1 + number) for number, run in enumerate(side.runs)]
    thin = [line._replace(low=line.y, high=line.y) for line in seeds if line is not None]
    thin = thin if 1 < len(thin) <= 10 else []
    horizon = max((run.horizon for run in side.runs), default=1)
    band = _band(side.runs[0])
    meaning = (
        "Thick band: 95 % bootstrap interval of the interquartile mean over training seeds. The "
        "thin lines are single seeds. Point at the chart, or focus it and use the arrow keys."
    )
    return element(
        "div",
        charts.curves("Learning curve over training seeds", [*lines, *thin], band, horizon),
        charts.legend([*lines, *thin], band, meaning) if lines else None,
        _numbers(lines),
        class_="card",
    )


def _over_seeds(side: Side, name: str, colour: int) -> charts.Curve | None:
    timesteps, returns, seeds = evaluations_over_seeds({run.seed: run.folder for run in side.runs})
    there = np.isfinite(returns).any(axis=0) if returns.size else np.zeros(0, bool)
    if not seeds or not there.any():
        return None
    curve = curve_over_seeds(np.where(np.isfinite(returns), returns, np.nan)[:, there],
                             interval_generator())  # fmt: skip
    texts = [
        f"{name} {signed(iqm)}"
        + (f", 95 % interval {interval((low, high))}" if n > 1 else "")
        + f" ({counted(int(n), 'seed')})"
        for iqm, low, high, n in zip(curve.iqm, curve.low, curve.high, curve.n, strict=True)
    ]
    return charts.Curve(name, timesteps[there], curve.iqm, curve.low, curve.high, colour, texts)


def seeds_table(side: Side) -> Html:
    """Return the mean return of each milestone, best and final policy of every seed."""
    labels = {each.key: each.label for run in side.runs for each in run.judged}
    keys = [*sorted(key for key in labels if key.isdecimal()),
            *(key for key in ("best", "final") if key in labels)]  # fmt: skip
    rows = [
        [
            f"seed {run.seed}",
            *(signed(mean_of(j.episodes)) if (j := run.policy(key)) else "–" for key in keys),
            run.status,
        ]
        for run in side.runs
    ]
    if len(side.runs) > 1 and keys:
        over = [_seeds_of(side, key) for key in keys]
        rows.append(["IQM", *(signed(s.iqm) if s else "–" for s in over), ""])
        rows.append(["95 % interval", *(interval(s.iqm_interval) if s and s.n > 1 else "–"
                                        for s in over), ""])  # fmt: skip
    heads = [Head("", "word"), *(Head(labels[key]) for key in keys), Head("status", "word")]
    heads[0] = Head("training seed", "word")
    return element(
        "div",
        table("Mean returns of the training seeds", heads, rows),
        note("Each number is the mean return of one policy over the same evaluation episodes."),
        class_="card",
    )


def _seeds_of(side: Side, key: str) -> SeedSummary | None:
    returns = finite(returns_of(side, key))
    return summarise_seeds(returns, interval_generator()) if returns.size else None


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
                         f"95 % interval {interval(row.interval)}\n{of}"))  # fmt: skip
    finals = [gap for gap in found.gaps if gap.policy == "final"] or list(found.gaps[-1:])
    singles = [side for side in sides if not side.is_group or len(side.runs) == 1]
    honest = (
        f"{listed_names(singles)} {'is' if len(singles) == 1 else 'are'} one training seed each. "
        "Which settings are better cannot be told from single seeds: trained again, the order may "
        "turn round. The intervals are over starting positions of these policies."
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


def compared_curves(sides: Sequence[Side]) -> Html:
    """Return the learning curves of all sides in one chart."""
    lines = []
    for number, side in enumerate(sides):
        made = (
            _over_seeds(side, side.label, number)
            if side.is_group
            else _line(side.runs[0], side.label, number)
        )
        lines += [made] if made is not None else []
    band = _band(sides[0].runs[0])
    horizon = max(run.horizon for side in sides for run in side.runs)
    meaning = (
        "A run: mean ± one standard deviation of its validation episodes. A group: interquartile "
        "mean over training seeds with its 95 % interval. Point at the chart, or focus it and use "
        "the arrow keys."
    )
    return element(
        "div",
        charts.curves("Learning curves", lines, band, horizon),
        charts.legend(lines, band, meaning),
        _numbers(lines),
        class_="card",
    )


def compared_returns(found: Compared) -> Html:
    """Return all returns and all differences."""
    rows = [
        [
            f"{row.label}, {row.side.letter}", f"{row.timestep:,}", signed(row.mean),
            signed(row.iqm), interval(row.interval), counted(row.n, row.of.removesuffix("s")),
        ]
        for row in found.rows
    ]  # fmt: skip
    heads = [Head("policy", "word"), *map(Head, ("timestep", "mean return", "IQM",
             "95 % interval")), Head("over", "word")]  # fmt: skip
    gaps = [
        [
            f"{gap.policy}, {gap.label}", signed(gap.difference.mean, "+"),
            interval(gap.difference.interval, "+"),
            _percent(gap.probability.value if gap.probability else math.nan),
            p_value(gap.p_sign_flip), p_value(gap.p_wilcoxon), gap.how,
        ]
        for gap in found.gaps
    ]  # fmt: skip
    names = ("difference", "95 % interval", "P(better)", "sign-flip p", "Wilcoxon p")
    return element(
        "div",
        table("Returns", heads, rows, "; ".join(side.label for side in found.sides)),
        note("The interval is that of the mean for a run, and that of the IQM for a group."),
        element("h3", "Differences"),
        table("Differences", [Head("policies", "word"), *map(Head, names), Head("pairs", "prose")],
              gaps),
        hidden("How to read these numbers", facts(dict(_HOW_TO_READ))),
        class_="card",
    )  # fmt: skip


# --- settings, cost, provenance ------------------------------------------------------------------


def settings(runs: Sequence[RunFacts]) -> Html:
    """Return all settings; of several runs, first those that differ."""
    flats = [
        {name: _setting(value) for name, value in flat(settings_of(run.experiment))} for run in runs
    ]
    names = list(dict.fromkeys(name for each in flats for name in each))
    differing = [n for n in names if len({each.get(n, "–") for each in flats}) > 1]
    same = {n: flats[0].get(n, "–") for n in names if n not in differing}
    rows = {name: code(text) for name, text in same.items() if text not in ("", "–")}
    shown = None
    if differing:
        heads = [Head("setting", "word"), *(Head(run.name, "word") for run in runs)]
        cells = [[n, *(shortened(each.get(n, "–"), 80) for each in flats)] for n in differing]
        shown = joined(element("h3", "Different"), table("Settings that differ", heads, cells))
    main_ones = ("algo", "env", "env_kwargs", "total_timesteps", "n_envs",
                 "hyperparameters.learning_rate", "hyperparameters.gamma")  # fmt: skip
    first = {name: rows[name] for name in rows if name.split(".{")[0].startswith(main_ones)}
    others = {name: rows[name] for name in rows if name not in first}
    return element(
        "div",
        shown,
        element("h3", "The same") if differing else None,
        facts(first),
        hidden(f"All {len(rows)} settings", facts(others)),
        class_="card",
    )


def _setting(value: object) -> str:
    if value is None or value == [] or value == {}:
        return ""
    return shortened(str(value), 300)


def cost(runs: Sequence[RunFacts]) -> Html:
    """Return time, speed and machine of each run."""
    heads = [Head("run", "word"), Head("training seed"), Head("timesteps"), Head("training"),
             Head("timesteps a second"), Head("start to end"), Head("learner", "word"),
             Head("threads"), Head("processor", "word"), Head("resumed")]  # fmt: skip
    rows = []
    for run in runs:
        record = run.provenance
        rows.append([
            run.name, str(run.seed), f"{run.timestep:,}", duration(run.seconds), _sps(run),
            duration(_from_start_to_end(record)), _text(record.get("learner")),
            _text(record.get("n_threads")),
            f"{_text(record.get('cpu'))} {_text(record.get('instruction_set'))}".strip(),
            counted(len(_resumes(run)), "time") if _resumes(run) else "never",
        ])  # fmt: skip
    return element(
        "div",
        table("Time and machine", heads, rows),
        note(
            "“training” is the time in which the learner trained, without evaluations and films; "
            "“start to end” is the wall clock, and includes pauses of a run that was resumed."
        ),
        class_="card",
    )


def _sps(run: RunFacts) -> str:
    return f"{run.trained / run.seconds:,.0f}" if math.isfinite(run.seconds) else "–"


def _from_start_to_end(record: Mapping[str, Any]) -> float:
    start, end = (_parsed(record.get(name)) for name in ("start", "end"))
    try:
        return (end - start).total_seconds() if start and end else math.nan
    except TypeError:  # one has a time zone and the other has none
        return math.nan


def _parsed(text: object) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _moment(text: object) -> str:
    parsed = _parsed(text)
    return parsed.strftime("%Y-%m-%d %H:%M %z").strip() if parsed else ""


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return shortened(str(value), 100)


def _resumes(run: RunFacts) -> list[Mapping[str, Any]]:
    """Return the resumes, without the start of a run whose group made its folder before."""
    resumes = run.provenance.get("resumes")
    found = (
        [each for each in resumes if isinstance(each, Mapping)][:1_000]
        if isinstance(resumes, list)
        else []
    )
    return found[1:] if run.folder.group is not None else found


def provenance(runs: Sequence[RunFacts]) -> Html:
    """Return commands, versions and resumes of each run."""
    return element("div", *(_provenance(run, len(runs) > 1) for run in runs), class_="card")


def _provenance(run: RunFacts, named: bool) -> Html:
    record = run.provenance
    command = record.get("command")
    typed = shlex.join(map(str, command)) if isinstance(command, list) else ""
    home = str(Path.home())
    versions = record.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    resumes = [
        " on ".join(filter(None, (_moment(each.get("at")), _text(each.get("platform")))))
        for each in _resumes(run)
    ]
    shown = facts(
        {
            "command": code(shortened(typed.replace(home, "~") if len(home) > 1 else typed, 600))
            if typed
            else None,
            "started": _moment(record.get("start")),
            "ended": _moment(record.get("end")) or "not yet",
            "resumed": "; ".join(resumes) or "never",
            "learner": ", ".join(
                filter(None, (_text(record.get("learner")), _text(record.get("learner_reason"))))
            ),
            "machine": ", ".join(
                filter(None, (_text(record.get("cpu")), _text(record.get("platform")),
                              f"{cores} cores" if (cores := _text(record.get("cores"))) else ""))
            ),
            "Python": _text(record.get("python")),
            "commit": code(commit) if (commit := _text(record.get("commit"))) else None,
        }
    )  # fmt: skip
    names = [
        f"{shortened(str(name), 60)} {_text(version)}"
        for name, version in list(versions.items())[:100]
    ]
    return joined(
        element("h3", f"{run.name}, training seed {run.seed}") if named else None,
        shown,
        hidden("Versions of all packages", element("p", ", ".join(names))) if names else None,
    )

"""Tables of returns, and differences in words: milestones, training seeds, several runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from gallop.errors import counted, shortened
from gallop.evaluation.intervals import interval_generator
from gallop.evaluation.statistics import (
    Comparison,
    Interval,
    SeedSummary,
    compare,
    finite,
    summarise,
    summarise_seeds,
)
from gallop.experiments.seeding import spans
from gallop.report.display import left_out_lines
from gallop.report.pages import charts
from gallop.report.pages.comparing import Compared, returns_of
from gallop.report.pages.facts import Judged, RunFacts, Side, mean_of
from gallop.report.pages.html import Html, element, joined
from gallop.report.pages.parts import (
    Head,
    facts,
    hidden,
    interval,
    note,
    p_value,
    signed,
    table,
    whole_percent,
    words,
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
    ("Sign-flip p and Wilcoxon p", "the probability that chance alone gives a difference at "
     "least this large between two policies that are equally good. Below 0.05 is usually called "
     "significant. The first test looks at the differences themselves, the second at their ranks, "
     "so that one extreme episode cannot decide it. With ten episodes neither can be below 0.002. "
     "Several tests are shown and none is corrected for that: of twenty tests of equal policies, "
     "one is expected to be below 0.05."),
)  # fmt: skip


# --- one run -------------------------------------------------------------------------------------


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
    heads = [Head("training seed", "word"), *(Head(labels[key]) for key in keys),
             Head("status", "word")]  # fmt: skip
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


# --- words ---------------------------------------------------------------------------------------


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

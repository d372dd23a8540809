"""Learning curves to hover over: of a run, of a group of training seeds, of several."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gallop.errors import counted
from gallop.evaluation.intervals import interval_generator
from gallop.evaluation.statistics import curve_over_seeds, finite
from gallop.report.display import slope_sentence
from gallop.report.group_report import evaluations_over_seeds
from gallop.report.pages import charts
from gallop.report.pages.facts import RunFacts, Side
from gallop.report.pages.html import Html, element
from gallop.report.pages.parts import Head, hidden, interval, signed, table


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

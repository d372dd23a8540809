"""The page of a grid: what it found over all tasks, then each task, then every run."""

from __future__ import annotations

import math

import numpy as np

from gallop.errors import RunError, counted
from gallop.evaluation.statistics import Interval
from gallop.experiments.grid import Grid
from gallop.report.grid_results import Found, OnTask, OverTasks
from gallop.report.pages import charts, frame, learning_curves, settings
from gallop.report.pages.facts import RunFacts, Side, read_side
from gallop.report.pages.html import Html, element, joined, page
from gallop.report.pages.parts import (
    Head,
    alert,
    duration,
    interval,
    note,
    signed,
    table,
    tiles,
    words,
)
from gallop.report.pages.summary import FEW_SEEDS
from gallop.run_folder.grid_folder import GridFolder
from gallop.run_folder.seed_group import is_group


def content(folder: GridFolder, grid: Grid, found: Found) -> bytes:
    """Return the page of a grid."""
    sides = {task: _sides(folder, grid, task) for task in found.tasks}
    runs = [run for each in sides.values() for side in each for run in side.runs]
    parts = {"Summary": _summary(grid, found, runs)}
    if found.over_tasks:
        parts["Over tasks"] = _over_tasks(grid, found)
    for task in found.tasks:
        parts[task] = _task(task, found, sides[task])
    parts["Runs"] = _runs(found, runs)
    firsts = [side.runs[0] for each in sides.values() for side in each]
    names = [f"{side.name}, {task}" for task, each in sides.items() for side in each]
    if firsts:
        parts["Settings"] = settings.settings(firsts, names)
        parts["Provenance"] = settings.provenance(firsts, names)
    title, head = folder.path.name, [str(grid)]
    return page(
        f"{title}: {head[0]}",
        frame.header(title, head, _status(found), list(parts)),
        frame.main(parts),
        frame.footer(),
    )


def scores_in_words(grid: Grid, found: Found) -> str:
    """Say what the scores are."""
    given = [task for task in found.tasks if task in grid.reference_returns]
    high = "the best mean return of an arm"
    if len(given) == len(found.tasks):
        high = "the reference return of the grid's file"
    elif given:
        high = f"the reference return for {', '.join(given)}, and elsewhere {high}"
    return (
        f"Scores: 0 is the random policy's mean return, and 1 {high}. Intervals are of the "
        "stratified bootstrap over training seeds."
    )


def seeds_in_words(found: Found) -> str:
    """Say how many training seeds show a difference; empty where that is not known."""
    parts = [f"{n:,} for {gap:g}" for gap, n in found.n_seeds.items() if n]
    if not parts:
        return ""
    return (
        "A difference of the mean scores of two arms on one task is found in 80 % of experiments "
        f"with the following number of training seeds per arm: {', '.join(parts)}."
    )


def _sides(folder: GridFolder, grid: Grid, task: str) -> list[Side]:
    """Read the groups of a task that have a run which can be read."""
    found = []
    for cell in grid.cells():
        group = folder.group(cell)
        if cell.env != task or not is_group(group.path):
            continue
        try:
            side = read_side(group.path)
        except RunError:  # its runs are listed as missing
            continue
        if side.runs:
            found.append(side._replace(name=grid.label(cell.algo, cell.change)))
    return found


def _status(found: Found) -> Html:
    n = sum(run.state == "finished" for run in found.runs)
    if n == len(found.runs):
        return element("span", "finished", class_="pill")
    return element("span", f"{n} of {counted(len(found.runs), 'run')} finished", class_="pill warn")


def _summary(grid: Grid, found: Found, runs: list[RunFacts]) -> Html:
    rows = [
        (f"{each.arm}: IQM of the scores", f"{each.iqm.value:.2f}",
         f"95 % interval\n{span(each.iqm.interval)}\n{counted(each.n_runs, 'run')}")
        for each in found.over_tasks
    ]  # fmt: skip
    seconds = sum(run.seconds for run in runs if math.isfinite(run.seconds))
    rows.append(("Training took", duration(seconds, coarse=True), "all runs together"))
    n_left = sum(run.state != "finished" for run in found.runs)
    alerts = [alert(f"{counted(n_left, 'run')} not finished: the numbers are those so far.")]
    n_seeds = len(grid.training_seeds)
    few = "few, so that bootstrap intervals are too narrow" if n_seeds > 1 else "no intervals"
    return joined(
        *(alerts if n_left else []),
        tiles(rows),
        words(_in_words(each, found.arms[0]) for each in found.over_tasks if each.better),
        element("p", scores_in_words(grid, found)) if found.over_tasks else None,
        element("p", seeds_in_words(found)),
        note(f"{counted(n_seeds, 'training seed')} for each arm and task: {few}.")
        if n_seeds < FEW_SEEDS
        else None,
        words(found.notes),
    )


def _in_words(each: OverTasks, first: str) -> str:
    assert each.better is not None
    low, high = each.better.interval
    known = f"95 % interval {100 * low:.0f} to {100 * high:.0f} %"
    if not math.isfinite(low):
        known = "no interval: it takes two training seeds of both"
    is_clear = low > 0.5 or high < 0.5  # neither, if there is no interval
    return (
        f"A run of {each.arm} beats one of {first} on a random task with probability "
        f"{100 * each.better.value:.0f} % ({known})"
        + ("." if is_clear else ": these runs do not show which is better.")
    )


def _over_tasks(grid: Grid, found: Found) -> Html:
    heads = [Head("arm", "word"), *map(Head, ("runs", "IQM", "95 % interval", "mean",
             "95 % interval", f"P(better than {found.arms[0]})", "95 % interval"))]  # fmt: skip
    rows = []
    for each in found.over_tasks:
        better = ("", "")
        if each.better is not None:
            better = (f"{each.better.value:.2f}", span(each.better.interval))
        rows.append([each.arm, str(each.n_runs), f"{each.iqm.value:.2f}", span(each.iqm.interval),
                     f"{each.mean.value:.2f}", span(each.mean.interval), *better])  # fmt: skip
    lines = [_profile(each, number) for number, each in enumerate(found.over_tasks)]
    start, end = float(lines[0].x[0]), float(lines[0].x[-1])
    axis = charts.Axis(charts.axis_number, "score above {:.2f}", start)
    band = ", with pointwise 95 % intervals" if any(map(_has_band, found.over_tasks)) else ""
    meaning = (
        "Performance profile: the share of runs, over all tasks, whose score is above the value on "
        f"the horizontal axis{band}. Higher is better. Point at the chart, or focus it and use the "
        "arrow keys."
    )
    return element(
        "div",
        table("Scores over tasks", heads, rows),
        note("The IQM counts every run the same, the mean every task."),
        element("h3", "Performance profile"),
        charts.curves("Performance profile", lines, None, end, axis),
        charts.legend(lines, None, meaning),
        class_="card",
    )


def span(bounds: Interval) -> str:
    """Return an interval of scores or probabilities as text; a dash if it is not known."""
    if not all(map(math.isfinite, bounds)):
        return "–"
    return f"[{bounds[0]:.2f}, {bounds[1]:.2f}]"


def _profile(each: OverTasks, colour: int) -> charts.Curve:
    p, known = each.profile, _has_band(each)
    texts = [
        f"{each.arm} {100 * share:.0f} % of runs"
        + (f" [{100 * low:.0f}, {100 * high:.0f}]" if known else "")
        for share, low, high in zip(p.share, p.low, p.high, strict=True)
    ]
    low, high = (p.low, p.high) if known else (p.share, p.share)
    return charts.Curve(each.arm, p.thresholds, p.share, low, high, colour, texts)


def _has_band(each: OverTasks) -> bool:
    return bool(np.isfinite(each.profile.low).all())


def _task(task: str, found: Found, sides: list[Side]) -> Html:
    heads = [Head("arm", "word"), *map(Head, ("seeds", "mean return", "IQM", "95 % interval",
             f"difference from {found.arms[0]}", "95 % interval", "P(better)"))]  # fmt: skip
    rows = [_row(each) for each in found.on_tasks if each.task == task]
    random = found.random[task]
    below = (
        f"Random policy: {signed(random)}. A score of 1: {signed(found.reference[task])}."
        if math.isfinite(random)
        else "No run has finished yet."
    )
    return element(
        "div",
        table(f"Returns on {task}", heads, rows),
        note(below),
        learning_curves.compared_curves(sides) if sides else None,
        class_="card",
    )


def _row(each: OnTask) -> list[str]:
    s, seeds = each.summary, f"{each.returns.size} of {each.n_planned}"
    if s is None:
        return [each.arm, seeds, "–", "–", "–", "", "", ""]
    row = [each.arm, seeds, signed(s.mean), signed(s.iqm)]
    row.append(interval(s.iqm_interval) if s.n > 1 else "–")
    if each.difference is None or each.probability is None:
        return [*row, "", "", ""]
    return [
        *row,
        signed(each.difference.mean, "+"),
        interval(each.difference.interval, "+"),
        f"{each.probability.value:.2f}",
    ]


def _runs(found: Found, runs: list[RunFacts]) -> Html:
    facts = {run.folder.path: run for run in runs}
    heads = [Head("run", "word"), *map(Head, ("training seed", "timesteps", "final return",
             "best return", "training took")), Head("state", "word")]  # fmt: skip
    rows = []
    for run in found.runs:
        fact = facts.get(run.folder.path)
        timestep = f"{fact.timestep:,}" if fact else "0"
        took = duration(fact.seconds) if fact and math.isfinite(fact.seconds) else "–"
        final, best = (signed(v) if np.isfinite(v) else "–" for v in (run.final, run.best))
        rows.append([f"{run.arm}, {run.cell.env}", str(run.seed), timestep, final, best, took,
                     run.state])  # fmt: skip
    return element(
        "div",
        table("Runs", heads, rows),
        note("Each group of training seeds has a page of its own, with films and audit."),
        class_="card",
    )

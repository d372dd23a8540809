"""The report of a grid: results.csv, summary.json and report.html, and tables in the terminal."""

from __future__ import annotations

import csv
import io
import math

import numpy as np

from gallop.evaluation.over_tasks import Profile
from gallop.evaluation.statistics import Interval
from gallop.experiments.grid import Grid
from gallop.report.display import CI, Display
from gallop.report.grid_results import Found, OnTask, OverTasks, read_results
from gallop.report.pages import grid_page
from gallop.report.run_report import as_plain
from gallop.report.tables import Column, NameTable, interval, number
from gallop.run_folder.files import Json, write_bytes, write_json
from gallop.run_folder.grid_folder import GridFolder


def write(folder: GridFolder, grid: Grid) -> Found:
    """Write results.csv, summary.json and report.html; return what is in them."""
    found = read_results(folder, grid)
    write_bytes(folder.results, _as_csv(found).encode())
    write_json(folder.summary, _summary(found))
    write_bytes(folder.report, grid_page.content(folder, grid, found))
    return found


def show(folder: GridFolder, grid: Grid, found: Found, display: Display) -> None:
    """Print the returns on each task and over all tasks, and the paths of page and numbers."""
    display.say("")
    display.table(_task_table(found))
    display.tell(
        "Returns of the final policies, one mean per training seed. Differences are from "
        f"{found.arms[0]}, with Welch's interval."
    )
    if found.over_tasks:
        display.say("")
        display.table(_table_over_tasks(found))
        display.tell(grid_page.scores_in_words(grid, found))
    if told := grid_page.seeds_in_words(found):
        display.tell(told)
    for note in found.notes:
        display.tell(note)
    display.say(f"\npage    {folder.report}\nnumbers {folder.results}, {folder.summary}")


def _task_table(found: Found) -> NameTable:
    rows = []
    for each in found.on_tasks:
        s = each.summary
        rows.append(
            [
                f"{each.task}: {each.arm}",
                f"{each.returns.size} of {each.n_planned}",
                number(s.mean) if s else "–",
                number(s.iqm) if s else "–",
                interval(s.iqm_interval) if s and s.n > 1 else "–",
                *difference_cells(each),
            ]
        )
    headings = ("seeds", "mean", "IQM", CI, f"difference {CI}", "P(better)")
    return NameTable([Column("task and arm", "label"), *map(Column, headings)], rows, "Returns")


def difference_cells(each: OnTask) -> tuple[str, str]:
    """Return the cells of the difference from the first arm, and of the probability."""
    if each.difference is None or each.probability is None:
        return "", ""
    bounds = each.difference.interval
    known = f" {interval(bounds, '+')}" if math.isfinite(bounds.low) else ""
    return number(each.difference.mean, "+") + known, f"{each.probability.value:.2f}"


def _table_over_tasks(found: Found) -> NameTable:
    rows = [[each.arm, str(each.n_runs), *score_cells(each)] for each in found.over_tasks]
    headings = ("runs", f"IQM {CI}", f"mean {CI}", f"P(better) {CI}")
    return NameTable([Column("arm", "label"), *map(Column, headings)], rows, "Scores over tasks")


def score_cells(each: OverTasks) -> tuple[str, str, str]:
    """Return the cells of IQM, mean and probability of improvement, each with its interval."""

    def text(value: float, bounds: Interval) -> str:
        return f"{value:.2f} {grid_page.span(bounds)}"

    better = text(each.better.value, each.better.interval) if each.better else ""
    return text(*each.iqm), text(*each.mean), better


def _as_csv(found: Found) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["task", "arm", "algo", "change", "training_seed", "state", "final_return", "best_return"]
    )
    for run in found.runs:
        values = (run.final, run.best) if run.state == "finished" else ("", "")
        writer.writerow(
            [run.cell.env, run.arm, run.cell.algo, run.cell.change, run.seed, run.state, *values]
        )
    return text.getvalue()


def _profile(profile: Profile) -> Json:
    """Return a performance profile as lists, shape [n_thresholds]; null for an unknown band."""
    return {
        name: values.tolist() if np.isfinite(values).all() else None
        for name, values in profile._asdict().items()
    }


def _summary(found: Found) -> Json:
    """Return summary.json."""
    return {
        "arms": list(found.arms),
        "n_runs": len(found.runs),
        "n_finished": sum(run.state == "finished" for run in found.runs),
        "random_return": found.random,
        "reference_return": found.reference,
        "on_tasks": [
            {
                "task": each.task,
                "arm": each.arm,
                "returns": each.returns.tolist(),
                "summary": as_plain(each.summary) if each.summary else None,
                "difference": as_plain(each.difference) if each.difference else None,
                "probability_of_improvement": as_plain(each.probability)
                if each.probability
                else None,
            }
            for each in found.on_tasks
        ],
        "over_tasks": [
            {
                "arm": each.arm,
                "n_runs": each.n_runs,
                "iqm": as_plain(each.iqm),
                "mean": as_plain(each.mean),
                "probability_of_improvement": as_plain(each.better) if each.better else None,
                "performance_profile": _profile(each.profile),
            }
            for each in found.over_tasks
        ],
        "seeds_needed": {f"{gap:g}": n for gap, n in found.n_seeds.items()},
        "notes": list(found.notes),
    }

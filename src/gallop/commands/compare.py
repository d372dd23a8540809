"""`gallop compare`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gallop.commands.arguments import Commands, add_command, check_output
from gallop.errors import ExperimentError

if TYPE_CHECKING:
    from gallop.report.display import Display
    from gallop.report.pages.comparing import Compared, Gap, PolicyRow
    from gallop.report.pages.facts import Side
    from gallop.report.tables import NameTable


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "compare",
        "Compare runs, or groups of training seeds, from their files",
        "Compare the returns and the movement of runs or groups of one task, each with the first. "
        "Nothing is played.",
        _compare,
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="Runs or groups of training seeds"
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE.csv", help="Write all numbers to this file, too"
    )


def _compare(options: argparse.Namespace) -> int:
    from gallop.report.display import Display
    from gallop.report.pages.comparing import as_csv, compare_sides, read_sides
    from gallop.run_folder.files import write_bytes
    from gallop.run_folder.links import check_contents, check_run_around

    if len(options.runs) < 2:
        raise ExperimentError(f"{options.runs[0]}: at least two runs are required")
    if options.csv is not None:
        check_output(options.csv, ".csv")
    for path in options.runs:
        check_contents(path)
    if options.csv is not None:
        check_run_around(options.csv)
    found, display = compare_sides(read_sides(options.runs)), Display()
    _show(found, display)
    if options.csv is not None:
        write_bytes(options.csv, as_csv(found).encode())
        display.say(f"\nnumbers {options.csv}")
    return 0


def _show(found: Compared, display: Display) -> None:
    from gallop.report.tables import Column, NameTable, exact, interval, number

    sides = found.sides
    for side in sides:
        states = ", ".join(dict.fromkeys(run.status for run in side.runs))
        display.tell(f"{side.label}: {side.title}, {_what(side)}, {states}")
        for seed, why in side.unusable.items():
            display.tell(f"{side.label}: seed {seed} is left out: {why}")
    display.say("")
    headings = ("timestep", "mean", "IQM", "95 % CI", "over")
    cells = [
        [
            f"{row.side.letter} {row.label}", exact(row.timestep), number(row.mean),
            number(row.iqm), interval(row.interval), _over(row),
        ]
        for row in found.rows
    ]  # fmt: skip
    display.table(NameTable([Column("policy", "name"), *map(Column, headings[:-1]),
                             Column(headings[-1], "word")], cells, "Returns"))  # fmt: skip
    if found.gaps:
        display.say("")
        display.table(_gap_table(found.gaps))
        for how in dict.fromkeys((gap.label, gap.how) for gap in found.gaps):
            display.tell(f"{how[0]}: {how[1]}")
    for note in found.notes:
        display.tell(note)
    _say_what_it_is(sides, display)
    _show_movement(sides, display)


def _what(side: Side) -> str:
    from gallop.errors import counted

    if side.is_group:
        return f"{side.path}, {counted(len(side.runs), 'training seed')}"
    return f"{side.path}, training seed {side.runs[0].seed}"


def _over(row: PolicyRow) -> str:
    from gallop.errors import counted

    return counted(row.n, row.of.removesuffix("s"))


def _gap_table(gaps: Sequence[Gap]) -> NameTable:
    from gallop.report.display import CI
    from gallop.report.tables import Column, NameTable, interval, number

    cells = []
    for gap in gaps:
        bounds = interval(gap.difference.interval, "+")
        known = not math.isnan(gap.difference.interval.low)
        chance = "–"
        if gap.probability is not None:
            low, high = gap.probability.interval
            chance = f"{gap.probability.value:.2f} [{low:.2f}, {high:.2f}]"
        tests = ("–" if math.isnan(p) else f"{p:.3f}" for p in (gap.p_sign_flip, gap.p_wilcoxon))
        difference = number(gap.difference.mean, "+") + (f" {bounds}" if known else "")
        cells.append([f"{gap.label} {gap.policy}", difference, chance, *tests])
    headings = (f"difference {CI}", f"P(improvement) {CI}", "sign-flip p", "Wilcoxon p")
    columns = [Column("policies", "word"), *map(Column, headings)]
    return NameTable(columns, cells, "Differences")


def _say_what_it_is(sides: Sequence[Side], display: Display) -> None:
    if any(not side.is_group for side in sides):
        display.tell(
            "A run's returns are of its deterministic episodes on the evaluation seeds; its "
            "interval is that of the mean, over initial states of one policy. One training seed "
            "says nothing about the next.",
        )
    if any(side.is_group for side in sides):
        display.tell(
            "A group's returns are one mean per training seed; its interval is that of the IQM, "
            "over training seeds.",
        )


def _show_movement(sides: Sequence[Side], display: Display) -> None:
    from gallop.report.pages.audit_record import shown
    from gallop.report.pages.comparing import findings_of, measures_of
    from gallop.report.tables import Column, NameTable

    measures = {side.letter: measures_of(side) for side in sides}
    labels = dict.fromkeys(label for each in measures.values() for label in each)
    display.say("")
    if labels:
        cells = []
        for label in labels:
            having = (each.get(label) for each in measures.values())
            cells.append([label, *(shown(m.mean, m.unit) if m else "–" for m in having)])
        columns = [Column("measure", "label"), *(Column(side.letter) for side in sides)]
        display.table(NameTable(columns, cells, "Audit: means at the latest milestone"))
    for side in sides:
        if measures[side.letter]:
            told = "; ".join(findings_of(side)) or "none"
            display.tell(f"findings of {side.letter}: {told}")
        else:
            why = side.runs[0].why_no_audit or "no milestone has been reached"
            display.tell(f"{side.letter} has no audit: {why}")

"""`gallop verify`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gallop.commands.arguments import (
    Commands,
    add_command,
    add_log_folder,
    add_trust,
    run_or_newest,
)
from gallop.errors import ExperimentError

EXAMPLES = """\
examples:
  gallop verify                                  (the newest run)
  gallop verify results/SAC_HalfCheetah-v5/first
  gallop verify --replay 0 results/SAC_HalfCheetah-v5/first
"""


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "verify",
        "say whether a run's files are as they were written",
        "Read every file of a run, or of a group of training seeds, and say which are damaged.",
        _verify,
        EXAMPLES,
    )
    parser.add_argument(
        "run", nargs="?", type=Path, metavar="RUN", help="a run or a group (default: the newest)"
    )
    parser.add_argument(
        "--replay", type=int, metavar="SEGMENT",
        help="train this segment (from 0) again and compare its bits with those that were stored",
    )  # fmt: skip
    parser.add_argument(
        "--accept", action="store_true",
        help="take the files as they are from now on (of a group: its own, not those of its runs); "
        "provenance.json tells which were changed",
    )  # fmt: skip
    parser.add_argument(
        "--restore", action="store_true",
        help="make damaged policies and returns again, from states, other files and episodes.csv",
    )  # fmt: skip
    add_trust(parser)
    add_log_folder(parser)


def _verify(options: argparse.Namespace) -> int:
    from gallop.report.display import Display
    from gallop.run_folder import verification
    from gallop.run_folder.links import check_contents
    from gallop.run_folder.seed_group import is_group

    modes = {"--accept": options.accept, "--replay": options.replay is not None}
    given = [name for name, is_given in {**modes, "--restore": options.restore}.items() if is_given]
    if len(given) > 1:
        raise ExperimentError(f"{given[0]} and {given[1]} do not go together: leave out one")
    run = run_or_newest(options)
    check_contents(run.path)
    display = Display()
    if is_group(run.path) and (options.restore or options.replay is not None):
        raise ExperimentError(f"{run.path} is a group: name one of its runs")
    if options.replay is not None:
        from gallop.runs.replay import replay

        return 0 if replay(run, options.replay, display) else 1
    if options.restore:
        from gallop.runs.restoring import restore

        restore(run, display)
    if options.accept:
        for damage in verification.accept(run.path):
            display.say(f"{damage}: accepted")
    found = verification.verify(run.path)
    for line in (*found.problems, *found.notes):
        display.say(line)
    if not found.problems:
        display.say(f"{run.path}: {found.n_files:,} files are as they were written")
    elif not given and not is_group(run.path):
        display.say(f"gallop verify --restore {run.path} makes policies and returns again")
    return 1 if found.problems else 0

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
    whole_number,
)
from gallop.errors import ExperimentError, counted

EXAMPLES = """\
examples:
  gallop verify                                  (the newest run)
  gallop verify results/SAC_HalfCheetah-v5/first
  gallop verify --replay 0 results/SAC_HalfCheetah-v5/first
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "verify",
        "Check a run's files for damage",
        "Check every file of a run, or of a group of training seeds, against its recorded hash.",
        _verify,
        EXAMPLES,
    )
    parser.add_argument(
        "run", nargs="?", type=Path, metavar="RUN", help="Run or group (default: the newest run)"
    )
    parser.add_argument(
        "--replay", metavar="SEGMENT",
        help="Train this segment again (the first is 0) and check that the result is bit-identical",
    )  # fmt: skip
    parser.add_argument(
        "--accept", action="store_true",
        help="Accept the files as they are now (of a group: only the group's own); provenance.json "
        "records which were changed",
    )  # fmt: skip
    parser.add_argument(
        "--restore", action="store_true",
        help="Recreate damaged policies and returns from resume states and other files",
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
        raise ExperimentError(f"{given[0]} and {given[1]} are mutually exclusive")
    segment = None
    if options.replay is not None:
        segment = whole_number(options.replay, "--replay", least=0)
    run = run_or_newest(options)
    check_contents(run.path)
    display = Display()
    if is_group(run.path) and (options.restore or segment is not None):
        raise ExperimentError(f"{run.path}: is a group; name one of its runs")
    if segment is not None:
        from gallop.runs.replay import replay

        return 0 if replay(run, segment, display) else 1
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
        display.say(f"{run.path}: {counted(found.n_files, 'file')} intact")
    elif not given and not is_group(run.path):
        display.say(f"gallop verify --restore {run.path} recreates policies and returns")
    return 1 if found.problems else 0

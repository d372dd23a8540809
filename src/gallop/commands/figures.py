"""`gallop figures`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gallop.commands.arguments import Commands, add_command, add_log_folder, run_or_newest


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "figures",
        "Redraw a run's figures",
        "Redraw the figures of a run or of a group of training seeds, and print its closing table.",
        _figures,
    )
    parser.add_argument(
        "run", nargs="?", type=Path, metavar="RUN", help="Run or group (default: the newest run)"
    )
    add_log_folder(parser)


def _figures(options: argparse.Namespace) -> int:
    from gallop.report import group_report, run_report
    from gallop.report.display import Display
    from gallop.run_folder.links import check_contents
    from gallop.run_folder.seed_group import SeedGroup, is_group

    if options.run is not None and is_group(options.run):
        check_contents(options.run)
        group_report.redraw(SeedGroup(options.run), Display())
    else:
        run = run_or_newest(options)
        check_contents(run.path)
        run_report.redraw(run, Display())
    return 0

"""`gallop figures`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gallop.commands.arguments import Commands, add_command, add_log_folder, run_or_newest


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "figures",
        "draw a run's figures anew",
        "Draw a run's figures anew, from files.",
        _figures,
    )
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="default: the newest")
    add_log_folder(parser)


def _figures(options: argparse.Namespace) -> int:
    from gallop.report import run_report
    from gallop.runs import seed_group

    if options.run is not None and seed_group.is_group(options.run):
        drawn = seed_group.draw_all(options.run)
    else:
        drawn = run_report.draw_all(run_or_newest(options))
    for path in drawn:
        print(f"figure  {path}")
    return 0

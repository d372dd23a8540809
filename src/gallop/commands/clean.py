"""`gallop clean`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gallop.commands.arguments import Commands, add_command


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "clean",
        "Free disk space: remove the states of finished runs",
        "Remove the resume states of finished runs, which --extend needs. Results are kept.",
        _clean,
    )
    parser.add_argument(
        "run", nargs="+", type=Path, metavar="RUN", help="Runs, or groups of training seeds"
    )
    parser.add_argument(
        "--unfinished", action="store_true",
        help="Also clean unfinished runs, which then cannot be resumed",
    )  # fmt: skip


def _clean(options: argparse.Namespace) -> int:
    from gallop.report.display import Display
    from gallop.run_folder.cleaning import clean
    from gallop.run_folder.full_disk import in_words
    from gallop.run_folder.links import check_contents

    display = Display()
    for path in options.run:
        check_contents(path)
    for run, n_bytes in clean(options.run, options.unfinished):
        display.say(f"{run.path}: {in_words(n_bytes)} freed")
    return 0

"""`gallop clean`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gallop.commands.arguments import Commands, add_command


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "clean",
        "remove what resuming and extending need, to free disk space",
        "Remove the states that finished runs could be extended from. Results stay as they are.",
        _clean,
    )
    parser.add_argument("run", nargs="+", type=Path, metavar="RUN", help="runs or groups of them")
    parser.add_argument(
        "--unfinished", action="store_true",
        help="also of runs that did not come to their end, which can never go on then",
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

"""`gallop export`."""

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
from gallop.errors import ExperimentError, printable


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "export",
        "Export a run for the Zoo or the Hugging Face hub",
        "Export a run as a folder in the Zoo's layout, or as a folder for the Hugging Face hub.",
        _export,
    )
    parser.add_argument(
        "run", nargs="?", type=Path, metavar="RUN", help="Run to export (default: the newest)"
    )
    parser.add_argument(
        "--zoo", type=Path, metavar="DIR", help="Export in the Zoo's layout under DIR"
    )
    parser.add_argument(
        "--hub", type=Path, metavar="DIR", help="Export model card, film, policy zip and results"
    )
    parser.add_argument(
        "--push", metavar="USER/NAME", help="With --hub: push the folder to this repository"
    )
    add_trust(parser)
    add_log_folder(parser)


def _export(options: argparse.Namespace) -> int:
    if options.zoo is None and options.hub is None:
        raise ExperimentError("--zoo DIR or --hub DIR is required")
    if options.push is not None and options.hub is None:
        raise ExperimentError("--push requires --hub DIR")
    from gallop.sharing import hub, zoo_folder

    run = run_or_newest(options)
    if options.zoo is not None:
        print(printable(f"zoo     {zoo_folder.export_zoo(run, options.zoo)}"))
    if options.hub is not None:
        folder = hub.export_hub(run, options.hub)
        print(printable(f"hub     {folder}"))
        if options.push is not None:
            print(f"pushed  {hub.push(folder, options.push)}")
    return 0

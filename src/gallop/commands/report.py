"""`gallop report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gallop.commands.arguments import (
    Commands,
    add_command,
    add_log_folder,
    check_output,
    run_or_newest,
)
from gallop.errors import ExperimentError


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "report",
        "Write a page of a run, or of several side by side, to send to anyone",
        "Write one HTML file with curves, tables, films and audits; it needs no network. Nothing "
        "is played.",
        _report,
    )
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN",
        help="Runs or groups of training seeds of one task (default: the newest run)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.html",
        help="Write the page to this file (default: report.html in the folder of the run)",
    )  # fmt: skip
    add_log_folder(parser)


def _report(options: argparse.Namespace) -> int:
    from gallop.report.display import Display
    from gallop.report.pages import page
    from gallop.run_folder import manifest
    from gallop.run_folder.directory import RunDirectory
    from gallop.run_folder.links import check_contents, check_run_around
    from gallop.run_folder.seed_group import SeedGroup, is_group

    options.run = None
    if options.output is not None:
        check_output(options.output, ".html", ".htm")
    runs = options.runs or [run_or_newest(options).path]
    output = options.output
    for path in runs:
        check_contents(path)
    if output is None:
        if len(runs) > 1:
            raise ExperimentError("-o FILE.html is required for the page of several runs")
        folder = SeedGroup(runs[0]) if is_group(runs[0]) else RunDirectory(runs[0])
        folder.look_at_experiment()  # refuses what is neither, before anything is locked
        with folder.locked():
            output = page.write_report(folder)
    else:
        if manifest.root_of(output.parent) is not None:
            raise ExperimentError(
                f"{output} belongs to a run: without -o, gallop report writes the run's own page"
            )
        check_run_around(output)
        page.write_page(runs, output)
    size = output.stat().st_size
    Display().say(f"page    {output} ({size / 1e6:.1f} MB)")
    return 0

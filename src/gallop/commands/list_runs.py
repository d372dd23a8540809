"""`gallop list`."""

from __future__ import annotations

import argparse

from gallop.commands.arguments import Commands, add_command, add_log_folder
from gallop.errors import ExperimentError


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "list",
        "List all runs",
        "List all runs with algorithm, task, timesteps, return (of the final policy, or in the "
        "latest evaluation) and status.",
        _list,
    )
    add_log_folder(parser)


def _list(options: argparse.Namespace) -> int:
    from gallop.report.display import Display
    from gallop.run_folder.listing import list_runs

    runs = list_runs(options.results)
    if not runs:
        raise ExperimentError(f"{options.results}: no run found; gallop run creates one")
    Display().runs(runs)
    return 0

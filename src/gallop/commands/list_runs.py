"""`gallop list`."""

from __future__ import annotations

import argparse

from gallop.commands.arguments import Commands, add_command, add_log_folder
from gallop.errors import ExperimentError


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "list",
        "list all runs",
        "List all runs: algorithm, task, timesteps, return (final policy, or latest evaluation), "
        "status.",
        _list,
    )
    add_log_folder(parser)


def _list(options: argparse.Namespace) -> int:
    from gallop.report.display import Display
    from gallop.run_folder.listing import list_runs

    runs = list_runs(options.results)
    if not runs:
        raise ExperimentError(f"there is no run below {options.results}; gallop run makes one")
    Display().runs(runs)
    return 0

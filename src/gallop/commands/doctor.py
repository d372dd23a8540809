"""`gallop doctor`: what works on this machine, and commands that fix the rest."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gallop.commands.arguments import Commands, add_command, add_log_folder

if TYPE_CHECKING:
    from rich.table import Table

    from gallop.commands.checks import Check

_COLOURS = {"works": "green", "missing": "bold red", "note": "yellow"}


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "doctor",
        "Check this machine, and print how to fix what is missing",
        "Check what works on this machine, and print a command that fixes each problem.",
        _doctor,
    )
    add_log_folder(parser)


def _doctor(options: argparse.Namespace) -> int:
    return doctor(options.results)


def doctor(results: Path = Path("results")) -> int:
    """Print what works on this machine, and commands that fix the rest.

    Args:
        results: folder that runs would be written to.

    Returns:
        The exit code: 0 if everything that a run needs works, 1 otherwise.
    """
    from rich.console import Console
    from rich.text import Text

    from gallop.commands.checks import examine

    console = Console(highlight=False)
    with console.status("checking") as status:
        checks = list(examine(results, lambda name: status.update(f"checking {name}")))
    console.print(_table(checks))
    console.print()
    missing = [check for check in checks if check.state == "missing"]
    if not missing:
        console.print("Everything that a run needs works.")
        for check in checks:
            if check.fix:
                console.print(f"Better {check.name}:\n")
                console.print(Text(check.fix), soft_wrap=True)
        return 0
    console.print(f"Missing: {', '.join(check.name for check in missing)}.")
    lines = dict.fromkeys(check.fix for check in missing if check.fix)
    if lines:
        console.print(f"To fix {'it' if len(missing) == 1 else 'them'}:\n")
    for line in lines:
        console.print(Text(line), soft_wrap=True)  # a wrapped line cannot be copied
    return 1


def _table(checks: Sequence[Check]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("what", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("found", overflow="fold")
    for check in checks:
        table.add_row(check.name, Text(check.state, _COLOURS[check.state]), Text(check.found))
    return table

"""`gallop presets`."""

from __future__ import annotations

import argparse

from gallop.commands.arguments import Commands, add_command


def add(commands: Commands) -> None:
    """Add the command."""
    add_command(
        commands,
        "presets",
        "List tuned presets and examples",
        "List the presets, which gallop run --algo ALGO --env ID uses, and the examples.",
        _presets,
    )


def _presets(options: argparse.Namespace) -> int:
    from gallop.experiments.presets import all_presets, examples, is_search
    from gallop.report.display import Display

    display = Display()
    display.presets(all_presets())
    for example in examples():
        display.say(f"example: gallop {'tune' if is_search(example) else 'run'} {example.stem}")
    display.say("gallop run --algo ALGO --env ID uses a preset; --dry-run shows the plan")
    return 0

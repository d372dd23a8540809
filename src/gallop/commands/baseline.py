"""`gallop baseline`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gallop.commands.arguments import (
    Commands,
    add_command,
    add_episode_flags,
    add_task_flags,
    add_trust,
    episode_seeds,
    given_arguments,
)


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "baseline",
        "Evaluate the random policy",
        "Evaluate the random policy on a task, or on the task of a run or an experiment file.",
        _baseline,
    )
    parser.add_argument(
        "what", nargs="?", type=Path, metavar="RUN|CONFIG|TASK",
        help="Run, experiment file or id of a task; or use --env",
    )  # fmt: skip
    parser.add_argument("--env", metavar="ID", help="Task")
    add_task_flags(parser)
    add_episode_flags(parser)
    add_trust(parser)


def _baseline(options: argparse.Namespace) -> int:
    seeds = episode_seeds(options)
    from gallop.commands.scoring import baseline
    from gallop.report.display import Display

    baseline(
        options.what,
        env=options.env,
        seeds=seeds,
        reset_noise_scale=options.reset_noise_scale,
        arguments=given_arguments(options),
        output=options.output,
        display=Display(),
    )
    return 0

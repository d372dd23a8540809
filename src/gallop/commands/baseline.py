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
    parser = add_command(
        commands,
        "baseline",
        "score the random policy",
        "Score the random policy on a task, with the settings of a run or an experiment file.",
        _baseline,
    )
    parser.add_argument(
        "what", nargs="?", type=Path, metavar="RUN|CONFIG|TASK", help="whose task; or use --env"
    )
    parser.add_argument("--env", help="the task")
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

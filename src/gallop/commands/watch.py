"""`gallop watch`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gallop.commands.arguments import (
    Commands,
    add_command,
    add_policy_flags,
    add_task_flags,
    given_arguments,
    whole_number,
)


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "watch",
        "Watch a policy in a window, or film it",
        "Play a policy in a window. Without a display, or with --output, make a film instead.",
        _watch,
    )
    parser.add_argument(
        "what", nargs="?", type=Path, metavar="RUN|MILESTONE|ZIP",
        help="Folder of a run or milestone, or SB3 zip (default: best policy of the newest run)",
    )  # fmt: skip
    parser.add_argument("--episodes", default="3", metavar="N", help="Episodes (default: 3)")
    parser.add_argument(
        "--seed", default="0", metavar="N", help="Seed of the first episode (default: 0)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.mp4",
        help="Write a film instead of opening a window",
    )  # fmt: skip
    parser.add_argument(
        "--overlay", action="store_true", help="Write time, speed and return into the film"
    )
    add_task_flags(parser)
    add_policy_flags(parser)


def _watch(options: argparse.Namespace) -> int:
    from gallop.commands.playing import watch

    arguments = given_arguments(options)
    return watch(
        options.what,
        env=options.env,
        env_kwargs=arguments.env_kwargs,
        wrappers=arguments.wrappers,
        n_episodes=whole_number(options.episodes, "--episodes"),
        seed=whole_number(options.seed, "--seed", least=0),
        output=options.output,
        overlay=options.overlay,
        results=options.results,
        normalizer=options.normalizer,
        activation=options.activation,
        trust=options.trust,
    )

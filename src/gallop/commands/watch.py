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
)


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "watch",
        "see a policy move",
        "Play a policy in a window, or into a film where there is no display.",
        _watch,
    )
    parser.add_argument(
        "what", nargs="?", type=Path, metavar="RUN|MILESTONE|ZIP",
        help="a run's or milestone's folder, or an SB3 zip (default: the newest run's best policy)",
    )  # fmt: skip
    parser.add_argument("--episodes", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode (default: 0)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.mp4", help="film instead of opening a window"
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
        n_episodes=options.episodes,
        seed=options.seed,
        output=options.output,
        results=options.results,
        normalizer=options.normalizer,
        trust=options.trust,
    )

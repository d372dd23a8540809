"""`gallop evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gallop.commands.arguments import (
    Commands,
    add_command,
    add_episode_flags,
    add_policy_flags,
    add_task_flags,
    episode_seeds,
    given_arguments,
)


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "evaluate",
        "Evaluate policies on the same seeds, and compare them",
        "Evaluate policies on the same seeds; each is compared with the first, seed by seed.",
        _evaluate,
    )
    parser.add_argument(
        "what", nargs="*", type=Path, metavar="RUN|MILESTONE|ZIP",
        help="Folders of runs or milestones, or SB3 zips (default: best policy of the newest run)",
    )  # fmt: skip
    add_episode_flags(parser)
    parser.add_argument(
        "--stochastic", action="store_true",
        help="Sample actions instead of taking the most likely one",
    )  # fmt: skip
    add_task_flags(parser)
    parser.add_argument(
        "--physics", metavar="{KEY: VALUE}",
        help="Play each policy on a changed simulator, too (MuJoCo): timestep, integrator, solver, "
        "cone, friction, mass, gravity, action_delay; friction and mass are factors",
    )  # fmt: skip
    add_policy_flags(parser)


def _evaluate(options: argparse.Namespace) -> int:
    seeds = episode_seeds(options)
    from gallop.commands.scoring import evaluate_all
    from gallop.policies.sb3_zip import Options, normalizer_option
    from gallop.report.display import Display
    from gallop.run_folder.find_policy import stands_alone

    reading = Options(
        normalizer=normalizer_option(options.normalizer),
        stochastic_seed=0 if options.stochastic else None,
        trust=options.trust and stands_alone(options.what, options.env),
        activation=options.activation,
    )
    evaluate_all(
        options.what,
        env=options.env,
        seeds=seeds,
        reset_noise_scale=options.reset_noise_scale,
        arguments=given_arguments(options),
        options=reading,
        results=options.results,
        output=options.output,
        display=Display(),
    )
    return 0

"""`gallop audit`."""

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
        "audit",
        "Measure how a policy moves: posture, contacts, gait, actuators, energy",
        "Measure how a policy moves, at every physics step (MuJoCo). A high return may be a "
        "somersault.",
        _audit,
    )
    parser.add_argument(
        "what", nargs="?", type=Path, metavar="RUN|MILESTONE|ZIP|ONNX",
        help="Policy (default: best policy of the newest run)",
    )  # fmt: skip
    parser.add_argument(
        "--episodes", metavar="N", help="Use the first N evaluation seeds (default: 10)"
    )
    parser.add_argument(
        "--sensitivity", action="store_true",
        help="Measure the return on changed simulators, too: physics step, integrator, friction, "
        "mass, late actions, sensor noise",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR",
        help="Write audit.json and figures into this folder (default: print only)",
    )  # fmt: skip
    add_task_flags(parser)
    add_policy_flags(parser)


def _audit(options: argparse.Namespace) -> int:
    n = None if options.episodes is None else whole_number(options.episodes, "--episodes")
    from gallop.commands.auditing import audit
    from gallop.policies.sb3_zip import Options, normalizer_option
    from gallop.report.display import Display
    from gallop.run_folder.find_policy import stands_alone

    what = [] if options.what is None else [options.what]
    audit(
        options.what,
        env=options.env,
        n_episodes=n,
        sensitive=options.sensitivity,
        output=options.output,
        arguments=given_arguments(options),
        options=Options(
            normalizer=normalizer_option(options.normalizer),
            trust=options.trust and stands_alone(what, options.env),
            activation=options.activation,
        ),
        results=options.results,
        display=Display(),
    )
    return 0

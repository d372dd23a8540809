"""What the commands' flags share. Nothing heavy is imported here: every `--help` comes by."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from gallop.errors import ExperimentError
from gallop.experiments.yaml_file import parse, parse_setting, task_arguments

if TYPE_CHECKING:
    from gallop.experiments.settings import TaskArguments
    from gallop.run_folder.directory import RunDirectory


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line and exit code 2, as all others are."""

    def error(self, message: str) -> NoReturn:
        raise ExperimentError(message)


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
Call: TypeAlias = Callable[[argparse.Namespace], int]
"""What a command does with its flags; returns the exit code."""


def add_command(
    commands: Commands, name: str, what: str, description: str, call: Call, epilog: str = ""
) -> Parser:
    """Add a command; its flags are the caller's to add.

    Args:
        what: its line in `gallop --help`.
        description, epilog: above and below the flags in its own help; an epilog keeps its lines.
    """
    raw, wrapped = argparse.RawDescriptionHelpFormatter, argparse.HelpFormatter
    parser = commands.add_parser(
        name, help=what, description=description, allow_abbrev=False, epilog=epilog or None,
        formatter_class=raw if epilog else wrapped,
    )  # fmt: skip
    parser.set_defaults(call=call, parser=parser)
    return parser


def whole_number(text: str, flag: str) -> int:
    """The value of a flag that takes a whole number of at least 1.

    Raises:
        ExperimentError: if it is anything else.
    """
    value = parse(text)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ExperimentError(f"{flag} {text}: a whole number of at least 1 is needed")
    return value


def n_workers(options: argparse.Namespace) -> int | None:
    """--workers; None where it is not given."""
    return None if options.workers is None else whole_number(options.workers, "--workers")


# --- runs ----------------------------------------------------------------------------------------


def add_log_folder(parser: Parser) -> None:
    """--log-folder, as `options.results`."""
    parser.add_argument(
        "-f", "--log-folder", dest="results", type=Path, default=Path("results"), metavar="DIR",
        help="folder of all runs (default: results)",
    )  # fmt: skip


def add_trust(parser: Parser, more: str = "") -> None:
    """--trust: consent to the code that a folder names."""
    parser.add_argument(
        "--trust", action="store_true",
        help="run the task and the wrappers that a folder names which was not made here by you"
        f"{more}; what is run is said",
    )  # fmt: skip


def run_or_newest(options: argparse.Namespace) -> RunDirectory:
    """The run named by RUN; the newest one where it is left out."""
    from gallop.run_folder import lookup
    from gallop.run_folder.directory import RunDirectory

    if options.run is None:
        return lookup.newest_run(options.results, unfinished=False)
    return RunDirectory(options.run)


# --- policies and their episodes -----------------------------------------------------------------


def add_policy_flags(parser: Parser) -> None:
    """Which policy file to read, and how."""
    parser.add_argument("--env", help="the task, for a zip that lies in no run's folder")
    parser.add_argument(
        "--normalizer", type=Path, metavar="FILE",
        help=".normalizer.npz or vecnormalize.pkl (default: looked for beside the zip)",
    )  # fmt: skip
    add_trust(
        parser,
        ", or the code in one zip that is named alone and cannot be read safely (never remembered)",
    )
    add_log_folder(parser)


def add_task_flags(parser: Parser) -> None:
    """What the task is given, as `gallop run` takes it."""
    parser.add_argument(
        "--env-kwargs", "--env_kwargs", dest="env_kwargs", metavar="VALUE",
        help="keyword arguments of the task, as in YAML, on top of a run's own",
    )  # fmt: skip
    parser.add_argument(
        "--wrappers",
        metavar="VALUE",
        help="Gymnasium wrappers by import path, as in YAML, instead of a run's own",
    )


def given_arguments(options: argparse.Namespace) -> TaskArguments:
    """--env-kwargs and --wrappers.

    Raises:
        ExperimentError: if they are none.
    """
    texts = {"env_kwargs": options.env_kwargs, "wrappers": options.wrappers}
    return task_arguments({k: parse_setting(k, v) for k, v in texts.items() if v is not None})


def add_episode_flags(parser: Parser) -> None:
    """Which episodes to play, and where to write their rewards."""
    parser.add_argument(
        "--episodes", type=int, metavar="N",
        help="the first N evaluation seeds (default: 10, the same for every policy)",
    )  # fmt: skip
    parser.add_argument("--seeds", metavar="SEEDS", help="other seeds, such as 0..9 or 3,7,11")
    parser.add_argument(
        "--reset-noise-scale", type=float, metavar="X", help="spread of the first states"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.npz", help="rewards, seeds, ep_lengths"
    )


def episode_seeds(options: argparse.Namespace) -> list[int]:
    """The seeds that --episodes or --seeds ask for.

    Raises:
        ExperimentError: if they ask for none, or rewards would be written as anything but .npz.
    """
    from gallop.commands.scoring import chosen_seeds
    from gallop.experiments.seeding import seeds_from

    if options.output is not None and options.output.suffix != ".npz":
        raise ExperimentError(f"{options.output}: rewards are written as .npz")
    given = None if options.seeds is None else seeds_from(options.seeds)
    return chosen_seeds(options.episodes, given)

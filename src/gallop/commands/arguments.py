"""Argument parsing that all commands share. It imports nothing heavy: every `--help` runs it."""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from gallop import fields
from gallop.errors import ExperimentError, nearest
from gallop.experiments.yaml_file import parse_setting, task_arguments

if TYPE_CHECKING:
    from gallop.execution.work import Place
    from gallop.experiments.settings import TaskArguments
    from gallop.run_folder.directory import RunDirectory

ENGINES = ("processes", "ray")
MAX_WIDTH = 100  # columns of help: longer lines are hard to read
NUMBERS = "Whole numbers may be written 100000, 100_000, 100k, 1.5M or 1e6."


class Formatter(argparse.HelpFormatter):
    """Formats help: each option with its value once, paragraphs wrapped, lists kept as they are."""

    def __init__(self, prog: str) -> None:
        """
        Args:
            prog: the command.
        """
        width = min(shutil.get_terminal_size().columns, MAX_WIDTH) - 2
        super().__init__(prog, max_help_position=26, width=width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "\n".join(f"{indent}{line}" for line in text.splitlines())
        return super()._fill_text(text, width, indent)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """`-n, --n-timesteps N` instead of `-n N, --n-timesteps N`."""
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = ", ".join(_shown(action.option_strings))
        if action.nargs == 0:
            return names
        return f"{names} {self._format_args(action, action.dest.upper())}"


def _shown(option_strings: Iterable[str]) -> Iterable[str]:
    """Option strings without those that differ from another only in - and _."""
    by_spelling: dict[str, str] = {}
    for name in option_strings:
        by_spelling.setdefault(name.replace("_", "-"), name)
    return by_spelling.values()


class Parser(argparse.ArgumentParser):
    """An argparse parser with short usage, one-line errors and exit code 2."""

    def __init__(self, **arguments: Any) -> None:
        """
        Args:
            arguments: as argparse takes them.
        """
        super().__init__(
            **{"formatter_class": Formatter, **arguments}, add_help=False, allow_abbrev=False
        )
        self.rare: set[argparse.Action] = set()
        """Actions that are left out of `--help`."""
        self._positionals.title = "arguments"
        self.add_argument("-h", "--help", action="help", help="Show this help")

    def error(self, message: str) -> NoReturn:
        """Raise the error, for `main` to print."""
        raise ExperimentError(re.sub(r"^argument ([^/:\s]+)\S*:", r"\1:", message))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            hint = nearest(str(value), list(map(str, action.choices)))
            name = action.metavar or action.dest
            raise ExperimentError(f"{value!r}: unknown {str(name).lower()}; {hint}")

    def format_usage(self) -> str:
        """One line: the command, its positional arguments, [options]."""
        return f"usage: {self._usage()}\n"

    def format_help(self) -> str:
        """The help that `--help` prints."""
        return self.help_with(lambda action: None if action in self.rare else action)

    def help_with(
        self, choose: Callable[[argparse.Action], argparse.Action | None] = lambda action: action
    ) -> str:
        """Help, its groups in the order in which they were added and the general options last.

        Args:
            choose: the action to show for each action; None leaves it out.
        """
        formatter = self._get_formatter()
        formatter.add_usage(self._usage(), [], [])
        formatter.add_text(self.description)
        others = [group for group in self._action_groups if group is not self._optionals]
        for group in (*others, self._optionals):
            actions = [chosen for a in group._group_actions if (chosen := choose(a)) is not None]
            if actions:
                formatter.start_section(group.title)
                formatter.add_text(group.description)
                for action in actions:
                    # A list of commands is shown without the line COMMAND above it.
                    shown = getattr(action, "_get_subactions", lambda action=action: [action])
                    formatter.add_arguments(shown())
                formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def _usage(self) -> str:
        shapes = {"?": "[{0}]", "*": "[{0} ...]", "+": "{0} [{0} ...]"}
        positionals = [
            shapes.get(str(action.nargs), "{0}").format(action.metavar or action.dest)
            for action in self._get_positional_actions()
        ]
        return " ".join([self.prog, *positionals, "[options]"])


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
Call: TypeAlias = Callable[[argparse.Namespace], int]
"""Runs a command with its parsed options and returns the exit code."""


def add_command(
    commands: Commands, name: str, what: str, description: str, call: Call, epilog: str = ""
) -> Parser:
    """Add a command without options.

    Args:
        commands: the commands of `gallop`.
        name: of the command.
        what: its line in `gallop --help`.
        description: printed above the options in its own help.
        call: runs the command.
        epilog: printed below the options, such as examples.

    Returns:
        The parser of the command, to which the caller adds options.
    """
    parser = commands.add_parser(name, help=what, description=description, epilog=epilog or None)
    parser.set_defaults(call=call, parser=parser)
    return parser


def whole_number(text: str, flag: str, least: int = 1) -> int:
    """The value of a flag that takes a whole number.

    >>> whole_number("50k", "--episodes")
    50000

    Args:
        text: the value as it was given.
        flag: its name, for the message.
        least: the smallest allowed value.

    Raises:
        ExperimentError: if the value is not a whole number, or too small.
    """
    with contextlib.suppress(ValueError):
        value = fields.whole_number(text)
        if value >= least:
            return value
    raise ExperimentError(f"{flag} {text}: must be a whole number of at least {least}")


def check_output(path: Path, *endings: str) -> None:
    """Refuse a file that cannot be written, before the work that would be lost.

    Args:
        path: the file.
        endings: those that its name may have.

    Raises:
        ExperimentError: if it has another ending or is a folder, or if its folder does not exist
            or cannot be written.
    """
    if path.suffix not in endings:
        raise ExperimentError(f"{path}: must end in {endings[0]}")
    if path.is_dir():
        raise ExperimentError(f"{path}: is a folder; name a file, such as {path / path.name}")
    if not path.parent.is_dir():
        raise ExperimentError(f"{path}: there is no folder {path.parent}; make it first")
    try:
        # Tried, because permissions do not tell of a file system that is read-only.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ExperimentError(f"{path}: cannot be written: {error.strerror}") from None


def n_workers(options: argparse.Namespace) -> int | None:
    """The value of --workers; None if it was not given."""
    return None if options.workers is None else whole_number(options.workers, "--workers")


def add_engine(parser: argparse._ActionsContainer) -> None:
    """Add --workers, --engine and --address."""
    parser.add_argument(
        "--workers", metavar="N",
        help="Runs in parallel (default: one per core, which is also the most on one machine; on "
        "Ray, the cluster's CPUs divided by n_threads)",
    )  # fmt: skip
    parser.add_argument(
        "--engine", metavar=f"{{{','.join(ENGINES)}}}",
        help="Where runs train: in processes on this machine, or on a Ray cluster whose nodes "
        "share this folder (default: processes)",
    )  # fmt: skip
    parser.add_argument(
        "--address", metavar="HOST:PORT",
        help="With --engine ray: the cluster's head (default: the cluster of this machine)",
    )  # fmt: skip


def place(options: argparse.Namespace) -> Place:
    """The place that --engine and --address name; it is used, and checked, later."""
    if options.engine in (None, "processes"):
        if options.address is not None:
            raise ExperimentError("--address requires --engine ray")
        from gallop.execution.processes import OneMachine

        return OneMachine()
    if options.engine != "ray":
        raise ExperimentError(
            f"--engine {options.engine}: {nearest(options.engine, list(ENGINES))}"
        )
    from gallop.execution.ray_cluster import RayCluster

    return RayCluster(options.address or "auto")


# --- runs ----------------------------------------------------------------------------------------


def add_log_folder(parser: argparse._ActionsContainer) -> None:
    """Add --log-folder, as `options.results`."""
    parser.add_argument(
        "-f", "--log-folder", dest="results", type=Path, default=Path("results"), metavar="DIR",
        help="Folder of all runs (default: results)",
    )  # fmt: skip


def add_trust(parser: argparse._ActionsContainer, more: str = "") -> None:
    """Add --trust: consent to run the code that an untrusted folder names.

    Args:
        parser: of the command.
        more: what else the flag allows.
    """
    parser.add_argument(
        "--trust", action="store_true",
        help="Run the custom task and wrappers that a folder names, even if you did not create "
        f"the folder{more}; prints what it runs",
    )  # fmt: skip


def run_or_newest(options: argparse.Namespace) -> RunDirectory:
    """The run named by RUN, or the newest one if RUN was not given."""
    from gallop.run_folder import lookup
    from gallop.run_folder.directory import RunDirectory

    if options.run is None:
        return lookup.newest_run(options.results, unfinished=False)
    return RunDirectory(options.run)


# --- policies and their episodes -----------------------------------------------------------------


def add_policy_flags(parser: argparse._ActionsContainer) -> None:
    """Add the flags that say how to read a policy file."""
    parser.add_argument("--env", metavar="ID", help="Task of a zip that is not in a run folder")
    parser.add_argument(
        "--normalizer", metavar="FILE",
        help=".normalizer.npz or vecnormalize.pkl, or none (default: the one next to the zip)",
    )  # fmt: skip
    parser.add_argument(
        "--activation", metavar="NAME",
        help="Activation function of a checkpoint of rsl_rl, rl_games or skrl, which do not store "
        "it: elu, relu, tanh, …",
    )  # fmt: skip
    add_trust(
        parser, ". With a single zip outside a run folder: run the code in it if it cannot be read "
        "safely (never remembered)"
    )  # fmt: skip
    add_log_folder(parser)


def add_task_flags(parser: argparse._ActionsContainer) -> None:
    """Add --env-kwargs and --wrappers, with the same values as in `gallop run`."""
    parser.add_argument(
        "--env-kwargs", "--env_kwargs", dest="env_kwargs", metavar="{KEY: VALUE}",
        help="Keyword arguments of the task, as in YAML, in addition to those of the run",
    )  # fmt: skip
    parser.add_argument(
        "--wrappers", metavar="[PATH,...]",
        help="Gymnasium wrappers by import path, as in YAML, instead of those of the run",
    )  # fmt: skip


def given_arguments(options: argparse.Namespace) -> TaskArguments:
    """The values of --env-kwargs, --wrappers and --physics.

    Raises:
        ExperimentError: if one of them is not valid.
    """
    names = ("env_kwargs", "wrappers", "physics")
    texts = {name: getattr(options, name, None) for name in names}
    return task_arguments({k: parse_setting(k, v) for k, v in texts.items() if v is not None})


def add_episode_flags(parser: argparse._ActionsContainer) -> None:
    """Add the flags that choose the episodes and the file for their returns."""
    parser.add_argument(
        "--episodes", metavar="N",
        help="Use the first N evaluation seeds, which are the same for every policy (default: 10)",
    )  # fmt: skip
    parser.add_argument("--seeds", metavar="SEEDS", help="Other seeds, such as 0..9 or 3,7,11")
    parser.add_argument(
        "--reset-noise-scale", type=float, metavar="X",
        help="Noise of initial states (default: that of the run or the task)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.npz",
        help="Write returns, seeds and episode lengths to this file",
    )  # fmt: skip


def episode_seeds(options: argparse.Namespace) -> list[int]:
    """The seeds that --episodes or --seeds select.

    Raises:
        ExperimentError: if the selection is not valid, or --output is not an .npz file.
    """
    from gallop.commands.scoring import chosen_seeds
    from gallop.experiments.seeding import seeds_from

    if options.output is not None and options.output.suffix != ".npz":
        raise ExperimentError(f"{options.output}: must end in .npz")
    n = None if options.episodes is None else whole_number(options.episodes, "--episodes")
    given = None if options.seeds is None else seeds_from(options.seeds)
    return chosen_seeds(n, given)

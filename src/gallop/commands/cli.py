"""The command line: parse, run one command, turn an error into one line and an exit code.

Each command has a file with its flags and its code. Heavy imports happen only when a command runs,
so that `gallop --help` answers at once.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from gallop import __version__
from gallop.answers import say_why
from gallop.commands import (
    audit,
    baseline,
    clean,
    compare,
    completion,
    doctor,
    evaluate,
    experiment,
    export,
    figures,
    import_zoo,
    list_runs,
    presets,
    report,
    run,
    tune,
    verify,
    watch,
)
from gallop.commands.arguments import Parser
from gallop.commands.consent import consenting
from gallop.errors import (
    DivergedError,
    ExperimentError,
    FrozenError,
    HeldError,
    TaskError,
    WorkerError,
    interrupted,
    nearest,
)
from gallop.execution.work import HELD
from gallop.plain_output import keep_printable
from gallop.run_folder.full_disk import DiskFullError, file_of, is_full
from gallop.runs.stopping import Stopped, answering_signals

SIGNALLED = 128  # exit codes of signals: 130 for SIGINT, 143 for SIGTERM


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: those of the command line; default: `sys.argv[1:]`.

    Returns:
        The exit code: 0; 1 for a failure; 2 for bad input; 75 for a folder that another process
        holds; 128 + signal number.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    keep_printable()
    logging.captureWarnings(True)  # dependencies' warnings go to run.log, not to the screen
    try:
        options, unknown = make_parser().parse_known_args(arguments)
        if unknown:
            _refuse(unknown[0], options)
        with answering_signals():
            return consenting(options)
    except Stopped as stopped:
        return SIGNALLED + stopped.signal_number
    except KeyboardInterrupt:
        return SIGNALLED + 2
    except BrokenPipeError:  # `gallop … | head`
        sys.stderr.close()
        return 1
    except FrozenError as error:
        say_why(error)
        return 1
    except Exception as error:
        return SIGNALLED + 2 if interrupted(error) else _failed(error)


def _failed(error: Exception) -> int:
    """Say in one line why a command failed, and return its exit code.

    Raises:
        Exception: the error itself, with its traceback, if it is neither ours nor an `OSError`.
    """
    if isinstance(error, ExperimentError):
        say_why(error)
        return HELD if isinstance(error, HeldError) else 2
    if not isinstance(error, DivergedError | TaskError | WorkerError):
        if is_full(error):  # whichever exception a library raises for it
            known = isinstance(error, DiskFullError)
            error = error if known else DiskFullError(file_of(error, Path.cwd()), cause=error)
        elif not isinstance(error, OSError):  # an OSError may be a folder that has disappeared
            raise error
    say_why(error)
    return 1


def make_parser() -> Parser:
    """The parser of the whole command line, its commands in the order of `gallop --help`."""
    parser = Parser(
        prog="gallop",
        description="Train, evaluate, film, watch and share locomotion policies.",
        epilog="gallop COMMAND --help shows the options of a command.\n"
        "To begin: gallop doctor, then gallop run quickstart",
    )
    parser.add_argument(
        "--version", action="version", version=f"gallop {__version__}", help="Show the version"
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands"
    )
    for add in (
        *(
            run.add,
            tune.add,
            experiment.add,
            watch.add,
            evaluate.add,
            audit.add,
            baseline.add,
            compare.add,
            figures.add,
            report.add,
            list_runs.add,
        ),
        *(presets.add, import_zoo.add, export.add, verify.add, clean.add, doctor.add),
        partial(completion.add, parser),
    ):
        add(commands)
    return parser


def _refuse(argument: str, options: argparse.Namespace) -> NoReturn:
    """Refuse an unknown argument, with the nearest flag that the command has."""
    parser: Parser = options.parser
    if not argument.startswith("-"):
        raise ExperimentError(f"{argument!r}: unexpected argument of {parser.prog}")
    name = argument.split("=")[0]
    known = [flag for flag in parser._option_string_actions if flag != "-h"]
    if options.command == "run":  # not the settings of other algorithms
        able = set(run.chosen_algorithms(options.settings, options.config))
        actions = parser._option_string_actions
        known = [
            flag
            for flag in known
            if not isinstance(setting := actions[flag], run.Setting)
            or able.intersection(setting.flag.algorithms)
        ]
    raise ExperimentError(f"{name}: unknown flag of {parser.prog}; {nearest(name, known)}")


if __name__ == "__main__":
    sys.exit(main())

"""The command line: parse, call one command, turn what went wrong into one line and an exit code.

Each command is a file: its flags, and what it does with them. Heavy imports happen when it is
called, so that `gallop --help` answers at once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from gallop import __version__
from gallop.answers import say_why
from gallop.commands import (
    baseline,
    clean,
    completion,
    doctor,
    evaluate,
    export,
    figures,
    import_zoo,
    list_runs,
    presets,
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
    TaskError,
    WorkerError,
    nearest,
)
from gallop.plain_output import keep_printable
from gallop.run_folder.full_disk import DiskFullError, file_of, is_full
from gallop.runs.stopping import Stopped, answering_signals

SIGNALLED = 128  # exit codes of signals: 130 for SIGINT, 143 for SIGTERM


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 1 for a failure, 2 for bad input, 128 + signal."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    keep_printable()
    logging.captureWarnings(True)  # those of dependencies go to run.log, never to the screen
    try:
        options, unknown = make_parser().parse_known_args(arguments)
        if unknown:
            _refuse(unknown[0], options.parser)
        with answering_signals():
            return consenting(options)
    except ExperimentError as error:
        say_why(error)
        return 2
    except (DivergedError, TaskError, WorkerError, FrozenError) as error:
        say_why(error)
        return 1
    except Stopped as stopped:
        return SIGNALLED + stopped.signal_number
    except KeyboardInterrupt:
        return SIGNALLED + 2
    except BrokenPipeError:  # `gallop … | head`
        sys.stderr.close()
        return 1
    except Exception as error:
        if is_full(error):  # in whatever form a library gave it
            known = isinstance(error, DiskFullError)
            error = error if known else DiskFullError(file_of(error, Path.cwd()), cause=error)
        elif not isinstance(error, OSError):  # that may be a folder that went away
            raise
        say_why(error)
        return 1


def make_parser() -> Parser:
    """Every command with its flags, in the order of `gallop --help`."""
    parser = Parser(
        prog="gallop", description="Train, evaluate, film, watch and share locomotion policies."
    )
    parser.add_argument("--version", action="version", version=f"gallop {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        *(run.add, watch.add, evaluate.add, baseline.add, figures.add, list_runs.add),
        *(presets.add, import_zoo.add, export.add, verify.add, clean.add, doctor.add),
        *(partial(completion.add, parser), tune.add),
    ):
        add(commands)
    return parser


def _refuse(argument: str, parser: Parser) -> NoReturn:
    """Refuse an argument that a command does not know, with the nearest that it does."""
    if not argument.startswith("-"):
        raise ExperimentError(f"{argument!r} is one argument too many for {parser.prog}")
    name = argument.split("=")[0]
    known = [flag for flag in parser._option_string_actions if flag != "-h"]
    # A mistyped last part is nearest to the dotted names with the same beginning.
    raise ExperimentError(f"{name} is no flag of {parser.prog}; {nearest(name, known)}")


if __name__ == "__main__":
    sys.exit(main())

"""The command line: parse, then one call each. Heavy imports happen inside the commands."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from gallop import __version__
from gallop.experiment_file import flags, load
from gallop.settings import DivergedError, ExperimentError, nearest

# The Zoo's names for the common settings.
ALIASES = {
    "-n": "total_timesteps",
    "--n-timesteps": "total_timesteps",
    "--seed": "training_seed",
    "--n-envs": "n_envs",
    "--vec-env": "vec_env",
    "--eval-freq": "evaluation.interval",
    "--eval-episodes": "evaluation.n_episodes",
    "--env-kwargs": "env_kwargs",
    "--eval-env-kwargs": "eval_env_kwargs",
    "--num-threads": "n_threads",
}
INTERRUPTED = 128  # exit codes of signals: 130 for SIGINT, 143 for SIGTERM
EPILOG = """\
examples:
  gallop run configs/quickstart.yaml
  gallop run configs/halfcheetah_sac.yaml --seed 1 --name second
  gallop run --algo ppo --env CartPole-v1 -n 100_000 --n-envs 4
  gallop run configs/halfcheetah_sac.yaml --hyperparameters.batch_size 256 --dry-run
  gallop run --resume
"""


class _Parser(argparse.ArgumentParser):
    """argparse with one line for each mistake, and the nearest right name."""

    def error(self, message: str) -> NoReturn:
        raise ExperimentError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 1 for a failure, 2 for bad input, 128 + signal."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.captureWarnings(True)  # those of dependencies go to run.log, never to the screen
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # tasks and wrappers of one's own are named by import path
    try:
        parser = _parser()
        options, unknown = parser.parse_known_args(arguments)
        if unknown:
            _refuse(unknown[0], options.command)
        return int(options.call(options))
    except ExperimentError as error:
        print(f"gallop: {error}", file=sys.stderr)
        return 2
    except DivergedError as error:
        print(f"gallop: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED + 2
    except BrokenPipeError:  # `gallop … | head`
        sys.stderr.close()
        return 1
    except OSError as error:  # a full disk, a folder that went away
        print(f"gallop: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="gallop", description="Train, evaluate, film and watch.")
    parser.add_argument("--version", action="version", version=f"gallop {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_watch(commands)
    _add_tune(commands)
    return parser


def _refuse(argument: str, command: str) -> NoReturn:
    if not argument.startswith("-"):
        raise ExperimentError(f"{argument!r} is one argument too many for gallop {command}")
    name = argument.split("=")[0]
    known = {
        "run": _run_flags(),
        "watch": ["--env", "--episodes", "--seed", "--output", "--log-folder"],
        "tune": ["--help"],
    }[command]
    # A mistyped last part is nearest to the dotted names with the same beginning.
    raise ExperimentError(f"{name} is no flag of gallop {command}; {nearest(name, known)}")


def _run_flags() -> list[str]:
    return ["--resume", "--name", "--dry-run", *ALIASES, *(f"--{flag.name}" for flag in flags())]


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--log-folder", dest="results", type=Path, default=Path("results"), metavar="DIR",
        help="folder of all runs (default: results)",
    )  # fmt: skip


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "run",
        help="train, evaluate and film an experiment",
        description="Train, evaluate and film one experiment, in a new folder below results/.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(call=_run)
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="a YAML file")
    parser.add_argument("--name", help="name of the run's folder (default: date and time)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument(
        "--resume", nargs="?", type=Path, const=Path(), metavar="RUN",
        help="go on with a run (default: the newest unfinished one)",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument("--verbose", action="store_true", help="print the log as well")
    _add_common(parser)
    short: dict[str, list[str]] = {}
    for alias, name in ALIASES.items():
        short.setdefault(name, []).append(alias)
    settings = parser.add_argument_group("settings (each overrides the file's; values as in YAML)")
    for flag in flags():
        default = f" (default: {flag.default})" if flag.default not in ("", "null") else ""
        settings.add_argument(
            *short.get(flag.name, []), f"--{flag.name}", dest=f"set {flag.name}",
            metavar="VALUE", help=f"{flag.doc}{default}".replace("%", "%%"),
        )  # fmt: skip


def _run(options: argparse.Namespace) -> int:
    overrides = {
        name.removeprefix("set "): value
        for name, value in vars(options).items()
        if name.startswith("set ") and value is not None
    }
    if options.resume is not None:
        for given, what in ((options.config, "CONFIG"), (options.name, "--name")):
            if given is not None:
                raise ExperimentError(f"--resume goes on with a run as it is: leave out {what}")
        if overrides:
            raise ExperimentError(
                f"--resume goes on with a run as it is: leave out --{next(iter(overrides))}"
            )
        return _resume(options)
    if options.config is None and not overrides:
        raise ExperimentError(
            "a CONFIG is needed, such as configs/quickstart.yaml, or --algo and --env"
        )
    experiment = load(options.config, overrides)
    from gallop import workflow
    from gallop.display import Display

    display = Display(options.quiet, options.verbose)
    if options.dry_run:
        plan, choice = workflow.plan_run(experiment)
        display.plan(experiment, plan, choice, None)
        return 0
    try:
        workflow.run(experiment, options.results, options.name, display)
    except workflow.Stopped as stopped:
        return INTERRUPTED + stopped.signal_number
    return 0


def _resume(options: argparse.Namespace) -> int:
    from gallop import workflow
    from gallop.display import Display
    from gallop.run_directory import RunDirectory

    if options.resume == Path():
        folder = workflow.newest_run(options.results, unfinished=True)
    else:
        folder = RunDirectory(options.resume)
    try:
        workflow.resume(folder, Display(options.quiet, options.verbose))
    except workflow.Stopped as stopped:
        return INTERRUPTED + stopped.signal_number
    return 0


def _add_watch(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "watch",
        help="see a policy move",
        description="Play a policy in a window, or into a film where there is no display.",
        allow_abbrev=False,
    )
    parser.set_defaults(call=_watch)
    parser.add_argument(
        "what", nargs="?", type=Path, metavar="RUN|MILESTONE|ZIP",
        help="a run's or milestone's folder, or an SB3 zip (default: the newest run's best policy)",
    )  # fmt: skip
    parser.add_argument("--env", help="the task, for a zip that lies in no run's folder")
    parser.add_argument("--episodes", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode (default: 0)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.mp4", help="film instead of opening a window"
    )
    _add_common(parser)


def _watch(options: argparse.Namespace) -> int:
    from gallop import player

    return player.watch(
        options.what,
        env=options.env,
        n_episodes=options.episodes,
        seed=options.seed,
        output=options.output,
        results=options.results,
    )


def _add_tune(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser("tune", help="search hyper-parameters (not there yet)")
    parser.set_defaults(call=_tune)
    parser.add_argument("config", nargs="?", help="ignored so far")


def _tune(options: argparse.Namespace) -> int:
    raise ExperimentError(
        "the search is not there yet; gallop run configs/halfcheetah_sac.yaml trains with the "
        "hyper-parameters that the original's search found"
    )


if __name__ == "__main__":
    sys.exit(main())

"""`gallop tune`: a new search, or one resumed."""

from __future__ import annotations

import argparse
from pathlib import Path

from gallop.algorithms.table import ALGORITHMS
from gallop.commands.arguments import (
    Commands,
    add_command,
    add_trust,
    n_workers,
    whole_number,
)
from gallop.commands.modes import Mode, choose_mode
from gallop.errors import ExperimentError, alternatives
from gallop.experiments.presets import config_file
from gallop.experiments.yaml_file import parse

EXAMPLES = """\
examples:
  gallop tune halfcheetah_sac_search_robust --dry-run
  gallop tune halfcheetah_sac_search --workers 2
  gallop tune --algo td3 --env Hopper-v5 -n 50_000 --n-trials 40
  gallop tune --resume
  gallop run halfcheetah_sac --best_params best
"""


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "tune",
        "search hyper-parameters",
        "Search hyper-parameters with Optuna, in rounds, and train the best ones again.",
        _tune,
        EXAMPLES,
    )
    parser.add_argument(
        "config", nargs="?", type=Path, metavar="CONFIG",
        help="a search's YAML file, or an example's name (default: the space of --algo)",
    )  # fmt: skip
    parser.add_argument(
        "--algo", help=f"{alternatives(ALGORITHMS)}: its own search space, without CONFIG"
    )
    parser.add_argument("--env", help="the task, instead of the file's")
    parser.add_argument(
        "-n", "--n-timesteps", metavar="N", help="timesteps of each seed of a trial"
    )
    parser.add_argument(
        "--n-trials", metavar="N[,N…]", default="",
        help="trials of each round (one number: of the first), in total over all calls",
    )  # fmt: skip
    parser.add_argument("--n-seeds", metavar="N", help="training seeds of each trial")
    parser.add_argument("--seed", metavar="N", help="search seed: of the sampler and all trials")
    parser.add_argument(
        "--workers", metavar="N", help="trainings side by side (default: one for each core)"
    )
    parser.add_argument(
        "--reproducible", action="store_true",
        help="the same trials whatever the number of workers and their timing",
    )  # fmt: skip
    parser.add_argument(
        "--storage", default="", metavar="URL",
        help="Optuna's database, such as postgresql+psycopg://… (default: an SQLite file)",
    )  # fmt: skip
    parser.add_argument("--study-name", metavar="NAME", help="in that database")
    parser.add_argument("--name", help="name of the search's folder (default: date and time)")
    parser.add_argument("--dry-run", action="store_true", help="print the cost and stop")
    parser.add_argument(
        "--resume", nargs="?", type=Path, const=Path(), metavar="SEARCH",
        help="go on with a search (default: the newest unfinished one)",
    )  # fmt: skip
    parser.add_argument(
        "--retry-failed", action="store_true",
        help="with --resume: try failed trials again, as new ones with the same values",
    )  # fmt: skip
    add_trust(parser)
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument(
        "-f", "--folder", type=Path, default=Path("optuna_results"), metavar="DIR",
        help="folder of all searches (default: optuna_results)",
    )  # fmt: skip


def search_new(options: argparse.Namespace) -> int:
    """Search in a new folder."""
    workers, totals = n_workers(options), _n_trials(options)
    path = config_file(options.config) if options.config else _search_space(options)
    given = {
        "experiment.env": options.env,
        "experiment.total_timesteps": _parsed(options.n_timesteps),
        "n_seeds": _parsed(options.n_seeds),
        "search_seed": _parsed(options.seed),
        "experiment.algo": options.algo if options.config else None,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    from gallop.report.display import Display
    from gallop.tuning import rounds, search

    found = search.load(path, settings)
    if totals:
        found = rounds.with_n_trials(found, totals)
    display = Display(options.quiet)
    if options.dry_run:
        rounds.dry_run(found, display, workers)
        return 0
    rounds.tune(
        found,
        root=options.folder,
        name=options.name,
        workers=workers,
        reproducible=options.reproducible,
        storage=options.storage,
        study_name=options.study_name or "",
        display=display,
    )
    return 0


def _search_space(options: argparse.Namespace) -> Path:
    """The search of an algorithm, for whatever task."""
    if options.algo is None or options.env is None:
        raise ExperimentError(
            "a CONFIG is needed, such as halfcheetah_sac_search.yaml, or --algo and --env"
        )
    from gallop.experiments.presets import search_space

    return search_space(options.algo)


def resume(options: argparse.Namespace) -> int:
    """Go on with a search."""
    workers, totals = n_workers(options), _n_trials(options)
    from gallop.report.display import Display
    from gallop.tuning import rounds
    from gallop.tuning.search_directory import RoundDirectory, newest_search

    if options.resume == Path():
        first = newest_search(options.folder)
    else:
        first = RoundDirectory(options.resume)
    display = Display(options.quiet)
    if options.dry_run:
        search = first.first_round().read_search()
        rounds.dry_run(rounds.with_n_trials(search, totals) if totals else search, display, workers)
        return 0
    rounds.go_on(
        first,
        n_trials=totals,
        workers=workers,
        storage=options.storage,
        retry_failed=options.retry_failed,
        display=display,
    )
    return 0


def _parsed(text: str | None) -> object:
    return None if text is None else parse(text)


def _n_trials(options: argparse.Namespace) -> list[int]:
    """Trials of each round, as far as they are given."""
    return [whole_number(part, "--n-trials") for part in options.n_trials.split(",") if part]


# --- which flags each of them takes --------------------------------------------------------------

_BOTH = ("n_trials", "workers", "storage", "dry_run")
_NEW = (
    *("config", "algo", "env", "n_timesteps", "n_seeds", "seed", "name"),
    *("reproducible", "study_name"),
)
MODES = (
    Mode("resume", resume, (*_BOTH, "retry_failed"), "--resume goes on with a search as it is"),
    Mode(None, search_new, (*_BOTH, *_NEW)),
)
"""The first whose flag is given. --quiet and --folder go with both."""


def _tune(options: argparse.Namespace) -> int:
    return choose_mode(MODES, options).call(options)

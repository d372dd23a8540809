"""`gallop tune`: a new search, or one resumed."""

from __future__ import annotations

import argparse
from pathlib import Path

from gallop.algorithms.table import ALGORITHMS
from gallop.commands.arguments import (
    NUMBERS,
    Commands,
    add_command,
    add_engine,
    add_trust,
    n_workers,
    place,
    whole_number,
)
from gallop.commands.modes import Mode, choose_mode
from gallop.errors import ExperimentError
from gallop.experiments.presets import config_file
from gallop.experiments.yaml_file import parse

EXAMPLES = """\
examples:
  gallop tune halfcheetah_sac_search_robust --dry-run
  gallop tune halfcheetah_sac_search --workers 2
  gallop tune --algo td3 --env Hopper-v5 -n 50k --n-trials 40
  gallop tune --resume
  gallop run halfcheetah_sac --best-params best
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "tune",
        "Search hyper-parameters with Optuna",
        "Search hyper-parameters with Optuna, in one or more rounds, and retrain the best ones on "
        f"fresh seeds. {NUMBERS}",
        _tune,
        EXAMPLES,
    )
    parser.add_argument(
        "config", nargs="?", type=Path, metavar="CONFIG",
        help="YAML file of a search, or name of an example (default: the search space of --algo)",
    )  # fmt: skip
    search = parser.add_argument_group("search")
    search.add_argument(
        "--algo", metavar=f"{{{','.join(ALGORITHMS)}}}",
        help="Algorithm; without CONFIG, its own search space",
    )  # fmt: skip
    search.add_argument("--env", metavar="ID", help="Task, instead of the one in CONFIG")
    search.add_argument(
        "-n", "--n-timesteps", metavar="N", help="Timesteps per trial and training seed"
    )
    search.add_argument(
        "--n-trials", metavar="N[,N...]", default="",
        help="Trials of each round, including those of a resumed search; one number sets the first "
        "round",
    )  # fmt: skip
    search.add_argument("--n-seeds", metavar="N", help="Training seeds per trial")
    search.add_argument("--seed", metavar="N", help="Search seed, for the sampler and all trials")
    control = parser.add_argument_group("search control")
    add_engine(control)
    control.add_argument(
        "--reproducible", action="store_true",
        help="Draw the same trials regardless of the number of workers and their timing",
    )  # fmt: skip
    control.add_argument(
        "--name", metavar="NAME", help="Name of the search's folder (default: date and time)"
    )
    control.add_argument("--dry-run", action="store_true", help="Print the cost and stop")
    add_trust(control)
    control.add_argument(
        "-f", "--folder", type=Path, default=Path("optuna_results"), metavar="DIR",
        help="Folder of all searches (default: optuna_results)",
    )  # fmt: skip
    resuming = parser.add_argument_group("resuming")
    resuming.add_argument(
        "--resume", nargs="?", type=Path, const=Path(), metavar="SEARCH",
        help="Resume a search (default: the newest unfinished one)",
    )  # fmt: skip
    resuming.add_argument(
        "--retry-failed", action="store_true",
        help="With --resume: repeat failed trials as new trials with the same values",
    )  # fmt: skip
    database = parser.add_argument_group("Optuna database")
    database.add_argument(
        "--storage", default="", metavar="URL",
        help="Such as postgresql+psycopg://... (default: an SQLite file in the search's folder)",
    )  # fmt: skip
    database.add_argument("--study-name", metavar="NAME", help="Name of the study in --storage")
    parser.add_argument("--quiet", action="store_true", help="Print errors only")


def search_new(options: argparse.Namespace) -> int:
    """Start a new search, in a new folder."""
    workers, totals, where = n_workers(options), _n_trials(options), place(options)
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
        rounds.dry_run(found, display, workers, where)
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
        place=where,
    )
    return 0


def _search_space(options: argparse.Namespace) -> Path:
    """The search space of an algorithm, which is the same for all tasks."""
    if options.algo is None or options.env is None:
        raise ExperimentError(
            "a CONFIG is required, such as halfcheetah_sac_search.yaml, or --algo and --env"
        )
    from gallop.experiments.presets import search_space

    return search_space(options.algo)


def resume(options: argparse.Namespace) -> int:
    """Resume a search."""
    workers, totals, where = n_workers(options), _n_trials(options), place(options)
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
        search = rounds.with_n_trials(search, totals) if totals else search
        rounds.dry_run(search, display, workers, where)
        return 0
    rounds.go_on(
        first,
        n_trials=totals,
        workers=workers,
        storage=options.storage,
        retry_failed=options.retry_failed,
        display=display,
        place=where,
    )
    return 0


def _parsed(text: str | None) -> object:
    return None if text is None else parse(text)


def _n_trials(options: argparse.Namespace) -> list[int]:
    """The numbers of trials that --n-trials gives, by round."""
    return [whole_number(part, "--n-trials") for part in options.n_trials.split(",") if part]


# --- which flags each mode takes --------------------------------------------------------------

_BOTH = ("n_trials", "workers", "engine", "address", "storage", "dry_run")
_NEW = (
    *("config", "algo", "env", "n_timesteps", "n_seeds", "seed", "name"),
    *("reproducible", "study_name"),
)
MODES = (
    Mode("resume", resume, (*_BOTH, "retry_failed"), "--resume continues a search as it is"),
    Mode(None, search_new, (*_BOTH, *_NEW)),
)
"""The first mode whose flag is given is used. --quiet, --trust and --folder go with both."""


def _tune(options: argparse.Namespace) -> int:
    return choose_mode(MODES, options).call(options)

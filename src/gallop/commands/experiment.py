"""`gallop experiment`: a grid of algorithms, tasks, changes and training seeds."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from gallop.commands.arguments import (
    Commands,
    add_command,
    add_engine,
    add_trust,
    n_workers,
    place,
)
from gallop.commands.modes import Mode, choose_mode
from gallop.errors import ExperimentError

EXAMPLES = """\
examples:
  gallop experiment grid.yaml --dry-run
  gallop experiment grid.yaml --workers 2
  gallop experiment grid.yaml --engine ray --address 10.0.0.1:6379

grid.yaml:
  experiment: {total_timesteps: 100_000}
  algorithms: [sac, td3]
  tasks: [Hopper-v5, Walker2d-v5, HalfCheetah-v5]
  training_seeds: 0..4
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "experiment",
        "Train a grid: algorithms, tasks, changes and training seeds",
        "Train every combination of a grid, and report over training seeds and tasks. Started "
        "again, it trains what is missing.",
        _experiment,
        EXAMPLES,
    )
    parser.add_argument("grid", type=Path, metavar="FILE", help="YAML file of the grid")
    parser.add_argument(
        "--name", metavar="NAME", help="Name of the grid's folder (default: that of FILE)"
    )
    parser.add_argument("--dry-run", action="store_true", help="Print the plan and stop")
    parser.add_argument(
        "--prepare", action="store_true",
        help="Make the folders of all runs, list those left to train in runs.txt, and stop",
    )  # fmt: skip
    add_engine(parser)
    add_trust(parser)
    parser.add_argument(
        "-f", "--folder", type=Path, default=Path("experiments"), metavar="DIR",
        help="Folder of all grids (default: experiments)",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="Print errors only")


def _experiment(options: argparse.Namespace) -> int:
    mode = choose_mode(MODES, options)
    from gallop.run_folder.lookup import check_name
    from gallop.runs.grid import CombinationError

    options.name = options.grid.stem if options.name is None else options.name
    check_name(options.name)
    try:
        return mode.call(options)
    except CombinationError as error:
        raise ExperimentError(f"{options.grid}: {error.message}") from None


def _train(options: argparse.Namespace) -> int:
    from gallop.experiments.grid import load
    from gallop.report.display import Display
    from gallop.runs.grid import run_grid, show_plan

    act = show_plan if options.dry_run else partial(run_grid, only_prepare=options.prepare)
    act(
        load(options.grid),
        options.folder / options.name,
        workers=n_workers(options),
        display=Display(options.quiet),
        place=place(options),
    )
    return 0


_WHERE = ("workers", "engine", "address")
MODES = (
    Mode("dry_run", _train, _WHERE, "--dry-run prints the plan and stops"),
    Mode("prepare", _train, (), "--prepare trains nothing"),
    Mode(None, _train, _WHERE),
)

"""`gallop import-zoo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gallop.algorithms.table import ALGORITHMS
from gallop.commands.arguments import Commands, add_command
from gallop.errors import alternatives, printable


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "import-zoo",
        "turn a hyper-parameter file of rl-baselines3-zoo into experiments",
        "Write an experiment file for each task of a file of rl-baselines3-zoo; nothing in it is "
        "run.",
        _import_zoo,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="such as hyperparams/sac.yml")
    parser.add_argument(
        "--algo", help=f"{alternatives(ALGORITHMS)} (default: as the file's name says)"
    )
    parser.add_argument("--env", help="this task alone")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("configs/zoo"), metavar="DIR",
        help="folder to write to (default: configs/zoo)",
    )  # fmt: skip


def _import_zoo(options: argparse.Namespace) -> int:
    from gallop.sharing.zoo_import import import_zoo

    written = import_zoo(options.file, options.output, options.algo, options.env)
    for task in written:
        what = f"wrote {task.path}" if task.path else f"left out {task.env}"
        print(printable(what + (f": {task.reason}" if task.reason else "")))
    n_written = sum(task.path is not None for task in written)
    print(f"{n_written} of {len(written)} tasks; gallop run FILE trains one")
    return 0 if n_written else 1

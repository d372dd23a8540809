"""`gallop import-zoo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gallop.algorithms.table import ALGORITHMS
from gallop.commands.arguments import Commands, add_command
from gallop.errors import counted, printable


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "import-zoo",
        "Convert an rl-baselines3-zoo file into experiment files",
        "Write an experiment file for each task of an rl-baselines3-zoo hyper-parameter file. Code "
        "in the file is not run.",
        _import_zoo,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="Such as hyperparams/sac.yml")
    parser.add_argument(
        "--algo",
        metavar=f"{{{','.join(ALGORITHMS)}}}",
        help="Algorithm (default: from the file's name)",
    )
    parser.add_argument("--env", metavar="ID", help="Convert only this task")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("configs/zoo"), metavar="DIR",
        help="Folder to write to (default: configs/zoo)",
    )  # fmt: skip


def _import_zoo(options: argparse.Namespace) -> int:
    from gallop.sharing.zoo_import import import_zoo

    written = import_zoo(options.file, options.output, options.algo, options.env)
    for task in written:
        what = f"wrote {task.path}" if task.path else f"left out {task.env}"
        print(printable(what + (f": {task.reason}" if task.reason else "")))
    n_written = sum(task.path is not None for task in written)
    print(f"{n_written} of {counted(len(written), 'task')} written; gallop run FILE trains one")
    return 0 if n_written else 1

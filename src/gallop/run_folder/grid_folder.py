"""The folder of a grid: groups of training seeds, one for each combination.

experiments/<name>/
├── grid.yaml             the grid, as it was read
├── <ALGO>_<ENV_ID>/<change>/     a group of training seeds, accepted by any command
├── runs.txt              with --prepare: the folders of runs that are left to train
├── results.csv           a row per run: algorithm, task, change, seed, returns
├── summary.json          statistics over tasks and seeds
└── report.html           the page
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from gallop.errors import RunError
from gallop.experiments.grid import Cell, Grid, read, to_yaml
from gallop.run_folder.files import hold_folder, write_bytes
from gallop.run_folder.lookup import run_path
from gallop.run_folder.run_paths import GRID_FILE, REPORT
from gallop.run_folder.seed_group import LOCK, SeedGroup


class GridFolder:
    """Paths and formats of one grid. Creating the object does not touch the disk.

    It is path-like: functions that take the path of a grid also take this object.

    Attributes:
        path: the grid's folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"GridFolder({str(self.path)!r})"

    @property
    def grid_file(self) -> Path:
        """Path of grid.yaml."""
        return self.path / GRID_FILE

    @property
    def run_list(self) -> Path:
        """Path of runs.txt: the folders of runs that are left to train, one a line."""
        return self.path / "runs.txt"

    @property
    def results(self) -> Path:
        """Path of results.csv."""
        return self.path / "results.csv"

    @property
    def summary(self) -> Path:
        """Path of summary.json."""
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        """Path of report.html."""
        return self.path / REPORT

    def group(self, cell: Cell) -> SeedGroup:
        """Return the group of a combination, whether it exists or not."""
        return SeedGroup(run_path(self.path, cell.algo, cell.env, cell.change))

    def read(self) -> Grid:
        """Read the grid.

        Raises:
            RunError: if the folder is not that of a grid.
        """
        if not is_grid(self.path):
            raise RunError(f"{self.path}: not the folder of a grid (no {GRID_FILE})")
        return read(self.grid_file)

    def write(self, grid: Grid) -> None:
        """Write grid.yaml, which marks the folder as that of a grid."""
        write_bytes(self.grid_file, to_yaml(grid).encode())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the grid's lock within the block; its folder is made if needed.

        Raises:
            HeldError: if another process is running it.
            RunError: if the folder cannot be written.
        """
        with hold_folder(self.path, LOCK):
            yield


def is_grid(path: Path) -> bool:
    """Whether a folder is that of a grid."""
    return (path / GRID_FILE).is_file()

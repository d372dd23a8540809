"""The CSV of a benchmark. Runs are added and never replaced, even if one came out badly."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from gallop.machine import machine


class Measurements:
    """Writes this run's rows, each at once, with the number of the run and the machine."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path, self._columns = path, ["run", "cpu", "cores", *columns]
        before: list[dict[str, str]] = []
        if path.exists():
            with path.open(newline="") as file:
                before = list(csv.DictReader(file))
        self._run = 1 + max((int(row["run"]) for row in before), default=0)
        self._cpu, self._cores = machine()["cpu"], machine()["cores"]
        load = os.getloadavg()[0]
        print(f"run {self._run}: {self._cpu}, {self._cores} processors, load {load:.2f}")

    def add(self, *values: str | int | float) -> None:
        """Append a row; floats have four significant digits."""
        shown = [f"{value:.4g}" if isinstance(value, float) else value for value in values]
        is_new = not self._path.exists()
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if is_new:
                writer.writerow(self._columns)
            writer.writerow([self._run, self._cpu, self._cores, *shown])

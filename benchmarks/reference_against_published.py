"""Plot a run's evaluations with the published learning curve of plain SAC on HalfCheetah.

python benchmarks/reference_against_published.py RUN FIGURE.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from gallop.report import figures
from gallop.run_folder.directory import RunDirectory

# Plain SAC on HalfCheetah-v4 (same physics and reward as v5), mean return of 10 training seeds.
# The points at 1M, 2M and 3M have a standard deviation; the earlier ones are only means.
PUBLISHED = {
    100_000: 4_667, 200_000: 7_218, 300_000: 8_351, 500_000: 9_608, 1_000_000: 11_321,
    2_000_000: 13_521,
}  # fmt: skip


def main(run: Path, target: Path) -> None:
    evaluations = RunDirectory(run).numbers.read_evaluations()
    if evaluations is None:
        raise SystemExit(f"{run}: no evaluations")
    figure = figures.learning_curve("SAC on HalfCheetah-v5 and the published curve", evaluations)
    axes = figure.axes[0]
    last = int(evaluations.timesteps[-1])
    points = {t: value for t, value in PUBLISHED.items() if t <= last}
    axes.plot(
        list(points), list(points.values()), "D", color=figures.BASELINE, markersize=9,
        label="published plain SAC, mean of 10 training seeds",
    )  # fmt: skip
    axes.legend(loc="lower right", frameon=False)
    figures.save(figure, target)
    means = evaluations.results.mean(axis=1)
    for timestep, value in points.items():
        here = means[list(evaluations.timesteps).index(timestep)]
        print(f"{timestep:>9,}  here {here:8,.0f}  published {value:6,}  ratio {here / value:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

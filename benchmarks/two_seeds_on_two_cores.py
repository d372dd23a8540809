"""Compare two training seeds in parallel, one thread each, with one after the other, two threads.

    python benchmarks/two_seeds_on_two_cores.py [--rounds 4] [--timesteps 10000] [--output FILE.csv]

Runs the reference experiment (SAC on HalfCheetah-v5, no films) as `gallop run --seeds 0,1` does,
with batches of 128 and of 256, taking turns (A B A B). SPS: timesteps of both runs per second of
wall-clock time, including the start of processes, evaluations and figures. Every measurement is
added to the CSV; runs are added and never replaced. Measure on an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measurements import Measurements

REFERENCE = Path(__file__).parents[1] / "configs" / "halfcheetah_sac.yaml"
COLUMNS = ["batch_size", "round", "side_by_side_sps", "one_after_the_other_sps", "ratio"]


def seconds(workers: int, batch_size: int, timesteps: int) -> float:
    """Wall-clock seconds for both seeds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "gallop", "run", str(REFERENCE), "-n", str(timesteps)),
            *("--segment", "5000", "--evaluation.interval", "5000", "--milestones", "[100]"),
            *("--films", "false", "--hyperparameters.batch_size", str(batch_size)),
            *("--seeds", "0,1", "--workers", str(workers), "--quiet", "-f", folder),
        ]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--timesteps", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    measurements = Measurements(options.output, COLUMNS)
    for batch_size in (128, 256):
        ratios = []
        for number in range(options.rounds):
            both = 2 * options.timesteps
            together = both / seconds(2, batch_size, options.timesteps)
            apart = both / seconds(1, batch_size, options.timesteps)
            ratios.append(together / apart)
            measurements.add(batch_size, number, together, apart, ratios[-1])
            print(f"batch {batch_size}: parallel {together:.0f} SPS, sequential {apart:.0f} SPS")
        middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
        print(f"batch {batch_size}: median ratio {middle:.2f} ({low:.2f} … {high:.2f})")


if __name__ == "__main__":
    main()

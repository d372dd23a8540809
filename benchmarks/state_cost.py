"""Measure the cost of resume states for a run whose replay buffer holds 1,000,000 transitions.

    python benchmarks/state_cost.py [--segments 3] [--output FILE.csv]

Uses the reference experiment (SAC on HalfCheetah-v5, segments of 10,000 timesteps) on both
learners. Writes a state at timestep 1,000,000 with a full buffer of random transitions, loads it as
`gallop run --resume` does (checking the hash of every file), and continues training. Reports the
seconds to resume, the share of wall-clock time that writing states takes, and the bytes that a
state adds to the disk. Every measurement is added to the CSV; runs are added and never replaced.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from measurements import Measurements

from gallop.environments.vectorised import rebuild
from gallop.experiments import seeding
from gallop.experiments.yaml_file import load
from gallop.learners.learner import Learner
from gallop.run_folder import resume_state
from gallop.run_folder.prepared import prepare
from gallop.runs.training import learner_for

REFERENCE = Path(__file__).parents[1] / "configs" / "halfcheetah_sac.yaml"
FULL, SEGMENT = 1_000_000, 10_000
COLUMNS = ["learner", "resume_seconds", "share_of_time", "bytes_a_state", "segments"]


def fill(state: Path, learner: Learner) -> None:
    """Write a state at timestep FULL with a full replay buffer."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        learner.save_state(folder)
        counters = json.loads((folder / "learner.json").read_text())
        counters["timestep" if "timestep" in counters else "num_timesteps"] = 0
        for start in range(0, FULL, SEGMENT):
            counters["timestep" if "timestep" in counters else "num_timesteps"] = start + SEGMENT
            (folder / "learner.json").write_text(json.dumps(counters))
            learner.load_state(folder)
            assert learner.replay is not None
            arrays = learner.replay.read(start, start + SEGMENT)
            for array in arrays.values():
                if array.dtype.kind == "f" and array.shape[-1] > 1:
                    array[...] = rng.normal(size=array.shape)
            learner.replay.write(start, arrays)
            resume_state.save_boundary(state, learner, (start + SEGMENT) // SEGMENT)


def size(folder: Path) -> int:
    """Bytes of all files in a folder and its subfolders."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(name: str, n_segments: int) -> tuple[float, float, int]:
    """Seconds to resume, share of the time that writing states takes, bytes per state."""
    experiment = load(REFERENCE, {"learner": name, "films": "false"})
    prepared = prepare(experiment)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        with learner_for(prepared) as (_, learner):
            fill(state, learner)
        with learner_for(prepared) as (environments, learner):
            started = time.perf_counter()
            saved = resume_state.newest_boundary(state)
            assert saved is not None
            resume_state.load_boundary(saved, learner)
            resumed = time.perf_counter() - started
            writing = training = 0.0
            for number in range(n_segments):
                segment = FULL // SEGMENT + number
                started = time.perf_counter()
                rebuild(environments)
                learner.learn(
                    environments,
                    seeding.segment_seed(0, segment),
                    SEGMENT,
                    prepared.plan.horizon,
                    lambda timestep: None,
                )
                trained = time.perf_counter()
                resume_state.save_boundary(state, learner, segment + 1)
                writing += time.perf_counter() - trained
                training += trained - started
        shards = sorted((state / "replay").iterdir())
        newest = max(path for path in state.iterdir() if path.name.isdigit())
        return resumed, writing / (training + writing), shards[-1].stat().st_size + size(newest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    measurements = Measurements(options.output, COLUMNS)
    for name in ("native", "sb3"):
        resumed, share, n_bytes = measure(name, options.segments)
        measurements.add(name, resumed, share, n_bytes, options.segments)
        print(
            f"{name}: resumed in {resumed:.1f} s; states take {100 * share:.2f} % of the time; "
            f"{n_bytes / 1e6:.1f} MB per state"
        )


if __name__ == "__main__":
    main()

r"""Make the states at 100,000 timesteps from which the benchmarks start with `--trained FOLDER`.

    python benchmarks/trained.py FOLDER [--parts sac128,sac256,td3256] [--timesteps 100000]

Networks grow sparse as they learn: fewer and fewer units of a ReLU layer are active. Kernels that
skip zeros grow faster, so that a benchmark that starts from new weights says little about a long
run. This trains one experiment for each part with the native learner, on one thread, and writes

    PART.zip    the policy with its optimizers, an SB3 zip that both Gallop and SB3 open
    PART.npz    the replay buffer, [transitions, 1, ...], the oldest first

One part takes about ten minutes on one core. The results do not depend on the machine's speed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from contestant import native_learner

from gallop.environments.vectorised import rebuild
from gallop.experiments.seeding import segment_seed
from gallop.experiments.yaml_file import load

REFERENCE = Path(__file__).parents[1] / "configs" / "halfcheetah_sac.yaml"
SEGMENT = 10_000  # timesteps between new simulators, as in a run


def experiments() -> dict[str, dict[str, Any]]:
    """The experiments of the off-policy parts: the reference, and SB3's defaults on its task."""
    reference = load(REFERENCE).model_dump(mode="json") | {"learner": "native"}
    names = ("env", "env_kwargs", "eval_env_kwargs", "total_timesteps", "learner")
    task = {name: reference[name] for name in names}
    return {
        "sac128": reference,
        "sac256": task | {"algo": "sac"},
        "td3256": task | {"algo": "td3"},  # with normal noise of 0.1
    }


def segments(
    experiment: Any, environments: Any, learner: Any, timesteps: int, length: int
) -> Iterator[float]:
    """Train in segments of a length, as a run of training seed 0; yields the SPS of each one."""
    for number, first in enumerate(range(0, timesteps, length)):
        n, seed, started = min(length, timesteps - first), segment_seed(0, number), perf_counter()
        rebuild(environments)
        learner.learn(environments, seed, n, experiment.total_timesteps, lambda timestep: None)
        yield n / (perf_counter() - started)


def make(part: str, folder: Path, timesteps: int) -> None:
    """Train one part and write its two files; prints its progress."""
    spec = {"experiment": experiments()[part] | {"n_threads": 1}}
    experiment, environments, learner = native_learner(spec)
    started = perf_counter()
    for _ in segments(experiment, environments, learner, timesteps, SEGMENT):
        left = (perf_counter() - started) * (timesteps / learner.timestep - 1) / 60
        print(f"{part}: {learner.timestep:,} timesteps, {left:.1f} min left", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    learner.save_policy(folder / f"{part}.zip")
    np.savez(folder / f"{part}.npz", **learner.replay.read(0, learner.replay.n_filled))
    environments.close()


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", default=",".join(experiments()), help="default: all")
    parser.add_argument("--timesteps", type=int, default=100_000)
    options = parser.parse_args()
    for part in options.parts.split(","):
        make(part, options.folder, options.timesteps)


if __name__ == "__main__":
    main()

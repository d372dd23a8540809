"""Shared by the tests: tiny experiments on real tasks, trained to a boundary."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from algorithm_rows import ROWS

from gallop.environments.vectorised import training_environments
from gallop.experiments import seeding
from gallop.experiments.plan import Plan, make_plan
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import from_dict
from gallop.learners.choose import choose_learner, make_learner
from gallop.learners.learner import Learner
from gallop.report import measured_speed
from gallop.run_folder import resume_state
from gallop.runs.training import Outcome, train

# On a busy machine an example may take longer than the default 200 ms.
hypothesis.settings.register_profile("gallop", deadline=None)
hypothesis.settings.load_profile("gallop")

# How precise the time in a plan is matters only to test_expected_time.py.
measured_speed.SECONDS_OF_STEPPING, measured_speed.SECONDS_OF_LEARNING = 0.02, 0.1


class StopAt:
    """A tracker that requests a stop, like Ctrl-C."""

    def __init__(self, timestep: int) -> None:
        self.timestep = timestep

    def log(self, row) -> None:
        if row.timestep >= self.timestep and "eval/mean_reward" in row.values:
            self.timestep = 1 << 40
            signal.raise_signal(signal.SIGTERM)

    def close(self) -> None:
        pass


def tiny(algo: str, hyperparameters: dict[str, Any] | None = None, **settings: Any) -> Experiment:
    """Three segments of 120 timesteps on Pendulum-v1 with networks of 16 units."""
    return from_dict(
        {
            "algo": algo,
            "env": "Pendulum-v1",
            "env_kwargs": {"max_episode_steps": 50},
            "total_timesteps": 360,
            "segment": 120,
            "milestones": [100],
            "evaluation": {"interval": 120, "n_episodes": 2},
            "films": False,
            "audit": False,
            "n_threads": 1,  # tests run in parallel
            **settings,
            "hyperparameters": {
                "policy_kwargs": {"net_arch": [16]},
                "learning_rate": "lin_1e-3",
                **ROWS[algo].tiny,
                **(hyperparameters or {}),
            },
        }
    )


class Trainer:
    """An experiment, its learner and environments, trained segment by segment."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.plan: Plan = make_plan(experiment, 0)
        self.environments = training_environments(experiment)
        seed = seeding.initialisation_seed(experiment.training_seed)
        spaces = self.environments.observation_space, self.environments.action_space
        choice = choose_learner(experiment, *spaces)
        self.learner: Learner = make_learner(experiment, choice, self.environments, seed)

    def segments(self, first: int = 0) -> Iterator[Outcome]:
        return train(
            self.plan,
            self.learner,
            self.environments,
            self.experiment.training_seed,
            first,
            lambda timestep: None,
        )

    def to_the_end(self, first: int = 0, state: Path | None = None) -> list[Outcome]:
        """Continue training; save every boundary if a folder is given."""
        outcomes = []
        for outcome in self.segments(first):
            outcomes.append(outcome)
            if state is not None:
                resume_state.save_boundary(state, self.learner, outcome.boundary.segment + 1)
        return outcomes

    def digest(self, folder: Path) -> str:
        """Digest of the learner's whole state: parameters, moments, counters, replay buffer."""
        folder.mkdir(parents=True, exist_ok=True)
        self.learner.save_state(folder)
        parts = [(folder / n).read_bytes() for n in ("learner.safetensors", "learner.json")]
        replay = self.learner.replay
        if replay is not None:
            start = max(0, replay.n_added - replay.capacity)
            arrays = replay.read(start, replay.n_added)
            parts += [np.ascontiguousarray(arrays[name]).tobytes() for name in sorted(arrays)]
        return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.fixture(autouse=True, scope="session")
def _decisions(tmp_path_factory) -> None:
    """Consent given in a test is not remembered for the user who runs it."""
    os.environ["GALLOP_STATE_DIR"] = str(tmp_path_factory.mktemp("decisions"))


@pytest.fixture
def trainers() -> Iterator[Any]:
    """Makes trainers and closes their environments after the test."""
    made: list[Trainer] = []

    def make(experiment: Experiment) -> Trainer:
        made.append(Trainer(experiment))
        return made[-1]

    yield make
    for trainer in made:
        trainer.environments.close()


DISK_BYTES = 32_000_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system, of DISK_BYTES."""
    path = tmp_path / "disk"
    path.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this process cannot mount a file system")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


# Preloaded into a process, this hides every OpenGL library.
NO_GL = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
void *dlopen(const char *name, int flags) {
    static void *(*real)(const char *, int);
    if (!real) real = dlsym(RTLD_NEXT, "dlopen");
    if (name && (strstr(name, "EGL") || strstr(name, "OSMesa") || strstr(name, "libGL"))) return 0;
    return real(name, flags);
}
"""


@pytest.fixture(scope="session")
def no_gl(tmp_path_factory):
    """A library that hides OpenGL if it is preloaded."""
    folder = tmp_path_factory.mktemp("no_gl")
    (folder / "no_gl.c").write_text(NO_GL)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", "no_gl.so", "no_gl.c", "-ldl"], cwd=folder, check=True
    )
    return folder / "no_gl.so"

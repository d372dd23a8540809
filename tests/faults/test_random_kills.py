"""Runs of every kind, killed at random times and resumed, are bit-identical to undisturbed ones.

A sample of the kills runs with the slow tests; `make faults` does all of them.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

import forked
import pytest
import runs
from algorithm_rows import EVERY

OFF_POLICY = {"buffer_size": 250, "batch_size": 16, "learning_starts": 31}
HYPERPARAMETERS = {"ppo": {"n_steps": 25, "batch_size": 5, "n_epochs": 2}}
HALF_CHEETAH = {"env": "HalfCheetah-v5"}
N_KILLS = 12
MAX_WITHOUT_PROGRESS = 40


def of(algo, learner, **settings):
    return runs.experiment(algo, HYPERPARAMETERS.get(algo, OFF_POLICY), learner=learner, **settings)


CASES = {
    # Buffers of 250 wrap around in the third segment, or, with two environments, in the sixth.
    **{
        f"{algo}, {learner}, {n_envs} environment{'s' * (n_envs > 1)}{', HalfCheetah' * cheetah}": (
            of(algo, learner, n_envs=n_envs, **(HALF_CHEETAH if cheetah else {}))
        )
        for number, (algo, learner) in enumerate(EVERY)
        for n_envs in (1, 2)
        for cheetah in [(number + n_envs) % 2 == 0]
    },
    "sac, native, workers": of("sac", "native", n_envs=2, vec_env="subproc"),
    "ppo, sb3, workers, HalfCheetah": of(
        "ppo", "sb3", n_envs=2, vec_env="subproc", normalize=True, **HALF_CHEETAH
    ),
    "sac, native, two threads, HalfCheetah": of("sac", "native", n_threads=2, **HALF_CHEETAH),
    "td3, sb3, two threads, normalised": of(
        "td3", "sb3", n_threads=2, normalize={"observations": True}
    ),
    "ppo, native, films, HalfCheetah": of("ppo", "native", films=True, **HALF_CHEETAH),
    "sac, native, group of two seeds, HalfCheetah": of("sac", "native", **HALF_CHEETAH),
}
GROUPS = [name for name in CASES if "group" in name]


def arguments(case, name):
    """Return the arguments of the command that starts this run or group."""
    return ["run", "experiment.yaml", "--name", name, *(["--seeds", "0,1"] * (case in GROUPS))]


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Case -> content of the undisturbed run, its duration in seconds, its file operations."""
    made = {}

    def reference(case):
        if case not in made:
            home = tmp_path_factory.mktemp("reference")
            runs.write(home, CASES[case])
            began = time.monotonic()
            ended = forked.run(home, arguments(case, "a"), forked.counted)
            assert ended.code == 0, ended.output
            assert forked.left_behind(home) == []
            assert forked.temporary_files(home) == []
            assert forked.descriptors_left(home) == []
            seconds = time.monotonic() - began
            n_operations = len(forked.operations(home))
            made[case] = runs.content(runs.run_folder(home)), seconds, n_operations
        return made[case]

    return reference


@pytest.mark.parametrize(
    ("case", "n_kills"),
    [pytest.param(case, 1, marks=pytest.mark.slow) for case in CASES]
    + [pytest.param(case, N_KILLS, marks=pytest.mark.faults) for case in CASES],
)
def test_a_run_killed_at_random_times_ends_bit_identically(case, n_kills, references, tmp_path):
    expected, seconds, n_operations = references(case)
    generator = random.Random(f"{case} {n_kills}")
    runs.write(tmp_path, CASES[case])
    n_killed = n_in_writes = n_runs = n_attempts = 0
    while n_killed < n_kills:
        name = f"run-{n_runs}"
        code = None
        while code != 0:
            n_attempts += 1
            assert n_attempts < MAX_WITHOUT_PROGRESS + 4 * n_kills
            code, in_write = one_life(
                tmp_path, case, name, generator, seconds, n_operations, n_killed < n_kills
            )
            n_killed += code < 0
            n_in_writes += code < 0 and in_write
        folder = runs.run_folder(tmp_path, name)
        if any(folder.glob("state/films/*.npz")):  # the filming process was killed
            assert forked.run(tmp_path, ["run", "--resume", str(folder)]).code == 0
        found = runs.content(folder)
        assert runs.differences(found, expected) == []
        n_runs += 1
    assert len(expected) > 100
    assert forked.left_behind(tmp_path) == []
    assert forked.descriptors_left(tmp_path) == []
    forked.temporary_files(tmp_path)  # killed processes may leave some
    runs.record("kills", case=case, kills=n_killed, in_writes=n_in_writes, runs=n_runs, same=n_runs)


def one_life(home, case, name, generator, seconds, n_operations, dies):
    """Start or resume the run and, if it `dies`, kill it; return exit code and whether in a write.

    A fifth of the kills come some microseconds after a file was opened, renamed or removed. If the
    run has other processes, any of them may be killed.
    """
    folder = runs.run_folder(home, name)
    begun = folder is not None and any(folder.glob("*.yaml"))
    command = ["run", "--resume", str(folder)] if begun else arguments(case, name)
    in_write = dies and generator.random() < 0.2
    if in_write:
        number = generator.randrange(n_operations)
        strike = forked.killed_while_writing(number, generator.uniform(5e-6, 5e-4))
        return forked.run(home, command, strike).code, True
    pid = forked.start(home, command)
    victim = pid
    if dies:
        time.sleep(generator.uniform(0, seconds))
        victim = generator.choice([pid, *runs.children_of(pid)])
        with contextlib.suppress(ProcessLookupError):  # it has already ended
            os.kill(victim, signal.SIGKILL)
    ended = forked.finish(home, pid)
    assert "Traceback" not in ended.output, ended.output
    if (
        ended.code > 0 and victim != pid
    ):  # ended with one line, because one of its processes was killed
        return -signal.SIGKILL, False
    assert ended.code <= 0, ended.output
    return ended.code, False

"""A run that is killed, or gets an error, at any of its operations on files can be recovered.

Operations are opening for writing, fsync, rename, remove, making and removing folders; forked.py
counts them. A sample runs with the slow tests; `make faults` does all of them.
"""

from __future__ import annotations

import shutil
import signal

import forked
import pytest
import runs
from algorithm_rows import BOTH

HYPERPARAMETERS = {
    "sac": {"buffer_size": 100, "batch_size": 16, "learning_starts": 31},
    "ppo": {"n_steps": 25, "batch_size": 5, "n_epochs": 2},
}
N_SAMPLED = 6
SHORTER = {
    "total_timesteps": 150,
    "segment": 50,
    "milestones": [100],
    "evaluation": {"interval": 150, "n_episodes": 1},
}
START = ["run", "experiment.yaml", "--name", "a"]


def experiment(algo, learner):
    """Three segments, so that the first state is deleted and the replay buffer wraps around."""
    return runs.experiment(algo, HYPERPARAMETERS[algo], learner=learner, **SHORTER)


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """(algorithm, learner) -> content of the undisturbed run, and its operations."""
    made = {}

    def reference(algo, learner):
        if (algo, learner) not in made:
            home = tmp_path_factory.mktemp("reference")
            runs.write(home, experiment(algo, learner))
            ended = forked.run(home, START, forked.counted)
            assert ended.code == 0, ended.output
            made[algo, learner] = runs.content(runs.run_folder(home)), forked.operations(home)
        return made[algo, learner]

    return reference


def recovered(home, expected, begun):
    """Resume, or restart if there is no run yet; then everything must be as expected."""
    if begun:
        listed = forked.run(home, ["list"])
        assert listed.code == 0 and "damaged" not in listed.output, listed.output
    ended = forked.run(home, ["run", "--resume", str(begun)] if begun else START)
    assert ended.code == 0, ended.output
    folder = runs.run_folder(home)
    assert runs.differences(runs.content(folder), expected) == []
    assert list(folder.rglob(".new-*")) == []
    verified = forked.run(home, ["verify", str(folder)])
    assert verified.code == 0, verified.output


def begun(home):
    """Return the run's folder, if it is a run already."""
    folder = runs.run_folder(home)
    return folder if folder is not None and (folder / "experiment.yaml").is_file() else None


MODES = {"killed": forked.killed_at, "refused": forked.refused_at}
SAMPLED = [("sac", "native", mode) for mode in MODES] + [("ppo", "sb3", mode) for mode in MODES]
ALL = [(algo, learner, mode) for algo in HYPERPARAMETERS for learner in BOTH for mode in MODES]


@pytest.mark.parametrize(
    ("algo", "learner", "mode", "n"),
    [pytest.param(*case, N_SAMPLED, marks=pytest.mark.slow) for case in SAMPLED]
    + [pytest.param(*case, None, marks=pytest.mark.faults) for case in ALL],
)
def test_a_run_recovers_from_a_failure_at_any_operation_on_a_file(
    algo, learner, mode, n, references, tmp_path_factory
):
    expected, operations = references(algo, learner)
    numbers = range(len(operations))
    if n is not None:  # different ones for each algorithm and mode
        sampled = numbers[7 * SAMPLED.index((algo, learner, mode)) :: len(operations) // n]
        numbers = [*sampled, *numbers[-3:]]
    outcomes = {"died": 0, "stopped with one line": 0, "finished": 0}
    failures = []
    for number in numbers:
        home = tmp_path_factory.mktemp("home")
        runs.write(home, experiment(algo, learner))
        ended = forked.run(home, START, MODES[mode](number))
        outcomes[list(outcomes)[0 if ended.code < 0 else 1 if ended.code else 2]] += 1
        try:
            assert "Traceback" not in ended.output
            assert ended.code == -signal.SIGKILL if mode == "killed" else ended.code in (0, 1, 2)
            recovered(home, expected, begun(home))
            temporary = forked.temporary_files(home)
            assert temporary == [] or mode == "killed"
            assert forked.descriptors_left(home) == []
            assert forked.left_behind(home) == []
        except AssertionError as error:
            failures.append(f"operation {number}, {operations[number]}: {ended}\n{error}")
        shutil.rmtree(home)
    runs.record(
        "injected",
        algo=algo,
        learner=learner,
        failure=mode,
        operations=len(numbers),
        **{name.replace(" ", "_"): count for name, count in outcomes.items()},
        recovered=len(numbers) - len(failures),
    )
    assert not failures, "\n\n".join(failures)
    assert len(numbers) > 5

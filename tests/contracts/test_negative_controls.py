"""Negative controls: a resumed run differs if any one item of its state is left out.

Otherwise the tests of exact resume would prove nothing about that item. An item is an array or
counter in the learner's files, or an array of the replay buffer. If it is left out, it has the
value of a new learner.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import runs
from algorithm_rows import EVERY
from conftest import tiny
from safetensors.numpy import load_file, save_file

from gallop.run_folder import resume_state

N_DONE = 2  # of three segments
WALL_CLOCK = ("time/fps", "time/time_elapsed")


def experiment_of(algo, learner):
    """An experiment with a schedule, a wrapped buffer, statistics and successful episodes."""
    off_policy = {} if algo == "ppo" else {"buffer_size": 150}
    return tiny(
        algo,
        off_policy,
        learner=learner,
        normalize=True if algo == "ppo" else {"observations": True, "rewards": True},
        wrappers=["success_wrapper:WithSuccess"],
        log_interval=1,
    )


SLOW = [case for case in EVERY if case[1] == "native" or case[0] == "ppo"]


@pytest.mark.parametrize(
    ("algo", "learner"),
    [
        pytest.param(*case, marks=[pytest.mark.faults, *[pytest.mark.slow] * (case in SLOW)])
        for case in EVERY
    ],
)
def test_a_state_without_any_one_of_its_items_does_not_resume_exactly(
    algo, learner, trainers, tmp_path
):
    experiment = experiment_of(algo, learner)
    # It starts from another run's policy file, because its earlier gradient steps count too.
    earlier, whole = trainers(experiment), trainers(experiment)
    next(earlier.segments())
    earlier.learner.save_policy(tmp_path / "policy.zip")
    save_fresh(whole.learner, tmp_path / "fresh")
    whole.learner.read_policy(tmp_path / "policy.zip")
    for outcome in whole.segments():
        if outcome.boundary.segment == N_DONE - 1:
            resume_state.save_boundary(tmp_path / "state", whole.learner, N_DONE)
            break
    saved = resume_state.newest_boundary(tmp_path / "state")

    def end(folder, spoil=lambda learner: None):
        """Everything that the last segment produces: the learner's state and the log."""
        trainer = trainers(experiment)
        try:
            resume_state.load_boundary(saved._replace(folder=folder), trainer.learner)
            spoil(trainer.learner)
            rows = trainer.to_the_end(N_DONE)[-1].diagnostics.rows
        except IndexError as error:  # positions in the native buffer do not match the timestep
            return str(error)
        log = [(n, {k: v for k, v in row.items() if k not in WALL_CLOCK}) for n, row in rows]
        found = trainer.digest(tmp_path / "end"), repr(log)
        trainer.environments.close()
        return found

    expected = end(saved.folder)
    assert end(saved.folder) == expected
    items = dict(losses(saved.folder, tmp_path / "fresh", whole.learner.replay))
    unnoticed = [name for name, loss in items.items() if end(*loss) == expected]
    assert unnoticed == []
    assert len(items) > 20
    runs.record(
        "negative_controls", algo=algo, learner=learner, items=len(items), noticed=len(items)
    )


def save_fresh(learner, folder):
    folder.mkdir()
    learner.save_state(folder)


def losses(saved, fresh, replay):
    """(name, (folder of a state, what to do after loading it)) for each item left out."""
    arrays, others = (load_file(f / "learner.safetensors") for f in (saved, fresh))
    for name, array in arrays.items():
        other = others.get(name, np.zeros_like(array))  # moments before any gradient step
        if np.array_equal(other, array):
            continue
        folder = copied(saved)
        save_file({**arrays, name: other}, folder / "learner.safetensors")
        yield name, (folder,)
    counters, others = (json.loads((f / "learner.json").read_text()) for f in (saved, fresh))
    for name in counters:
        if counters[name] == others[name]:
            assert name == "_episode_num"  # which stays 0 in SB3's PPO
            continue
        folder = copied(saved)
        (folder / "learner.json").write_text(json.dumps({**counters, name: others[name]}))
        yield name, (folder,)
    if replay is not None:
        start = replay.n_added - replay.capacity
        for name, array in replay.read(start, replay.n_added).items():
            if array.any():
                yield f"replay/{name}", (saved, zeros(start, name))


def zeros(start, name):
    def spoil(learner):
        arrays = learner.replay.read(start, learner.replay.n_added)
        learner.replay.write(start, {**arrays, name: np.zeros_like(arrays[name])})

    return spoil


def copied(saved):
    """A copy next to the state's folder, where replay shards are searched."""
    folder = saved.parent / f"spoilt-{len(list(saved.parent.iterdir()))}"
    shutil.copytree(saved, folder)
    return folder

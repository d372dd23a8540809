"""Which tasks can be replayed and recorded, and how many physics steps their timesteps have."""

from __future__ import annotations

from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
from hand_made import BOX

from gallop.environments.make import Task
from gallop.errors import ExperimentError
from gallop.evaluation.audit.audit import replayed, why_no_audit


class Stepped:
    """A box that takes the physics steps of a timestep as the test says."""

    def __init__(self, step):
        text = BOX.format(integrator="Euler", height=0.05, friction=1.0)
        self.model = mujoco.MjModel.from_xml_string(text)
        self.data, self.unwrapped, self._step = mujoco.MjData(self.model), self, step

    def reset(self, seed):
        mujoco.mj_resetData(self.model, self.data)

    def step(self, action):
        self._step(self.model, self.data)
        return None, 1.0, False, False, {}


def one_by_one(model, data):
    for _ in range(5):
        mujoco.mj_step(model, data)


def unseen(model, data):
    mujoco.mj_step1(model, data)
    mujoco.mj_step2(model, data)


def at_once(model, data):
    mujoco.mj_step(model, data, nstep=5)


@pytest.mark.parametrize("step", [one_by_one, at_once])
def test_a_timestep_has_all_its_physics_steps_however_they_are_taken(step):
    trajectory = replayed(Stepped(step), 0, np.zeros((4, 1)), 4.0)
    assert (trajectory.n, trajectory.n_per_timestep) == (20, 5)


def test_a_task_whose_physics_steps_are_not_seen_has_no_audit():
    with pytest.raises(ExperimentError, match="mj_step"):
        replayed(Stepped(unseen), 0, np.zeros((4, 1)), 4.0)


def test_a_model_and_data_of_something_else_are_not_mujocos():
    other = SimpleNamespace(model=object(), data=[1, 2])
    assert "is not a MuJoCo task" in why_no_audit(
        Task("Other-v0", {}), SimpleNamespace(unwrapped=other)
    )


def test_a_robot_without_weight_cannot_be_audited():
    env = Stepped(at_once)
    assert why_no_audit(Task("Box-v0", {}), env) == ""
    env.model.opt.gravity[:] = 0
    assert "weighs nothing" in why_no_audit(Task("Box-v0", {}), env)

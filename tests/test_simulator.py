"""`gallop evaluate --physics`: the same policy on a changed simulator."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

from gallop.commands.cli import main
from gallop.environments.make import Task
from gallop.errors import ExperimentError
from gallop.evaluation.episodes import evaluate
from gallop.experiments.yaml_file import task_arguments

CHEETAH = {"max_episode_steps": 60}


class Wave:
    """A policy that swings all joints, the same in all episodes."""

    def __init__(self):
        self._t = 0

    def begin(self):
        self._t = 0

    def act(self, observations):
        self._t += 1
        phase = np.arange(6) + 0.4 * self._t
        return np.tile(np.sin(phase).astype(np.float32), (len(observations), 1))


def task_with(env="HalfCheetah-v5", **physics):
    physics = task_arguments({"physics": physics}).physics
    return Task(env, CHEETAH, physics=physics)


def by_hand(change, delay=0, env="HalfCheetah-v5"):
    """The return of an episode in Gymnasium's own environment, after this change of its model."""
    environment: Any = gymnasium.make(env, **CHEETAH)
    change(environment.unwrapped)
    environment.reset(seed=5)
    policy, waiting, total, ended = Wave(), [np.zeros(6, np.float32)] * delay, 0.0, False
    while not ended:
        waiting.append(policy.act([None])[0])
        _, reward, terminated, ended, _ = environment.step(waiting.pop(0))
        total, ended = total + float(reward), terminated or ended
    return total


def half_the_step(simulator):
    simulator.model.opt.timestep = 0.005
    simulator.frame_skip = 10


def heavier(simulator):
    simulator.model.body_mass *= 1.2
    simulator.model.body_inertia *= 1.2
    mujoco.mj_setConst(simulator.model, mujoco.MjData(simulator.model))


def slippery(simulator):
    simulator.model.geom_friction *= 0.5


def runge_kutta(simulator):
    simulator.model.opt.integrator = mujoco.mjtIntegrator.mjINT_RK4


def elliptic(simulator):
    simulator.model.opt.cone = mujoco.mjtCone.mjCONE_ELLIPTIC


def on_mars(simulator):
    simulator.model.opt.gravity[2] = -3.7


@pytest.mark.parametrize(
    ("physics", "change", "delay"),
    [
        ({"timestep": 0.005}, half_the_step, 0),
        ({"mass": 1.2}, heavier, 0),
        ({"friction": 0.5}, slippery, 0),
        ({"integrator": "rk4"}, runge_kutta, 0),
        ({"cone": "elliptic"}, elliptic, 0),
        ({"gravity": -3.7}, on_mars, 0),
        ({"action_delay": 2}, lambda simulator: None, 2),
    ],
)
def test_each_change_is_made_as_by_hand(physics, change, delay):
    changed = evaluate(Wave(), task_with(**physics).make, [5]).returns[0]
    assert changed == by_hand(change, delay)
    assert changed != by_hand(lambda simulator: None)


@pytest.mark.parametrize(
    ("env", "physics", "words"),
    [
        ("HalfCheetah-v5", {"timestep": 0.003}, "no multiple of 0.003 s; nearest that divides it"),
        ("Pendulum-v1", {"mass": 2}, "not one of Gymnasium's MuJoCo tasks"),
    ],
)
def test_what_cannot_be_changed_is_refused(env, physics, words):
    with pytest.raises(ExperimentError, match=words):
        task_with(env, **physics).make()


def test_a_policy_is_played_with_and_without_the_change(tmp_path, trainers, capsys):
    from conftest import tiny

    trainer = trainers(tiny("ppo", env="Hopper-v5", env_kwargs={}, segment=1000, milestones=[100],
                            evaluation={"interval": 1000}, total_timesteps=1000))  # fmt: skip
    trainer.learner.save_policy(tmp_path / "a.zip")
    command = ["evaluate", str(tmp_path / "a.zip"), "--env", "Hopper-v5", "--episodes", "4"]
    assert main([*command, "--physics", "{mass: 1.5}"]) == 0
    output = capsys.readouterr().out
    assert "B: with mass × 1.5" in output and "B − A" in output
    assert main([*command, "--physics", "{timestep: 0.0013}"]) == 2
    captured = capsys.readouterr()
    assert "nearest that divides it" in captured.err and "episodes" not in captured.out

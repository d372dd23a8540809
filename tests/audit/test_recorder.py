"""The recorder against mechanics: impulses on the floor balance the change of momentum."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from hand_made import box

from gallop.environments.make import make_env
from gallop.evaluation.audit.anatomy import anatomy
from gallop.evaluation.audit.energy import energy
from gallop.evaluation.audit.recorder import recording

PLANAR = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
EULER, RK4 = ("HalfCheetah-v5",), ("Hopper-v5", "Walker2d-v5", "Ant-v5")


def played(task, n=80, **kwargs):
    """A trajectory of random actions, the observations, and the model."""
    env = make_env(task, seed=0, env_kwargs=kwargs)
    simulator = env.unwrapped
    with recording(env) as recorder:
        observations = [env.reset(seed=1)[0]]
        recorder.clear()
        for _ in range(n):
            observation, _, terminated, _, _ = env.step(env.action_space.sample())
            observations.append(observation)
            if terminated:
                break
        found = recorder.trajectory()
    return found, np.array(observations), simulator.model


@pytest.mark.parametrize("task", [*PLANAR, "Ant-v5"])
def test_recording_does_not_change_a_bit(task):
    recorded = played(task)[1]
    env = make_env(task, seed=0)
    observations = [env.reset(seed=1)[0]]
    for _ in range(len(recorded) - 1):
        observations.append(env.step(env.action_space.sample())[0])
    assert np.array_equal(np.array(observations), recorded)


def floor_force(trajectory):
    """Force of the floor at each physics step, shape [n, 3]."""
    contacts = trajectory.contacts
    found = np.zeros((trajectory.n, 3))
    floor = contacts.other == 0
    np.add.at(found, contacts.step[floor], contacts.force[floor])
    return found


@pytest.mark.parametrize("task", EULER)
def test_with_euler_the_forces_are_those_that_acted(task):
    """Newton's law of the root, step by step: M a + bias = force of the floor."""
    trajectory, _, model = played(task)
    data, inertia = mujoco.MjData(model), np.zeros((model.nv, model.nv))
    force = floor_force(trajectory)[:, [0, 2]]
    for step in range(trajectory.n):
        data.qpos[:], data.qvel[:] = trajectory.qpos[step], trajectory.qvel[step]
        mujoco.mj_forward(model, data)
        mujoco.mj_fullM(model, data, inertia)
        change = trajectory.qvel[step + 1] - trajectory.qvel[step]
        balance = (inertia @ change)[:2] / trajectory.dt + data.qfrc_bias[:2]
        np.testing.assert_allclose(balance, force[step], atol=1e-8)
    assert np.abs(force).max() > 300, "it has been pushed"


@pytest.mark.parametrize("task", RK4)
def test_with_rk4_the_impulses_balance_the_momentum(task):
    trajectory, _, model = played(task)
    data, momentum = mujoco.MjData(model), []
    torso = anatomy(model).torso
    for qpos, qvel in zip(trajectory.qpos, trajectory.qvel, strict=True):
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(model, data)
        mujoco.mj_subtreeVel(model, data)
        momentum.append(model.body_subtreemass[torso] * data.subtree_linvel[torso])
    change = np.array(momentum)[1:] - momentum[0]
    force = floor_force(trajectory) + model.body_subtreemass[torso] * model.opt.gravity
    impulse = np.cumsum(force, axis=0) * trajectory.dt
    np.testing.assert_allclose(impulse, change, atol=0.02 * np.abs(change).max())
    assert len(trajectory.contacts.step) > 20


@pytest.mark.parametrize("integrator", ["Euler", "RK4", "implicitfast"])
def test_a_box_at_rest_is_carried_by_its_weight(integrator):
    *_, recorder, parts = box(integrator)
    for _ in range(20):
        recorder.step(20)
    trajectory = recorder.trajectory()
    late = floor_force(trajectory)[-50:]
    np.testing.assert_allclose(late, np.tile([0, 0, 2 * 9.81], (50, 1)), atol=0.02)
    assert parts.weight == pytest.approx(2 * 9.81)
    assert trajectory.n == 400 and trajectory.n_per_timestep == 20
    assert trajectory.contacts.velocity[-10:].max() < 1e-3


@pytest.mark.parametrize("integrator", ["Euler", "RK4"])
def test_a_falling_box_has_no_contacts_until_it_lands(integrator):
    _, _, recorder, _ = box(integrator, height=0.05 + 0.5 * 9.81 * 0.2**2)
    recorder.step(150)
    contacts = recorder.trajectory().contacts
    assert contacts.step.min() * 0.002 == pytest.approx(0.2, abs=0.005), "0.2 s of free fall"


@pytest.mark.parametrize(("integrator", "error"), [("Euler", 1e-12), ("RK4", 1e-3)])
def test_the_impulse_of_a_landing_is_the_change_of_momentum(integrator, error):
    """A box of 2 kg is dropped by 0.2 m: it lands at 2 m/s, and needs 4 Ns and its weight."""
    _, _, recorder, _ = box(integrator, height=0.25)
    recorder.step(200)
    trajectory = recorder.trajectory()
    impulse = np.cumsum(floor_force(trajectory)[:, 2]) * trajectory.dt
    change = 2 * (trajectory.qvel[1:, 1] - trajectory.qvel[0, 1])
    weight = 2 * 9.81 * trajectory.times[1:]
    np.testing.assert_allclose(impulse - weight, change, atol=4 * error)
    landed = int(np.argmax(impulse > 0))
    assert trajectory.qvel[landed, 1] == pytest.approx(-1.98, abs=0.03)
    late = trajectory.n - 1
    assert impulse[late] == pytest.approx(2 * 9.81 * 0.4, rel=2e-3), "at rest after 0.4 s"


@pytest.mark.parametrize("integrator", ["Euler", "RK4", "implicitfast"])
def test_a_box_that_is_pushed_is_held_by_friction(integrator):
    """3 N along the floor, less than friction 0.3 can hold: the floor pushes back with 3 N."""
    _, data, recorder, _ = box(integrator, friction=0.3)
    recorder.step(100)
    data.qfrc_applied[0] = 3.0
    recorder.step(300)
    late = floor_force(recorder.trajectory())[-100:]
    np.testing.assert_allclose(late, np.tile([-3.0, 0, 2 * 9.81], (100, 1)), atol=0.05)
    data.qfrc_applied[0] = 10.0  # more than it can
    recorder.step(100)
    moved = floor_force(recorder.trajectory())[-50:].mean(axis=0)
    assert moved[0] == pytest.approx(-0.3 * moved[2], rel=0.03)


def test_slip_and_friction_of_a_sliding_box():
    """Friction 0.3: the force along the floor is 0.3 of the normal one, against the motion."""
    _, data, recorder, _ = box(friction=0.3)
    data.qvel[0] = 2.0
    recorder.step(100)
    trajectory = recorder.trajectory()
    total = floor_force(trajectory)[20:80].mean(axis=0)
    assert total[0] / total[2] == pytest.approx(-0.3, rel=0.03)
    rows = trajectory.contacts.step == 50
    speed = trajectory.qvel[50, 0]
    np.testing.assert_allclose(trajectory.contacts.velocity[rows], speed, rtol=0.02)


def test_energy_is_balanced_where_nothing_touches():
    _, data, recorder, _ = box("RK4", height=3.0)
    data.qvel[:] = 1.0, 2.0, 5.0
    recorder.step(200)
    energy = recorder.trajectory().energy
    np.testing.assert_allclose(energy, energy[0], rtol=1e-9)


@pytest.mark.parametrize(("task", "share"), [("HalfCheetah-v5", 0.01), ("Walker2d-v5", 1e-3)])
def test_the_work_of_all_forces_is_the_change_of_energy(task, share):
    """Thrown about by random actions, with dampers, springs, joint limits and the floor."""
    kwargs = {} if task in EULER else {"terminate_when_unhealthy": False}
    trajectory, _, model = played(task, n=300, **kwargs)
    found = energy(trajectory, anatomy(model))
    moved = np.abs(trajectory.actuator_power).sum() * trajectory.dt
    assert moved > 1_000, "in J"
    assert abs(found.residual) < share * moved

"""The kernels' log of physics steps against the one in Python, and against MuJoCo's own steps."""

from __future__ import annotations

import ctypes

import mujoco
import numpy as np
import pytest

from gallop.environments import mujoco_library
from gallop.environments.make import make_env
from gallop.evaluation.audit import physics_log
from gallop.evaluation.audit.physics_log import KernelLog, PythonLog, log_for

TASKS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5", "Pusher-v5")
MUSCLE = """
<mujoco>
  <option integrator="RK4"/>
  <worldbody><body><joint name="hinge" axis="0 1 0"/><geom size="0.1" mass="1"/></body></worldbody>
  <actuator><general joint="hinge" dyntype="filter" dynprm="0.1"/></actuator>
</mujoco>
"""
CLOTH = """
<mujoco>
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <body pos="2 0 0.2"><freejoint/><geom size="0.1"/></body>
    <flexcomp name="cloth" type="grid" count="4 4 1" spacing="0.1 0.1 0.1" pos="0 0 0.1"
              radius="0.01" mass="0.1" dim="2"/>
  </worldbody>
</mujoco>
"""


def started(task):
    """A model of a task, and its state after a reset, to be stepped apart from it."""
    simulator = make_env(task, seed=0).unwrapped
    simulator.reset(seed=3)
    data = mujoco.MjData(simulator.model)
    mujoco.mj_copyData(data, simulator.model, simulator.data)
    return simulator.model, data


def stepped(task, step, n=400):
    """The state after random controls; `step` is made of a model and its data."""
    model, data = started(task)
    taken, rng = step(model, data), np.random.default_rng(0)
    for _ in range(n):
        data.ctrl[:] = rng.uniform(*model.actuator_ctrlrange.T)
        taken(2)
    state = data.time, data.qpos, data.qvel, data.qacc, data.qacc_warmstart
    return [np.copy(each) for each in state]


@pytest.mark.parametrize("log", [KernelLog, PythonLog])
@pytest.mark.parametrize("task", TASKS)
def test_a_step_of_a_log_has_the_bits_of_mujocos(task, log):
    expected = stepped(task, lambda model, data: lambda n: mujoco.mj_step(model, data, n))
    found = stepped(task, lambda model, data: log(model, data).step)
    assert all(map(np.array_equal, found, expected))


@pytest.mark.parametrize("task", TASKS)
def test_both_logs_copy_the_same_bits(task):
    model, _ = started(task)
    assert log_for(model) is KernelLog
    logs = []

    def kept(log):
        def begin(model, data):
            logs.append(log(model, data))
            return logs[-1].step

        return begin

    for log in KernelLog, PythonLog:
        stepped(task, kept(log))
    one, other = (log.copied() for log in logs)
    for name, found, expected in zip(one._fields, one, other, strict=True):
        assert found.dtype == expected.dtype and np.array_equal(found, expected), name
    assert len(one.rows) == 800 * (4 if physics_log.is_rk4(model) else 1)
    assert len(one.contact_rows) == len(one.contacts) == len(one.geoms) == len(one.bodies)
    if task != "Pusher-v5":
        assert one.contacts[:, 13].max() > 0, "it has been pushed"


def test_contacts_of_a_flexible_body_have_no_geom_and_are_left_out():
    model = mujoco.MjModel.from_xml_string(CLOTH)
    logs = []
    for log in KernelLog, PythonLog:
        data = mujoco.MjData(model)
        logs.append(log(model, data))
        logs[-1].step(300)
        assert (data.contact.geom < 0).any(), "the cloth lies on the floor"
    one, other = (log.copied() for log in logs)
    assert all(map(np.array_equal, one, other))
    assert set(map(tuple, one.geoms)) == {(0, 1)}, "of the ball beside it, and the floor"


def test_a_model_with_states_of_actuators_is_logged_in_python():
    """The kernels' RK4 would not integrate them."""
    model = mujoco.MjModel.from_xml_string(MUSCLE)
    assert log_for(model) is PythonLog
    model.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
    assert log_for(model) is KernelLog, "MuJoCo takes these steps itself"


@pytest.mark.parametrize("name", ["mjData", "mjContact"])
def test_structs_that_are_laid_out_otherwise_are_noticed(monkeypatch, name):
    """As those of a version of MuJoCo whose description is wrong."""
    model, _ = started("HalfCheetah-v5")
    struct = mujoco_library.struct
    fields = [("other", ctypes.c_double), *struct(name)._fields_]
    wrong = type(name, (ctypes.Structure,), {"_fields_": fields})
    monkeypatch.setattr(
        mujoco_library, "struct", lambda each: wrong if each == name else struct(each)
    )
    physics_log._layout_is_right.cache_clear()
    try:
        assert log_for(model) is PythonLog
    finally:
        physics_log._layout_is_right.cache_clear()


def test_an_error_of_mujoco_is_an_exception():
    """Its handler would end the process."""
    model = mujoco.MjModel.from_xml_string(MUSCLE)
    model.opt.integrator = 99
    log = KernelLog(model, mujoco.MjData(model))
    with pytest.raises(RuntimeError, match="integrator"):
        log.step(1)

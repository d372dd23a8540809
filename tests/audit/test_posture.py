"""Posture: turns of a body, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hand_made import ANATOMY, motion

from gallop.evaluation.audit.anatomy import anatomy
from gallop.evaluation.audit.posture import full_turns, pitch, posture, uprightness
from gallop.evaluation.audit.recorder import Recorder

N = 500
TURN = 2 * np.pi


def ramp(turns, start=0.0, end=1.0):
    """An angle that turns between two shares of the time, and is constant elsewhere."""
    t = np.linspace(0, 1, N + 1)
    return TURN * turns * np.clip((t - start) / (end - start), 0, 1)


def test_a_statue_has_no_turns():
    measured = posture(motion(), ANATOMY)
    assert measured == (0.0, 0.0, (), 0.0)


@pytest.mark.parametrize("turns", [1, -1, 3])
def test_turns_are_counted_with_their_direction(turns):
    measured = posture(motion(pitch=ramp(turns)), ANATOMY)
    assert measured.net_turns == pytest.approx(turns)
    assert len(measured.somersaults) == abs(turns)
    assert measured.upside_down == pytest.approx(0.5, abs=0.01)


def test_a_somersault_at_the_start_has_its_seconds():
    (found,) = posture(motion(pitch=ramp(1, 0.1, 0.3)), ANATOMY).somersaults
    begin, end = found
    assert 0.5 <= begin <= 0.75 and 1.25 <= end <= 1.5, "from 0.5 s to 1.5 s"


def test_running_on_the_back_is_no_somersault():
    measured = posture(motion(pitch=ramp(0.5, 0.0, 0.1)), ANATOMY)
    assert measured.somersaults == () and measured.upside_down > 0.9
    assert measured.largest_pitch == pytest.approx(180)


def test_rocking_to_and_fro_is_no_turn():
    t = np.linspace(0, 10, N + 1)
    assert full_turns(1.2 * np.sin(t)) == []
    assert full_turns(3.1 * np.sin(t)) == [], "nearly over, and back again"


def test_a_turn_and_a_turn_back_are_two():
    angles = np.concatenate([ramp(1), ramp(1)[::-1]])
    assert len(full_turns(angles)) == 2
    assert posture(motion(pitch=angles, n=2 * N + 1), ANATOMY).net_turns == pytest.approx(0)


def test_the_same_motion_of_a_mirrored_hinge_has_the_opposite_sign():
    mirrored = ANATOMY._replace(pitch_sign=-1.0)
    one, other = (posture(motion(pitch=ramp(1)), each) for each in (ANATOMY, mirrored))
    assert one.net_turns == -other.net_turns and one.upside_down == other.upside_down


FREE = """
<mujoco>
  <option timestep="0.002" integrator="RK4"/>
  <worldbody><body name="torso" pos="0 0 1"><freejoint/>
    <geom type="box" size="0.2 0.2 0.2" mass="1"/></body></worldbody>
</mujoco>
"""


@pytest.mark.parametrize("heading", [0.0, 1.0, np.pi])
def test_a_free_body_turns_by_its_own_axis_whatever_its_heading(heading):
    import mujoco

    model = mujoco.MjModel.from_xml_string(FREE)
    data = mujoco.MjData(model)
    data.qpos[3:7] = np.cos(heading / 2), 0, 0, np.sin(heading / 2)
    data.qvel[4] = TURN  # one turn per second about the lateral axis
    recorder = Recorder(model, data)
    recorder.step(1000)
    trajectory, parts = recorder.trajectory(), anatomy(model)
    assert pitch(trajectory, parts)[-1] == pytest.approx(2 * TURN, rel=0.01)
    measured = posture(trajectory, parts)
    assert measured.upside_down == pytest.approx(0.5, abs=0.01)
    assert len(measured.somersaults) == 2 and measured.net_turns == pytest.approx(2, abs=0.02)
    assert uprightness(trajectory, parts)[250] == pytest.approx(-1, abs=1e-3)


def turning(heading, roll, pitch_angle):
    """A trajectory of a free body with these angles (yaw, then pitch, then roll), by differences of
    its orientations."""
    import mujoco

    model = mujoco.MjModel.from_xml_string(FREE)
    quaternions, rates = [], []
    for angles in np.broadcast(heading, pitch_angle, roll):
        total = np.array([1.0, 0, 0, 0])
        for angle, axis in zip(angles, ((0, 0, 1), (0, 1, 0), (1, 0, 0)), strict=True):
            part, product = np.zeros(4), np.zeros(4)
            mujoco.mju_axisAngle2Quat(part, np.array(axis, float), float(angle))
            mujoco.mju_mulQuat(product, total, part)
            total = product
        if quaternions:
            rate = np.zeros(3)
            mujoco.mju_subQuat(rate, total, quaternions[-1])
            rates.append(rate / 0.01)
        quaternions.append(total)
    n = len(rates)
    qpos, qvel = np.zeros((n + 1, 7)), np.zeros((n + 1, 6))
    qpos[:, 3:7], qvel[1:, 3:6] = quaternions, rates
    return motion(n=n)._replace(qpos=qpos, qvel=qvel), anatomy(model)


def test_walking_in_circles_with_a_lean_is_no_somersault():
    """The body's own lateral axis turns by 7.5 rad meanwhile."""
    heading = np.linspace(0, 50, 2001)
    measured = posture(*turning(heading, np.full(2001, 0.15), np.zeros(2001)))
    assert measured.somersaults == () and abs(measured.net_turns) < 0.01
    assert measured.upside_down == 0


def test_rolling_over_sideways_is_no_somersault():
    roll = np.linspace(0, 2 * TURN, 1001)
    measured = posture(*turning(np.zeros(1001), roll, np.zeros(1001)))
    assert measured.somersaults == () and measured.upside_down == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("turns", [1, -2])
def test_a_somersault_in_a_circle_is_one(turns):
    heading, angle = np.linspace(0, 6, 1001), TURN * turns * np.linspace(0, 1, 1001)
    measured = posture(*turning(heading, np.full(1001, 0.1), angle))
    assert len(measured.somersaults) == abs(turns)
    assert measured.net_turns == pytest.approx(turns, abs=0.02)


LYING = """
<mujoco>
  <option timestep="0.002" integrator="RK4"/>
  <worldbody><body name="torso" pos="0 0 1" quat="0.5 0.5 0.5 0.5"><freejoint/>
    <geom type="box" size="0.2 0.2 0.2" mass="1"/></body></worldbody>
</mujoco>
"""


@pytest.mark.parametrize("turns", [0.0, 1.0, -1.0])
def test_a_torso_whose_own_y_axis_points_upward_is_upright(turns):
    """Its axes x, y, z point along y, z, x, as in models of motion capture."""
    import mujoco

    model = mujoco.MjModel.from_xml_string(LYING)
    data = mujoco.MjData(model)
    data.qvel[3] = TURN * turns / 2  # about its x axis, the lateral one; 2 s
    recorder = Recorder(model, data)
    recorder.step(1000)
    trajectory, parts = recorder.trajectory(), anatomy(model)
    assert uprightness(trajectory, parts)[0] == pytest.approx(1.0)
    measured = posture(trajectory, parts)
    assert measured.net_turns == pytest.approx(turns, abs=0.02)
    assert len(measured.somersaults) == abs(turns)
    assert measured.upside_down == pytest.approx(0.5 * abs(turns), abs=0.01)

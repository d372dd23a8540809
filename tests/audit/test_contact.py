"""Contacts and gait, by hand."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from hand_made import ANATOMY, DT, FOOT_A, FOOT_B, TORSO, WEIGHT, motion, standing, trot
from hypothesis import given, settings
from hypothesis import strategies as st

from gallop.evaluation.audit.anatomy import anatomy
from gallop.evaluation.audit.contact import (
    bodies_on_floor,
    contact,
    label,
    of_the_robot,
    stride,
)
from gallop.evaluation.audit.recorder import Recorder

N = 500
RUN = np.linspace(0, 10, N + 1)  # 2 m/s


def test_a_statue_has_no_gait():
    measured = contact(motion(rows=standing()), ANATOMY)
    assert measured.flight == 0 and measured.stride is None and measured.order == ()
    assert measured.touchdowns == {"afoot": 0, "bfoot": 0}
    assert measured.duty_factor == {"afoot": 1.0, "bfoot": 1.0}
    assert measured.peak == pytest.approx(1.0)


@pytest.mark.parametrize(("period", "duty"), [(40, 0.5), (25, 0.4), (60, 0.7)])
def test_a_trot_has_its_period_duty_and_order(period, duty):
    measured = contact(motion(x=RUN, rows=trot(period=period, duty=duty)), ANATOMY)
    assert measured.stride == pytest.approx(period * DT, abs=DT)
    assert measured.regularity > 0.9
    assert list(measured.duty_factor.values()) == pytest.approx([duty, duty], abs=0.03)
    assert measured.order == ("afoot", "bfoot")
    assert measured.flight == pytest.approx(max(0, 1 - 2 * duty), abs=0.03)


def test_noise_has_no_stride():
    rng = np.random.default_rng(0)
    assert stride(rng.uniform(0, 1, (2, 1000)), DT)[0] is None


def test_a_body_that_carries_the_load_is_named():
    rows = [(i, TORSO, 0.75 * WEIGHT, 0, 0) for i in range(N)]
    rows += [(i, FOOT_A, 0.25 * WEIGHT, 0, 0) for i in range(N // 2)]
    measured = contact(motion(rows=rows), ANATOMY)
    assert measured.time_share == {"torso": 1.0, "foot afoot": 0.5}
    assert measured.impulse_share["torso"] == pytest.approx(6 / 7)


def test_a_touch_without_force_is_no_contact():
    rows = [(i, FOOT_A, 0.001 * WEIGHT, 0, 0) for i in range(N)]
    measured = contact(motion(rows=rows), ANATOMY)
    assert measured.flight == 1.0 and measured.duty_factor["afoot"] == 0


def test_slip_counts_while_the_foot_is_loaded():
    rows = [(i, FOOT_A, 0.4 * WEIGHT, place, 0.4) for i in range(N) for place in (0, 0.1)]
    rows += [(i, FOOT_B, 0.05 * WEIGHT, 0, 9.0) for i in range(N)]
    measured = contact(motion(x=RUN, rows=rows), ANATOMY)
    assert measured.slip == pytest.approx({"afoot": 0.4, "bfoot": 0.0})
    assert measured.slip_share == pytest.approx(0.2), "0.4 of 2 m/s"


def test_the_way_through_the_air_is_not_slid():
    """A foot that lands for a tenth of the time at the speed of the robot slid a tenth."""
    rows = [(i, FOOT_A, 10 * WEIGHT, 0, 2.0) for i in range(0, N, 10)]
    measured = contact(motion(x=RUN, rows=rows), ANATOMY)
    assert measured.slip["afoot"] == 2.0 and measured.slip_share == pytest.approx(0.1, rel=0.02)


def test_what_trembles_has_no_stride():
    """A load that varies by 1 % of the weight, as regularly as a gait."""
    t = np.arange(N)
    rows = [(i, FOOT_A, WEIGHT * (0.5 + 0.01 * np.sin(i / 5)), 0, 0) for i in t]
    assert contact(motion(rows=rows), ANATOMY).stride is None
    rows = [(i, FOOT_A, WEIGHT * (0.5 + 0.2 * np.sin(i / 5)), 0, 0) for i in t]
    assert contact(motion(rows=rows), ANATOMY).stride == pytest.approx(0.314, abs=0.01)


def test_an_episode_in_the_air_has_no_contacts():
    measured = contact(motion(), ANATOMY)
    assert measured.flight == 1.0 and measured.longest_flight == pytest.approx(N * DT)
    assert measured.peak == 0 and measured.time_share == {}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 39), st.floats(0.35, 0.65), st.floats(0.5, 20.0))
def test_a_gait_does_not_depend_on_its_phase_or_its_unit_of_force(shift, duty, scale):
    rows = [row for row in trot(n=N + 40, duty=duty) if row[0] >= shift]
    moved = [(step - shift, body, scale * force, place, slip)
             for step, body, force, place, slip in rows if step - shift < N]  # fmt: skip
    heavier = ANATOMY._replace(mass=ANATOMY.mass * scale)
    one = contact(motion(rows=trot(duty=duty)), ANATOMY)
    other = contact(motion(rows=moved), heavier)
    assert one.stride == pytest.approx(other.stride, abs=DT)
    for foot in ("afoot", "bfoot"):
        assert one.duty_factor[foot] == pytest.approx(other.duty_factor[foot], abs=0.06)
    assert one.peak == pytest.approx(other.peak)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.3, 0.7))
def test_a_mirrored_gait_swaps_the_feet(duty):
    swap = {FOOT_A: FOOT_B, FOOT_B: FOOT_A}
    rows = trot(duty=duty, shift=0.3)
    mirrored = [(step, swap[body], *rest) for step, body, *rest in rows]
    one, other = (contact(motion(rows=each), ANATOMY) for each in (rows, mirrored))
    assert one.duty_factor["afoot"] == other.duty_factor["bfoot"]
    assert one.stride == other.stride and one.flight == other.flight


def test_what_stands_or_slips_on_the_spot_has_no_slid_share_of_a_way():
    """It goes 0.3 m, less than its height of 0.6 m, while a foot slides 10 m."""
    rows = [(i, FOOT_A, WEIGHT, 0, 2.0) for i in range(N)]
    measured = contact(motion(x=RUN * 0.03, rows=rows), ANATOMY)
    assert measured.slip_share is None and measured.slip["afoot"] == 2.0
    measured = contact(motion(x=RUN * 0.1, rows=rows), ANATOMY)
    assert measured.slip_share == pytest.approx(10.0), "10 m slid on a way of 1 m"


ARENA = """
<mujoco>
  <worldbody>
    <geom type="plane" size="5 5 0.1"/>
    <body name="robot" pos="0 0 0.5">
      <freejoint/><geom type="box" size="0.2 0.2 0.1" mass="4"/>
      <body name="arm" pos="0 0 -0.15">
        <joint name="arm" type="slide" axis="0 0 1" range="-0.3 0" stiffness="500"/>
        <geom type="box" size="0.1 0.1 0.15" mass="1"/>
      </body>
      {plate}
    </body>
    {other}
  </worldbody>
  <actuator><motor joint="arm" ctrlrange="-1 1" ctrllimited="true"/></actuator>
</mujoco>
"""
OTHER = '<body name="other" pos="{place}"><freejoint/><geom {shape} mass="{mass}"/></body>'


def at_rest(other="", plate=""):
    """One second of a robot of 5 kg that has come to rest."""
    model = mujoco.MjModel.from_xml_string(ARENA.format(other=other, plate=plate))
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, 1000)
    recorder = Recorder(model, data)
    recorder.step(500)
    parts = anatomy(model)
    return of_the_robot(recorder.trajectory(), parts), parts


def test_a_ball_on_the_floor_is_no_part_of_the_robot():
    ball = OTHER.format(place="2 0 0.1", shape='size="0.1"', mass=50)
    trajectory, parts = at_rest(ball)
    assert parts.bodies[parts.torso] == "robot", "it has the actuators; the ball is heavier"
    measured = contact(trajectory, parts)
    assert measured.time_share.keys() == {"foot arm"}
    assert measured.peak == pytest.approx(1.0, abs=0.01)
    assert [label(parts, body) for body in bodies_on_floor(trajectory, parts)] == ["foot arm"]


def test_a_robot_that_stands_on_a_box_is_not_on_the_floor():
    below = OTHER.format(place="0 0 0.05", shape='type="box" size="0.5 0.5 0.05"', mass=3)
    trajectory, parts = at_rest(below)
    assert len(trajectory.contacts.step), "it stands on something"
    measured = contact(trajectory, parts)
    assert measured.flight == 1.0 and measured.peak == 0.0 and measured.time_share == {}


def test_what_presses_a_robots_own_bodies_together_is_no_push_of_the_floor():
    """A spring presses a plate on the torso against a post of the same robot."""
    plate = """
      <body name="press" pos="0 0 0.4">
        <joint type="slide" axis="0 0 1" stiffness="500" springref="-0.2" damping="5"/>
        <geom type="box" size="0.1 0.1 0.02" mass="0.1"/>
      </body>
      <body name="post" pos="0 0 0.25">
        <joint type="slide" axis="0 0 1" stiffness="5000" damping="5"/>
        <geom type="box" size="0.05 0.05 0.1" mass="0.1"/>
      </body>"""
    trajectory, parts = at_rest(plate=plate)
    own = trajectory.contacts.other != 0
    late = trajectory.contacts.step == trajectory.n - 1
    assert trajectory.contacts.normal[own & late].sum() / 2 > 30
    measured = contact(trajectory, parts)
    assert measured.time_share.keys() == {"foot arm"}
    assert measured.peak == pytest.approx(1.0, abs=0.01)

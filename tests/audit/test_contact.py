"""Contacts and gait, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hand_made import ANATOMY, DT, FOOT_A, FOOT_B, TORSO, WEIGHT, motion, standing, trot
from hypothesis import given, settings
from hypothesis import strategies as st

from gallop.evaluation.audit.contact import contact, stride

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

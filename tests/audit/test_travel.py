"""Way, speed, reward and energy, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hand_made import ANATOMY, DT, WEIGHT, motion

from gallop.evaluation.audit.energy import created, energy
from gallop.evaluation.audit.rewards import rewards
from gallop.evaluation.audit.travel import speeds, way

N = 500
SECONDS = N * DT
T = np.arange(N + 1) * DT
FREE = ANATOMY._replace(pitch=None, rotation=3, spin=3)


def circling(radius=1.0, turns=2.0):
    """A free robot on a circle: x, y, z and a quaternion."""
    angle = 2 * np.pi * turns * T / SECONDS
    qpos = np.zeros((N + 1, 7))
    qpos[:, 0], qpos[:, 1], qpos[:, 3] = radius * np.cos(angle), radius * np.sin(angle), 1.0
    return motion()._replace(qpos=qpos, qvel=np.zeros((N + 1, 6)))


def test_the_way_on_a_circle_is_no_straight_one():
    """It is made of chords of one second, and of shorter ones at the ends."""
    trajectory = circling()
    measured = rewards(trajectory, FREE, {})
    assert measured.distance == pytest.approx(0.0, abs=1e-9)
    chord = 2 * np.sin(2 * np.pi * 0.4 / 2)
    np.testing.assert_allclose(speeds(trajectory, FREE)[50:-50], chord)
    assert 5 * chord < way(trajectory, FREE) < 2 * 2 * np.pi
    assert measured.way == way(trajectory, FREE) and measured.speed == measured.way / SECONDS
    assert measured.standing == 0


def test_rocking_to_and_fro_is_no_way():
    trajectory = motion(x=0.05 * np.sin(2 * np.pi * 3 * T))
    assert way(trajectory, ANATOMY) < 0.2, "instead of 3 m"
    assert rewards(trajectory, ANATOMY, {}).standing == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("direction", [1, -1])
def test_speed_and_distance(direction):
    trajectory = motion(x=direction * 2 * T)
    np.testing.assert_allclose(speeds(trajectory, ANATOMY), 2.0)
    measured = rewards(trajectory, ANATOMY, {"forward": 30.0, "control": -10.0})
    assert measured.distance == pytest.approx(direction * 10.0)
    assert measured.speed == pytest.approx(2.0)
    assert measured.shares == {"forward": 0.75, "control": 0.25}


def test_standing_is_relative_to_the_height():
    trajectory = motion(x=np.where(T < 2.0, 0.0, 0.05 * (T - 2.0)))  # 0.05 m/s
    assert rewards(trajectory, ANATOMY, {}).standing == 1.0
    small = ANATOMY._replace(height=0.1)
    assert rewards(trajectory, small, {}).standing == pytest.approx(0.4, abs=0.11)


def test_energy_is_that_of_the_forces_and_the_rest():
    """10 W drive, 4 W are lost in dampers, and 7 W appear."""
    trajectory = motion(x=2 * T)._replace(
        actuator_power=np.tile([12.0, -2.0], (N, 1)),
        other_power=np.tile([-3.0, -1.0], (N, 1)),
        energy=7.0 * np.arange(N) * DT,
    )
    measured = energy(trajectory, ANATOMY)
    assert measured.power == pytest.approx(14.0), "braking counts"
    assert measured.work == pytest.approx(10.0 * SECONDS)
    assert measured.transport == pytest.approx(14.0 * SECONDS / (WEIGHT * 10.0))
    np.testing.assert_allclose(created(trajectory)[:-1], (7.0 - 6.0) * DT)
    assert measured.residual == pytest.approx(1.0 * (N - 1) * DT)
    assert measured.residual_share == pytest.approx((N - 1) / N / 14.0)
    still = energy(motion(), ANATOMY)
    assert still.transport is None and still.residual_share == 0


def test_distance_is_along_the_worlds_axis_where_the_models_points_the_other_way():
    measured = rewards(motion(x=2 * T), ANATOMY._replace(forward_sign=-1.0), {})
    assert measured.distance == pytest.approx(-10.0) and measured.way == pytest.approx(10.0)

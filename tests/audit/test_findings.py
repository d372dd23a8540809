"""Each finding is where it belongs and nowhere else, on hand-made motions."""

from __future__ import annotations

import numpy as np
import pytest
from hand_made import ANATOMY, FOOT_A, FOOT_B, SHIN_A, SHIN_B, TORSO, WEIGHT, motion, standing, trot

from gallop.evaluation.audit.findings import findings, measure, spans

N = 500
RUN = np.linspace(0, 10, N + 1)
TURN = 2 * np.pi
T = np.linspace(0, 1, N + 1)
CALM = 0.3 * np.sin(np.arange(N) / 8)
CHATTER = np.sign(np.sin(np.arange(N) * 2.5))


def on(body, share=1.0):
    return [(i, body, share * WEIGHT, 0.0, 0.0) for i in range(N)]


def toes(rows):
    return [(step, body, force, 0.09, slip) for step, body, force, _, slip in rows]


MOTIONS = {
    "statue": (motion(rows=standing()), ["survives without moving"]),
    "true trot": (motion(x=RUN, rows=trot(), controls=CALM), []),
    "slide": (motion(x=RUN, rows=standing(slip=2.0)), ["sliding"]),
    "on the torso": (motion(x=RUN, rows=on(TORSO), controls=CALM), ["on the body"]),
    "on the shins": (
        motion(x=RUN, rows=on(SHIN_A, 0.5) + on(SHIN_B, 0.5), controls=CALM),
        ["on the shins"],
    ),
    "somersault, then run": (
        motion(pitch=TURN * np.clip(T / 0.2, 0, 1), x=RUN, rows=trot(), controls=CALM),
        ["somersault start"],
    ),
    "somersaults": (
        motion(pitch=3 * TURN * T, x=RUN, rows=trot(), controls=CALM),
        ["inverted running", "somersaults"],
    ),
    "run on the back": (
        motion(pitch=np.pi * np.clip(T / 0.05, 0, 1), x=RUN, rows=trot(), controls=CALM),
        ["inverted running"],
    ),
    "toe run": (motion(x=RUN, rows=toes(trot()), controls=CALM), ["on toes"]),
    "chatter": (motion(x=RUN, rows=trot(), controls=CHATTER), ["bang-bang"]),
    "hops": (motion(x=RUN, rows=trot(duty=0.15), controls=CALM), ["bounding"]),
}


@pytest.mark.parametrize("name", MOTIONS)
def test_findings_are_where_they_belong(name):
    trajectory, expected = MOTIONS[name]
    found = findings(trajectory, ANATOMY, measure(trajectory, ANATOMY))
    assert [finding.name for finding in found] == expected
    for finding in found:
        assert finding.rule and any(letter.isdigit() for letter in finding.measured)


def test_a_finding_names_the_seconds_that_show_it():
    trajectory, _ = MOTIONS["run on the back"]
    (found,) = findings(trajectory, ANATOMY, measure(trajectory, ANATOMY))
    ((begin, end),) = found.seconds
    assert begin == pytest.approx(0.13, abs=0.02) and end == pytest.approx(5.0)


def test_energy_from_nowhere_is_an_exploit_of_the_simulator():
    trajectory = motion(x=RUN, rows=trot(), controls=CALM)
    powers = np.full((N, 2), 1.0)
    gained = np.linspace(0, 2 * N * trajectory.dt * 1.5, N)
    trajectory = trajectory._replace(actuator_power=powers, energy=gained)
    (found,) = findings(trajectory, ANATOMY, measure(trajectory, ANATOMY))
    assert found.name == "simulator exploit" and found.evidence == "implied"
    honest = trajectory._replace(energy=gained / 1.5)
    assert findings(honest, ANATOMY, measure(honest, ANATOMY)) == []


def test_spans_are_the_longest_runs():
    values = np.zeros(100, bool)
    values[[*range(5, 10), *range(20, 40), *range(50, 53), *range(60, 70)]] = True
    expected = [(2.0, 4.0), (6.0, 7.0), (0.5, 1.0)]
    np.testing.assert_allclose(spans(values, 0.1), expected)


def test_feet_alone_carry_no_finding():
    trajectory = motion(x=RUN, rows=on(FOOT_A, 0.5) + on(FOOT_B, 0.5), controls=CALM)
    assert findings(trajectory, ANATOMY, measure(trajectory, ANATOMY)) == []

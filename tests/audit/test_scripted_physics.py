"""Findings in real physics: each script shows what it is made to show, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scripted import DOG, TURN, driven, held, leg, lifted, smooth, walking

from gallop.evaluation.audit.contact import at_the_feet, contact
from gallop.evaluation.audit.findings import findings, measure


def sliding_cheetah(time):
    return held("HalfCheetah-v5", rootx=2.0 * time)


def hopping(time):
    """In the air for 0.35 of each 0.5 s, forward at 1 m/s."""
    phase = time % 0.5
    height = 1.205 + 4.9 * max(0.0, phase * (0.35 - phase))
    return held("Hopper-v5", rootx=time, rootz=height)


def walking_on_toes(time):
    return walking(time, tilt=0.6)


def somersault(time, start, turns):
    """Walk, turn over in the air, and walk on."""
    end = start + 0.8
    places = walking(time) | {"rooty": turns * TURN * smooth(time, start, end)}
    is_up = start <= time < end
    return places | ({"rootz": 1.2 + lifted(time, start, end, 1.2)} if is_up else {})


def rolling(time):
    """Backward over the floor, four turns in ten seconds."""
    return held("HalfCheetah-v5", rootx=-0.8 * time, rooty=-0.4 * TURN * time)


def on_the_back(speed):
    legs = {"bthigh": 0.5, "fthigh": -0.5}
    return lambda time: held("HalfCheetah-v5", rooty=np.pi, rootx=speed * time, **legs)


def standing(time):
    """Walker2d with its knees a little bent."""
    angles = leg(0.0, 0.88)
    names = ("thigh_joint", "leg_joint", "foot_joint")
    left = ("thigh_left_joint", "leg_left_joint", "foot_left_joint")
    return {"rootx": 0.0, "rooty": 0.0} | dict(zip(names + left, angles * 2, strict=True))


def toe_standing(time):
    """Walker2d on its toes."""
    angles = leg(0.0, 0.8, tilt=0.6)
    names = ("thigh_joint", "leg_joint", "foot_joint")
    left = ("thigh_left_joint", "leg_left_joint", "foot_left_joint")
    return {"rootx": 0.0, "rooty": 0.0} | dict(zip(names + left, angles * 2, strict=True))


def dog(hip, knee, height):
    """Put down from one centimetre above the floor."""
    places = held(DOG, rootx=0.0, rear_hip=hip, front_hip=hip, rear_knee=knee, front_knee=knee)
    return lambda time: places | ({"rootz": height - 0.05 * time} if time < 0.2 else {})


def calm(step):
    return 0.0


def chatter(step):
    return 1.0 if step // 2 % 2 else -1.0


SCRIPTS = {
    "statue of HalfCheetah": ("HalfCheetah-v5", lambda time: held("HalfCheetah-v5"), calm,
                              {"survives without moving"}),
    "statue of Hopper": ("Hopper-v5", lambda time: held("Hopper-v5"), calm,
                         {"survives without moving"}),
    "statue of Walker2d": ("Walker2d-v5", standing, calm, {"survives without moving"}),
    "slide": ("HalfCheetah-v5", sliding_cheetah, calm, {"sliding"}),
    "hop": ("Hopper-v5", hopping, calm, {"bounding"}),
    "walk": ("Walker2d-v5", walking, calm, set()),
    "toe stand": ("Walker2d-v5", toe_standing, calm, {"on toes", "survives without moving"}),
    "toe walk": ("Walker2d-v5", walking_on_toes, calm, {"on toes"}),
    "somersault, then walk": ("Walker2d-v5", lambda time: somersault(time, 0.4, 1), calm,
                              {"somersault start"}),
    "walk, then backward somersault": ("Walker2d-v5", lambda time: somersault(time, 2.1, -1), calm,
                                       {"somersaults"}),
    "backward rolls": ("HalfCheetah-v5", rolling, calm,
                       {"somersaults", "on the body", "sliding"}),
    "slide on the back": ("HalfCheetah-v5", on_the_back(2.0), calm,
                          {"inverted running", "on the body", "sliding"}),
    "lie on the back": ("HalfCheetah-v5", on_the_back(0.0), calm,
                        {"upside down", "on the body", "survives without moving"}),
    "stand on feet welded to shins": (DOG, dog(0.3, -0.6, 0.43), calm, {"survives without moving"}),
    "kneel": (DOG, dog(0.0, 1.57, 0.25), calm, {"on the shins", "survives without moving"}),
    "chattering walk": ("Walker2d-v5", walking, chatter, {"bang-bang"}),
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_shows_its_findings_and_no_other(name):
    task, script, controls, expected = SCRIPTS[name]
    seconds = 6.0 if name == "backward rolls" else 3.2
    trajectory, parts = driven(task, script, seconds, controls)
    trajectory = at_the_feet(trajectory, parts)
    measured = measure(trajectory, parts)
    found = findings(trajectory, parts, measured)
    assert {each.name for each in found} == expected
    gait = measured.contact
    if "statue" in name or name == "toe stand":
        assert gait.stride is None and gait.order == ()
        assert gait.flight < 0.1 and gait.impulse_share.keys() <= {
            "foot", "foot foot_left", "foot bfoot", "foot ffoot"
        }  # fmt: skip
    if name == "statue of HalfCheetah":
        by_hand = {"bfoot": 76.7, "ffoot": 64.1}  # from the capsules in its MJCF file
        assert measured.toes.steepness == pytest.approx(by_hand, abs=1.5)
    if name == "walk":
        assert gait.stride == pytest.approx(0.8, abs=0.02)
        assert gait.order == ("foot", "foot_left")
        assert list(gait.duty_factor.values()) == pytest.approx([0.5, 0.5], abs=0.06)


def test_a_shin_within_its_foot_is_the_foot():
    """Go1's shins touch the floor whenever its feet do."""
    trajectory, parts = driven(DOG, dog(0.0, 0.0, 0.43), 1.0)
    before = contact(trajectory, parts).impulse_share
    after = contact(at_the_feet(trajectory, parts), parts).impulse_share
    assert before["shin rear_shin"] > 0.1 and before["shin front_shin"] > 0.1
    assert after.keys() == {"foot rear_foot", "foot front_foot"}
    assert after["foot rear_foot"] == pytest.approx(0.5, abs=0.02)
    once = at_the_feet(trajectory, parts).contacts
    again = at_the_feet(at_the_feet(trajectory, parts), parts).contacts
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(once.point[:, 2] + 0.023).max() < 0.012, "at the sole, in the foot's axes"

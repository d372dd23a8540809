"""Findings in real physics: each script shows what it is made to show, and nothing else."""

from __future__ import annotations

import re

import mujoco
import numpy as np
import pytest
from scripted import DOG, TURN, driven, held, leg, lifted, smooth, walking

from gallop.evaluation.audit.anatomy import anatomy
from gallop.evaluation.audit.contact import at_the_feet, contact
from gallop.evaluation.audit.findings import findings, measure
from gallop.evaluation.audit.recorder import Recorder


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


def in_millimetres_and_grams(text):
    """The same model in other units: its seconds are the same, and its forces are in g mm/s²."""

    def scaled(match):
        name, values = match.groups()
        factors = {"size": 1e3, "pos": 1e3, "fromto": 1e3, "ref": 1e3, "mass": 1e3}
        numbers = " ".join(f"{float(value) * factors[name]:g}" for value in values.split())
        return f'{name}="{numbers}"'

    text = re.sub(r'\b(size|pos|fromto|ref|mass)="([^"]*)"', scaled, text)
    text = text.replace("<geom mass", '<geom solimp="0.9 0.95 1" mass')  # its width is a length
    return text.replace("<worldbody>", '<option gravity="0 0 -9810"/><worldbody>')


def fallen(text):
    """Two seconds of a robot that stands on straight legs, and falls over."""
    model = mujoco.MjModel.from_xml_string(text)
    model.opt.timestep = 0.001
    data = mujoco.MjData(model)
    data.qvel[2] = 0.5
    recorder = Recorder(model, data)
    recorder.step(2500)
    parts = anatomy(model)
    return at_the_feet(recorder.trajectory(), parts), parts


def test_a_model_in_millimetres_and_grams_has_the_same_parts_shares_and_findings():
    (one, parts), (other, small) = fallen(DOG), fallen(in_millimetres_and_grams(DOG))
    assert [foot.name for foot in small.feet] == [foot.name for foot in parts.feet]
    assert small.parts == parts.parts
    assert small.height == pytest.approx(1e3 * parts.height)
    assert small.weight == pytest.approx(1e6 * parts.weight)
    measured, scaled = measure(one, parts), measure(other, small)
    assert measured.contact.impulse_share.keys() == scaled.contact.impulse_share.keys()
    assert measured.contact.impulse_share == pytest.approx(scaled.contact.impulse_share, abs=0.02)
    assert measured.contact.flight == pytest.approx(scaled.contact.flight, abs=0.02)
    assert scaled.contact.peak == pytest.approx(measured.contact.peak, rel=0.1)
    names = [each.name for each in findings(one, parts, measured)]
    assert names == [each.name for each in findings(other, small, scaled)] and names

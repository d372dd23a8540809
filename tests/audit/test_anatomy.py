"""Parts of robots, from their compiled models."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from scripted import DOG, compiled

from gallop.evaluation.audit.anatomy import anatomy

FEET = {
    "HalfCheetah-v5": ["bfoot", "ffoot"],
    "Hopper-v5": ["foot"],
    "Walker2d-v5": ["foot", "foot_left"],
    "Ant-v5": ["body 4", "body 7", "body 10", "body 13"],
    "Humanoid-v5": ["right_foot", "left_foot"],
    "Swimmer-v5": [],
    "InvertedPendulum-v5": [],
    DOG: ["rear_foot", "front_foot"],
}


@pytest.mark.parametrize("robot", FEET)
def test_feet_are_the_ends_of_legs(robot):
    parts = anatomy(compiled(robot))
    assert [foot.name for foot in parts.feet] == FEET[robot]
    assert [body for body, part in parts.parts.items() if part == "foot"] == [
        foot.body for foot in parts.feet
    ]
    assert parts.parts[parts.torso] == "torso" and 0 not in parts.parts


def test_parts_above_a_foot_are_shin_and_thigh():
    parts = anatomy(compiled("HalfCheetah-v5"))
    names = {parts.bodies[body]: part for body, part in parts.parts.items()}
    assert names == {
        "torso": "torso", "bthigh": "thigh", "bshin": "shin", "bfoot": "foot",
        "fthigh": "thigh", "fshin": "shin", "ffoot": "foot",
    }  # fmt: skip


def test_a_foot_has_a_toe_if_it_lies_flat():
    def length(robot):
        return [float(np.linalg.norm(foot.toe - foot.heel)) for foot in anatomy(robot).feet]

    assert length(compiled("Hopper-v5")) == pytest.approx([0.39])
    assert length(compiled("Walker2d-v5")) == pytest.approx([0.2, 0.2])
    assert length(compiled("HalfCheetah-v5")) == [0, 0], "it stands on the tips of its feet"
    assert length(compiled("Ant-v5")) == [0, 0, 0, 0]


def test_the_heel_is_behind_the_toe():
    model = compiled("Walker2d-v5")
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    for foot in anatomy(model).feet:
        axes = data.xmat[foot.body].reshape(3, 3)
        heel, toe = (data.xpos[foot.body] + axes @ end for end in (foot.heel, foot.toe))
        assert toe[0] - heel[0] == pytest.approx(0.2) and toe[2] == pytest.approx(heel[2])


@pytest.mark.parametrize("pose", [(0.3, -0.6), (-1.0, 0.4)])
def test_a_welded_body_turns_with_its_foot(pose):
    model = compiled(DOG)
    data = mujoco.MjData(model)
    data.qpos[3:5] = pose
    mujoco.mj_kinematics(model, data)
    foot = anatomy(model).feet[0]
    ((shin, matrix),) = foot.welded.items()
    assert model.body(shin).name == "rear_shin"
    point = np.array([0.01, 0.02, -0.15])  # in the shin's axes
    where = data.xpos[shin] + data.xmat[shin].reshape(3, 3) @ point
    expected = data.xmat[foot.body].reshape(3, 3).T @ (where - data.xpos[foot.body])
    np.testing.assert_allclose(matrix[:, :3] @ point + matrix[:, 3], expected, atol=1e-12)


def test_what_cannot_travel_has_no_anatomy():
    with pytest.raises(ValueError, match="cannot travel"):
        anatomy(compiled("Reacher-v5"))
    with pytest.raises(ValueError, match="moves"):
        anatomy(compiled("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>"))
    point = "<freejoint/><inertial pos='0 0 0' mass='1' diaginertia='1 1 1'/>"
    with pytest.raises(ValueError, match="no geoms"):
        anatomy(compiled(f"<mujoco><worldbody><body>{point}</body></worldbody></mujoco>"))


def test_which_way_a_pitch_turns():
    """Hopper's hinge turns its front down at positive angles, as HalfCheetah's."""
    for robot in ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5"):
        model = compiled(robot)
        data, parts = mujoco.MjData(model), anatomy(model)
        assert parts.pitch is not None
        data.qpos[parts.pitch] = 0.1
        mujoco.mj_kinematics(model, data)
        front = data.xmat[parts.torso].reshape(3, 3)[2, 0]  # height of its x axis
        assert np.sign(-front) == parts.pitch_sign


PLANAR = """
<mujoco><worldbody><geom type="plane" size="5 5 1"/><body pos="0 0 0.5" euler="{turned}">
  <joint type="slide" axis="{along}"/><joint type="slide" axis="0 0 1"/>
  <joint type="hinge" axis="{pitch}"/><geom type="box" size="0.2 0.1 0.1"/>
</body></worldbody></mujoco>
"""


@pytest.mark.parametrize(
    ("turned", "along", "pitch", "forward_sign", "pitch_sign"),
    [
        ("0 0 0", "1 0 0", "0 1 0", 1, 1),
        ("0 0 0", "-1 0 0", "0 -1 0", -1, -1),
        ("0 0 180", "1 0 0", "0 1 0", -1, -1),
        ("90 0 0", "1 0 0", "0 0 -1", 1, 1),
    ],
)
def test_directions_are_the_worlds_however_the_model_is_mirrored_or_turned(
    turned, along, pitch, forward_sign, pitch_sign
):
    text = PLANAR.format(turned=turned, along=along, pitch=pitch)
    model = mujoco.MjModel.from_xml_string(text)
    data, parts = mujoco.MjData(model), anatomy(model)
    assert (parts.forward_sign, parts.pitch_sign) == (forward_sign, pitch_sign)
    data.qpos[parts.forward] = parts.forward_sign
    mujoco.mj_kinematics(model, data)
    assert data.xpos[parts.torso][0] == pytest.approx(1.0)


TWO = """
<mujoco><worldbody><geom type="plane" size="5 5 1"/>
  <body name="load" pos="0 0 1"><freejoint/><geom size="0.3" mass="80"/></body>
  <body name="robot" pos="2 0 1"><freejoint/><geom size="0.1" mass="8"/><site name="s"/>
    <body name="leg"><joint name="hip"/><geom size="0.1" mass="1"/></body></body>
</worldbody><actuator>{motor}</actuator></mujoco>
"""


@pytest.mark.parametrize(
    ("motor", "torso"),
    [
        ('<motor joint="hip"/>', "robot"),
        ('<motor site="s"/>', "robot"),
        ('<adhesion body="leg" ctrlrange="0 1"/>', "robot"),
        ("", "load"),
    ],
)
def test_the_robot_is_what_has_actuators_not_what_it_carries(motor, torso):
    parts = anatomy(mujoco.MjModel.from_xml_string(TWO.format(motor=motor)))
    assert parts.bodies[parts.torso] == torso

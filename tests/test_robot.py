"""The task for any robot: start pose, health, actions and observations, for servos and motors."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

from gallop.commands.cli import main
from gallop.environments.make import make_env
from gallop.environments.robot_models import model_path

TASK = "gallop.environments.robot:Robot-v0"
MOTORS = {"stiffness": 40.0, "damping": 1.0}
KINDS = {"servos": {}, "motors": MOTORS}


def robot(kind="servos", **kwargs) -> Any:
    chosen = {"xml_file": f"gallop:quadruped_{kind}.xml", **KINDS[kind], **kwargs}
    return make_env(TASK, seed=0, env_kwargs=chosen)


@pytest.mark.parametrize("kind", KINDS)
def test_it_stands_in_its_pose_with_no_action(kind):
    """The action 0 costs nothing and holds the pose, for servos and for motors."""
    env = robot(kind, reset_noise_scale=0.0)
    for _ in range(200):
        _, reward, terminated, _, info = env.step(np.zeros(12, np.float32))
        assert not terminated
    data, home = env.unwrapped.data, env.unwrapped.init_qpos
    assert info["reward_ctrl"] == 0 and reward == pytest.approx(0.5, abs=0.01)
    assert abs(data.qpos[2] - home[2]) < 0.03 and abs(data.qvel).max() < 0.05
    assert mujoco.mj_id2name(env.unwrapped.model, mujoco.mjtObj.mjOBJ_KEY, 0) == "home"


def test_motors_without_stiffness_take_torques():
    env = robot("motors", stiffness=None)
    env.step(np.full(12, 0.25, np.float32))
    np.testing.assert_allclose(env.unwrapped.data.ctrl, 5.0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_moves_the_target_angle(kind):
    env = robot(kind, reset_noise_scale=0.0)
    for _ in range(100):
        observation, *_ = env.step(np.where(np.arange(12) % 3 == 0, 0.4, 0).astype(np.float32))
    angles = observation[9:21]  # relative to the pose
    assert angles[::3].mean() == pytest.approx(0.12, abs=0.03), "of 0.3 rad per action of 1"
    np.testing.assert_allclose(observation[33:], env.unwrapped._last_action)


def test_the_observation_does_not_depend_on_place_and_heading():
    env = robot(reset_noise_scale=0.0)
    before, _ = env.reset(seed=1)
    simulator = env.unwrapped
    qpos = simulator.init_qpos.copy()
    qpos[:2] = 30.0, -7.0
    qpos[3:7] = np.cos(0.6), 0, 0, np.sin(0.6)  # turned by 1.2 rad
    simulator.set_state(qpos, np.zeros(simulator.model.nv))
    np.testing.assert_allclose(simulator._observation(), before, atol=1e-12)
    assert before[:3].tolist() == pytest.approx([0, 0, -1]), "gravity points down"


@pytest.mark.parametrize(("height", "tilt"), [(0.1, 0.0), (0.27, 0.9), (0.27, np.pi)])
def test_an_episode_ends_when_it_is_low_or_tilted(height, tilt):
    env = robot()
    simulator = env.unwrapped
    qpos = simulator.init_qpos.copy()
    qpos[2] = height
    qpos[3:7] = np.cos(tilt / 2), np.sin(tilt / 2), 0, 0
    simulator.set_state(qpos, np.zeros(simulator.model.nv))
    _, _, terminated, _, info = env.step(np.zeros(12, np.float32))
    assert terminated and info["reward_healthy"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_only_feet_may_touch_the_floor(kind):
    """They are where the robot touches it in its pose."""
    env = robot(kind, reset_noise_scale=0.0)
    simulator = env.unwrapped
    legs = {simulator.model.body(foot.body).name for foot in simulator._feet}
    assert len(legs) == 4
    assert env.step(np.zeros(12, np.float32))[4]["reward_contact"] == 0
    qpos = simulator.init_qpos.copy()
    qpos[2] = 0.13
    qpos[simulator._joints.qpos] = np.tile([0.0, 0.9, -2.55], 4)  # on its shins and feet
    simulator.set_state(qpos, np.zeros(simulator.model.nv))
    assert env.step(np.zeros(12, np.float32))[4]["reward_contact"] == -1
    touching = {simulator.model.body(found.body).name for found in simulator._on_the_floor()}
    assert legs <= touching and "torso" not in touching


def test_servos_take_another_stiffness():
    """The same motion as that of motors with it. Menagerie's Go1 bounces on the servos it has."""
    actions = np.random.default_rng(0).uniform(-1, 1, (50, 12)).astype(np.float32)
    softened, motors = robot("servos", **MOTORS), robot("motors")
    for env in (softened, motors):  # the same limits of torques
        env.unwrapped.model.actuator_forcelimited[:] = False
        env.unwrapped.model.actuator_ctrllimited[:] = False
        for action in actions:
            env.step(action)
    heights = [env.unwrapped.data.qpos[2] for env in (softened, motors)]
    assert heights[0] == pytest.approx(heights[1], abs=0.01)
    stiff = robot("servos", stiffness=80.0)
    for env in (softened, stiff):
        env.reset(seed=0)
        for _ in range(100):
            env.step(np.zeros(12, np.float32))
    assert stiff.unwrapped.data.qpos[2] > softened.unwrapped.data.qpos[2] + 0.002, "sags less"


def test_walking_forward_is_rewarded_up_to_the_top_speed():
    env = robot(top_speed=0.6)
    simulator = env.unwrapped
    for velocity, expected in ((0.4, 0.4), (3.0, 0.6), (-1.0, -1.0)):
        env.reset(seed=0)
        simulator.data.qvel[0] = velocity
        _, _, _, _, info = env.step(np.zeros(12, np.float32))
        assert info["reward_forward"] == pytest.approx(expected, abs=0.25)


def test_forward_is_where_the_robot_faces():
    """The policy does not see its heading, so it could not correct it."""
    env = robot(reset_noise_scale=0.0)
    simulator = env.unwrapped
    rewards = []
    for turn in (0.0, 2.0):
        qpos, qvel = simulator.init_qpos.copy(), np.zeros(simulator.model.nv)
        qpos[3:7] = np.cos(turn / 2), 0, 0, np.sin(turn / 2)
        qvel[:2] = 0.5 * np.cos(turn), 0.5 * np.sin(turn)
        env.reset(seed=0)
        simulator.set_state(qpos, qvel)
        rewards.append(env.step(np.zeros(12, np.float32))[4]["reward_forward"])
    assert rewards[0] == pytest.approx(0.5, abs=0.1) and rewards[1] == pytest.approx(
        rewards[0], abs=0.01
    )


@pytest.mark.parametrize(("tilt", "height"), [(0.3, 0.0), (0.0, 0.03)])
def test_leaning_and_crouching_cost(tilt, height):
    env = robot(reset_noise_scale=0.0)
    simulator = env.unwrapped
    qpos = simulator.init_qpos.copy()
    qpos[2] -= height
    qpos[3:7] = np.cos(tilt / 2), np.sin(tilt / 2), 0, 0
    env.reset(seed=0)
    simulator.set_state(qpos, np.zeros(simulator.model.nv))
    info = env.step(np.zeros(12, np.float32))[4]
    expected = -2 * np.sin(tilt) ** 2, -5 * (height / simulator.init_qpos[2]) ** 2
    assert info["reward_tilt"] == pytest.approx(expected[0], abs=0.05)
    assert info["reward_height"] == pytest.approx(expected[1], abs=0.02)
    assert min(expected) < -0.06


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"xml_file": "gallop:quadruped_servo.xml"}, "did you mean quadruped_servos.xml"),
        ({"xml_file": "gallop:../robots/quadruped_servos.xml"}, "no such model"),
        ({"keyframe": "trot"}, "keyframe 'trot': the model has home"),
        ({"xml_file": "ant.xml"}, "ant.xml"),
    ],
)
def test_mistakes_get_one_line(kwargs, words, capsys):
    chosen = {"xml_file": "gallop:quadruped_servos.xml", **kwargs}
    text = "{" + ", ".join(f"{key}: '{value}'" for key, value in chosen.items()) + "}"
    command = ["run", "--algo", "sac", "--env", TASK, "--env-kwargs", text, "-n", "1000"]
    assert main([*command, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_robot_without_a_free_body_is_refused(tmp_path, capsys):
    path = model_path("gallop:quadruped_servos.xml").with_name("quadruped_body.xml")
    text = path.read_text().replace("<freejoint/>", "")
    text = text.split("<keyframe>")[0] + "</mujoco>"
    (tmp_path / "fixed.xml").write_text(text)
    with pytest.raises(Exception, match="no body of the robot moves freely"):
        make_env(TASK, seed=0, env_kwargs={"xml_file": str(tmp_path / "fixed.xml")})


def test_each_example_of_a_robot_is_an_experiment(capsys):
    for name in ("quadruped_servos", "quadruped_motors"):
        assert main(["run", name, "--dry-run"]) == 0
        assert "SAC on gallop.environments.robot:Robot-v0" in capsys.readouterr().out
    assert "Robot-v0" in gymnasium.registry

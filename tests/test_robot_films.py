"""Films of any robot: the present state, the robot in the picture, a floor, the right speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction

import mujoco
import numpy as np
import pytest
from conftest import tiny

from gallop.environments.camera import main_body, tracking_camera
from gallop.environments.make import make_env
from gallop.report.films import video
from gallop.report.films.frame_rate import frame_rate
from gallop.runs import workflow

ROBOT = """
<mujoco>
  <asset>
    <texture name="squares" type="2d" builtin="checker" rgb1="0 0 .2" rgb2="0 0 1" width="64"
             height="64"/>
    <material name="squares" texture="squares" texrepeat="5 5" texuniform="true"/>
  </asset>
  <worldbody>
    <light pos="0 0 5" directional="true"/>
    <geom name="floor" type="plane" size="0 0 1" material="squares"/>
    <body name="stone" pos="3 3 .2"><freejoint/><geom size=".1" mass="1" rgba="0 1 0 1"/></body>
    <body name="trunk" pos="0 0 .5">
      <freejoint/>
      <geom type="box" size=".3 .2 .1" mass="5" rgba="1 0 0 1"/>
      <body pos="0 0 -.1">
        <joint name="leg" axis="0 1 0" range="-60 60"/>
        <geom type="capsule" fromto="0 0 0 0 0 -.3" size=".05" rgba="1 0 0 1"/>
      </body>
    </body>
  </worldbody>
  <actuator><position joint="leg" kp="20" ctrlrange="-1 1"/></actuator>
</mujoco>
"""

PICTURES = """
import json, sys
import mujoco, numpy as np
from gallop.environments.make import make_env
from gallop.report.films.video import Camera

task, kwargs, metres = json.loads(sys.argv[1])
env = make_env(task, seed=0, env_kwargs=kwargs)
simulator = env.unwrapped
for _ in range(20):
    env.step(np.full(env.action_space.shape, 0.7, np.float32))
simulator.data.qpos[0] += metres
mujoco.mj_forward(simulator.model, simulator.data)
env.step(np.full(env.action_space.shape, -0.7, np.float32))
before = simulator.data.qpos.copy(), simulator.data.geom_xpos.copy(), simulator.data.qacc.copy()
camera = Camera(env, "software")
frame = camera.frame()
now = mujoco.MjData(simulator.model)
mujoco.mj_copyData(now, simulator.model, simulator.data)
mujoco.mj_forward(simulator.model, now)
after = simulator.data.qpos, simulator.data.geom_xpos, simulator.data.qacc
print(json.dumps({
    "untouched": all(bool((a == b).all()) for a, b in zip(before, after)),
    "behind": float(np.abs(before[1] - now.geom_xpos).max()),
    "error": float(np.abs(camera._studio.data.geom_xpos - now.geom_xpos).max()),
    "repeat": simulator.model.mat_texrepeat.tolist(),
}))
np.save("frame.npy", frame)
"""


@pytest.fixture
def picture(tmp_path):
    """Draws a task in a process of its own; returns what it tells, and the frame."""

    def draw(task, kwargs=None, metres=0.0):
        done = subprocess.run(
            [sys.executable, "-c", PICTURES, json.dumps([task, kwargs or {}, metres])],
            cwd=tmp_path,
            env={**os.environ, "MUJOCO_GL": video.find_backend().name},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1]), np.load(tmp_path / "frame.npy")

    return draw


@pytest.fixture
def robot(tmp_path):
    (tmp_path / "robot.xml").write_text(ROBOT)
    return "gallop.environments.robot:Robot-v0", {"xml_file": str(tmp_path / "robot.xml")}


def test_a_frame_shows_the_present_state_and_changes_nothing(picture):
    told, _ = picture("HalfCheetah-v5")
    assert told["untouched"]
    assert told["behind"] > 0.001, "metres by which MuJoCo's own positions lag behind"
    assert told["error"] == 0


@pytest.mark.parametrize("metres", [0.0, 500.0])
def test_a_robot_without_a_camera_is_followed_and_its_floor_has_squares(metres, picture, robot):
    told, frame = picture(*robot, metres)
    red = (frame[..., 0] > 100) & (frame[..., 2] < 80)
    assert red.mean() > 0.005, "it is in the picture"
    place = np.argwhere(red).mean(axis=0) / frame.shape[:2]
    assert (np.abs(place - 0.5) < 0.25).all(), "near the middle"
    assert np.isfinite(told["repeat"]).all()
    blue = frame[-100:, :, 2][~red[-100:]]
    assert blue.std() > 20, "the floor is no plain surface"


def test_the_heaviest_free_body_is_the_robot(robot):
    env = make_env(robot[0], seed=None, render_mode="rgb_array", env_kwargs=robot[1])
    model = env.unwrapped.model
    assert tracking_camera(model) is None
    assert model.body(main_body(model)).name == "trunk"
    assert env.unwrapped.mujoco_renderer.default_cam_config["trackbodyid"] == main_body(model)


def test_a_camera_of_another_name_that_tracks_is_used():
    cameras = (
        '<camera name="fixed"/><body name="trunk"><camera name="behind" mode="trackcom"/></body>'
    )
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{cameras}</worldbody></mujoco>")
    assert model.camera(tracking_camera(model)).name == "behind"
    cheetah = make_env("HalfCheetah-v5", seed=None).unwrapped.model
    assert cheetah.camera(tracking_camera(cheetah)).name == "track"


def test_the_duration_of_a_timestep_decides_about_the_speed():
    rate, note = frame_rate(make_env("Pendulum-v1", seed=None))
    assert rate == 20 and "render_fps is 30" in note and "0.05 s" in note
    assert frame_rate(make_env("HalfCheetah-v5", seed=None)) == (20, "")
    assert frame_rate(make_env("CartPole-v1", seed=None)) == (50, "")
    assert frame_rate(make_env("Hopper-v5", seed=None)) == (125, "")


def test_a_rate_is_exact_where_it_is_no_whole_number():
    rate, note = frame_rate(make_env("HalfCheetah-v5", seed=None, frame_skip=7))
    assert rate == Fraction(100, 7) and note == ""  # 14.29, and render_fps is 14


def test_an_action_that_takes_several_timesteps_lasts_as_long():
    rate, note = frame_rate(make_env("Pendulum-v1", seed=None), 2)
    assert rate == 10
    assert note == (
        "10 frames per second, because a timestep lasts 0.05 s and an action 2 timesteps; the "
        "task's render_fps is 30"
    )
    assert frame_rate(make_env("CartPole-v1", seed=None), 4) == (12.5, "")


def test_the_note_about_the_speed_is_in_the_table_of_a_run(tmp_path, capsys):
    run = workflow.run(tiny("sac", films=True), tmp_path, "a")
    told = capsys.readouterr()
    assert "20 frames per second, because a timestep lasts 0.05 s" in told.out + told.err
    assert run.milestone(100).film.exists()

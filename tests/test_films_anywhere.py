"""A film on every machine: with EGL, with OSMesa and without OpenGL."""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest
from test_video import frames_of, job

from gallop.report.films import video
from gallop.report.films.drawing import Pose, Studio
from gallop.runs.film_queue import Filming

# Films an episode whose poses are moved along by 15 m per timestep.
PROGRAM = """
import sys
from pathlib import Path
from gallop.environments.make import make_env
from gallop.report.films import video
from gallop.report.films.drawing import Studio, pose_of

renderer, path = sys.argv[1:]
env = make_env("HalfCheetah-v5", seed=1)
studio = Studio(make_env("HalfCheetah-v5", seed=None).unwrapped.model, renderer)

def frames():
    for timestep in range(41):
        pose = pose_of(env.unwrapped.data)
        pose.qpos[0] += 15 * timestep
        yield studio.frame(pose)
        env.step(env.action_space.sample())
    studio.close()

video.record(frames(), Path(path), 20)
"""
KINDS = ("egl", "osmesa", "none")


@pytest.fixture(scope="session")
def film(no_gl, tmp_path_factory):
    """The frames of that film, drawn with a kind of OpenGL."""

    def make(kind):
        path = tmp_path_factory.mktemp(kind) / "film.mp4"
        environment = {**os.environ, **video.variables_for(None)}
        if kind == "none":
            environment |= {"LD_PRELOAD": str(no_gl)}
        else:
            assert video.probe(kind) is not None, f"this test needs {kind}"
            environment |= {"MUJOCO_GL": kind, "PYOPENGL_PLATFORM": kind}
        renderer = "plain" if kind == "none" else "software"
        subprocess.run(
            [sys.executable, "-c", PROGRAM, renderer, str(path)], env=environment, check=True
        )
        return frames_of(path, (480, 480)).astype(int)

    return functools.cache(make)


def is_cheetah(frame):
    """The cheetah is orange and pink; sky and floor are grey, green or blue."""
    return frame[..., 0] - frame[..., 2] > 20


@pytest.mark.parametrize("kind", KINDS)
def test_the_cheetah_is_in_each_frame_with_floor_under_its_feet_to_the_end(kind, film):
    frames = film(kind)
    assert len(frames) == 41
    for frame in frames:
        rows, columns = np.nonzero(is_cheetah(frame))
        assert len(rows) > 2_000, "all of it, not a part"
        assert columns.min() > 4 and columns.max() < 475 and rows.min() > 100
        assert rows.max() < 440
        # Below it, and beside what is written there, lie tiles of two colours.
        floor = frame[rows.max() + 8 : 450, 40:440].mean(axis=-1)
        assert floor.std() > 15
        assert min((floor < floor.mean()).mean(), (floor > floor.mean()).mean()) > 0.2
    assert np.abs(np.diff(frames[:, 300:], axis=0)).mean() > 4, "the floor passes by"


def test_without_opengl_the_picture_shows_the_same_as_with_it(film):
    ours, theirs = is_cheetah(film("none")), is_cheetah(film("egl"))
    both, either = (ours & theirs).sum(axis=(1, 2)), (ours | theirs).sum(axis=(1, 2))
    assert (both / either).min() > 0.75  # antialiasing and compression blur the edges
    mark = film("none")[:, 450:, :200]
    assert (mark.mean(axis=-1) > 200).sum(axis=(1, 2)).min() > 150, "it is marked as such"


def test_a_job_without_opengl_is_filmed_and_a_note_tells_the_fix(no_gl, tmp_path, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", str(no_gl))
    n = job(tmp_path / "job.npz", task="Hopper-v5", n=10)
    (tmp_path / "out").mkdir()
    film = Filming(tmp_path / "job.npz", tmp_path / "out", None)
    assert film.error() is None
    assert film.note().startswith("drawn without OpenGL: no OpenGL backend works here; to fix it: ")
    assert len(frames_of(tmp_path / "out" / "rollout.mp4", (480, 480))) == n + 1


BALL = """
<mujoco>
  <visual><global fovy="60"/></visual>
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <geom type="sphere" size="9" pos="0 0 0" rgba="0 1 0 0"/>
    <geom type="sphere" size="9" pos="0 0 0" rgba="0 1 0 1" group="4"/>
    <camera name="track" mode="fixed" pos="0 -4 1" xyaxes="1 0 0 0 0 1" fovy="60"/>
    <body mocap="true" pos="0 0 1"><geom type="sphere" size=".5" rgba="1 0 0 1"/></body>
  </worldbody>
</mujoco>
"""


def ball_at(x, y, z):
    studio = Studio(mujoco.MjModel.from_xml_string(BALL), "plain")
    mocap = np.array([[x, y, z, 1, 0, 0, 0]], float)
    return studio.frame(Pose(np.zeros(0), mocap)).astype(int)


@pytest.mark.parametrize("place", [(0, 0, 1), (0.6, 0.5, 1.2)])
def test_a_ball_is_where_a_pinhole_camera_shows_it(place):
    frame = ball_at(*place)
    red = frame[..., 0] - frame[..., 2] > 60
    rows, columns = np.nonzero(red)
    depth = 4 + place[1]
    pixels = 240 / math.tan(math.radians(30))  # from a tangent to pixels
    assert columns.mean() == pytest.approx(239.5 + pixels * place[0] / depth, abs=3)
    assert rows.mean() == pytest.approx(239.5 - pixels * (place[2] - 1) / depth, abs=3)
    radius = pixels * 0.5 / math.sqrt(depth**2 - 0.25)
    assert math.sqrt(red.sum() / math.pi) == pytest.approx(radius, rel=0.04)
    assert (frame[..., 1] - frame[..., 0]).max() < 40, "no hidden geom"


def test_a_ball_throws_a_shadow_that_shows_its_height():
    def shadow(z):
        high = ball_at(0, 0, 60.0)  # out of the picture
        ball = ball_at(0, 0, z)
        darker = (high - ball).mean(axis=-1) > 12
        return np.nonzero(darker & (np.abs(ball[..., 0] - ball[..., 2]) < 40))

    near, far = shadow(0.6), shadow(1.4)
    assert len(near[0]) > 500 and len(far[0]) > 500
    assert far[1].max() > near[1].max() + 10, "away from the sun, which is at the left"

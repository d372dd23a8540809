"""Films show the evaluated episode in the right size and speed, or there is a reason why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny
from PIL import Image

from gallop.environments.make import make_env
from gallop.evaluation.episodes import RandomPolicy, evaluate
from gallop.report.films import encoding, video
from gallop.report.films.frames import FilmError
from gallop.report.films.progress_film import video_of
from gallop.run_folder import manifest
from gallop.run_folder.directory import Milestone
from gallop.run_folder.files import write_npz
from gallop.runs.film_queue import Filming


def job(path, task="HalfCheetah-v5", n=60, overlay=False, wrappers=(), **changes):
    """A film job of a random policy's episode of n timesteps."""
    settings = {"max_episode_steps": n}
    wrappers = [{wrapper: {}} for wrapper in wrappers]
    make = partial(make_env, task, seed=None, wrappers=wrappers, **settings)
    env = make()
    episodes = evaluate(RandomPolicy(env.action_space, [4]), make, [4])
    env.close()
    algo = "ppo" if task == "CartPole-v1" else "sac"
    experiment = tiny(
        algo, env=task, env_kwargs=settings, total_timesteps=1000, segment=1000,
        evaluation={"interval": 1000}, film_overlay=overlay,
        wrappers=wrappers,
    )  # fmt: skip
    video.write_job(path, experiment, episodes, 0)
    if changes:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file}
        write_npz(path, arrays | {name: np.array(value) for name, value in changes.items()})
    return len(episodes.actions[0])


def filmed(path, folder, backend="probe"):
    folder.mkdir()
    chosen = video.find_backend() if backend == "probe" else backend
    film = Filming(path, folder, chosen)
    film._child.wait(timeout=120)
    return film.error()


def frames_of(path, size):
    command = [encoding.ffmpeg(), "-loglevel", "error", "-i", str(path), "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    return np.frombuffer(raw.stdout, np.uint8).reshape(-1, *size, 3)


def test_a_working_backend_is_found_by_drawing():
    backend = video.find_backend()
    assert backend is not None, "these tests need EGL or OSMesa"
    assert backend.name in ("egl", "osmesa", "glfw")
    assert backend.renderer


def test_a_film_shows_each_frame_of_the_episode(tmp_path):
    n = job(tmp_path / "job.npz", n=60)
    assert filmed(tmp_path / "job.npz", tmp_path / "out") is None
    target = Milestone(tmp_path / "out")
    frames = frames_of(target.film, (480, 480))
    assert len(frames) == n + 1
    moved = np.abs(np.diff(frames.astype(int), axis=0)).max(axis=(1, 2, 3))
    assert (moved > 0).mean() > 0.9
    # The cheetah, orange before grey and green, stays in the picture: the camera follows it.
    red, blue = frames[..., 0].astype(int), frames[..., 2].astype(int)
    assert ((red - blue > 40).sum(axis=(1, 2)) > 500).all()
    with Image.open(target.gif) as gif:
        assert gif.size == (320, 320)
        assert gif.info["duration"] == 50  # 20 frames per second of simulated time
        assert abs(gif.n_frames - (n + 1)) <= 1
    assert sorted(p.name for p in target.path.iterdir()) == ["rollout.gif", "rollout.mp4"]


def test_a_film_runs_in_real_time_if_each_action_takes_several_timesteps(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    n = job(tmp_path / "job.npz", n=21, wrappers=["gallop_wrappers:SkipsFrames"])
    assert n == 11  # of two timesteps, that is 0.1 s; the last one has only one
    assert filmed(tmp_path / "job.npz", tmp_path / "out") is None
    film = tmp_path / "out" / "rollout.mp4"
    assert len(frames_of(film, (480, 480))) == n + 1
    assert video_of(film).rate == 10


def test_an_episode_shorter_than_a_frame_of_the_gif_has_a_gif_of_one_frame(tmp_path):
    job(tmp_path / "job.npz", task="Hopper-v5", n=1)  # 2 frames of 0.008 s
    assert filmed(tmp_path / "job.npz", tmp_path / "out") is None
    assert len(frames_of(tmp_path / "out" / "rollout.mp4", (480, 480))) == 2
    with Image.open(tmp_path / "out" / "rollout.gif") as gif:
        assert gif.n_frames == 1


def test_a_gif_that_fails_leaves_the_film_and_says_why(tmp_path, monkeypatch):
    works = encoding.ffmpeg()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ffmpeg").write_text(
        f'#!/bin/sh\ncase "$*" in *.gif*) echo no room >&2; exit 1;; esac\nexec {works} "$@"\n'
    )
    (tmp_path / "bin" / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    n = job(tmp_path / "job.npz", n=5)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rollout.gif").write_bytes(b"of an earlier film")
    film = Filming(tmp_path / "job.npz", tmp_path / "out", video.find_backend())
    film._child.wait(timeout=120)
    assert film.error() is None
    assert film.note() == "no gif: ffmpeg failed: no room"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rollout.mp4"]
    assert len(frames_of(tmp_path / "out" / "rollout.mp4", (480, 480))) == n + 1


def test_the_gif_has_at_most_the_first_ten_seconds(tmp_path):
    job(tmp_path / "job.npz", n=230)
    assert filmed(tmp_path / "job.npz", tmp_path / "out") is None
    with Image.open(tmp_path / "out" / "rollout.gif") as gif:
        assert gif.n_frames == 200


def test_tasks_without_mujoco_are_filmed_without_opengl(tmp_path):
    n = job(tmp_path / "job.npz", task="CartPole-v1", n=50)
    assert filmed(tmp_path / "job.npz", tmp_path / "out", backend=None) is None
    assert len(frames_of(tmp_path / "out" / "rollout.mp4", (400, 600))) == n + 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"episode_return": 1.0}, "instead of 1.0"),
        ({"actions": np.zeros((40, 5))}, "Action dimension mismatch"),
    ],
)
def test_an_episode_that_does_not_replay_exactly_has_no_film(changes, words, tmp_path):
    job(tmp_path / "job.npz", n=20, **changes)
    assert words in filmed(tmp_path / "job.npz", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir()), "no half film is left"


def test_identical_frames_cause_a_note_and_black_ones_are_refused(tmp_path):
    still = np.full((32, 32, 3), 200, dtype=np.uint8)
    note = video.record(iter([still] * 30), tmp_path / "a.mp4", 20)
    assert note == "nothing moves in 29 of 30 frames"
    with pytest.raises(FilmError, match="black"):
        video.record(iter([still * 0] * 30), tmp_path / "b.mp4", 20)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_without_opengl_no_backend_is_found(no_gl):
    program = "from gallop.report.films.video import find_backend; print(find_backend())"
    environment = {**os.environ, "LD_PRELOAD": str(no_gl)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None"


def test_without_opengl_a_run_has_films_and_reports_the_fix(no_gl, tmp_path):
    config = tmp_path / "cheetah.yaml"
    config.write_text(
        """
algo: ppo
env: HalfCheetah-v5
env_kwargs: {max_episode_steps: 50}
total_timesteps: 400
segment: 100
milestones: [50, 100]
evaluation: {interval: 100, n_episodes: 2}
audit: false
hyperparameters: {n_steps: 50, batch_size: 50, n_epochs: 1}
"""
    )
    environment = {**os.environ, "LD_PRELOAD": str(no_gl), "COLUMNS": "300"}
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM"):  # an earlier test may have made a film
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "gallop", "run", str(config), "--name", "a"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = "rollout.mp4 (drawn without OpenGL: no OpenGL backend works here; to fix it: sudo apt"
    assert told in done.stdout
    folder = tmp_path / "results" / "PPO_HalfCheetah-v5" / "a"
    assert f"film    {folder.relative_to(tmp_path)}/progress.mp4" in done.stdout
    meta = json.loads((folder / "checkpoints" / "050" / "meta.json").read_text())
    assert "apt-get install libegl1" in meta["film_note"]
    assert meta["missing"].keys() == {"audit.json"}
    frames = frames_of(folder / "checkpoints" / "050" / "rollout.mp4", (480, 480))
    assert len(frames) == 51
    assert {"progress.mp4", "progress.gif"} <= manifest.read(folder).keys()

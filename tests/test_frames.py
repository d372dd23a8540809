"""What a task renders becomes a film, or one line says why not."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny
from gallop_drawn_task import Drawn

from gallop.environments.make import make_env
from gallop.evaluation.episodes import RandomPolicy, evaluate
from gallop.report.films import encoding, video
from gallop.report.films.frames import FilmError, Frames, frames_a_second
from gallop.run_folder.directory import RunDirectory
from gallop.runs.film_queue import Filming, FilmQueue

TASK = "gallop_drawn_task:Drawn-v0"
PICTURE = np.zeros((64, 80, 3), np.uint8)
PICTURE[:, 30:50] = 255, 120, 0


def drawn(kind, t=5):
    task = Drawn(kind=kind)
    task.t = t
    return task.render()


@pytest.mark.parametrize("kind", ["plain", "rgba", "float", "float255", "list", "nested", "chw"])
def test_every_form_of_a_colour_image_gives_the_same_frame(kind):
    frame = Frames()(drawn(kind))
    assert frame.dtype == np.uint8
    assert np.array_equal(frame, drawn("plain"))


@pytest.mark.parametrize("kind", ["grey", "grey_last", "bool"])
def test_a_grey_image_gives_a_grey_frame(kind):
    assert np.array_equal(Frames()(drawn(kind)), np.stack([drawn("plain")[..., 0]] * 3, -1))


def test_a_dark_frame_among_floats_up_to_255_stays_dark():
    frames = Frames()
    assert frames(np.full((64, 64, 3), 200.0)).max() == 200
    assert frames(np.full((64, 64, 3), 1.0)).max() == 1
    frames = Frames()
    assert frames(np.zeros((64, 64, 3))).max() == 0
    assert frames(np.full((64, 64, 3), 0.5)).max() == 128
    assert frames(np.full((64, 64, 3), np.nan)).max() == 0


def test_both_sides_are_even_and_a_tiny_image_is_enlarged():
    assert Frames()(drawn("odd")).shape == (78, 102, 3)
    assert Frames()(drawn("tiny")).shape == (64, 64, 3)
    tall = np.arange(6, dtype=np.uint8).reshape(3, 2)
    frame = Frames()(tall)
    assert frame.shape == (64, 42, 3)  # 21 times as large, and one more row to be even
    assert (frame[:21, :21] == 0).all()
    assert (frame[21:42, 21:] == 3).all()


def test_frames_are_fitted_to_the_size_of_the_first():
    frames = Frames()
    frames(np.full((64, 80, 3), 10, np.uint8))
    assert frames.note == ""
    fitted = frames(np.full((128, 80, 3), 200, np.uint8))
    assert fitted.shape == (64, 80, 3)
    assert (fitted[:, 20:60] == 200).all()
    assert (fitted[:, :20] == 0).all() and (fitted[:, 60:] == 0).all()
    assert frames.note == "the task rendered 1 frame of another size, fitted to 80×64"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "None"),
        ("a robot", "str"),
        ([], r"shape \[0\]"),
        (np.zeros((0, 5, 3)), r"shape \[0, 5, 3\]"),
        (np.zeros(7), r"shape \[7\]"),
        (np.zeros((8, 9, 7)), r"shape \[8, 9, 7\]"),
        ([[1, 2], [3]], "different lengths"),
        (np.full((8, 8, 3), {}, dtype=object), "object"),
    ],
)
def test_anything_but_an_image_is_reported_in_one_line(given, words):
    with pytest.raises(FilmError, match=words):
        Frames()(given)


@pytest.mark.parametrize(
    ("said", "rate"),
    [(20, 20), (None, 30), (0, 30), (-5, 30), (float("nan"), 30), (float("inf"), 30),
     ("fast", 30), ("12", 12), (0.2, 1), (10**9, 1000), ([1], 30)],
)  # fmt: skip
def test_a_film_has_the_tasks_frame_rate_if_it_is_sensible(said, rate):
    assert frames_a_second({"render_fps": said}) == rate
    assert frames_a_second({}) == frames_a_second(None) == 30


# --- films ---------------------------------------------------------------------------------------


def film_of(folder, kind, monkeypatch, **kwargs):
    """The film of an episode of 30 timesteps, its error and its note."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    kwargs = {"kind": kind, **kwargs}
    make = partial(make_env, TASK, seed=None, **kwargs)
    env = make()
    episodes = evaluate(RandomPolicy(env.action_space, [4]), make, [4])
    env.close()
    video.write_job(folder / "100.npz", tiny("sac", env=TASK, env_kwargs=kwargs), episodes, 0)
    film = Filming(folder / "100.npz", folder / "out", None)
    return film.error(), film.note()


def pictures(path, height, width):
    command = [encoding.ffmpeg(), "-loglevel", "error", "-i", str(path), "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    return np.frombuffer(raw.stdout, np.uint8).reshape(-1, height, width, 3)


def test_a_film_of_channels_first_floats_shows_what_the_task_draws(tmp_path, monkeypatch):
    assert film_of(tmp_path, "chw", monkeypatch, fps=None) == (None, "")
    frames = pictures(tmp_path / "out" / "rollout.mp4", 64, 80)
    assert len(frames) == 31
    brightest = frames[..., 0].mean(axis=1).argmax(axis=1)
    moved = np.abs(brightest - np.arange(31) * 3 % 80)
    assert (moved <= 1).all()


def test_a_task_that_does_not_move_is_filmed_with_a_note(tmp_path, monkeypatch):
    error, note = film_of(tmp_path, "still", monkeypatch)
    assert error is None
    assert note == "nothing moves in 30 of 31 frames"
    assert np.abs(pictures(tmp_path / "out" / "rollout.mp4", 64, 80).astype(int) - 128).max() < 5


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("black", "the film is black"),
        ("raises", "the task's render() failed: RuntimeError: no screen"),
        ("none", "the task's render() returned None"),
    ],
)
def test_a_task_that_renders_nothing_has_no_film_and_one_line(kind, words, tmp_path, monkeypatch):
    error, _ = film_of(tmp_path, kind, monkeypatch)
    assert words in error
    assert "\n" not in error
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fps", "size"),
    [
        ("plain", 1000, (64, 80)), ("odd", 0, (78, 102)), ("tiny", "fast", (64, 64)),
        ("two", "missing", (64, 64)), ("big", 25, (720, 1280)), ("grows", 25, (64, 64)),
        ("rgba", 25, (64, 80)), ("grey", 25, (64, 80)), ("list", 25, (64, 80)),
    ],
)  # fmt: skip
def test_every_kind_of_image_becomes_a_film_and_a_gif(kind, fps, size, tmp_path, monkeypatch):
    error, note = film_of(tmp_path, kind, monkeypatch, fps=fps)
    assert error is None
    assert bool(note) == (kind in ("grows", "tiny"))  # one pixel stays lit
    assert len(pictures(tmp_path / "out" / "rollout.mp4", *size)) >= 7
    assert (tmp_path / "out" / "rollout.gif").stat().st_size > 100


def test_a_job_that_names_different_code_than_the_experiment_is_not_filmed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gift.py").write_text("open('imported', 'w').close()\n")
    folder, experiment = RunDirectory(tmp_path / "run"), tiny("sac", env=TASK)
    folder.create(experiment)
    make = partial(make_env, TASK, seed=None)
    env = make()
    episodes = evaluate(RandomPolicy(env.action_space, [4]), make, [4])
    env.close()
    gift = experiment.model_copy(update={"wrappers": ({"gift:Wrap": {}},)})
    (folder.state / "films").mkdir()
    for percent, of in ((50, gift), (100, experiment)):
        folder.milestone(percent).path.mkdir(parents=True)
        folder.milestone(percent).write_meta({"steps": 1})
        video.write_job(folder.film_job(percent), of, episodes, 0)
    folder.film_job(75).write_bytes(b"no job")
    queue = FilmQueue(folder, experiment)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    while queue.poll():
        time.sleep(0.05)
    missing = folder.milestone(50).read_meta()["missing"]["rollout.mp4"]
    assert "for another task than that of the run" in missing
    assert not (tmp_path / "imported").exists()
    assert folder.milestone(100).film.exists()

"""What is written: H.264 that browsers play, gifs of a limited size, labels and overlays."""

from __future__ import annotations

import subprocess
import time

import numpy as np
from conftest import tiny
from PIL import Image
from test_video import frames_of, job

from gallop.report.films import encoding, progress_film, video
from gallop.report.films.captions import Overlay
from gallop.run_folder import manifest
from gallop.run_folder.directory import RunDirectory
from gallop.runs.film_queue import Filming, FilmQueue


def colours(path, rgb, n, size=96):
    """A film of n frames of one colour with a dark bar that moves."""
    frames = np.full((n, size, size, 3), rgb, np.uint8)
    for number, frame in enumerate(frames):
        frame[10 + number : 14 + number, :8] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    video.record(iter(frames), path, 20)


def test_films_are_h264_in_yuv420p_with_the_index_first(tmp_path):
    colours(tmp_path / "a.mp4", (200, 100, 50), 10)
    told = subprocess.run(
        [encoding.ffmpeg(), "-i", str(tmp_path / "a.mp4")], capture_output=True, text=True
    ).stderr
    stream = next(line for line in told.splitlines() if "Video:" in line)
    assert "h264" in stream and "yuv420p" in stream and "96x96" in stream and "20 fps" in stream
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "players need not read to the end"
    assert progress_film.video_of(tmp_path / "a.mp4") == (96, 96, 20.0)


def test_the_gif_of_a_noisy_film_stays_below_two_megabytes(tmp_path):
    generator = np.random.default_rng(0)
    noise = (generator.integers(0, 256, (480, 480, 3), np.uint8) for _ in range(30))
    video.record(noise, tmp_path / "a.mp4", 5)
    source, gif = tmp_path / "a.mp4", tmp_path / "a.gif"
    best = encoding.GIF_QUALITIES[0]
    encoding._write_gif(source, gif, best, best.width)
    assert gif.stat().st_size > 2_000_000, "the film is a hard one"
    encoding.make_gif(source, gif)
    assert 20_000 < gif.stat().st_size <= 2_000_000
    with Image.open(gif) as image:
        assert image.n_frames > 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "a.mp4"]


def test_the_smallest_gif_fits_whatever_is_filmed():
    smallest = encoding.GIF_QUALITIES[-1]
    assert smallest.bits / 8 < encoding.GIF_BYTES / 4  # even if nothing can be compressed
    bits = [quality.bits for quality in encoding.GIF_QUALITIES]
    assert bits == sorted(bits, reverse=True)


# --- overlay -------------------------------------------------------------------------------------


def test_an_overlay_changes_only_its_own_corner():
    frame = np.full((480, 480, 3), 150, np.uint8)
    overlay = Overlay(0.05)
    overlay.note(1.0, np.zeros(3))
    written = overlay(frame)
    assert (frame == 150).all() and written.max() > 240
    changed = np.argwhere((written != frame).any(axis=-1))
    assert changed.min(axis=0).tolist() == [0, 0]
    assert changed[:, 0].max() < 40 and 100 < changed[:, 1].max() < 400
    tiny_frame = np.full((64, 30, 3), 150, np.uint8)
    assert overlay(tiny_frame).shape == (64, 30, 3)


def test_the_speed_is_a_mean_over_half_a_second_and_starts_anew():
    overlay = Overlay(0.1)
    for step in range(20):
        overlay.note(2.0 * step, np.array([0.3 * step, 0.4 * step, 5.0 * step]))
    assert overlay.text == "1.90 s   5.0 m/s   return 38.0"
    overlay.restart()
    overlay.note(0.0, np.array([90.0, 0.0, 0.0]))
    assert overlay.text == "0.00 s   0.0 m/s   return 0.0"
    overlay.note(-1.0, None)
    assert overlay.text == "0.10 s   return -1.0"


def test_a_job_with_an_overlay_has_it_in_its_film(tmp_path):
    films = []
    for overlay in (False, True):
        path, folder = tmp_path / f"{overlay}.npz", tmp_path / str(overlay)
        job(path, task="CartPole-v1", n=8, overlay=overlay)
        folder.mkdir()
        assert Filming(path, folder, None).error() is None
        films.append(frames_of(folder / "rollout.mp4", (400, 600)).astype(int))
    different = np.abs(films[0] - films[1]).max(axis=-1) > 60
    assert different[:, :30, :200].any(axis=(1, 2)).all()
    assert not different[:, 60:].any()


# --- progress film -------------------------------------------------------------------------------


def a_run(path, experiment, films):
    """A run folder with milestones and their films: percentage -> colour, frames, return."""
    run = RunDirectory(path)
    run.create(experiment)
    (run.state / "films").mkdir()
    for percent, (rgb, n, reward) in films.items():
        milestone = run.milestone(percent)
        colours(milestone.film, rgb, n)
        milestone.write_meta({"steps": percent * 10_000, "seeds": [7, 8]})
        np.savez(milestone.rewards, rewards=np.array([np.nan, reward]))
    return run


RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (40, 40, 220)


def test_milestones_side_by_side_have_labels_and_the_shorter_one_stays_dimmed(tmp_path):
    run = a_run(tmp_path / "run", tiny("ppo", films=True), {
        25: (RED, 12, -1234.4), 50: (GREEN, 6, 0.6), 100: (BLUE, 12, 9626.0),
    })  # fmt: skip
    panels = progress_film.panels(run, [25, 50, 75, 100])
    assert [panel.label for panel in panels] == [
        "25 %, 250,000 timesteps, return −1,234",
        "50 %, 500,000 timesteps, return 1",
        "100 %, 1,000,000 timesteps, return 9,626",
    ]
    progress_film.side_by_side(panels, tmp_path / "a.mp4")
    strip = progress_film.STRIP
    frames = frames_of(tmp_path / "a.mp4", (96 + strip, 3 * 96)).astype(int)
    assert len(frames) == 12
    for column, colour in enumerate((RED, GREEN, BLUE)):
        label = frames[:, :strip, column * 96 : (column + 1) * 96]
        assert label.mean() < 110 and label.max() > 120, "light letters on a dark strip"
        middle = frames[:, strip + 60, column * 96 + 60]
        bright = np.array(colour) * np.where(np.arange(12) < 6, 1, progress_film.DIM)[:, None]
        expected = bright if column == 1 else np.array([colour] * 12)
        assert np.abs(middle - expected).max() < 25


def test_more_than_four_milestones_go_into_rows(tmp_path):
    films = dict.fromkeys((20, 40, 60, 80, 100), (RED, 3, 1.0))
    run = a_run(tmp_path / "run", tiny("ppo", films=True), films)
    progress_film.side_by_side(progress_film.panels(run, list(films)), tmp_path / "a.mp4")
    size = (2 * (96 + progress_film.STRIP), 4 * 96)
    assert len(frames_of(tmp_path / "a.mp4", size)) == 3


def finished(queue, seconds=60):
    started = time.monotonic()
    while queue.poll():
        assert time.monotonic() - started < seconds
        time.sleep(0.02)


def test_the_progress_film_is_made_after_a_stop_and_is_in_the_manifest(tmp_path):
    experiment = tiny("ppo", films=True, total_timesteps=480, milestones=[50, 100])
    run = a_run(tmp_path / "run", experiment, {50: (RED, 12, 1.0), 100: (BLUE, 12, 2.0)})
    progress_film.write_job(run.progress_job, [50, 100])
    assert "state/films/progress.npz" in manifest.read(run.path)
    stopped = FilmQueue(run, experiment)
    assert stopped.poll()
    assert stopped.describe() == "progress film: 50 %, 100 % side by side"
    stopped.close()
    assert run.progress_job.exists() and not run.progress_film.exists()
    finished(FilmQueue(run, experiment))
    assert run.progress_film.exists() and run.progress_gif.exists()
    assert {"progress.mp4", "progress.gif"} <= manifest.read(run.path).keys()
    assert not run.film_jobs() and "state/films/progress.npz" not in manifest.read(run.path)
    assert run.progress_film in run.results()


def test_with_one_film_only_there_is_no_progress_film_yet(tmp_path, caplog):
    experiment = tiny("ppo", films=True)
    run = a_run(tmp_path / "run", experiment, {100: (BLUE, 12, 2.0)})
    progress_film.write_job(run.progress_job, [50, 100])
    finished(FilmQueue(run, experiment))
    assert "no progress film: fewer than two milestones have films" in caplog.text
    assert run.progress_job.exists(), "so that a resumed run tries again"

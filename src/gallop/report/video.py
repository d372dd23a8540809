"""Filming episodes as mp4 and gif.

A film shows the very episode that was evaluated. Its job holds the episode's seed and actions. A
child process replays them, and checks that the return is bit-identical. So filming requires neither
the policy nor PyTorch.

    python -m gallop.report.video JOB.npz FOLDER      (started by film_queue.py)
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gallop.answers import parsed, take_standard_output, tell
from gallop.ending import die_with_parent, owning_the_process, standard_input_ends
from gallop.environments.camera import main_body, tracking_camera
from gallop.environments.make import make_env
from gallop.environments.spaces import Env, seconds_per_timestep
from gallop.environments.watchdog import watching
from gallop.errors import FrozenError, counted, printable, shortened
from gallop.evaluation.episodes import Episodes
from gallop.experiments import yaml_text
from gallop.experiments.own_code import ISOLATED
from gallop.experiments.settings import Experiment
from gallop.experiments.task import task_spec
from gallop.policies.policy import Array
from gallop.reading import read_npz
from gallop.report.frames import FilmError, Frames, frames_a_second
from gallop.run_folder.directory import Milestone
from gallop.run_folder.files import replacing
from gallop.run_folder.manifest import write_npz_result

SIZE = 480  # pixels, height and width
GIF_SECONDS, GIF_SIZE, GIF_FPS = 10, 320, 20
FLOOR_METRES = 2_000.0  # half the floor's length: good policies run 600 m per episode
MOST_PIXELS, MOST_FPS = 1_280, 240  # of a film's longer side; frames per second
PROBE_SECONDS = 60
SECONDS_BETWEEN_ANSWERS = 0.5

# pygame tasks then draw without a display. With "dummy", which all systems have, some draw black.
SDL_DRIVER = "offscreen" if sys.platform == "linux" else "dummy"
NO_BACKEND = "no OpenGL backend works here"
_HINTS = {
    "linux": "sudo apt-get install libegl1 libgl1 libgl1-mesa-dri",
    "darwin": "run from a session with a display",
    "win32": "install the graphics card's driver",
}


class Backend(NamedTuple):
    """An OpenGL backend that works on this machine."""

    name: str
    """Value for MUJOCO_GL."""
    renderer: str
    """The renderer's name, as OpenGL gives it."""

    @property
    def is_software(self) -> bool:
        """Whether it renders on the CPU."""
        return any(word in self.renderer.lower() for word in ("llvmpipe", "softpipe", "swrast"))


# --- which GL backend works ----------------------------------------------------------------------


_PROBE = """
import json, os
answer = os.dup(1)
os.dup2(2, 1)  # what a library prints is not the answer
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    brightest = renderer.render().max()
    try:
        from OpenGL import GL
        name = GL.glGetString(GL.GL_RENDERER).decode()
    except Exception:
        name = "unknown"
    os.write(answer, json.dumps({"brightest": int(brightest), "renderer": name}).encode())
"""


def find_backend() -> Backend | None:
    """Return the first OpenGL backend that works here, or None."""
    return next((backend for name in candidates() if (backend := probe(name))), None)


def candidates() -> list[str]:
    """Return values for MUJOCO_GL in the order to try them; the environment's own is first."""
    asked = os.environ.get("MUJOCO_GL")
    usual = ("egl", "osmesa", "glfw") if sys.platform == "linux" else ("",)
    return list(dict.fromkeys([asked, *usual] if asked else usual))


@functools.cache
def probe(name: str) -> Backend | None:
    """Return this OpenGL backend if it renders a bright sphere in a child process, else None.

    A child process is needed because MUJOCO_GL takes effect only before MuJoCo is imported, and
    because a broken OpenGL library can crash its process.
    """
    if name == "glfw" and not has_display():
        return None
    try:
        child = subprocess.run(
            [sys.executable, ISOLATED, "-c", _PROBE],
            env={**os.environ, "MUJOCO_GL": name},
            capture_output=True,
            timeout=PROBE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    for answer in parsed(child.stdout.splitlines()):
        if answer.get("brightest", 0) > 50:
            return Backend(name, str(answer["renderer"]))
    return None


def has_display() -> bool:
    """Return whether a window can be opened."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def how_to_fix() -> str:
    """Return the command that gives this machine an OpenGL backend."""
    return _HINTS.get(sys.platform, _HINTS["linux"])


def ffmpeg() -> str:
    """Return the path of the system's ffmpeg, or of the one in imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found is None:
        import imageio_ffmpeg

        found = imageio_ffmpeg.get_ffmpeg_exe()
    return found


_JOB = ("task", "seed", "actions", "episode_return")  # arrays of a job

# --- jobs ----------------------------------------------------------------------------------------


def write_job(path: Path, experiment: Experiment, episodes: Episodes, index: int) -> None:
    """Write all that a child process needs to film one of these episodes.

    Args:
        path: of the job.
        experiment: whose task is filmed.
        episodes: of the evaluation.
        index: of the episode to film.
    """
    task = {**_code(experiment), "own_rewards": True, "watchdog": experiment.watchdog}
    arrays = {
        "task": np.array(yaml_text.write(task)),
        "seed": np.array(episodes.seeds[index]),
        "actions": np.asarray(episodes.actions[index]),
        "episode_return": np.array(episodes.returns[index]),
    }
    write_npz_result(path, arrays)


def _code(experiment: Experiment) -> dict[str, Any]:
    """Return what a job names as code, with its arguments."""
    return {
        "env": experiment.env,
        "kwargs": experiment.evaluation_env_kwargs,
        "wrappers": list(experiment.wrappers),
    }


def why_not_filmed(path: Path, experiment: Experiment) -> str:
    """Return why a job cannot belong to this run; empty if it can.

    A job is a file in the run's folder, and the code that it names is imported. So it may name only
    what the experiment names, to which the user has consented.
    """
    try:
        task = yaml_text.read(str(read_npz(path, _JOB)["task"]))
        ours = _code(experiment)
        same = yaml_text.write({name: task[name] for name in ours}) == yaml_text.write(ours)
    except Exception as error:  # the file may contain anything
        return f"{path} is not a film job, or is damaged: {error or type(error).__name__}"
    return "" if same else f"{path} is for another task than that of the run"


def is_mujoco_job(path: Path) -> bool:
    """Return whether this job requires OpenGL."""
    return is_mujoco(yaml_text.read(str(read_npz(path, ["task"])["task"]))["env"])


# --- in the child --------------------------------------------------------------------------------


def film(job: Path, folder: Path, software: bool) -> str:
    """Replay a job's episode, and write rollout.mp4 and rollout.gif into a folder.

    Args:
        job: path of the job.
        folder: where to write.
        software: whether rendering is on the CPU; the film is then simplified.

    Returns:
        A remark on the film; empty if there is none.

    Raises:
        FilmError: if the replay gives another return, nothing is rendered, or ffmpeg fails.
    """
    file = read_npz(job, _JOB)
    task = yaml_text.read(str(file["task"]))
    seed, actions = int(file["seed"]), file["actions"]
    expected = float(file["episode_return"])
    with watching(float(task.get("watchdog", 0))):
        return _film(task, folder, seed, actions, expected, software)


def _film(
    task: Mapping[str, Any],
    folder: Path,
    seed: int,
    actions: Array,
    expected: float,
    software: bool,
) -> str:
    env = make_env(
        task["env"],
        seed=None,
        # Only tasks without MuJoCo need Gymnasium's renderer.
        render_mode=None if is_mujoco(task["env"]) else "rgb_array",
        wrappers=task["wrappers"],
        own_rewards=task.get("own_rewards", False),  # older jobs lack it
        env_kwargs=task["kwargs"],
    )
    with replacing(folder) as temporary:
        target = Milestone(temporary)
        try:
            frames = _play(env, seed, actions, expected, software)
            rate, note = fps(env)
            note = joined(note, _encode(frames, target.film, rate, len(actions) + 1))
        finally:
            env.close()
        _make_gif(target.film, target.gif)
    return note


def record(drawn: Iterator[Any], path: Path, rate: int) -> str:
    """Write what a task renders into an mp4 (used by `gallop watch`).

    Args:
        drawn: what `render()` returned, frame by frame.
        path: of the film.
        rate: frames per second.

    Returns:
        A remark on the film; empty if there is none.

    Raises:
        FilmError: if ffmpeg fails, or nothing is rendered.
    """
    with replacing(path.parent) as temporary:
        return _encode(drawn, temporary / path.name, rate, 0)


class Camera:
    """Renders an environment: with MuJoCo's own renderer if it has a model, else `render()`."""

    def __init__(self, env: Env, software: bool) -> None:
        """Set up rendering.

        Args:
            env: after its first reset.
            software: whether rendering is on the CPU; effects are then switched off.
        """
        self._env = env
        if not hasattr(env.unwrapped, "mujoco_renderer"):
            self._renderer = None
            return
        import mujoco

        simulator: Any = env.unwrapped
        model, data = simulator.model, simulator.data
        self._model, self._shown = model, mujoco.MjData(model)
        _extend_floor(model)
        if software:
            model.vis.quality.offsamples = 0  # takes effect only before the first render
        self._data = data
        self._renderer = mujoco.Renderer(model, SIZE, SIZE)
        if software:  # 10 frames per second with these and antialiasing, 84 without (llvmpipe)
            self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
            self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._view = _view(env)

    def frame(self) -> Any:
        """Return the current frame, for tasks without MuJoCo in the form of their `render()`.

        Raises:
            FilmError: if `render()` raises.
        """
        if self._renderer is None:
            try:
                return self._env.render()
            except Exception as error:  # the task's code may raise anything
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise FilmError(f"the task's render() failed: {reason}") from error
        import mujoco

        # After a step, positions of bodies still belong to the state before its last physics step.
        mujoco.mj_copyData(self._shown, self._model, self._data)
        mujoco.mj_forward(self._model, self._shown)
        self._renderer.update_scene(self._shown, self._view)
        return self._renderer.render()

    def close(self) -> None:
        """Free the OpenGL context; to be called before the environment is closed."""
        if self._renderer is not None:
            self._renderer.close()


def is_mujoco(task: str) -> bool:
    """Return whether rendering this task requires OpenGL."""
    return "mujoco" in str(task_spec(task).entry_point)


def joined(*notes: str) -> str:
    """Join the notes that are not empty."""
    return "; ".join(filter(None, notes))


def fps(env: Env) -> tuple[int, str]:
    """Return the frame rate of a film in real time, and a note if the task names another one.

    The duration of a timestep decides; a task that does not tell it has its `render_fps`.
    """
    metadata = getattr(env, "metadata", None)
    said, seconds = frames_a_second(metadata), seconds_per_timestep(env)
    if seconds is None:
        return said, ""
    rate = min(max(1, round(1 / seconds)), MOST_FPS)
    declared = metadata.get("render_fps") if isinstance(metadata, Mapping) else None
    if declared is None or abs(said - rate) <= 1:
        return rate, ""
    told = f"{counted(rate, 'frame')} per second, because a timestep lasts {seconds:.3g} s"
    return rate, f"{told}; the task's render_fps is {declared}"


def _play(
    env: Env,
    seed: int,
    actions: Array,
    expected: float,
    software: bool,
) -> Iterator[Any]:
    env.reset(seed=seed)
    camera = Camera(env, software)
    try:
        yield camera.frame()
        total = 0.0
        for action in actions:
            total += float(env.step(action.item() if action.ndim == 0 else action)[1])
            yield camera.frame()
    finally:
        camera.close()
    if total != expected and not (math.isnan(total) and math.isnan(expected)):
        raise FilmError(f"the replay returned {total!r} instead of {expected!r}")


def _extend_floor(model: Any) -> None:
    """Extend the rendered floor as far as policies run, with tiles of the same size.

    MuJoCo's planes are infinite for collisions, regardless of their rendered size, so the physics
    does not change. A plane of size 0 is drawn without an end already.
    """
    import mujoco

    floor = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, "floor")
    if floor < 0 or model.geom_type[floor] != mujoco.mjtGeom.mjGEOM_PLANE:
        return
    size, material = float(model.geom_size[floor, 0]), model.geom_matid[floor]
    if not 0 < size < FLOOR_METRES or material < 0:
        return
    model.geom_size[floor, :2] = FLOOR_METRES
    model.mat_texrepeat[material] *= FLOOR_METRES / size


def _view(env: Env) -> Any:
    """Return the model's tracking camera if it has one, else Gymnasium's view of the task, which
    follows the robot."""
    import mujoco

    simulator: Any = env.unwrapped
    model, data = simulator.model, simulator.data
    camera = tracking_camera(model)
    if camera is not None:
        return camera
    view = mujoco.MjvCamera()
    view.distance = model.stat.extent
    view.lookat[:] = np.median(data.geom_xpos, axis=0)
    for name, value in (simulator.mujoco_renderer.default_cam_config or {}).items():
        if isinstance(value, np.ndarray):
            getattr(view, name)[:] = value
        else:
            setattr(view, name, value)
    body = main_body(model)
    if body is not None:
        view.type, view.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, body
    return view


def _encode(drawn: Iterator[Any], path: Path, rate: int, n_total: int) -> str:
    """Stream what a task renders to ffmpeg as H.264, with at most one frame in memory.

    Returns:
        A remark on the film; empty if there is none.

    Raises:
        FilmError: if ffmpeg fails, a frame is not an image, or all frames are black.
    """
    frames = Frames()
    first = frames(next(drawn))
    height, width = first.shape[:2]
    encoder = subprocess.Popen(
        [
            *(ffmpeg(), "-loglevel", "error", "-y"),
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(rate)),
            *("-i", "-", "-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", "24"),
            *("-pix_fmt", "yuv420p", *_limits(width, height, rate)),
            *("-movflags", "+faststart", str(path)),
        ],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert encoder.stdin is not None
    brightest, darkest, n_changes, n_frames = 0, 255, 0, 0
    previous, told = first, time.monotonic()
    try:
        for image in itertools.chain([first], map(frames, drawn)):
            encoder.stdin.write(image.tobytes())
            brightest = max(brightest, int(image.max()))
            darkest = min(darkest, int(image.min()))
            n_changes += not np.array_equal(image, previous)
            n_frames += 1
            previous = image
            if n_total and time.monotonic() - told > SECONDS_BETWEEN_ANSWERS:
                told = time.monotonic()
                tell(frames=(n_frames, n_total))
    except BrokenPipeError:
        pass  # the reason follows from ffmpeg's message
    finally:
        _, message = encoder.communicate()
    if encoder.returncode != 0:
        raise FilmError(f"ffmpeg failed: {message.decode(errors='replace').strip()[-300:]}")
    if brightest < 30 and brightest - darkest < 8:
        raise FilmError("the film is black: the task renders nothing")
    still = ""
    if n_frames > 2 and n_changes < n_frames // 10:
        still = f"nothing moves in {n_frames - n_changes - 1:,} of {n_frames:,} frames"
    return joined(still, frames.note)


def _limits(width: int, height: int, rate: int) -> list[str]:
    """Return arguments of ffmpeg that limit a film to what players can show."""
    limits = []
    if max(width, height) > MOST_PIXELS:
        factor = MOST_PIXELS / max(width, height)
        sides = (max(2, round(side * factor / 2) * 2) for side in (width, height))
        limits += ["-vf", f"scale={':'.join(map(str, sides))}"]
    if rate > MOST_FPS:
        limits += ["-r", str(MOST_FPS)]  # in real time; frames are dropped
    return limits


def _make_gif(source: Path, path: Path) -> None:
    """Write the film's first seconds as a gif with its own palette."""
    scale = f"fps={GIF_FPS},scale='min({GIF_SIZE},iw)':-2:flags=lanczos"
    cut = ["-t", str(GIF_SECONDS), "-i", str(source)]
    palette = path.with_suffix(".png")
    _run_ffmpeg([*cut, "-vf", f"{scale},palettegen=stats_mode=diff", str(palette)])
    merge = f"{scale}[x];[x][1:v]paletteuse=dither=bayer:bayer_scale=4:diff_mode=rectangle"
    _run_ffmpeg([*cut, "-i", str(palette), "-lavfi", merge, str(path)])
    palette.unlink()


def _run_ffmpeg(arguments: Sequence[str]) -> None:
    done = subprocess.run(
        [ffmpeg(), "-loglevel", "error", "-y", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise FilmError(f"ffmpeg failed: {done.stderr.strip()[-300:]}")


def main(arguments: Sequence[str]) -> int:
    """Film one job; answer with the number of frames done, or why there is no film."""
    job, folder, renderer = arguments
    die_with_parent(standard_input_ends)
    take_standard_output()
    if hasattr(os, "nice"):
        os.nice(5)  # training has priority
    try:
        with owning_the_process():
            note = film(Path(job), Path(folder), software=renderer == "software")
        if note:
            tell(note=note)
    except (Exception, FrozenError) as error:
        traceback.print_exc()  # into the log
        tell(reason=shortened(printable(str(error) or type(error).__name__)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

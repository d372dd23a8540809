"""Filming episodes as mp4 and gif.

A film shows the very episode that was evaluated. Its job holds the episode's seed and actions. A
child process replays them, and checks that the return is bit-identical. So filming requires neither
the policy nor PyTorch.

    python -m gallop.report.films.video JOB.npz FOLDER      (started by film_queue.py)
"""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from gallop.answers import parsed
from gallop.environments.make import make_env
from gallop.environments.spaces import Env
from gallop.environments.watchdog import watching
from gallop.evaluation.episodes import Episodes
from gallop.experiments import yaml_text
from gallop.experiments.own_code import ISOLATED
from gallop.experiments.settings import Experiment
from gallop.experiments.task import task_spec
from gallop.policies.policy import Array
from gallop.reading import read_npz
from gallop.report.child import answering
from gallop.report.films.captions import Overlay
from gallop.report.films.drawing import Renderer, Studio, pose_of
from gallop.report.films.encoding import encode, make_gif
from gallop.report.films.frame_rate import frame_rate, timesteps_per_action
from gallop.report.films.frames import FilmError, Frame
from gallop.report.films.plain_renderer import WITHOUT_OPENGL
from gallop.run_folder.directory import Milestone
from gallop.run_folder.files import remove_file, replacing
from gallop.run_folder.manifest import write_npz_result

PROBE_SECONDS = 60

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


def renderer_with(backend: Backend | None) -> Renderer:
    """Return what draws MuJoCo's models with this backend."""
    if backend is None:
        return "plain"
    return "software" if backend.is_software else "hardware"


def variables_for(backend: Backend | None) -> dict[str, str]:
    """Return the environment variables with which MuJoCo is to be imported."""
    return {"MUJOCO_GL": "disabled" if backend is None else backend.name}


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


_PLAIN_PROBE = """
import mujoco
from gallop.report.films.drawing import Pose, Studio
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><geom type='box' size='1 1 1' rgba='1 0 0 1'/></worldbody></mujoco>")
studio = Studio(model, "plain")
frame = studio.frame(Pose(studio.data.qpos.copy())).astype(int)
assert (frame[..., 0] - frame[..., 2] > 60).mean() > 0.01, "the box is not in the picture"
"""


def why_not_plain() -> str:
    """Return why films cannot be drawn without OpenGL; empty if they can, as a child has shown."""
    child = subprocess.run(
        [sys.executable, ISOLATED, "-c", _PLAIN_PROBE],
        env={**os.environ, **variables_for(None)},
        capture_output=True,
        text=True,
        timeout=PROBE_SECONDS,
    )
    return child.stderr.strip().splitlines()[-1] if child.returncode else ""


def has_display() -> bool:
    """Return whether a window can be opened."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def how_to_fix() -> str:
    """Return the command that gives this machine an OpenGL backend."""
    return _HINTS.get(sys.platform, _HINTS["linux"])


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
    task |= {"overlay": experiment.film_overlay}
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


# --- in the child --------------------------------------------------------------------------------


def film(job: Path, folder: Path, renderer: Renderer) -> str:
    """Replay a job's episode, and write rollout.mp4 and rollout.gif into a folder.

    Args:
        job: path of the job.
        folder: where to write.
        renderer: what draws MuJoCo's models.

    Returns:
        A remark on the film; empty if there is none.

    Raises:
        FilmError: if the replay gives another return, nothing is rendered, or ffmpeg fails.
    """
    file = read_npz(job, _JOB)
    task = yaml_text.read(str(file["task"]))
    episode = Replayed(int(file["seed"]), file["actions"], float(file["episode_return"]))
    with watching(float(task.get("watchdog", 0))):
        return _film(task, folder, episode, renderer)


class Replayed(NamedTuple):
    """An episode to play again."""

    seed: int
    actions: Array
    expected: float
    """Its return."""


def _film(task: Mapping[str, Any], folder: Path, episode: Replayed, renderer: Renderer) -> str:
    make = functools.partial(
        make_env,
        task["env"],
        seed=None,
        # Only tasks without MuJoCo need Gymnasium's renderer.
        render_mode=None if is_mujoco(task["env"]) else "rgb_array",
        wrappers=task["wrappers"],
        own_rewards=task.get("own_rewards", False),  # older jobs lack it
        env_kwargs=task["kwargs"],
    )
    n_timesteps = timesteps_per_action(make) if task["wrappers"] else 1
    env = make()
    with replacing(folder) as temporary:
        target = Milestone(temporary)
        try:
            rate, note = frame_rate(env, n_timesteps)
            env.reset(seed=episode.seed)
            camera = Camera(env, renderer)
            overlay = Overlay(float(1 / rate))
            frames = _play(env, camera, episode, overlay)
            n = len(episode.actions) + 1
            finish = overlay if task.get("overlay", False) else None
            note = joined(note, camera.note, encode(frames, target.film, rate, n, finish))
        finally:
            env.close()
        why_no_gif = make_gif(target.film, target.gif)
    if why_no_gif:
        remove_file(Milestone(folder).gif)  # of an earlier film
    return joined(note, why_no_gif)


def _play(env: Env, camera: Camera, episode: Replayed, overlay: Overlay) -> Iterator[Any]:
    """Take an episode's actions after its reset, and draw each state."""
    total = 0.0
    try:
        yield camera.frame(overlay, total)
        for action in episode.actions:
            total += float(env.step(action.item() if action.ndim == 0 else action)[1])
            yield camera.frame(overlay, total)
    finally:
        camera.close()
    expected = episode.expected
    if total != expected and not (math.isnan(total) and math.isnan(expected)):
        raise FilmError(f"the replay returned {total!r} instead of {expected!r}")


def record(
    drawn: Iterator[Any],
    path: Path,
    rate: Fraction | int,
    finish: Callable[[Frame], Frame] | None = None,
) -> str:
    """Write what a task renders into an mp4 (used by `gallop watch`).

    Args:
        drawn: what `render()` returned, frame by frame.
        path: of the film.
        rate: frames per second.
        finish: changes each frame, such as by writing on it.

    Returns:
        A remark on the film; empty if there is none.

    Raises:
        FilmError: if ffmpeg fails, or nothing is rendered.
    """
    with replacing(path.parent) as temporary:
        return encode(drawn, temporary / path.name, rate, finish=finish)


class Camera:
    """Renders an environment: a MuJoCo model in a studio, any other task by its `render()`."""

    def __init__(self, env: Env, renderer: Renderer) -> None:
        """Set up rendering.

        Args:
            env: after its first reset.
            renderer: what draws MuJoCo's models.
        """
        self._env = env
        self._studio: Studio | None = None
        simulator: Any = env.unwrapped
        if hasattr(simulator, "mujoco_renderer"):
            settings = simulator.mujoco_renderer.default_cam_config
            start = pose_of(simulator.data)
            self._studio = Studio(simulator.model, renderer, settings, start)

    def frame(self, overlay: Overlay | None = None, total: float = 0.0) -> Any:
        """Return the current frame, for tasks without MuJoCo in the form of their `render()`.

        Args:
            overlay: is told the state that the frame shows.
            total: the return so far.

        Raises:
            FilmError: if `render()` raises.
        """
        frame = self._draw()
        if overlay is not None:
            overlay.note(total, None if self._studio is None else self._studio.place)
        return frame

    def _draw(self) -> Any:
        if self._studio is not None:
            simulator: Any = self._env.unwrapped
            return self._studio.frame(pose_of(simulator.data))
        try:
            return self._env.render()
        except Exception as error:  # the task's code may raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise FilmError(f"the task's render() failed: {reason}") from error

    @property
    def note(self) -> str:
        """A remark on how it is drawn; empty if there is none."""
        if self._studio is None or not self._studio.is_plain:
            return ""
        return f"{WITHOUT_OPENGL}: {NO_BACKEND}; to fix it: {how_to_fix()}"

    def close(self) -> None:
        """Free the OpenGL context; to be called before the environment is closed."""
        if self._studio is not None:
            self._studio.close()


def is_mujoco(task: str) -> bool:
    """Return whether a task is drawn from its MuJoCo model, without its own `render()`."""
    return "mujoco" in str(task_spec(task).entry_point)


def joined(*notes: str) -> str:
    """Join the notes that are not empty."""
    return "; ".join(filter(None, notes))


def main(arguments: Sequence[str]) -> int:
    """Film one job; answer with the number of frames done, or why there is no film."""
    job, folder, renderer = arguments
    return answering(lambda: film(Path(job), Path(folder), cast("Renderer", renderer)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

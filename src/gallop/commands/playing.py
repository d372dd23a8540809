"""Watch a policy in a window, or film it if there is no display."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from rich.progress import track

from gallop.answers import say_why
from gallop.commands.arguments import check_output
from gallop.commands.consent import trusted
from gallop.environments.identity import identity_of
from gallop.environments.spaces import Env
from gallop.environments.watchdog import watching
from gallop.errors import ExperimentError, TaskError, counted
from gallop.evaluation.episodes import stack
from gallop.experiments import yaml_text
from gallop.experiments.own_code import ISOLATED, child_environment
from gallop.experiments.settings import TaskArguments
from gallop.experiments.yaml_file import task_arguments
from gallop.policies.policy import Policy, begin_episodes
from gallop.policies.sb3_zip import Options, normalizer_option
from gallop.report.display import Display
from gallop.report.films import video
from gallop.report.films.captions import Overlay
from gallop.report.films.drawing import Renderer
from gallop.report.films.frame_rate import frame_rate, timesteps_per_action
from gallop.report.films.frames import FilmError
from gallop.run_folder.consent import for_children, with_consent
from gallop.run_folder.find_policy import Named, find_policy, policy_path, stands_alone
from gallop.run_folder.links import check_run_around


def watch(
    what: str | PathLike[str] | None = None,
    *,
    env: str | None = None,
    env_kwargs: Mapping[str, object] | None = None,
    wrappers: Sequence[str | Mapping[str, object]] | None = None,
    n_episodes: int = 3,
    seed: int = 0,
    output: str | PathLike[str] | None = None,
    overlay: bool = False,
    results: str | PathLike[str] = Path("results"),
    normalizer: str | PathLike[str] | None = None,
    activation: str | None = None,
    trust: bool = False,
) -> int:
    """Show a policy for a few episodes, and print their returns.

    It opens a window. Without a display, or with `output`, it writes a film instead.

    Args:
        what: what `gallop.run` returned, or the path of a run (its best policy), of a milestone's
            folder, or of an SB3 zip; None: the newest run.
        env: id of the task, for a zip outside a run folder whose name does not contain it.
        env_kwargs: keyword arguments of the task, on top of the run's own.
        wrappers: Gymnasium wrappers, written as in an experiment, instead of the run's own.
        n_episodes: number of episodes.
        seed: seed of the first episode; each following episode adds 1.
        output: the .mp4 file to write instead of opening a window. Default without a display:
            ``<policy>_watch.mp4`` next to the policy file.
        overlay: write time, speed and return into the film.
        results: the folder that holds all runs.
        normalizer: as in `gallop.evaluate`.
        activation: as in `gallop.evaluate`.
        trust: as in `gallop.evaluate`.

    Returns:
        The exit code of `gallop watch`, which is 0, or 1 if this machine cannot render the task.

    Raises:
        ConsentError: if the folder names code that you have not agreed to run.
        ExperimentError: if there is no such policy, or it belongs to another task.
        PolicyFileError: if the policy file cannot be read.

    Example:
        A film of one episode of the newest run's best policy::

            import gallop

            gallop.watch(n_episodes=1, output="pendulum.mp4")
    """
    output, results = _path(output), Path(results)
    if n_episodes < 1:
        raise ExperimentError(f"--episodes {n_episodes}: must be at least 1")
    if output is not None:
        check_output(output, ".mp4")
    task_settings = task_arguments({"env_kwargs": env_kwargs, "wrappers": wrappers})
    path = policy_path(_path(what), results)
    filming = output is not None or not video.has_display()
    # Before anything imports MuJoCo, which reads MUJOCO_GL only then.
    backend = video.find_backend() if filming else None
    late = "mujoco" in sys.modules
    if filming and not late:
        os.environ.update(video.variables_for(backend))
    named = with_consent(
        lambda: find_policy(path, env=env, results=results, arguments=task_settings),
        lambda request: trust and trusted(request),
    )
    display = Display()
    if named.note:
        display.say(f"{named.path}: {named.note}")
    with watching(named.task.watchdog):
        note, changed = named.task.reward_wrappers().note, named.task_note(identity_of(named.task))
    if note:
        display.say(f"{named.path}: returns are {note}")
    if changed:
        display.say(f"{named.path}: {changed}")
    options = Options(
        normalizer=normalizer_option(normalizer),
        trust=trust and stands_alone([path], env),
        activation=activation,
    )
    if not filming:
        _show(named, options, n_episodes, seed, display)
        return 0
    if output is None:
        output = named.path.with_name(f"{named.path.stem}_watch.mp4")
        check_run_around(output)
        check_output(output, ".mp4")
    if backend is not None and late and os.environ.get("MUJOCO_GL") != backend.name:
        arguments = [str(path), "--episodes", str(n_episodes), "--seed", str(seed)]
        arguments += ["--output", str(output), *(["--env", env] if env else [])]
        arguments += _as_flags(task_settings)
        if options.normalizer is not None:
            chosen = options.normalizer
            file = chosen.absolute() if isinstance(chosen, Path) else chosen  # `./none` is a file
            arguments += ["--normalizer", str(file)]
        arguments += ["--activation", activation] if activation else []
        arguments += ["--overlay"] * overlay
        return _in_a_child(arguments + (["--trust"] if trust else []), backend.name)
    os.environ.setdefault("SDL_VIDEODRIVER", video.SDL_DRIVER)
    renderer = video.renderer_with(backend)
    try:
        with watching(named.task.watchdog):  # not for a window, where the user may pause
            note = _film(named, options, n_episodes, seed, output, renderer, overlay, display)
    except FilmError as error:
        say_why(f"{named.path} on {named.task.env} cannot be filmed: {error}")
        return 1
    display.say(f"film    {output}" + (f" ({note})" if note else ""))
    return 0


def _path(path: str | PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)


def _as_flags(arguments: TaskArguments) -> list[str]:
    """Keyword arguments and wrappers as flags of the command line."""
    flags = ["--env-kwargs", yaml_text.write(arguments.env_kwargs)] * bool(arguments.env_kwargs)
    if arguments.wrappers is not None:
        flags += ["--wrappers", yaml_text.write(list(arguments.wrappers))]
    return flags


def _in_a_child(arguments: list[str], backend: str) -> int:
    """Film in another process, if MuJoCo was imported without a GL backend, as after training."""
    environment = {**child_environment(), **for_children(), "MUJOCO_GL": backend}
    # The worker ends when this process ends.
    worker = [sys.executable, ISOLATED, "-m", "gallop.execution.worker"]
    command = [*worker, "gallop", "watch", *arguments]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as child:
        return child.wait()


def _show(named: Named, options: Options, n: int, seed: int, display: Display) -> None:
    env = _guarded(named, "human")
    try:
        policy = _read(named, env, options, display)
        display.say(f"{named.path} on {named.task.env}; press Ctrl-C to stop")
        for number in range(n):
            for _ in _episode(policy, env, seed + number, named.task.cut_after(env), display):
                pass
    finally:
        env.close()


def _film(
    named: Named,
    options: Options,
    n: int,
    seed: int,
    output: Path,
    renderer: Renderer,
    overlay: bool,
    display: Display,
) -> str:
    """Write the film; returns a note about it, if any."""
    mujoco = video.is_mujoco(named.task.env)
    make = partial(_guarded, named, None if mujoco else "rgb_array")
    n_timesteps = timesteps_per_action(make) if named.task.wrappers else 1
    env = make()
    with contextlib.ExitStack() as open_things:
        open_things.callback(env.close)
        policy = _read(named, env, options, display)
        camera, limit = video.Camera(env, renderer), named.task.cut_after(env)
        open_things.callback(camera.close)
        rate, note = frame_rate(env, n_timesteps)
        caption = Overlay(float(1 / rate))

        def frames() -> Iterator[Any]:
            for number in track(range(n), "filming", console=display.console):
                caption.restart()
                for total in _episode(policy, env, seed + number, limit, display):
                    yield camera.frame(caption, total)

        finish = caption if overlay else None
        return video.joined(note, camera.note, video.record(frames(), output, rate, finish))


def _read(named: Named, env: Env, options: Options, display: Display) -> Policy:
    policy = named.read_for(env, options)
    if note := named.normalizer_note(options):
        display.say(f"{named.path}: {note}")
    return policy


def _guarded(named: Named, render_mode: str | None) -> Env:
    from gallop.environments.guard import Guard

    return Guard(named.task.make(render_mode), named.task.env)


def _episode(policy: Policy, env: Env, seed: int, limit: int, display: Display) -> Iterator[float]:
    """Play one episode, and yield the return so far at its start and after each timestep.

    An episode that does not end is cut after `limit` timesteps, as in evaluations.
    """
    length = 0
    try:
        observation, _ = env.reset(seed=seed)
        begin_episodes(policy)
        total, ended = 0.0, False
        yield total
        while not ended and length < limit:
            action = policy.act(stack([observation]))[0]
            observation, reward, terminated, truncated, _ = env.step(
                action.item() if action.ndim == 0 else action
            )
            total, length, ended = total + float(reward), length + 1, terminated or truncated
            yield total
    except TaskError as error:
        error.where = f"in the episode of seed {seed}, timestep {length:,}"
        raise
    cut = "" if ended else "; cut there, because it did not end"
    display.say(f"seed {seed}: return {total:,.1f} in {counted(length, 'timestep')}{cut}")

"""Measurement of how fast this machine trains an experiment, within a second or two.

No more timesteps or gradient steps are measured than the run has.

It runs in a forked child process, which is killed if it takes too long. So it has no effect on this
process: random streams and modules do not change, nothing is printed or written, and a task that
hangs or crashes affects only the child. The child runs no code that was not already run here to
prepare the experiment.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gallop.algorithms.spec import imported
from gallop.environments.make import evaluation_env
from gallop.environments.vectorised import training_environments
from gallop.errors import interrupted
from gallop.evaluation.episodes import stack
from gallop.experiments.plan import Plan
from gallop.experiments.settings import Experiment
from gallop.learners.choose import make_learner
from gallop.run_folder.prepared import PreparedRun

if TYPE_CHECKING:
    from gallop.environments.spaces import Env
    from gallop.learners.learner import Learner

SECONDS_OF_STEPPING = 0.2
SECONDS_OF_LEARNING = 0.8
SECONDS_ENOUGH = 2.5  # of learning, where single steps are slow
SECONDS_TO_WAIT = 6.0  # for the child, before it is killed
ROUND = 4  # gradient steps after a timestep while measuring: even, as TD3 delays every other one
MANY = 10**9  # timesteps: more than are ever measured


@dataclass
class Speed:
    """Seconds that each part of a run takes if nothing else uses the processors.

    A part that was not measured is None.
    """

    make: float | None = None
    """To make one environment."""
    env_step: float | None = None
    """One timestep of one environment, with random actions; resets included."""
    timestep: float | None = None
    """One timestep of training without gradient steps: acting, stepping, storing."""
    gradient_step: float | None = None
    """One gradient step."""
    act: float | None = None
    """The policy's actions for all episodes of an evaluation."""
    busy: float = 1.0
    """Factor by which it took longer, because other programs use the processors, too."""


def measure(prepared: PreparedRun) -> Speed | None:
    """Measure the speed of a run's environments and learner in a child process.

    Returns:
        What could be measured; None if nothing could: on systems other than Linux (where a fork
        is not safe), on devices other than the CPU, and for a task that does not respond in time.
    """
    if sys.platform != "linux" or not _on_cpu(prepared):
        return None
    try:
        _import_learner(prepared)
        return _measured_in_child(lambda tell: _measure(prepared, tell))
    except (OSError, ImportError) as error:
        if interrupted(error):
            raise
        return None


def _on_cpu(prepared: PreparedRun) -> bool:
    """Whether the learner computes on the CPU: a forked process cannot use other devices."""
    device = prepared.experiment.device
    if prepared.choice.name == "native" or device == "cpu":
        return True
    if device != "auto":
        return False
    import torch

    return not torch.cuda.is_available()


def _import_learner(prepared: PreparedRun) -> None:
    """Import once, here, what the run needs anyway: the child then has it, too."""
    spec = prepared.experiment.algorithm
    if prepared.choice.name == "native":
        imported(spec.native_class)
        return
    imported(spec.sb3_class)
    try:
        importlib.import_module("torch._dynamo")  # torch.optim does so when it is first used
        importlib.import_module("gallop.learners.stable_baselines")
    except ImportError as error:
        if interrupted(error):
            raise


# --- the child process ---------------------------------------------------------------------------


def _measured_in_child(task: Callable[[Callable[[Speed], None]], None]) -> Speed | None:
    """Run `task` in a forked child process, and return the last value that it reported."""
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12, of other threads
        child = os.fork()
    if child == 0:
        _be_child(theirs, task)
    os.close(theirs)
    try:
        text = _read_all(ours, time.monotonic() + SECONDS_TO_WAIT)
    finally:
        os.close(ours)
        for kill in (os.killpg, os.kill):  # also what the task may have started
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
    lines = text.decode().split("\n")[:-1]  # what follows the last line end is incomplete
    return Speed(**json.loads(lines[-1])) if lines else None


def _read_all(pipe: int, until: float) -> bytes:
    """Read from a pipe until then, or until it is closed."""
    parts = b""
    while (left := until - time.monotonic()) > 0:
        if select.select([pipe], [], [], left)[0]:
            part = os.read(pipe, 65536)
            if not part:
                break
            parts += part
    return parts


def _be_child(pipe: int, task: Callable[[Callable[[Speed], None]], None]) -> None:
    """Run the task silently, and exit without Python's clean-up, which belongs to the parent."""
    try:
        os.setsid()  # the parent kills this process group
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 2 * SECONDS_TO_WAIT)  # if the parent is killed
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        warnings.simplefilter("ignore")
        task(lambda speed: _tell(pipe, speed))
    except BaseException:  # if it matters, the run itself will report it
        os._exit(1)
    os._exit(0)


def _tell(pipe: int, speed: Speed) -> None:
    os.write(pipe, json.dumps(asdict(speed)).encode() + b"\n")


# --- what the child does -------------------------------------------------------------------------


def _measure(prepared: PreparedRun, tell: Callable[[Speed], None]) -> None:
    """Measure part by part, reporting after each, as a later part may fail."""
    speed = Speed()
    experiment = _in_short_rounds(prepared.experiment)
    began, cpu = time.perf_counter(), time.thread_time()
    env = evaluation_env(experiment)
    speed.make = time.thread_time() - cpu
    observation, speed.env_step = _stepped(env, prepared.plan.horizon)
    passed = time.perf_counter() - began
    speed.busy = max(1.0, passed / max(time.thread_time() - cpu, passed / 100))
    tell(speed)
    with contextlib.suppress(Exception):
        env.close()
    if prepared.choice.name == "native" or prepared.choice.n_threads == 1:
        import torch

        # A thread pool that the parent process has used does not survive a fork.
        torch.set_num_threads(1)
    environments = training_environments(experiment, prepared.choice.n_threads)
    learner = make_learner(experiment, prepared.choice, environments, 0)
    n = experiment.evaluation.n_episodes
    speed.act = _seconds_of(lambda: learner.policy.act(stack([observation] * n)))
    tell(speed)
    _learn(speed, learner, environments, experiment, prepared.plan)
    tell(speed)
    environments.close()


def _in_short_rounds(experiment: Experiment) -> Experiment:
    """Return the experiment with short rounds, learning from the first timestep on.

    Its environments are in this process.
    """
    settings = experiment.hyperparameters
    n_envs = experiment.n_envs
    if experiment.algorithm.on_policy:
        n_steps = max(math.ceil(2 * settings.batch_size / n_envs), 8)
        changes: dict[str, object] = {"n_steps": min(getattr(settings, "n_steps", 0), n_steps)}
    else:
        changes = {"train_freq": 1, "gradient_steps": ROUND, "utd": None, "learning_starts": 0}
    return experiment.model_copy(
        update={"hyperparameters": settings.model_copy(update=changes), "vec_env": "dummy"}
    )


def _stepped(env: Env, n_enough: int) -> tuple[Any, float]:
    """Return an observation, and the processor time of a timestep."""
    observation, _ = env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]
    env.step(actions[0])
    n, began, cpu, ended = 0, time.perf_counter(), time.thread_time(), True
    while (n < n_enough and time.perf_counter() - began < SECONDS_OF_STEPPING) or n < 3:
        if ended:
            observation, _ = env.reset()
        observation, _, terminated, truncated, _ = env.step(actions[n % 64])
        ended = terminated or truncated
        n += 1
    return observation, (time.thread_time() - cpu) / n


def _seconds_of(call: Callable[[], object]) -> float:
    """Return the processor time of the fastest of a few calls, as the first ones are slow."""
    taken = []
    for _ in range(5):
        began = time.thread_time()
        call()
        taken.append(time.thread_time() - began)
    return min(taken)


class _Enough(BaseException):
    """Ends a call of `learn`; learners do not catch it."""


class _Mark(NamedTuple):
    """A moment during learning."""

    seconds: float
    cpu_seconds: float
    """Processor time of this thread."""
    timestep: int
    n_rounds: int


class _Round(NamedTuple):
    """A round of gradient steps."""

    cpu_seconds: float
    n_steps: int


def _learn(
    speed: Speed, learner: Learner, environments: Any, experiment: Experiment, plan: Plan
) -> None:
    """Learn for a moment, and set what a timestep and a gradient step take."""
    rounds, marks = _clocked_rounds(learner), list[_Mark]()

    def on_tick(timestep: int) -> None:
        if not rounds:  # the first one takes longest
            return
        marks.append(_Mark(time.perf_counter(), time.thread_time(), timestep, len(rounds)))
        passed, n = marks[-1].seconds - marks[0].seconds, len(rounds) - marks[0].n_rounds
        is_whole_run = (
            timestep - marks[0].timestep >= plan.horizon
            or n * rounds[-1].n_steps >= plan.n_gradient_steps
        )
        if n >= 2 and (is_whole_run or passed > SECONDS_OF_LEARNING):
            raise _Enough
        if n and passed > SECONDS_ENOUGH:
            raise _Enough

    quantum = experiment.hyperparameters.quantum(experiment.n_envs)
    with contextlib.suppress(_Enough):
        learner.learn(environments, 0, MANY // quantum * quantum, MANY, on_tick)
    first, last = marks[0], marks[-1]
    between = rounds[first.n_rounds : last.n_rounds]
    n_steps = sum(each.n_steps for each in between)
    learning = sum(each.cpu_seconds for each in between)
    # Processor time of this thread is the wall-clock time on an idle machine, also if several
    # threads divide the work of a gradient step evenly.
    speed.gradient_step = learning / n_steps
    cpu_seconds = last.cpu_seconds - first.cpu_seconds
    speed.timestep = (cpu_seconds - learning) / (last.timestep - first.timestep)
    speed.busy = max(1.0, (last.seconds - first.seconds) / cpu_seconds)


def _clocked_rounds(learner: Learner) -> list[_Round]:
    """Wrap the learner's method that does gradient steps; return a list that collects rounds."""
    rounds: list[_Round] = []
    own = [name for name in ("_train_round", "_train") if hasattr(learner, name)]
    owner, name = (learner, own[0]) if own else (getattr(learner, "_model"), "train")  # noqa: B009
    train = getattr(owner, name)

    def clocked(*arguments: Any, **keywords: Any) -> Any:
        n, cpu = learner.n_gradient_steps, time.thread_time()
        answer = train(*arguments, **keywords)
        rounds.append(_Round(time.thread_time() - cpu, learner.n_gradient_steps - n))
        return answer

    setattr(owner, name, clocked)
    return rounds

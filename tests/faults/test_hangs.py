"""Nothing hangs or is left behind: frozen tasks, dead workers, Ctrl-C, killed parents, leaks."""

from __future__ import annotations

import contextlib
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium
import pytest
import yaml
from gallop_frozen_task import NEVER, Frozen
from small_search import one_round

import gallop
from gallop.environments import workers
from gallop.environments.make import make_env
from gallop.environments.vectorised import training_environments
from gallop.environments.watchdog import Making, watching
from gallop.environments.wrappers import Marked
from gallop.errors import FrozenError, WorkerError
from gallop.experiments.yaml_file import from_dict
from gallop.run_folder.directory import RunDirectory
from gallop.sharing import finished_run
from gallop.sharing.model_card import model_card

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc")
TESTS = Path(__file__).parents[1]
TASK = "gallop_frozen_task:Frozen-v0"
MARK = "GALLOP_HANGS_HOME"  # set in the environment of all processes started by a test
BASELINE = 280  # timesteps: 80 of the probe, 200 of the random policy's ten episodes


def experiment(how="sleep", at=NEVER, at_worker=NEVER, **settings):
    """600 timesteps of PPO in three segments; the first evaluation is at timestep 200."""
    return {
        "algo": "ppo",
        "env": TASK,
        "env_kwargs": {"how": how, "at": at, "at_worker": at_worker},
        "total_timesteps": 600,
        "segment": 200,
        "milestones": [100],
        "evaluation": {"interval": 200, "n_episodes": 2},
        "n_envs": 2,
        "films": False,
        "audit": False,
        "n_threads": 1,
        "hyperparameters": {"n_steps": 50, "batch_size": 50, "policy_kwargs": {"net_arch": [16]}},
        **settings,
    }


class Command:
    """`gallop ARGUMENTS` running in a folder, in its own session, as in a terminal."""

    def __init__(self, home, *arguments):
        self.home = home
        with (home / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gallop", *map(str, arguments)],
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, MARK: str(home), "PYTHONPATH": str(TESTS), "COLUMNS": "200"},
            )

    def output(self):
        return (self.home / "output").read_text(errors="replace")

    def wait_for(self, is_so, seconds=60):
        """Wait until a condition holds, while the command is running."""
        until = time.monotonic() + seconds
        while not is_so():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < until, self.output()
            time.sleep(0.02)

    def wait_until_frozen(self, timesteps, seconds=60):
        """Wait until a boundary is on disk, and a moment longer for what follows to stop."""
        pattern = f"results/*/*/state/{timesteps:012d}/boundary.json"
        self.wait_for(lambda: any(self.home.glob(pattern)), seconds)
        time.sleep(1)

    def interrupt(self, number=signal.SIGINT):
        """Send a signal to the whole process group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def finish(self, seconds=60):
        """Return exit code and output, and check that no process is left a moment later."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still there after {seconds} s: {self.output()}") from None
        assert left_behind(self.home) == []
        assert "Traceback" not in self.output()
        return code, self.output()


def marked(home):
    """Processes started in this folder: id -> command."""
    mark, found = f"{MARK}={home}".encode(), {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended, or belongs to another user
            if mark in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if command:  # else it has ended, but was not waited for
                    found[int(process.name)] = command
    return found


def left_behind(home, seconds=15):
    """Return the processes that are still there after some seconds."""
    until = time.monotonic() + seconds
    while (found := marked(home)) and time.monotonic() < until:
        time.sleep(0.1)
    return list(found.values())


@pytest.fixture
def command(tmp_path):
    """Starts a command with a configuration; processes left by it are killed after the test."""

    def start(data, *arguments):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(data))
        return Command(tmp_path, *arguments)

    yield start
    for pid in marked(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# --- dead workers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "ended"),
    [("exit", "with exit code 3"), ("killed", "by SIGKILL (out of memory?)")],
)
def test_a_dead_worker_is_reported_with_how_it_ended(how, ended):
    environments = training_environments(
        from_dict(experiment(how, at_worker=3, vec_env="subproc", n_envs=1))
    )
    try:
        environments.reset()
        actions = [environments.action_space.sample()]
        with pytest.raises(WorkerError) as error:
            for _ in range(3):
                environments.step(actions)
        assert str(error.value) == (
            f"environment 0 ({TASK}), timestep 3 of this segment: "
            f"its worker process ended {ended} in step()"
        )
    finally:
        environments.close()


@pytest.mark.slow
def test_a_run_with_a_dead_worker_keeps_its_state_and_says_how_to_resume(command):
    run = command(
        experiment("exit", at_worker=250, vec_env="subproc"), "run", "config.yaml", "--name", "a"
    )
    code, output = run.finish()
    assert code == 1
    assert "its worker process ended with exit code 3 in step()" in output
    assert "saved up to timestep 400" in output
    assert "to resume: gallop run --resume results/PPO_gallop_frozen_task-Frozen-v0/a" in output
    log = next(run.home.glob("results/*/a/run.log")).read_text()
    assert "its worker process ended with exit code 3" in log


def test_a_fork_server_is_prepared_only_if_one_is_used(monkeypatch):
    server = multiprocessing.forkserver._forkserver
    monkeypatch.setattr(server, "_preload_modules", ["somebody.elses"])
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert workers._context().get_start_method() == "spawn"
    assert server._preload_modules == ["somebody.elses"]


# --- the watchdog --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["sleep", "loop"])
def test_a_frozen_task_is_interrupted_by_an_error_that_says_where(how):
    env = make_env(TASK, seed=None, how=how, at=0)
    try:
        with watching(0.5):
            env.reset(seed=7)
            with pytest.raises(FrozenError, match="timestep 1 of an episode started with seed 7"):
                env.step(env.action_space.sample())
    finally:
        env.close()
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_only_time_inside_a_task_counts():
    env = make_env("Pendulum-v1", seed=0)
    with watching(0.2):
        time.sleep(0.7)  # for example compiling, saving, learning
        for _ in range(100):  # a slow loop over fast timesteps
            env.step(env.action_space.sample())
            time.sleep(0.005)
    env.close()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the task with a watchdog of one second."""
    data = experiment(watchdog=1, total_timesteps=200, n_envs=1)
    return gallop.run(from_dict(data), results=tmp_path_factory.mktemp("finished"), name="a")


def export(path):
    with finished_run.finished(RunDirectory(path)) as done:
        return model_card(done, missing_film="", has_onnx=False)


@pytest.mark.parametrize("call", [gallop.evaluate, gallop.watch, export])
def test_a_task_that_freezes_while_being_made_is_interrupted(call, finished, monkeypatch):
    monkeypatch.setattr(Frozen, "making_freezes", True)
    monkeypatch.setattr(Frozen, "n_frozen", 0)
    monkeypatch.setattr(Making, "seconds_of_ours", 0)
    with pytest.raises(FrozenError, match="making it has not returned for 1 s"):
        call(finished.path)
    assert Frozen.n_frozen == 1  # the first attempt is already watched


def test_each_thread_is_watched_for_its_own_calls(caplog):
    """In a notebook, one thread may run a slow task while another one trains."""
    entered, released = threading.Event(), threading.Event()

    class Slow(gymnasium.Env):
        def render(self):
            entered.set()
            released.wait()

    def render_slowly():
        with watching(0.5):
            Marked(Slow(), "Slow-v0").render()

    fast = make_env("Pendulum-v1", seed=0)
    thread = threading.Thread(target=render_slowly)
    with caplog.at_level("ERROR", "gallop"):
        thread.start()
        entered.wait()
        with watching(0.3):
            for _ in range(150):
                fast.step(fast.action_space.sample())
                time.sleep(0.01)
        released.set()
        thread.join()
    fast.close()
    [record] = caplog.records  # the other cannot be interrupted, and a notebook must not be ended
    assert record.message.startswith("watchdog: Slow-v0, timestep 0 of an episode: render() has")


def test_a_frozen_worker_is_killed_even_if_it_holds_the_gil():
    settings = experiment("locked", at_worker=3, vec_env="subproc")
    environments = training_environments(from_dict(settings))
    started = time.monotonic()
    try:
        with watching(1.0), pytest.raises(FrozenError, match=r"environment 0 .* step\(\) has not"):
            environments.reset()
            for _ in range(3):
                environments.step([environments.action_space.sample()] * 2)
    finally:
        environments.close()
    assert time.monotonic() - started < 60  # the task itself never returns


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sleep", "system"])
@pytest.mark.parametrize("vec_env", ["dummy", "subproc"])
def test_a_run_on_a_frozen_task_ends_with_one_line_and_keeps_its_state(how, vec_env, command):
    settings = {"at": BASELINE + 250} if vec_env == "dummy" else {"at_worker": 150}
    run = command(
        experiment(how, vec_env=vec_env, watchdog=6, **settings),
        *("run", "config.yaml", "--name", "a"),
    )
    code, output = run.finish(90)
    assert code == 1
    assert "step() has not returned for 6 s (watchdog)" in output
    assert "saved up to timestep 200" in output
    assert "to resume: gallop run --resume results/PPO_gallop_frozen_task-Frozen-v0/a" in output
    log = next(run.home.glob("results/*/a/run.log")).read_text()
    assert "step() has not returned for 6 s (watchdog)" in log


@pytest.mark.slow
def test_a_frozen_film_is_skipped_and_the_run_finishes(command):
    run = command(
        experiment("render", films=True, watchdog=4, n_envs=1), "run", "config.yaml", "--name", "a"
    )
    code, output = run.finish(90)
    assert code == 0
    assert "rollout.mp4 is missing" in output
    assert "render() has not returned for 4 s (watchdog)" in output


@pytest.mark.slow
def test_the_watchdog_can_be_changed_when_resuming(command):
    run = command(
        experiment(at=BASELINE + 250, watchdog=4, n_envs=1), "run", "config.yaml", "--name", "a"
    )
    assert run.finish()[0] == 1
    folder = next(run.home.glob("results/*/a"))
    again = command({}, "run", "--resume", folder, "--watchdog", "0")
    again.wait_for(lambda: "resuming from timestep" in again.output())
    time.sleep(8)  # longer than the watchdog of the first run
    assert again.process.poll() is None
    again.interrupt()
    again.wait_for(lambda: "stopping at the next safe point" in again.output())
    again.interrupt()
    assert again.finish()[0] == 130
    refused = command({}, "run", "--resume", folder, "--gamma", "0.9")
    assert refused.finish()[0] == 2


# --- Ctrl-C --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sleep", "system"])
@pytest.mark.parametrize("vec_env", ["dummy", "subproc"])
def test_the_first_ctrl_c_is_acknowledged_and_the_second_ends_the_process(how, vec_env, command):
    settings = {"at": BASELINE + 250} if vec_env == "dummy" else {"at_worker": 150}
    run = command(experiment(how, vec_env=vec_env, **settings), "run", "config.yaml", "--name", "a")
    run.wait_until_frozen(200)
    run.interrupt()
    run.wait_for(lambda: "stopping at the next safe point" in run.output())
    run.interrupt()
    code, output = run.finish()
    assert code == 130 and "(watchdog)" not in output  # nothing but the signal ends this task
    assert "saved up to timestep 200" in output
    assert "to resume: gallop run --resume" in output


@pytest.mark.slow
def test_an_evaluation_stops_at_the_next_timestep(command):
    """Even if the policy never reaches the end of an episode."""
    data = experiment(
        env="gallop_frozen_task:Unlimited-v0", env_kwargs={}, n_envs=1,
        total_timesteps=1000, segment=1000, evaluation={"interval": 1000},
    )  # fmt: skip
    run = command(data, "run", "config.yaml", "--name", "a")
    run.wait_for(lambda: "random policy" in run.output())
    time.sleep(0.3)
    run.interrupt()
    code, output = run.finish()
    assert code == 130
    assert "stopping at the next safe point" in output
    assert "stopped by SIGINT" in output


@pytest.mark.slow
def test_one_ctrl_c_ends_a_command_that_has_nothing_to_save(command):
    task = "gallop_frozen_task:Unlimited-v0"
    run = command({}, "baseline", "--env", task, "--episodes", "5000")
    run.wait_for(lambda: "random policy" in run.output())
    run.interrupt()
    assert run.finish()[0] == 130


def test_ctrl_c_may_come_while_a_compiled_module_loads(command):
    """MuJoCo's modules, for one, then raise an ImportError from the KeyboardInterrupt."""
    task = ["--env", TASK, "--env-kwargs", "{how: interrupt import, at: 5}"]
    run = command({}, "baseline", *task)
    code, output = run.finish()
    assert "random policy" in output
    assert code == 130


INTERRUPTED_ONCE = """
import sys
from gallop.commands.cli import main

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "stable_baselines3" and self in sys.meta_path:
            sys.meta_path.remove(self)
            raise ImportError("initialization failed") from KeyboardInterrupt()

sys.meta_path.insert(0, Finder())
sys.exit(main(["run", "--algo", "sac", "--env", "Pendulum-v1", "-n", "2000", "--dry-run"]))
"""


def test_ctrl_c_while_the_learner_loads_is_not_taken_for_a_missing_package(tmp_path):
    """The plan does without a measured speed if a package is missing."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_ONCE], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 130, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("what", ["run", "tune"])
def test_ctrl_c_twice_ends_groups_and_searches_whose_tasks_are_frozen(what, command):
    if what == "run":
        data = experiment("system", at=BASELINE + 250, n_envs=1)
        arguments = ("run", "config.yaml", "--seeds", "0,1", "--workers", "2")
    else:
        data = one_round(2, experiment={"env": TASK, "env_kwargs": {"how": "system", "at": 100}})
        arguments = ("tune", "config.yaml", "--workers", "2")
    run = command(data, *arguments)
    run.wait_for(lambda: len(marked(run.home)) >= 3)
    time.sleep(8)
    run.interrupt()
    run.wait_for(lambda: "stopping at the next safe point" in run.output())
    run.interrupt()
    code, output = run.finish()
    assert code == 130 and "(watchdog)" not in output


@pytest.mark.slow
def test_a_task_that_raises_keyboard_interrupt_is_reported(command):
    data = experiment("interrupt", at=BASELINE + 250)
    code, output = command(data, "run", "config.yaml", "--name", "a").finish()
    assert code == 130
    assert f"{TASK} raised KeyboardInterrupt (same as Ctrl-C); the run has stopped" in output
    assert "saved up to timestep 200" in output


@pytest.mark.slow
def test_keyboard_interrupt_in_a_worker_is_a_failure_of_the_task(command):
    data = experiment("interrupt", at_worker=150, vec_env="subproc")
    code, output = command(data, "run", "config.yaml", "--name", "a").finish()
    assert code == 1
    assert f"gallop: {TASK}, training, segment 1, after timestep" in output
    assert ": KeyboardInterrupt (" in output
    assert "saved up to timestep 200" in output


# --- processes that end silently -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [("exit", 3), ("killed", -signal.SIGKILL)])
def test_a_run_whose_task_ended_the_process_is_listed_and_resumes(how, code, command):
    run = command(experiment(how, at=BASELINE + 250, n_envs=1), "run", "config.yaml", "--name", "a")
    assert run.finish()[0] == code
    listed = command({}, "list").finish()[1]
    assert "200 of 600" in listed and "stopped" in listed
    folder = next(run.home.glob("results/*/a"))
    output = command({}, "run", "--resume", folder).finish()[1]
    assert f"process {run.process.pid} on" in output
    assert "was killed or ended by its task" in output
    assert "resuming from timestep 200" in output


@pytest.mark.slow
def test_a_temporary_folder_with_too_long_a_path_is_reported_on_one_line(
    command, tmp_path, monkeypatch
):
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    code, output = command(experiment(vec_env="subproc"), "run", "config.yaml").finish()
    assert code == 2
    assert output.splitlines()[-1] == (
        f"gallop: {deep} is too long a path for the sockets of worker processes: "
        "use a shorter TMPDIR, or --vec-env dummy"
    )


# --- orphans -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "n_processes"),
    [("workers", 4), ("frozen", 4), ("locked", 4), ("group", 5), ("search", 5), ("film", 2)],
)
def test_nothing_outlives_a_killed_parent(case, n_processes, command):
    name = ("--name", "a")
    settings = {"vec_env": "subproc", "total_timesteps": 600_000}
    arguments = ("run", "config.yaml", *name)
    if case == "workers":
        data = experiment(**settings)
    elif case in ("frozen", "locked"):
        how = "sleep" if case == "frozen" else "locked"
        data = experiment(how, at_worker=150, **settings)
    elif case == "group":
        data = experiment(**settings, n_envs=1) | {"n_envs": 1}
        arguments = ("run", "config.yaml", "--seeds", "0", *name)
    elif case == "search":
        data = one_round(2, experiment={"vec_env": "subproc", "total_timesteps": 120_000})
        arguments = ("tune", "config.yaml", "--workers", "1")
    else:
        data = experiment("render", films=True, n_envs=1)
    run = command(data, *arguments)

    def all_stay():
        """Some processes, such as the plan's measurement, soon end."""
        if len(marked(run.home)) < n_processes:
            return False
        time.sleep(5)
        return len(marked(run.home)) >= n_processes

    run.wait_for(all_stay, 90)
    run.process.kill()
    run.process.wait()
    assert left_behind(run.home) == []


# --- leaks ---------------------------------------------------------------------------------------


def held():
    """Return what this process holds: descriptors, threads, children."""
    own = Path(f"/proc/{os.getpid()}")
    descriptors = []
    for entry in (own / "fd").iterdir():
        with contextlib.suppress(OSError):
            descriptors.append(entry.readlink().as_posix())
    children = [
        int(pid)
        for task in (own / "task").iterdir()
        for pid in (task / "children").read_text().split()
    ]
    return sorted(descriptors), sorted(t.name for t in threading.enumerate()), sorted(children)


def leaks(work):
    """Return what a second call of `work` leaves open; the first one may fill caches."""
    work(0)
    before = held()
    work(1)
    after = held()
    return [sorted(set(map(str, a)) - set(map(str, b))) for a, b in zip(after, before, strict=True)]


@pytest.mark.parametrize("vec_env", ["dummy", pytest.param("subproc", marks=pytest.mark.slow)])
def test_a_run_and_an_evaluation_leave_nothing_open(vec_env, tmp_path):
    data = experiment(vec_env=vec_env, total_timesteps=200)

    def work(number):
        run = gallop.run(from_dict(data), results=tmp_path, name=str(number))
        gallop.evaluate(run.path, n_episodes=1)

    assert leaks(work) == [[], [], []]
    assert not list(tmp_path.rglob(".new-*"))


@pytest.mark.slow
def test_a_failure_leaves_nothing_open(tmp_path):
    data = experiment("exit", at_worker=3, vec_env="subproc", total_timesteps=200)

    def work(number):
        with pytest.raises(WorkerError):
            gallop.run(from_dict(data), results=tmp_path, name=str(number))

    assert leaks(work) == [[], [], []]
    assert not list(tmp_path.rglob(".new-*"))

"""Files in the current folder are not imported, except modules named by the user."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
import threading
import time

import pytest

from gallop.experiments import own_code

MARK = "import pathlib\npathlib.Path({name!r} + '.was_run').touch()\n"
# Modules of Python and of dependencies, and optional ones that dependencies look for.
SHADOWS = ("random", "signal", "socket", "tempfile", "typing", "tokenize", "mujoco", "numpy",
           "torch", "yaml", "cv2", "gym", "psutil", "wandb", "tqdm", "matplotlib",
           "sitecustomize_of_nobody")  # fmt: skip
TASK = """\
import gymnasium

def register():
    gymnasium.register("Mine-v0", entry_point="my_robot:Robot", max_episode_steps=50)

register()
"""
ROBOT = """\
from gymnasium.envs.classic_control.pendulum import PendulumEnv

class Robot(PendulumEnv):
    def step(self, action):
        import my_helper  # only now
        return super().step(action * my_helper.FACTOR)
"""
RUN = ("run", "--algo", "ppo", "--env", "my_task:Mine-v0", "--learner", "sb3", "-n", "400",
       "--segment", "200", "--milestones", "[100]", "--evaluation.interval", "200",
       "--evaluation.n_episodes", "1", "-params", "n_steps:100", "batch_size:50",
       "policy_kwargs.net_arch:[16]", "--num-threads", "1", "--name", "a")  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A folder with a custom task, and files with the names of modules."""
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text(MARK.format(name=name))
    (tmp_path / "my_task.py").write_text(TASK)
    (tmp_path / "my_robot.py").write_text(ROBOT)
    (tmp_path / "my_helper.py").write_text("FACTOR = 0.5\n")
    return tmp_path


def gallop(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "gallop", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("my_task:Mine", "did you mean my_task:Mine-v0?"),
        ("my_task:Other-v7", "my_task:Mine-v0"),
        ("my_task.py:Mine-v0", "leave out .py: my_task:Mine-v0"),
        ("./my_task.py:Mine-v0", "leave out .py: my_task:Mine-v0"),
        ("Mine-v0", "MODULE:Mine-v0"),
        ("CartPool-v1", "did you mean CartPole-v1"),
    ],
)
def test_a_wrong_name_of_a_custom_task_is_answered_with_the_right_one(folder, env, words):
    done = gallop(folder, "baseline", "--env", env, "--episodes", "1")
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1
    if env.startswith("Cart"):
        assert "MODULE" not in done.stderr, "short where a name is close"


@pytest.mark.parametrize(
    ("wrappers", "words"),
    [
        ("my_robot:Hlaf", "did you mean Half?"),
        ("[my_robot:Hlaf]", "did you mean Half?"),
        ("[my_robot.py:Half]", "leave out .py: my_robot:Half"),
    ],
)
def test_a_wrong_name_of_a_wrapper_is_answered_with_the_right_one(folder, wrappers, words):
    with (folder / "my_robot.py").open("a") as file:
        file.write("\nimport gymnasium\n\nclass Half(gymnasium.Wrapper):\n    pass\n")
    done = gallop(folder, "baseline", "my_task:Mine-v0", "--episodes", "1", "--wrappers", wrappers)
    assert done.returncode == 2 and words in done.stderr, done.stderr


def was_run(folder):
    return sorted(path.stem for path in folder.rglob("*.was_run"))


def test_a_custom_task_is_found_and_nothing_else_in_its_folder(folder):
    done = gallop(folder, "baseline", "my_task:Mine-v0", "--episodes", "1")
    assert done.returncode == 0, done.stderr
    assert "Random policy on my_task:Mine-v0" in done.stdout
    assert was_run(folder) == []


@pytest.mark.parametrize("module", ["-mgallop", "-um gallop", "-umgallop"])
def test_every_way_of_naming_the_module_to_python(module, folder):
    command = [sys.executable, *module.split(), "baseline", "my_task:Mine-v0", "--episodes", "1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert was_run(folder) == []


def test_two_threads_that_start_workers_restore_the_environment_variables(monkeypatch):
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    begun, ended = threading.Event(), threading.Event()

    def start_late():
        begun.set()
        with own_code.isolated_children():
            ended.wait(10)

    thread = threading.Thread(target=start_late)
    with own_code.isolated_children():
        thread.start()
        begun.wait()
        time.sleep(0.1)
    ended.set()
    thread.join()
    assert "PYTHONSAFEPATH" not in os.environ


@pytest.mark.slow
def test_every_child_process_finds_the_task_and_nothing_else_in_its_folder(folder):
    """Workers, films, several seeds, searches."""
    done = gallop(folder, *RUN, "--n-envs", "2", "--vec-env", "subproc", "--films", "true")
    assert done.returncode == 0, done.stderr
    assert "no film" not in (folder / "results/PPO_my_task-Mine-v0/a/run.log").read_text()
    assert was_run(folder) == []
    done = gallop(folder, *RUN, "--films", "false", "--seeds", "0,1", "--name", "group")
    assert done.returncode == 0, done.stderr
    assert was_run(folder) == []
    for command in (["evaluate"], ["watch", "-o", "a.mp4"]):
        done = gallop(folder, *command, "--episodes", "1")
        assert done.returncode == 0, done.stderr
    assert was_run(folder) == []


def test_a_module_missing_in_a_library_is_not_searched_in_the_current_folder(folder, monkeypatch):
    """Naming a task imports its module, but not modules missing in that module's libraries."""
    library = folder / "library"
    library.mkdir()
    (library / "absent_import.py").write_text("try:\n    import cv2\nexcept ImportError: pass\n")
    (folder / "user_of_it.py").write_text("import absent_import\nimport my_helper\n")
    done = gallop(folder, "baseline", "user_of_it:X-v0", PYTHONPATH=str(library))
    assert "is not registered in Gymnasium" in done.stderr
    assert was_run(folder) == []


def test_pythonpath_works_as_usual(folder):
    done = gallop(folder, "--version", PYTHONPATH=".")
    assert was_run(folder), done.stderr  # PYTHONPATH declares these files to be libraries


def test_modules_are_located_without_being_imported(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "space").mkdir()
    (folder / "space" / "evil.py").write_text(MARK.format(name="evil"))
    (folder / "whole").mkdir()
    (folder / "whole" / "__init__.py").write_text(MARK.format(name="whole"))
    files = {
        "my_task": (folder / "my_task.py",),
        "space.evil": (folder / "space" / "evil.py",),
        "space": (folder / "space",),
        "whole": (folder / "whole" / "__init__.py",),
    }
    for module, expected in files.items():
        origin = own_code.locate(module)
        assert origin.files == expected
        assert not origin.is_installed
        assert module not in sys.modules
    for module in ("os.path", "sys", "cv2_of_nobody", "gymnasium.wrappers", "json.tool"):
        origin = own_code.locate(module)
        assert origin is None if module == "cv2_of_nobody" else origin.is_installed
    assert was_run(folder) == []


def test_a_digest_covers_all_files_of_a_module(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = own_code.locate("my_task").digest()
    assert own_code.locate("my_task").digest() == before
    (folder / "notes.txt").write_text("no code")
    assert own_code.locate("my_task").digest() == before
    (folder / "my_helper.py").write_text("FACTOR = 0.6\n")
    after = own_code.locate("my_task").digest()
    assert after != before
    (folder / "my_helper.pyc").write_bytes(b"other code")
    assert own_code.locate("my_task").digest() != after


def test_files_in_pycache_are_not_run(folder):
    """Otherwise a folder could contain harmless source with other bytecode next to it."""
    package = folder / "my_package"
    package.mkdir()
    for path in (folder / "my_odd.py", package / "__init__.py", package / "part.py"):
        stamp = (1_000_000_000, 1_000_000_000)
        path.write_text(MARK.format(name=path.stem))
        os.utime(path, stamp)
        py_compile.compile(str(path), doraise=True)
        path.write_text("#" * (len(path.read_text()) - 1) + "\n")
        os.utime(path, stamp)
        assert path.stat().st_mtime == stamp[0]
    (folder / "my_user.py").write_text("import my_odd, my_package.part\n")
    done = gallop(folder, "baseline", "my_user:X-v0")
    assert "is not registered in Gymnasium" in done.stderr
    assert was_run(folder) == []

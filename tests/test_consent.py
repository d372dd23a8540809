"""Code named by an untrusted folder is not run without consent; if run, it leaves a marker."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import small_search
import yaml
from conftest import tiny

import gallop
from gallop.commands import cli
from gallop.environments.make import make_env
from gallop.errors import ExperimentError
from gallop.experiments import yaml_text
from gallop.policies import sb3_zip
from gallop.report.display import Display
from gallop.run_folder import consent, manifest
from gallop.run_folder.consent import ConsentError
from gallop.run_folder.directory import RunDirectory
from gallop.runs import workflow
from gallop.runs.film_queue import FilmQueue
from gallop.runs.seed_group import run_seeds

try:
    import pty
except ImportError:  # Windows
    pty = None

MARK = """\
import pathlib
(pathlib.Path(__file__).parent / "code_was_run").touch()
import gymnasium
gymnasium.register("Gift-v0", "gymnasium.envs.classic_control:PendulumEnv", max_episode_steps=50)
def wrap(env, **kwargs):
    return env
"""
PENDULUM = {"env": "Pendulum-v1"}
ROUTES = {  # how a file names code -> its settings, where the code is
    "module beside the run": ({"env": "gift.run.evil:Gift-v0"}, "gift/run/evil.py"),
    "namespace package": ({"env": "gift.evil:Gift-v0"}, "gift/evil.py"),
    "package": ({"env": "gift:Gift-v0"}, "gift/__init__.py"),
    "current folder": ({"env": "evil:Gift-v0"}, "evil.py"),
    "wrapper": ({**PENDULUM, "wrappers": [{"gift.evil:wrap": {"a": 1}}]}, "gift/evil.py"),
    "chain": ({**PENDULUM, "wrappers": ["builtins:repr", "os:mkdir"]}, None),
    "own, then other": (
        {**PENDULUM, "wrappers": ["gallop.environments.wrappers:time_feature", "os:rmdir"]},
        None,
    ),
    "something that wrappers.py imports": (
        {**PENDULUM, "wrappers": ["gallop.environments.wrappers:cast"]},
        None,
    ),
    "old tasks": ({"env": "GymV21Environment-v0", "env_kwargs": {"env_id": "evil:X"}}, "evil.py"),
}
COMMANDS = {
    "evaluate": ["evaluate", "gift/run"],
    "a zip beside": ["evaluate", "gift/run/best_model.zip"],
    "a zip below": ["evaluate", "gift/run/checkpoints/100/model.zip"],
    "two": ["evaluate", "Pendulum-v1.zip", "gift/run"],
    "watch": ["watch", "gift/run", "-o", "film.mp4"],
    "baseline": ["baseline", "gift/run"],
    "resume": ["run", "--resume", "gift/run"],
    "newest": ["run", "--resume", "-f", "gift/results"],
    "extend": ["run", "--extend", "gift/run", "-n", "720"],
    "dry run": ["run", "--extend", "gift/run", "-n", "720", "--dry-run"],
    "replay": ["verify", "gift/run", "--replay", "0"],
    "hub": ["export", "gift/run", "--hub", "hub"],
    "zoo": ["export", "gift/run", "--zoo", "zoo"],
    "group": ["run", "--resume", "gift/group"],
    "search": ["tune", "--resume", "gift/search"],
    "dry search": ["tune", "--resume", "gift/search", "--dry-run"],
}
LOOKING = {
    "list": ["list", "-f", "gift/results"],
    "figures": ["figures", "gift/run"],
    "report": ["report", "gift/run"],
    "compare": ["compare", "gift/run", "gift/results/SAC_X/run"],
    "verify": ["verify", "gift/run"],
    "clean": ["clean", "gift/run"],
    "init from": ["run", "--algo", "sac", "--env", "Pendulum-v1", "-n", "200", "--segment", "200",
                  "--milestones", "[100]", "--init-from", "gift/run", "--no-preset", "--dry-run"],
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, and the folders of a group and of a search."""
    home = tmp_path_factory.mktemp("trained")
    run = workflow.run(tiny("sac"), home, "run", Display(quiet=True))
    return run.path


@pytest.fixture
def here(tmp_path, trained, monkeypatch):
    """The current folder, into which `gift` was unpacked; earlier consents are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GALLOP_STATE_DIR", str(tmp_path / "decisions"))
    monkeypatch.setattr(consent, "_given_here", set())
    shutil.copytree(trained, tmp_path / "gift" / "run")
    shutil.copy(trained / "best_model.zip", tmp_path / "Pendulum-v1.zip")
    yield tmp_path
    forget()


def unpack(here, route):
    """Write what an attacker would have put into `gift`."""
    settings, place = ROUTES[route]
    run = here / "gift" / "run"
    change(run, **settings)
    if place is not None:
        (here / place).write_text(MARK)
    unfinished = here / "gift" / "results" / "SAC_X" / "run"
    shutil.copytree(run, unfinished)
    record = json.loads((unfinished / "provenance.json").read_text())
    (unfinished / "provenance.json").write_text(json.dumps({**record, "end": None}))
    manifest.begin(unfinished)
    group = here / "gift" / "group"
    group.mkdir()
    shutil.copy(run / "experiment.yaml", group / "group.yaml")
    (group / "seeds.json").write_text('{"training_seeds": [0]}')
    search = here / "gift" / "search"
    search.mkdir()
    data = small_search.search_data()
    data["experiment"] |= settings
    (search / "search.yaml").write_text(yaml.safe_dump(data))
    record = {"number": 0, "parent": None, "storage": "study.db", "study_name": "a", "start": "now"}
    (search / "round.json").write_text(json.dumps({**record, "reproducible": False}))


def change(run, **settings):
    file = run / "experiment.yaml"
    data = yaml_text.read(file.read_text()) | settings
    file.write_text(yaml_text.write(data))
    manifest.begin(run)


def was_run(here):
    """Traces of code that was run: the marker, and the folder made by the chain."""
    return [p for p in here.rglob("*") if p.name == "code_was_run" or p.name.startswith("<")]


def call(*arguments):
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize("route", ROUTES)
def test_no_code_runs_without_consent(route, here, capsys):
    unpack(here, route)
    before = sorted(here.rglob("*"))
    for name, command in COMMANDS.items():
        assert call(*command) == 2, name
        error = capsys.readouterr().err
        assert "runs code and was not created by you on this machine" in error, name
        assert error.count("\n") == 1, name
        assert "--trust" in error
    after = sorted(here.rglob("*"))
    assert [path for path in after if path not in before and path.suffix != ".lock"] == []
    for name, command in LOOKING.items():
        assert call(*command) == 0, (name, capsys.readouterr().err)
        assert was_run(here) == [], name
    assert was_run(here) == []
    assert not {"gift.evil", "gift.run.evil", "evil"} & sys.modules.keys()


def test_the_refusal_lists_the_code_and_its_origin(here, capsys):
    unpack(here, "wrapper")
    change(here / "gift" / "run", wrappers=[{"gift.evil:wrap": {"a": 1}}, "os:mkdir"])
    call("baseline", "gift/run")
    error = capsys.readouterr().err
    assert f"wrapper gift.evil:wrap with {{'a': 1}} ({here}/gift/evil.py)" in error
    assert "wrapper os:mkdir (installed" in error or "wrapper os:mkdir (part of Python)" in error


def test_a_consent_is_printed_remembered_and_needed_again_when_code_changes(here, capsys):
    unpack(here, "namespace package")
    assert call("baseline", "gift/run", "--trust", "--episodes", "1") == 0
    error = capsys.readouterr().err
    arguments = "{'max_episode_steps': 50}"
    task = f"task gift.evil:Gift-v0 with {arguments} ({here}/gift/evil.py)"
    assert error == f"gift/run/experiment.yaml: runs code of {task}\n"
    assert was_run(here)
    forget()
    assert call("baseline", "gift/run", "--episodes", "1") == 0, "it is remembered"
    shutil.move(here / "gift" / "run", here / "gift" / "moved")
    assert call("baseline", "gift/moved", "--episodes", "1") == 0, "for this code, in any folder"
    for change_it in (
        lambda: (here / "gift" / "evil.py").write_text(MARK + "# more\n"),
        lambda: (here / "gift" / "helper.py").write_text("more = 1\n"),
        lambda: change(here / "gift" / "moved", env_kwargs={"g": 9.0}),
        lambda: change(here / "gift" / "moved", eval_env_kwargs={"g": 9}),
        lambda: change(here / "gift" / "moved", wrappers=["gift.evil:wrap"]),
    ):
        change_it()
        forget()
        assert call("baseline", "gift/moved") == 2
        assert call("baseline", "gift/moved", "--trust", "--episodes", "1") in (0, 2)
        forget()


def forget():
    """Act as a new process: decisions are only on disk, and nothing is imported."""
    consent._given_here.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("gift", "evil")]:
        del sys.modules[name]
    gymnasium.registry.pop("Gift-v0", None)


def at_a_terminal(here, answer, *arguments):
    """Exit code and output of a command at a terminal; answer None: no question is expected."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "gallop", *arguments]
    try:
        child = subprocess.Popen(command, cwd=here, stdin=its, stdout=its, stderr=its)
        os.close(its)
        shown, until = b"", time.monotonic() + 120
        try:
            while time.monotonic() < until:
                if not select.select([ours], [], [], 1)[0]:
                    continue
                try:
                    part = os.read(ours, 1 << 12)
                except OSError:  # the other end is closed
                    break
                if not part:
                    break
                shown += part
                if answer is not None and shown.endswith(b"[y/N] "):
                    os.write(ours, answer)
                    answer = None
            return child.wait(10), shown.decode()
        finally:
            child.kill()
            child.wait()
    finally:
        os.close(ours)


@pytest.mark.skipif(pty is None, reason="no pseudo-terminals")
def test_a_user_at_a_terminal_is_asked(here):
    unpack(here, "namespace package")
    command = ("baseline", "gift/run", "--episodes", "1")
    for answer, code in ((b"\n", 2), (b"\x04", 2), (b"ja\n", 2), (b"Y\n", 0), (None, 0)):
        ended, shown = at_a_terminal(here, answer, *command)
        assert ended == code, shown
        question = "Run this code, now and later as long as it is unchanged? [y/N]"
        assert shown.count(question) == (answer is not None)
        assert ("\n  task gift.evil:Gift-v0 with" in shown) is (answer is not None)
        assert ("add --trust to run it" in shown) is (code == 2)
        assert bool(was_run(here)) is (code == 0)


def test_python_callers_consent_with_an_argument(here, capsys):
    unpack(here, "namespace package")
    with pytest.raises(ConsentError, match="runs code"):
        gallop.evaluate("gift/run", n_episodes=1)
    assert was_run(here) == []
    gallop.evaluate("gift/run", n_episodes=1, trust=True)
    assert was_run(here)
    assert "runs code of task gift.evil:Gift-v0" in capsys.readouterr().err


def test_own_runs_need_no_consent(here):
    """Even after the task was edited or the run was moved."""
    (here / "evil.py").write_text(MARK)  # the user's own, despite its name
    run = workflow.run(tiny("sac", env="evil:Gift-v0"), here / "results", "a", Display(quiet=True))
    forget()
    assert call("evaluate", run.path, "--episodes", "1") == 0
    (here / "evil.py").write_text(MARK + "# edited\n")
    shutil.move(run.path, here / "elsewhere")
    assert call("evaluate", "elsewhere", "--episodes", "1") == 0
    assert call("run", "--extend", "elsewhere", "-n", "720", "--name", "b", "--quiet") in (0, 2)


def test_a_module_of_the_same_name_in_another_folder_is_different_code(here, capsys, monkeypatch):
    (here / "evil.py").write_text(MARK)
    run = workflow.run(tiny("sac", env="evil:Gift-v0"), here / "results", "a", Display(quiet=True))
    download = here / "download"
    download.mkdir()
    shutil.copytree(run.path, download / "run")
    (download / "evil.py").write_text(MARK)
    monkeypatch.chdir(download)
    forget()
    assert call("evaluate", "run") == 0, "the very same code and settings were run here"
    (download / "evil.py").write_text(MARK + "# other\n")
    forget()
    assert call("evaluate", "run") == 2
    assert f"({download}/evil.py)" in capsys.readouterr().err


def test_code_in_a_downloaded_folder_needs_consent_even_under_a_known_name(here, capsys):
    """Running a task of one downloaded folder is no consent to the code in the next."""
    unpack(here, "namespace package")
    settings = {"algo": "sac", "env": "gift.evil:Gift-v0", "total_timesteps": 8000}
    consent.settings_asked_for(settings)
    change(here / "gift" / "run", env_kwargs={})
    assert call("baseline", "gift/run", "--episodes", "1") == 0
    (here / "gift" / "evil.py").write_text(MARK + "# other\n")
    forget()
    assert call("baseline", "gift/run") == 2
    capsys.readouterr()


def test_tasks_of_gymnasium_and_wrappers_of_gallop_need_no_consent(here):
    change(here / "gift" / "run", wrappers=["gallop.environments.wrappers:time_feature"])
    assert call("baseline", "gift/run", "--episodes", "1") == 0
    assert not (here / "decisions").exists()


def test_a_missing_module_is_reported(here, capsys):
    change(here / "gift" / "run", env="nowhere_at_all.part:X-v0")
    assert call("evaluate", "gift/run", "--trust") == 2
    error = capsys.readouterr().err
    assert "module 'nowhere_at_all' was not found: it is neither installed nor in" in error


def test_a_wrapper_must_return_an_environment(here, capsys):
    unpack(here, "chain")
    assert call("baseline", "gift/run", "--trust") == 2
    error = capsys.readouterr().err
    assert "builtins:repr is not a wrapper: it returns a str, expected a gymnasium.Env" in error
    assert was_run(here) == []
    with pytest.raises(ExperimentError, match="it returns a NoneType"):
        make_env("Pendulum-v1", seed=0, wrappers=[{"builtins:print": {"file": io.StringIO()}}])


def test_a_queued_film_cannot_name_another_task(here, caplog):
    """Jobs in the film queue are another way to name code."""
    unpack(here, "namespace package")
    change(here / "gift" / "run", **PENDULUM)
    run = RunDirectory(here / "gift" / "run")
    job = run.film_job(100)
    job.parent.mkdir(parents=True, exist_ok=True)
    task = {"env": "gift.evil:Gift-v0", "kwargs": {}, "wrappers": []}
    arrays = {"task": np.array(yaml_text.write(task)), "seed": np.array(0)}
    np.savez(job, **arrays, actions=np.zeros((3, 1)), episode_return=np.array(0.0))
    assert not FilmQueue(run, run.read_experiment()).poll()
    assert "is for another task than that of the run" in caplog.text
    assert was_run(here) == []


def test_a_run_in_a_group_needs_its_own_consent(here, capsys):
    """A group with consent may contain runs with other code."""
    unpack(here, "namespace package")
    group = here / "gift" / "group"
    shutil.copytree(here / "gift" / "run", group / "seed-0")
    text = (group / "group.yaml").read_text().replace("gift.evil:Gift-v0", "Pendulum-v1")
    (group / "group.yaml").write_text(text)
    (group / "seed-0" / "provenance.json").unlink()
    manifest.begin(group / "seed-0")
    assert call("run", "--resume", "gift/group") == 1
    assert "runs code and was not created by you on this machine" in capsys.readouterr().err
    assert was_run(here) == []


def test_a_consent_that_cannot_be_saved_holds_for_this_process(here, capsys, monkeypatch):
    unpack(here, "namespace package")
    (here / "file").write_text("")
    monkeypatch.setenv("GALLOP_STATE_DIR", str(here / "file"))
    assert call("baseline", "gift/run", "--trust", "--episodes", "1") == 0
    assert "your consent cannot be saved" in capsys.readouterr().err
    forget()
    assert call("baseline", "gift/run") == 2


def test_decisions_are_in_the_users_state_folder(monkeypatch):
    monkeypatch.delenv("GALLOP_STATE_DIR")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert consent.state_folder() == Path("/somewhere/gallop")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert consent.state_folder() == Path.home() / ".local" / "state" / "gallop"


@pytest.mark.slow
def test_child_processes_know_the_decisions(here):
    """Seeds, workers and searches of an own task; and an untrusted group."""
    (here / "evil.py").write_text(MARK)
    env = {**os.environ, "GALLOP_STATE_DIR": str(here / "decisions")}
    experiment = here / "mine.yaml"
    data = yaml_text.read((here / "gift/run/experiment.yaml").read_text())
    experiment.write_text(yaml_text.write({**data, "env": "evil:Gift-v0", "vec_env": "subproc"}))
    search = here / "search.yaml"
    data = small_search.one_round(2)
    data["experiment"]["env"] = "evil:Gift-v0"
    search.write_text(yaml.safe_dump(data))
    for command in (
        ["run", "mine.yaml", "--seeds", "0,1", "--name", "group"],
        ["run", "--resume", "results/SAC_evil-Gift-v0/group"],
        ["tune", "search.yaml"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "gallop", *command], cwd=here, env=env, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()
    download = here / "download"
    shutil.copytree(here / "results", download / "results")
    (download / "evil.py").write_text(MARK + "# other\n")
    group = ["run", "--resume", "results/SAC_evil-Gift-v0/group"]
    for seed in (0, 1):
        run = download / group[2] / f"seed-{seed}"
        record = json.loads((run / "provenance.json").read_text())
        (run / "provenance.json").write_text(json.dumps({**record, "end": None}))
        manifest.begin(run)
    for more, code in (([], 2), (["--trust"], 0)):
        done = subprocess.run(
            [sys.executable, "-m", "gallop", *group, *more],
            cwd=download, env=env, capture_output=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, done.stderr.decode()
        assert bool(list(download.rglob("code_was_run"))) is (code == 0)


def test_an_untrusted_search_cannot_open_a_storage_that_the_user_has_not_named(here, capsys):
    """Opening a storage writes to it, wherever it is."""
    unpack(here, "namespace package")
    search, mine = here / "gift" / "search", here / "mine.db"
    url = f"sqlite:///{mine}"
    data = small_search.one_round(1)
    (search / "search.yaml").write_text(yaml.safe_dump(data))
    record = json.loads((search / "round.json").read_text())
    (search / "round.json").write_text(json.dumps({**record, "storage": url}))
    for more in ([], ["--n-trials", "2"], ["--trust"]):
        assert call("tune", "--resume", "gift/search", *more) == 2
        error = capsys.readouterr().err
        assert f"round.json names the storage {url}, which you have not used" in error
        assert "pass it with --storage URL" in error and error.count("\n") == 1
    assert not mine.exists()
    assert yaml.safe_load((search / "search.yaml").read_text()) == data, "nothing was changed"
    consent.storage_asked_for(url)  # as `gallop tune --storage` does
    (search / "trials").write_text("")  # fails after opening the storage
    assert call("tune", "--resume", "gift/search") in (1, 2)
    assert mine.exists()


def test_child_processes_know_a_consent_that_cannot_be_saved(here):
    """For an own task in a group of seeds, on a machine with a read-only home."""
    (here / "evil.py").write_text(MARK)
    (here / "file").write_text("")
    data = yaml_text.read((here / "gift/run/experiment.yaml").read_text())
    (here / "mine.yaml").write_text(yaml_text.write({**data, "env": "evil:Gift-v0"}))
    done = subprocess.run(
        [sys.executable, "-m", "gallop", "run", "mine.yaml", "--seeds", "0", "--name", "group"],
        cwd=here, env={**os.environ, "GALLOP_STATE_DIR": str(here / "file")},
        capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr.count(b"your consent cannot be saved") == 2, "by its path and by its content"


def test_run_seeds_requests_consent(here):
    (here / "evil.py").write_text(MARK)
    with pytest.raises(ExperimentError, match="is given twice"):
        run_seeds(tiny("sac", env="evil:Gift-v0"), [0, 0], results=here)


def test_trust_refers_to_a_single_zip_or_to_the_folder_that_contains_it(here, monkeypatch):
    """Consent to a folder's task covers neither pickles in its zips nor those of several zips."""
    asked = []
    monkeypatch.setattr(
        sb3_zip, "read", lambda path, observations, actions, options: asked.append(options.trust)
    )
    zipped, inside = "Pendulum-v1.zip", "gift/run/best_model.zip"
    for named, expected in (
        ([zipped], [True]),
        ([inside, "--env", "Pendulum-v1"], [True]),
        ([inside], [False]),
        (["gift/run"], [False]),
        ([zipped, zipped], [False]),
        ([zipped, inside], [False]),
    ):
        asked.clear()
        with contextlib.suppress(AttributeError):  # there is no policy
            call("evaluate", *named, "--trust", "--episodes", "1")
        assert asked[:1] == expected, named
    with contextlib.suppress(AttributeError):
        gallop.evaluate(inside, n_episodes=1, trust=True)
    assert asked[-1] is False

"""Every entry point of Gallop with every way to hide code in untrusted folders and files: none of
it is run without consent. Code that runs leaves a marker file.

A cell is one entry point on a folder with one route. It must leave no marker. The whole table goes
to untrusted.csv; a sample of it runs by default.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import runs
import small_search
import yaml
from conftest import tiny

import gallop
from gallop.commands import cli
from gallop.errors import ExperimentError
from gallop.experiments import yaml_text
from gallop.report.display import Display
from gallop.run_folder import consent, manifest
from gallop.runs import workflow

MARKER = "code_was_run"
MARK = """\
import pathlib
(pathlib.Path(__file__).parent / (pathlib.Path(__file__).stem + ".code_was_run")).touch()
import gymnasium
gymnasium.register("Gift-v0", "gymnasium.envs.classic_control:PendulumEnv", max_episode_steps=50)
def wrap(env, **kwargs):
    return env
"""
SHORT = ["--segment", "200", "--milestones", "[100]", "--no-preset", "--quiet", "--films", "false",
         "--evaluation.n_episodes", "1", "-params", "learning_starts:150"]  # fmt: skip
NEW = ["run", "--algo", "sac", "--env", "Pendulum-v1", "-n", "200", *SHORT]
EPISODES = ["--episodes", "1"]

# --- entry points: a command line, or a call from Python -----------------------------------------

READING_A_RUN = {
    "evaluate RUN": ["evaluate", "gift/run", *EPISODES],
    "evaluate MILESTONE": ["evaluate", "gift/run/checkpoints/100", *EPISODES],
    "evaluate ZIP in a run": ["evaluate", "gift/run/best_model.zip", *EPISODES],
    "evaluate ZIP three below": ["evaluate", "gift/run/checkpoints/100/model.zip", *EPISODES],
    "evaluate ZIP beside experiment.yaml": ["evaluate", "gift/beside/a.zip", *EPISODES],
    "evaluate ZIP below experiment.yaml": ["evaluate", "gift/beside/b/c/a.zip", *EPISODES],
    "evaluate two": ["evaluate", "Pendulum-v1.zip", "gift/run", *EPISODES],
    "evaluate newest": ["evaluate", "-f", "gift/results", *EPISODES],
    "watch RUN": ["watch", "gift/run", "-o", "film.mp4", *EPISODES],
    "watch ZIP": ["watch", "gift/run/best_model.zip", "-o", "film.mp4", *EPISODES],
    "baseline RUN": ["baseline", "gift/run", *EPISODES],
    "run --resume RUN": ["run", "--resume", "gift/results/SAC_X/run", "--quiet"],
    "run --resume a finished RUN": ["run", "--resume", "gift/run", "--quiet"],
    "run --resume newest": ["run", "--resume", "-f", "gift/results", "--quiet"],
    "run --resume GROUP": ["run", "--resume", "gift/group", "--quiet"],
    "run --extend": ["run", "--extend", "gift/run", "-n", "720", "--new-horizon", "--quiet"],
    "run --extend --dry-run": ["run", "--extend", "gift/run", "-n", "720", "--new-horizon",
                               "--dry-run"],
    "verify --replay": ["verify", "gift/run", "--replay", "0"],
    "export --zoo": ["export", "gift/run", "--zoo", "zoo"],
    "export --hub": ["export", "gift/run", "--hub", "hub"],
    "tune --resume --dry-run": ["tune", "--resume", "gift/search", "--dry-run"],
    "tune --resume": ["tune", "--resume", "gift/search", "--quiet"],
    "gallop.evaluate": lambda: gallop.evaluate("gift/run", n_episodes=1),
    "gallop.evaluate(ZIP)": lambda: gallop.evaluate("gift/beside/a.zip", n_episodes=1),
    "gallop.watch": lambda: gallop.watch("gift/run", n_episodes=1, output=Path("film.mp4")),
    "workflow.resume": lambda: workflow.resume(
        gallop.run_folder.directory.RunDirectory(Path("gift/results/SAC_X/run")),
        Display(quiet=True),
    ),
}  # fmt: skip
LOOKING = {
    "list": ["list", "-f", "gift/results"],
    "figures": ["figures", "gift/run"],
    "report": ["report", "gift/run"],
    "verify": ["verify", "gift/run"],
    "verify --accept": ["verify", "gift/run", "--accept"],
    "clean": ["clean", "gift/run"],
    "export without a kind": ["export", "gift/run"],
    "doctor": ["doctor"],
    "presets": ["presets"],
}
NAMING_A_FILE = {  # the task is the user's own, the file is not
    "run --init-from RUN": [*NEW, "--init-from", "gift/run", "--name", "b"],
    "run --init-from ZIP": [*NEW, "--init-from", "gift/beside/a.zip", "--name", "b"],
    "run --init-from --dry-run": [*NEW, "--init-from", "gift/run", "--dry-run"],
    "run --best_params": [*NEW, "--best_params", "gift/search", "--dry-run"],
    "evaluate ZIP --env": ["evaluate", "gift/beside/a.zip", "--env", "Pendulum-v1", *EPISODES],
    "watch ZIP --env": ["watch", "gift/beside/a.zip", "--env", "Pendulum-v1", "-o", "film.mp4",
                        *EPISODES],
    "evaluate --normalizer": ["evaluate", "Pendulum-v1.zip", *EPISODES,
                              "--normalizer", "gift/run/vecnormalize.pkl"],
    "import-zoo": ["import-zoo", "gift/zoo.yml", "Pendulum-v1", "--algo", "sac"],
    "gallop.experiment": lambda: gallop.experiment("gift/plain.yaml"),
    "gallop.make_env": lambda: gallop.make_env("Pendulum-v1", seed=0).close(),
    "gallop.run": lambda: gallop.run(tiny("sac"), Path("out"), "a", Display(quiet=True)),
    "run CONFIG": ["run", "gift/plain.yaml", "--quiet", "--name", "c"],
    "run CONFIG --dry-run": ["run", "gift/plain.yaml", "--dry-run"],
    "tune CONFIG --dry-run": ["tune", "gift/plain_search.yaml", "--dry-run"],
}  # fmt: skip
ENTRIES = {**READING_A_RUN, **LOOKING, **NAMING_A_FILE}

# --- routes --------------------------------------------------------------------------------------

PENDULUM = {"env": "Pendulum-v1"}
OWN = "gallop.environments.wrappers"
IN_SETTINGS = {  # the settings in a folder's files, and where the code is
    "env of a module beside": ({"env": "gift.run.evil:Gift-v0"}, "gift/run/evil.py"),
    "env of a namespace package": ({"env": "gift.evil:Gift-v0"}, "gift/evil.py"),
    "env of a package": ({"env": "gift:Gift-v0"}, "gift/__init__.py"),
    "env of the current folder": ({"env": "evil:Gift-v0"}, "evil.py"),
    "env of older versions": (
        {"env": "GymV21Environment-v0", "env_kwargs": {"env_id": "evil:X"}},
        "evil.py",
    ),
    "wrapper": ({**PENDULUM, "wrappers": [{"gift.evil:wrap": {"a": 1}}]}, "gift/evil.py"),
    "wrapper with dots": ({**PENDULUM, "wrappers": ["gift.evil.wrap"]}, "gift/evil.py"),
    "wrappers of Python": (
        {**PENDULUM, "wrappers": ["builtins:repr", {"os:mkdir": {"mode": 511}}]},
        None,
    ),
    "own wrapper, then another": (
        {**PENDULUM, "wrappers": [f"{OWN}:time_feature", "builtins:repr", "os:mkdir"]},
        None,
    ),
    "what an own module imports": ({**PENDULUM, "wrappers": [f"{OWN}:cast"]}, None),
}
# Modules of Python and of dependencies, optional ones, and files that Python itself reads.
SHADOWS = ("random.py", "signal.py", "tempfile.py", "mujoco.py", "cv2.py", "numpy.py", "torch.py",
           "gym.py", "psutil.py", "tqdm.py", "wandb.py", "optuna.py", "matplotlib.py",
           "sitecustomize.py", "usercustomize.py", "conftest.py")  # fmt: skip


class Marked:
    """Makes a folder as a marker when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.makedirs, (str(self.path), 0o755, True)


def _pickled(here: Path, name: str) -> bytes:
    return pickle.dumps(Marked(here / f"{name}.{MARKER}"))


def _pickled_zip(here: Path) -> None:
    """Put pickles into each zip where SB3's loader would unpickle them: `data` and tensors."""
    import base64

    for path in [*(here / "gift").rglob("*.zip")]:
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        code = base64.b64encode(_pickled(here, "data")).decode()
        hidden = {":type:": "<class 'function'>", ":serialized:": code}
        data = json.loads(parts["data"])
        data |= {"lr_schedule": hidden, "clip_range": hidden, "observation_space": hidden}
        parts["data"] = json.dumps(data).encode()
        _write(path, parts)


def _pickled_tensors(here: Path) -> None:
    for path in [*(here / "gift").rglob("*.zip")]:
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        for name in parts:
            if name.endswith(".pth"):
                parts[name] = _pickled(here, "tensors")
        _write(path, parts)


def _write(path: Path, parts: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def _vecnormalize(here: Path) -> None:
    for folder in {path.parent for path in (here / "gift").rglob("*.zip")}:
        for name in ("vecnormalize.pkl", "replay_buffer.pkl"):
            (folder / name).write_bytes(_pickled(here, name))
    (here / "gift/run/best_model.normalizer.npz").write_bytes(_pickled(here, "normalizer"))


def _arrays(here: Path) -> None:
    """Write arrays of objects, which are pickles."""
    for path in [*(here / "gift").rglob("*.npz")]:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file}
        hidden = np.empty(1, dtype=object)
        hidden[0] = Marked(here / f"array.{MARKER}")
        np.savez(path, **dict.fromkeys(arrays, hidden), more=hidden)


def _folder_named_zip(here: Path) -> None:
    """Make a folder named like a zip that contains another run, and a zip in place of a run."""
    zipped = here / "gift" / "beside" / "a.zip"
    zipped.unlink()
    shutil.copytree(here / "gift" / "run", zipped)
    _change(zipped / "experiment.yaml", {"env": "gift.evil:Gift-v0"})
    manifest.begin(zipped)
    (here / "gift" / "evil.py").write_text(MARK)
    (here / "gift" / "beside" / "evil.py").write_text(MARK)


def _film_job(here: Path) -> None:
    """Queue a film that names another task than the run."""
    (here / "gift" / "evil.py").write_text(MARK)
    task = {"env": "gift.evil:Gift-v0", "kwargs": {}, "wrappers": []}
    for run in _run_folders(here):
        jobs = run / "state" / "films"
        jobs.mkdir(parents=True, exist_ok=True)
        arrays = {"task": np.array(yaml_text.write(task)), "seed": np.array(0)}
        np.savez(
            jobs / "100.npz",
            **arrays,
            actions=np.zeros((3, 1)),
            episode_return=np.array(0.0),
        )


def _yaml_tags(here: Path) -> None:
    """Use YAML's tags for Python objects."""
    tag = f"env_kwargs: !!python/object/apply:builtins.open [{here}/yaml.{MARKER}, w]\n"
    for path in [*(here / "gift").rglob("*.y*ml")]:
        path.write_text(path.read_text() + tag)


def _links(here: Path) -> None:
    """Make links out of the folder, to files that must be neither changed nor copied."""
    for run in [*_run_folders(here), here / "gift" / "beside", here / "gift" / "search"]:
        (run / "secret.txt").symlink_to(here / "elsewhere" / "secret.txt")
    (here / "gift" / "run" / "tensorboard" / "a").symlink_to(here / "elsewhere")


IN_FILES = {
    "pickles in a zip": _pickled_zip,
    "pickles for tensors": _pickled_tensors,
    "vecnormalize.pkl": _vecnormalize,
    "arrays of objects": _arrays,
    "a folder named a.zip": _folder_named_zip,
    "a film that waits": _film_job,
    "tags of YAML": _yaml_tags,
    "links": _links,
}

# --- an untrusted folder -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run."""
    home = tmp_path_factory.mktemp("trained")
    return workflow.run(tiny("sac"), home, "run", Display(quiet=True)).path


def _run_folders(here: Path) -> list[Path]:
    return [here / "gift" / "run", here / "gift" / "results" / "SAC_X" / "run"]


def _change(file: Path, settings: dict[str, object]) -> None:
    data = yaml_text.read(file.read_text())
    data.get("experiment", data).update(settings)
    file.write_text(yaml_text.write(data))


def _unpack(here: Path, trained: Path) -> None:
    """Unpack an untrusted folder, without code so far, next to files of the user."""
    gift = here / "gift"
    shutil.copytree(trained, gift / "run")
    shutil.copytree(trained, gift / "results" / "SAC_X" / "run")
    unfinished = gift / "results" / "SAC_X" / "run" / "provenance.json"
    unfinished.write_text(json.dumps({**json.loads(unfinished.read_text()), "end": None}))
    (gift / "beside" / "b" / "c").mkdir(parents=True)
    shutil.copy(trained / "experiment.yaml", gift / "beside")
    for name in ("beside/a.zip", "beside/b/c/a.zip", "../Pendulum-v1.zip"):
        shutil.copy(trained / "best_model.zip", gift / name)
    (gift / "group").mkdir()
    shutil.copy(trained / "experiment.yaml", gift / "group" / "group.yaml")
    (gift / "group" / "seeds.json").write_text('{"training_seeds": [0]}')
    (gift / "search").mkdir()
    search = yaml.safe_dump(small_search.one_round(1))
    (gift / "search" / "search.yaml").write_text(search)
    record = {"number": 0, "parent": None, "storage": "study.db", "study_name": "a", "start": "now"}
    (gift / "search" / "round.json").write_text(json.dumps({**record, "reproducible": False}))
    (gift / "plain_search.yaml").write_text(search)
    shutil.copy(trained / "experiment.yaml", gift / "plain.yaml")
    (gift / "zoo.yml").write_text("Pendulum-v1:\n  n_timesteps: 20000\n  policy: 'MlpPolicy'\n")
    (here / "elsewhere").mkdir()
    (here / "elsewhere" / "secret.txt").write_text("secret")


def _settle(here: Path) -> None:
    """Update the manifest, as an attacker can."""
    for run in _run_folders(here):
        manifest.begin(run)


def _put(here: Path, route: str) -> None:
    if route in IN_SETTINGS:
        settings, place = IN_SETTINGS[route]
        for file in [*(here / "gift").rglob("experiment.yaml"), here / "gift/group/group.yaml"]:
            _change(file, settings)
        _change(here / "gift" / "search" / "search.yaml", settings)
        if place is not None:
            (here / place).write_text(MARK)
    else:
        IN_FILES[route](here)
    _settle(here)


def _was_run(here: Path) -> list[str]:
    """Return traces of code: markers, the folder made by `os:mkdir`, changed targets of links."""
    found = [p.name for p in here.rglob("*") if MARKER in p.name or p.name.startswith("<")]
    elsewhere = sorted(p.name for p in (here / "elsewhere").rglob("*"))
    if elsewhere != ["secret.txt"] or (here / "elsewhere/secret.txt").read_text() != "secret":
        found.append("elsewhere was changed")
    copies = [p for p in here.rglob("secret.txt") if not p.is_symlink()]
    return found + ["a link was copied"] * (len(copies) > 1)


def _forget(monkeypatch) -> None:
    """Forget decisions and imports, like a new process."""
    monkeypatch.setattr(consent, "_given_here", set())
    for name in [name for name in sys.modules if name.partition(".")[0] in ("gift", "evil")]:
        del sys.modules[name]
    gymnasium.registry.pop("Gift-v0", None)


def _outcome(entry) -> str:
    """Return how a command or call ended."""
    try:
        code = cli.main(entry) if isinstance(entry, list) else entry() and 0
    except SystemExit as end:
        code = end.code
    except consent.ConsentError:
        return "asks for consent"
    except ExperimentError:
        return "refused"
    return {0: "done", None: "done", 1: "failed", 2: "refused"}.get(code, f"exit {code}")


ROUTES = [*IN_SETTINGS, *IN_FILES]
SAMPLE = [(entry, ROUTES[i % len(ROUTES)]) for i, entry in enumerate(ENTRIES)][::3]


def _check(entry, route, trained, here, monkeypatch, capsys) -> None:
    _unpack(here, trained)
    _put(here, route)
    monkeypatch.chdir(here)
    monkeypatch.setenv("GALLOP_STATE_DIR", str(here / "decisions"))
    _forget(monkeypatch)
    outcome = _outcome(ENTRIES[entry])
    said = capsys.readouterr().err
    if "runs code and was not created by you on this machine" in said:
        outcome = "asks for consent"
    found = _was_run(here)
    runs.record("untrusted", entry=entry, route=route, outcome=outcome, n_executed=len(found))
    assert found == [], (entry, route, outcome, said)
    assert "Traceback" not in said
    if route in IN_SETTINGS and entry in READING_A_RUN:
        assert outcome == "asks for consent", (entry, route, said)


@pytest.mark.parametrize(("entry", "route"), SAMPLE)
def test_nothing_is_run_without_consent(entry, route, trained, tmp_path, monkeypatch, capsys):
    _check(entry, route, trained, tmp_path, monkeypatch, capsys)


@pytest.mark.faults
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("entry", ENTRIES)
def test_nothing_is_run_by_any_entry_and_any_route(
    entry, route, trained, tmp_path, monkeypatch, capsys
):
    _check(entry, route, trained, tmp_path, monkeypatch, capsys)
    shutil.rmtree(tmp_path)


def test_code_that_is_run_leaves_markers(trained, tmp_path, monkeypatch, capsys):
    """Negative control: with consent and unsafe loaders, every marker is left."""
    routes = [route for route in IN_SETTINGS if route != "env of older versions"]  # needs gym
    for number, route in enumerate(routes):
        here = tmp_path / str(number)
        here.mkdir()
        _unpack(here, trained)
        _put(here, route)
        monkeypatch.chdir(here)
        monkeypatch.setenv("GALLOP_STATE_DIR", str(here / "decisions"))
        _forget(monkeypatch)
        _outcome(["baseline", "gift/run", "--trust", *EPISODES])
        names_python = IN_SETTINGS[route][1] is None  # they do not return an environment
        assert bool(_was_run(here)) is (not names_python), route
    _arrays(here)
    with np.load(here / "gift/run/evaluations.npz", allow_pickle=True) as file:
        file["more"]
    assert f"array.{MARKER}" in _was_run(here)
    pickle.loads(_pickled(here, "data"))  # noqa: S301
    assert f"data.{MARKER}" in _was_run(here)
    _forget(monkeypatch)


# --- files in the current folder that Python might import ----------------------------------------


def _shadowed(here: Path, trained: Path) -> None:
    _unpack(here, trained)
    for folder in (here, here / "gift", *_run_folders(here), here / "gift" / "search"):
        for name in SHADOWS:
            (folder / name).write_text(MARK)
        (folder / "evil.pth").write_text(f"import pathlib; pathlib.Path('pth.{MARKER}').touch()\n")
        (folder / "pyvenv.cfg").write_text("include-system-site-packages = true\n")
    _settle(here)


COMMANDS = {name: entry for name, entry in ENTRIES.items() if isinstance(entry, list)}
SHADOW_SAMPLE = ["evaluate RUN", "run --resume RUN"]


def _check_shadows(name, trained, here) -> None:
    _shadowed(here, trained)
    done = subprocess.run(
        [sys.executable, "-m", "gallop", *COMMANDS[name]],
        cwd=here,
        env={**os.environ, "GALLOP_STATE_DIR": str(here / "decisions")},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    found = _was_run(here)
    outcome = {0: "done", 1: "failed", 2: "refused"}.get(done.returncode, str(done.returncode))
    for shadow in (*SHADOWS, ".pth"):
        n = sum(shadow.removesuffix(".py").lstrip(".") in each for each in found)
        runs.record("untrusted", entry=name, route=shadow, outcome=outcome, n_executed=n)
    assert found == [], (name, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", SHADOW_SAMPLE)
def test_stray_files_are_not_imported(name, trained, tmp_path):
    _check_shadows(name, trained, tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
def test_stray_files_are_not_imported_by_any_command(name, trained, tmp_path):
    _check_shadows(name, trained, tmp_path)
    shutil.rmtree(tmp_path)

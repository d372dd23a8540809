"""What a task is, beyond its id: stored with every run, and compared before episodes are paired."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
from pathlib import Path

import gymnasium.envs.mujoco
import pytest
from conftest import tiny

from gallop.commands.cli import main
from gallop.environments.identity import (
    _version,
    changes,
    differences,
    identity_of,
    read_identity,
)
from gallop.environments.make import Task
from gallop.experiments.presets import shipped_files
from gallop.run_folder.directory import RunDirectory
from gallop.runs import workflow

MODELS = Path(gymnasium.envs.mujoco.__file__).parent / "assets"
HOPPER = {"max_episode_steps": 50}


def model(folder, name="hopper.xml", mass=None):
    """A copy of Gymnasium's hopper, whose torso may be denser."""
    folder.mkdir(exist_ok=True)
    text = (MODELS / "hopper.xml").read_text()
    if mass is not None:
        text = text.replace('<geom friction="0.9"', f'<geom density="{mass}" friction="0.9"', 1)
        assert "density=" in text
    (folder / name).write_text(text)
    return folder / name


def hopper(**kwargs):
    return Task("Hopper-v5", {**HOPPER, **kwargs})


def test_the_same_task_has_no_differences(tmp_path):
    one, other = model(tmp_path / "a"), model(tmp_path / "b")
    assert identity_of(hopper()) == identity_of(hopper())
    files = [identity_of(hopper(xml_file=str(path))) for path in (one, other)]
    assert differences(*files) == [], "a copy of the file is the same task"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (hopper(frame_skip=2), ["frame_skip default and 2"]),
        (
            Task("Hopper-v5", HOPPER, ({"gymnasium.wrappers:ClipAction": {}},)),
            ["wrappers none and gymnasium.wrappers:ClipAction"],
        ),
        (Task("Swimmer-v5", HOPPER), ["Hopper-v5 and Swimmer-v5"]),
    ],
)
def test_each_difference_is_named(other, words):
    assert differences(identity_of(hopper()), identity_of(other)) == words


def test_an_edited_model_is_another_task(tmp_path):
    before = identity_of(hopper(xml_file=str(model(tmp_path / "a"))))
    after = identity_of(hopper(xml_file=str(model(tmp_path / "a", mass=2000))))
    assert changes(before, after) == ["another model (the file has changed)"]


def test_another_mujoco_is_named_instead_of_the_model_that_it_compiles():
    now = identity_of(hopper())
    before = now._replace(versions={**now.versions, "mujoco": "3.3.0"}, model_sha256="0")
    assert changes(before, now) == [f"mujoco 3.3.0 and {now.versions['mujoco']}"]


def test_versions_are_of_the_distributions_that_packages_come_from():
    """Their names may differ. A file of the user's has none, and none is looked for."""
    assert _version("yaml") == importlib.metadata.version("PyYAML")
    assert _version("gallop_noise_task") == "" and _version("nowhere") == ""


def test_it_survives_json():
    found = identity_of(hopper(terminate_when_unhealthy=False))
    assert read_identity(json.loads(json.dumps(found._asdict()))) == found
    assert read_identity({"env": "Hopper-v5"}) is None


def trained(folder, name, **kwargs):
    experiment = tiny(
        "ppo", {"learning_rate": 1e-3}, env="Hopper-v5", env_kwargs={**HOPPER, **kwargs}
    )
    return workflow.run(experiment, folder, name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs: on Gymnasium's hopper, with another frame_skip, and with a file of their own."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "plain": trained(folder, "plain"),
        "slow": trained(folder, "slow", frame_skip=2),
        "own": trained(folder, "own", xml_file=str(model(folder / "models"))),
    }


def test_runs_and_milestones_record_their_task(runs):
    recorded = runs["slow"].read_task()
    assert recorded == identity_of(hopper(frame_skip=2))
    meta = runs["slow"].milestone(100).read_meta()
    assert read_identity(meta["task"]) == recorded


def test_policies_of_different_tasks_are_not_compared_in_pairs(runs, capsys):
    assert main(["evaluate", str(runs["plain"].path), str(runs["slow"].path)]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "are scored on different tasks" in output and "frame_skip 2 and default" in output
    assert "B − A" not in output
    both = [str(runs["plain"].best_model), str(runs["plain"].final_model)]
    assert main(["evaluate", *both]) == 0
    assert "B − A" in capsys.readouterr().out


def test_the_list_shows_the_tasks_arguments(runs, capsys):
    assert main(["list", "-f", str(runs["plain"].path.parent.parent)]) == 0
    assert re.search(r"frame_skip: 2", " ".join(capsys.readouterr().out.split()))


def test_an_edited_model_is_noticed(runs, tmp_path, capsys):
    """In an evaluation it is said; a run is not continued with it."""
    copy = RunDirectory(tmp_path / "results" / "PPO_Hopper-v5" / "own")
    shutil.copytree(runs["own"].path, copy.path)
    path = Path(copy.read_experiment().env_kwargs["xml_file"])
    before = path.read_text()
    try:
        model(path.parent, path.name, mass=2000)
        assert main(["evaluate", str(copy.path), "--episodes", "1"]) == 0
        output = " ".join(capsys.readouterr().out.split())
        assert "trained on another task than it is scored on: another model" in output
        record = copy.read_json("provenance.json")
        copy.write_json("provenance.json", record | {"end": None})
        assert main(["run", "--resume", str(copy.path)]) == 2
        assert "the model of Hopper-v5 has changed since" in capsys.readouterr().err
        more = ["run", "--extend", str(runs["own"].path), "-n", "720", "-f", str(tmp_path / "new")]
        assert main(more) == 2
        assert "the model of Hopper-v5 has changed since" in capsys.readouterr().err
        assert main(["run", "--resume", str(copy.path), "--edited-model"]) == 0
        assert copy.read_task().model_sha256 != runs["own"].read_task().model_sha256
        assert copy.read_json("provenance.json")["earlier_tasks"][0]["task"] == record["task"]
    finally:
        path.write_text(before)
    assert main(more) == 0


def test_the_model_is_kept_in_the_run(tmp_path, capsys):
    """With the files that it names, so that the run outlives the originals."""
    folder = tmp_path / "robot"
    path = model(folder)
    text = path.read_text()
    begin, end = text.index("<actuator>"), text.index("</actuator>") + len("</actuator>")
    (folder / "parts").mkdir()
    (folder / "parts" / "motors.xml").write_text(f"<mujoco>{text[begin:end]}</mujoco>")
    path.write_text(text[:begin] + '<include file="parts/motors.xml"/>' + text[end:])
    run = trained(tmp_path / "results", "kept", xml_file=str(path))
    capsys.readouterr()
    assert main(["evaluate", str(run.path), "--episodes", "2"]) == 0
    before = capsys.readouterr().out.partition("──")[2]
    shutil.move(folder, tmp_path / "elsewhere")
    assert main(["evaluate", str(run.path), "--episodes", "2"]) == 0
    assert capsys.readouterr().out.partition("──")[2] == before
    more = ["run", "--extend", str(run.path), "-n", "480", "-f", str(tmp_path / "new")]
    assert main([*more, "--name", "b"]) == 0
    assert (tmp_path / "new/PPO_Hopper-v5/b/model/xml_file/parts/motors.xml").is_file()
    assert main(["verify", str(run.path)]) == 0


def test_a_model_given_by_name_is_kept_in_the_run(tmp_path, monkeypatch, capsys):
    """Menagerie's package finds its robots below this folder, instead of downloading them."""
    menagerie, go1 = tmp_path / "menagerie", tmp_path / "menagerie" / "unitree_go1"
    go1.mkdir(parents=True)
    ours = shipped_files() / "robots"
    shutil.copy(ours / "quadruped_servos.xml", go1 / "scene.xml")
    shutil.copy(ours / "quadruped_body.xml", go1)
    monkeypatch.setenv("MENAGERIE_ROOT", str(menagerie))
    kwargs = {"xml_file": "menagerie:unitree_go1", "max_episode_steps": 50}
    env = "gallop.environments.robot:Robot-v0"
    run = workflow.run(tiny("ppo", env=env, env_kwargs=kwargs), tmp_path / "results", "go1")
    capsys.readouterr()
    assert main(["evaluate", str(run.path), "--episodes", "2"]) == 0
    before = capsys.readouterr().out.partition("──")[2]
    menagerie.rename(tmp_path / "elsewhere")
    assert main(["evaluate", str(run.path), "--episodes", "2"]) == 0
    assert capsys.readouterr().out.partition("──")[2] == before
    kept = run.path / "model" / "xml_file" / "scene.xml"
    assert run.read_experiment().env_kwargs["xml_file"] == str(kept)


def test_a_relative_path_is_stored_as_an_absolute_one(tmp_path, monkeypatch):
    path = model(tmp_path)
    monkeypatch.chdir(tmp_path)
    for given in ("./hopper.xml", Path("hopper.xml")):
        experiment = tiny("ppo", env="Hopper-v5", env_kwargs={**HOPPER, "xml_file": given})
        assert experiment.env_kwargs["xml_file"] == str(path)


def test_a_file_of_this_folder_is_pointed_to(tmp_path, monkeypatch, capsys):
    model(tmp_path, "mine.xml")
    monkeypatch.chdir(tmp_path)
    command = ["baseline", "--env", "Hopper-v5", "--env-kwargs", "{xml_file: mine.xml}"]
    assert main(command) == 2
    assert "for the file in this folder, write ./mine.xml" in capsys.readouterr().err

"""Files and runs of earlier versions, which contain settings that were removed."""

from __future__ import annotations

import contextlib
import shutil

import pytest
from conftest import tiny
from test_damage import StopAt

from gallop.commands import cli
from gallop.errors import ExperimentError
from gallop.experiments.flags import flags
from gallop.experiments.presets import experiment
from gallop.experiments.yaml_file import from_dict, load, read_resolved, settings_of, to_yaml
from gallop.policies import sb3_zip
from gallop.report.display import Display
from gallop.run_folder import manifest
from gallop.run_folder.directory import RunDirectory
from gallop.runs import workflow
from gallop.runs.stopping import Stopped

FILE = "algo: sac\nenv: Pendulum-v1\ntotal_timesteps: 8000\n"
REFUSAL = "'bf16': no longer supported: kernels compute in float32; remove the setting"


def written_earlier(run, home, precision="float32"):
    """A copy of a run whose experiment.yaml has the removed setting."""
    path = home / run.path.parent.name / run.path.name
    shutil.copytree(run.path, path)
    copy = RunDirectory(path)
    text = copy.experiment_file.read_text()
    assert "precision" not in text
    copy.experiment_file.write_text(f"{text}precision: {precision}\n")
    manifest.begin(path)
    return copy


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    home = tmp_path_factory.mktemp("whole")
    return workflow.run(constant(), home, "whole", Display(quiet=True))


def constant(**settings):
    return tiny("sac", {"learning_rate": 1e-3}, **settings)


def gallop(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def tensors(run):
    return {k: v.tolist() for k, v in sb3_zip.read_training(run.final_model).tensors.items()}


# --- experiments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["float32", "null"])
def test_a_file_that_names_the_only_precision_left_is_the_same_experiment(value, tmp_path):
    path = tmp_path / "earlier.yaml"
    path.write_text(f"{FILE}precision: {value}\n")
    plain = tmp_path / "plain.yaml"
    plain.write_text(FILE)
    assert load(path) == load(plain)
    assert "precision" not in to_yaml(load(path))


def test_another_precision_is_refused_with_its_line(tmp_path, capsys):
    path = tmp_path / "earlier.yaml"
    path.write_text(f"{FILE}precision: bf16\n")
    code, out, error = gallop(capsys, "run", path, "--dry-run")
    assert (code, out) == (2, "")
    assert error == f"gallop: {path}:4: precision: {REFUSAL}\n"


def test_settings_given_in_python_are_treated_alike():
    settings = settings_of(constant())
    assert from_dict({**settings, "precision": "float32"}) == constant()
    with pytest.raises(ExperimentError) as caught:
        experiment(algo="sac", env="Pendulum-v1", precision="bf16")
    assert caught.value.field == "precision" and str(caught.value).endswith(REFUSAL)


def test_the_removed_setting_is_not_a_flag(capsys):
    assert "precision" not in {flag.name for flag in flags()}
    code, out, error = gallop(
        capsys, "run", "--algo", "sac", "--env", "Pendulum-v1", "--precision", "float32"
    )
    assert (code, out) == (2, "")
    assert "--precision" in error and error.count("\n") == 1


# --- runs ----------------------------------------------------------------------------------------


def test_a_stopped_run_of_an_earlier_version_is_resumed_with_the_same_bits(whole, tmp_path, capsys):
    with contextlib.suppress(Stopped):
        stop = [StopAt(120)]
        workflow.run(constant(), tmp_path / "new", "stopped", Display(quiet=True), stop)
    stopped = RunDirectory(next((tmp_path / "new").glob("*/stopped")))
    assert not stopped.is_finished()
    earlier = written_earlier(stopped, tmp_path / "earlier")
    code, _, error = gallop(capsys, "run", "--resume", earlier.path)
    assert (code, error) == (0, "")
    assert earlier.is_finished() and tensors(earlier) == tensors(whole)


def test_a_finished_run_of_an_earlier_version_is_read_and_extended(whole, tmp_path, capsys):
    earlier = written_earlier(whole, tmp_path)
    assert read_resolved(earlier.experiment_file) == constant()
    code, _, error = gallop(capsys, "evaluate", earlier.path, "--episodes", "2")
    assert (code, error) == (0, "")
    arguments = ("-n", 720, "-f", tmp_path, "--name", "longer")
    code, _, error = gallop(capsys, "run", "--extend", earlier.path, *arguments)
    assert code == 0, error
    longer = RunDirectory(next(tmp_path.glob("*/longer")))
    assert longer.is_finished()
    assert "precision" not in longer.experiment_file.read_text()


def test_a_run_in_bfloat16_is_refused_in_one_line_and_listed(whole, tmp_path, capsys):
    earlier = written_earlier(whole, tmp_path, "bf16")
    file = earlier.experiment_file
    line = len(file.read_text().splitlines())
    for command in (("run", "--resume"), ("run", "-n", "720", "--extend"), ("evaluate",)):
        code, _, error = gallop(capsys, *command, earlier.path)
        assert code == 2, command
        assert error == f"gallop: {file}:{line}: precision: {REFUSAL}\n"
    code, out, _ = gallop(capsys, "list", "-f", tmp_path)
    assert code == 0 and "no longer supported" in " ".join(out.split())

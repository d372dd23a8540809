"""The command line: one clear line for each mistake, exit code 2, nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gallop.cli import main
from gallop.experiment_file import load
from gallop.run_directory import RunDirectory, RunError

ROOT = Path(__file__).parents[1]
PENDULUM = ["--algo", "sac", "--env", "Pendulum-v1", "--total_timesteps", "4000"]
REFERENCE = str(ROOT / "configs" / "halfcheetah_sac.yaml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["CONFIG is needed"]),
        (["run", "none.yaml"], ["none.yaml", "No such file"]),
        (["run", REFERENCE, "--hyperparameters.gama", "1"], ["--hyperparameters.gama", "gamma"]),
        (["run", REFERENCE, "--n-timestep", "1"], ["--n-timestep", "--n-timesteps"]),
        (["run", REFERENCE, "-n", "-5"], ["total_timesteps", "-5"]),
        (["run", REFERENCE, "-n"], ["expected one argument"]),
        (["run", REFERENCE, "--env", "CartPole-v1", "--env-kwargs", "{}", "--eval-env-kwargs", "{}",
          "--segment", "500000", "--evaluation.interval", "500000"],
         ["sac needs Box actions", "CartPole-v1 has Discrete actions", "use algo: ppo"]),
        (["run", REFERENCE, "--env", "CartPole-v1"], ["CartPole-v1 has no keyword 'frame_skip'"]),
        (["run", REFERENCE, "--env", "HalfCheeta-v5"], ["did you mean HalfCheetah-v5"]),
        (["run", REFERENCE, "--eval-freq", "30000"], ["evaluation.interval", "25000, 31250"]),
        (["run", REFERENCE, "--device", "cuda:99"], ["'cuda:99'", "no such device", "use cpu"]),
        (["run", REFERENCE, "--name", "a/b"], ["'a/b'", "one path component"]),
        (["run", REFERENCE, "extra"], ["'extra'", "too many"]),
        (["run", *PENDULUM, "--env-kwargs", "{g: abc}"], ["does not work", "'abc'", "TypeError"]),
        (["run", *PENDULUM, "--env-kwargs", "{max_episode_steps: abc}"], ["'abc'", "whole number"]),
        (["run", *PENDULUM, "--env-kwargs", "{max_episode_steps: 0}"], ["0", "at least 1"]),
        (["run", *PENDULUM, "--wrappers", "[os:getcwd]"], ["os:getcwd", "cannot wrap"]),
        (["run", *PENDULUM, "--hyperparameters.policy", "CnnPolicy"], ["only with images"]),
        (["run", *PENDULUM, "--hyperparameters.policy", "MultiInputPolicy"],
         ["MultiInputPolicy", "Box observations"]),
        (["run", *PENDULUM, "--hyperparameters.policy_kwargs.optimizer_kwargs", "{foo: 1}"],
         ["'foo'"]),
        (["run", *PENDULUM, "--hyperparameters.buffer_size", "1e13"], ["Unable to allocate"]),
        (["run", *PENDULUM, "--n-envs", "3"], ["train_freq × n_envs = 3", "3996, 4008"]),
        (["run", *PENDULUM, "-n", "100"], ["100", "at least 800"]),
        (["run", "--resume"], ["no unfinished run below results"]),
        (["run", "--resume", "none"], ["none is no run"]),
        (["run", "--resume", "none", "--seed", "3"], ["leave out --training_seed"]),
        (["watch"], ["no run with a policy below results"]),
        (["watch", "none.zip"], ["none.zip", "no such file"]),
        (["watch", "--episodes", "0"], ["--episodes 0"]),
        (["tune"], ["not there yet"]),
        (["trian"], ["'trian'", "run"]),
        ([], ["COMMAND"]),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_line_and_writes_nothing(
    arguments, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("gallop: ") and printed.err.count("\n") == 1
    assert all(word in printed.err for word in words), printed.err
    assert not list(tmp_path.iterdir())


def test_a_truncated_file_is_refused_at_its_line(tmp_path, capsys):
    text = Path(REFERENCE).read_text()
    config = tmp_path / "cut.yaml"
    config.write_text(text[: text.index("evaluation:") + 24])
    assert main(["run", str(config)]) == 2
    assert f"{config}:10: is not valid YAML" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "results").write_text("a file where a folder should be")
    arguments = ["run", REFERENCE, "-f", str(tmp_path / "results")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "results") in error and error.count("\n") == 1


def test_a_read_only_folder_is_named(tmp_path):
    (tmp_path / "results").mkdir(mode=0o555)
    root = os.geteuid() == 0
    if root:  # who may write everywhere
        os.seteuid(65534)
    try:
        with pytest.raises(RunError, match="cannot be made: Permission denied"):
            RunDirectory(tmp_path / "results" / "SAC_X" / "a").create(load(Path(REFERENCE)))
    finally:
        if root:
            os.seteuid(0)


def test_the_zoos_flags_mean_what_they_mean_there(capsys):
    arguments = [
        "run", "--algo", "PPO", "--env", "Hopper-v5", "-n", "81920", "--seed", "7",
        "--n-envs", "2", "--vec-env", "subproc", "--eval-freq", "20480", "--eval-episodes", "3",
        "--num-threads", "2", "--env-kwargs", "{frame_skip: 2}", "--device", "cpu", "--dry-run",
    ]  # fmt: skip
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for words in (
        "PPO on Hopper-v5, training seed 7",
        "81,920 over 2 environments",
        "every 20,480 timesteps, 3 episodes",
        "2 threads",
    ):
        assert words in shown


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("gallop 0.")


@pytest.mark.parametrize(
    ("script", "words", "code"),
    [
        ("run_all.py", ["timesteps       2,000,000", "expected time"], 0),
        ("visualize.py", ["no run with a policy"], 2),
        ("optimize_hyperparams.py", ["the search is not there yet"], 2),
    ],
)
def test_the_root_scripts_are_the_commands(script, words, code, tmp_path):
    arguments = ["--dry-run"] if script == "run_all.py" else []
    if script == "visualize.py":
        arguments = ["-f", str(tmp_path / "empty")]
    done = subprocess.run(
        [sys.executable, ROOT / script, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == code
    assert all(word in done.stdout + done.stderr for word in words)
    lines = [line for line in (ROOT / script).read_text().splitlines() if line.strip()]
    assert len(lines) <= 4


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_flags(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("evaluate", "import-zoo", "reset-noise-scale", "hyperparameters.learning_rate"):
        assert word in script


def test_bash_completes_a_command(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    (tmp_path / "gallop.bash").write_text(capsys.readouterr().out)
    program = (
        "source gallop.bash; COMP_WORDS=(gallop eva); COMP_CWORD=1; "
        '_shtab_gallop; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "evaluate"

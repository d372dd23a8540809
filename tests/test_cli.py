"""The command line: one clear line for each mistake, exit code 2, nothing written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gallop.algorithms.table import ALGORITHMS
from gallop.commands import run, tune
from gallop.commands.cli import main, make_parser
from gallop.errors import RunError
from gallop.experiments.yaml_file import load
from gallop.run_folder.directory import RunDirectory

ROOT = Path(__file__).parents[1]
PENDULUM = ["--algo", "sac", "--env", "Pendulum-v1", "--total_timesteps", "4000"]
REFERENCE = str(ROOT / "configs" / "halfcheetah_sac.yaml")
SEARCH = str(ROOT / "configs" / "halfcheetah_sac_search.yaml")
GRID = str(ROOT / "docs" / "results" / "halfcheetah" / "d_start.yaml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["CONFIG is required"]),
        (["run", "none.yaml"], ["none.yaml", "No such file"]),
        (["run", REFERENCE, "--hyperparameters.gama", "1"], ["--hyperparameters.gama", "gamma"]),
        (["run", REFERENCE, "--n-timestep", "1"], ["--n-timestep", "--n-timesteps"]),
        (["run", REFERENCE, "-n", "-5"], ["total_timesteps", "-5"]),
        (["run", REFERENCE, "-n"], ["expected one argument"]),
        (["run", REFERENCE, "--env", "CartPole-v1", "--env-kwargs", "{}", "--eval-env-kwargs", "{}",
          "--segment", "500000", "--evaluation.interval", "500000"],
         ["sac needs Box actions", "CartPole-v1 has Discrete actions", "use algo: ppo"]),
        (["run", REFERENCE, "--env", "CartPole-v1"], ["has no keyword argument 'frame_skip'"]),
        (["run", REFERENCE, "--env", "HalfCheeta-v5"], ["did you mean HalfCheetah-v5"]),
        (["run", REFERENCE, "--eval-freq", "30000"], ["evaluation.interval", "25000, 31250"]),
        (["run", REFERENCE, "--device", "cuda:99"], ["'cuda:99'", "no such device", "use cpu"]),
        (["run", REFERENCE, "--name", "a/b"], ["'a/b'", "single folder name"]),
        (["run", REFERENCE, "extra"], ["'extra'", "unexpected argument"]),
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
        (["run", "--resume"], ["results: no unfinished run found"]),
        (["run", "--resume", "none"], ["none: not a run folder"]),
        (["run", "--resume", "none", "--seed", "3"], ["leave out --seed"]),
        (["run", "--resume", "none", "-params", "gamma:1"], ["leave out --hyperparameters.gamma"]),
        (["run", REFERENCE, "--resume"], ["--resume continues", "leave out CONFIG"]),
        (["run", "--resume", "none", "--seeds", "0..1"], ["leave out --seeds"]),
        (["run", "--resume", "none", "--dry-run"], ["--resume continues", "leave out --dry-run"]),
        (["run", "--resume", "none", "--workers", "2"], ["--workers requires --seeds"]),
        (["run", "--extend", "none", "--no-preset"], ["leave out --no-preset"]),
        (["run", REFERENCE, "--extend", "none"], ["--extend continues", "leave out CONFIG"]),
        (["run", REFERENCE, "--workers", "2"], ["--workers requires --seeds"]),
        (["run", REFERENCE, "--seeds", "0..1", "--new-horizon"],
         ["--new-horizon requires --extend"]),
        (["watch"], ["results: no run with a policy found"]),
        (["watch", "none.zip"], ["none.zip", "no such file"]),
        (["watch", "--episodes", "0"], ["--episodes 0"]),
        (["watch", "-o", "a.gif"], ["a.gif: must end in .mp4"]),
        (["watch", "-o", "none/a.mp4"], ["none/a.mp4: there is no folder none"]),
        (["watch", "-o", "/proc/a.mp4"], ["/proc/a.mp4: "]),
        (["report", "-o", "none/a.html"], ["none/a.html: there is no folder none"]),
        (["report", "-o", "/proc/a.html"], ["/proc/a.html: "]),
        (["compare", "a", "b", "--csv", "none/a.csv"], ["none/a.csv: there is no folder none"]),
        (["tune"], ["CONFIG is required", "halfcheetah_sac_search.yaml", "--algo and --env"]),
        (["tune", "--algo", "sac"], ["--algo and --env"]),
        (["tune", "--env", "Hopper-v5"], ["--algo and --env"]),
        (["tune", "--algo", "sacc", "--env", "Hopper-v5"], ["'sacc'", "did you mean sac"]),
        (["tune", "--algo", "sac", "--env", "Hoper-v5"], ["'Hoper-v5'", "did you mean Hopper-v5"]),
        (["tune", "--algo", "sac", "--env", "CartPole-v1"],
         ["sac needs Box actions", "CartPole-v1 has Discrete actions", "use algo: ppo"]),
        (["tune", "none.yaml"], ["none.yaml", "No such file"]),
        (["tune", REFERENCE], ["is an experiment", f"gallop run {REFERENCE}"]),
        (["run", SEARCH], ["is a search", f"gallop tune {SEARCH} runs it"]),
        (["run", GRID], ["is a grid", f"gallop experiment {GRID} trains it"]),
        (["tune", GRID], ["is a grid", f"gallop experiment {GRID} trains it"]),
        (["tune", SEARCH, "--env", "Humanoid-v5", "-n", "-5"], ["total_timesteps", "-5"]),
        (["tune", SEARCH, "-n", "31000"], ["15000", "must divide", "31000"]),
        (["tune", SEARCH, "--n-trials", "0"], ["--n-trials 0", "at least 1"]),
        (["tune", SEARCH, "--n-trials", "3,x"], ["--n-trials x", "whole number"]),
        (["tune", SEARCH, "--n-trials", "1,2,3"], ["--n-trials 1,2,3", "2 rounds"]),
        (["tune", SEARCH, "--n-seeds", "0"], ["n_seeds", "0"]),
        (["tune", SEARCH, "--n-seeds", "two"], ["n_seeds", "'two'", "whole number"]),
        (["tune", SEARCH, "--seed", "-1"], ["search_seed", "-1"]),
        (["tune", SEARCH, "--workers", "0"], ["--workers 0", "at least 1"]),
        (["tune", SEARCH, "--workers", "-1"], ["--workers -1", "at least 1"]),
        (["tune", SEARCH, "--workers", "x"], ["--workers x", "whole number"]),
        (["tune", SEARCH, "--workers", "true"], ["--workers true", "whole number"]),
        (["tune", SEARCH, "--name", "a/b"], ["'a/b'", "single folder name"]),
        (["tune", SEARCH, "--n-trial", "1"], ["--n-trial", "did you mean --n-trials"]),
        (["tune", SEARCH, "--resume"], ["leave out CONFIG"]),
        (["tune", "--resume", "none", "--seed", "1"], ["leave out --seed"]),
        (["tune", "--resume", "none", "--n-timesteps", "1"], ["leave out --n-timesteps"]),
        (["tune", "--resume", "none", "--reproducible"], ["leave out --reproducible"]),
        (["tune", "--resume"], ["no unfinished search found in optuna_results"]),
        (["tune", "--resume", "none"], ["none: not a search folder", "round.json"]),
        (["tune", SEARCH, "--storage", "nonsense://"], ["storage nonsense://", "cannot be used"]),
        (["tune", SEARCH, "--storage", "study.db"], ["storage study.db", "cannot be used"]),
        (["tune", SEARCH, "--storage", "sqlite:///no/folder/study.db"],
         ["storage sqlite:///no/folder/study.db", "unable to open database file"]),
        (["tune", SEARCH, "--storage", "postgresql+psycopg://x:secret@127.0.0.1:1/db"],
         ["postgresql+psycopg://x:***@127.0.0.1:1/db", "cannot be used", "refused"]),
        (["tune", SEARCH, "--storage", "postgresql+psycopg://x:se@secret@127.0.0.1:1/db"],
         ["postgresql+psycopg://x:***@127.0.0.1:1/db", "failed to resolve host '127.0.0.1'"]),
        (["run", REFERENCE, "--gamma", "1"], ["did you mean --hyperparameters.gamma?"]),
        (["run", REFERENCE, "-n", "1e-3"], ["total_timesteps", "0.001", "whole number"]),
        (["run", REFERENCE, "-n", "1.5"], ["total_timesteps", "1.5", "whole number"]),
        (["run", REFERENCE, "-n", "0.5k5"], ["'0.5k5'", "whole number, such as", "100k"]),
        (["run", REFERENCE, "-n", "1e999999999"], ["total_timesteps"]),
        (["run", REFERENCE, "--seeds", "0..1", "--workers", "1.5"], ["--workers 1.5", "whole"]),
        (["watch", "--episodes", "1.5"], ["--episodes 1.5", "whole number"]),
        (["watch", "--seed", "-1"], ["--seed -1", "at least 0"]),
        (["evaluate", "--episodes", "x"], ["--episodes x", "whole number"]),
        (["verify", "--replay", "x"], ["--replay x", "whole number"]),
        (["trian"], ["'trian': unknown command", "run, tune"]),
        (["rum"], ["'rum': unknown command; did you mean run?"]),
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
    assert printed.err[:-1].isprintable()
    assert all(word in printed.err for word in words), printed.err
    assert "secret" not in printed.err + printed.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("modes", "command", "taken_by_all"),
    [
        (run.MODES, "run", {"results", "quiet", "verbose", "params", "trust"}),
        (tune.MODES, "tune", {"folder", "quiet", "trust"}),
    ],
)
def test_each_flag_is_listed_with_the_modes_that_take_it(modes, command, taken_by_all):
    given = vars(make_parser().parse_args([command])).keys() - {"command", "call", "parser"}
    listed = {name for mode in modes for name in (mode.flag, *mode.takes)} - {None}
    assert listed == given - taken_by_all


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
        with pytest.raises(RunError, match="cannot be created: Permission denied"):
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
        "81,920 in 2 environments",
        "every 20,480 timesteps, 3 episodes",
        "2 threads",
    ):
        assert words in shown


@pytest.mark.parametrize(
    ("total", "words"),
    [
        ("60_000", ["61,440 in 1 environment (60,000 rounded up to whole rollouts of 2,048)",
                    "20 of about 3,000 timesteps", "20, about every 3,000 timesteps"]),
        ("7_500", ["8,192 in 1", "(7,500 rounded", "2 of 4,096", "2, every 4,096 timesteps"]),
        ("14_336", ["14,336 in 1 environment (segments rounded", "4, about every 3,584 timesteps"]),
        ("8_192", ["8,192 in 1 environment segments", "4, every 2,048 timesteps"]),
    ],
)  # fmt: skip
def test_the_plan_of_ppo_shows_whole_rollouts(total, words, capsys):
    task = ["--algo", "ppo", "--env", "Pendulum-v1", "--no-preset"]
    two = ["--milestones", "[100]", "--eval-freq", "3750"] if total == "7_500" else []
    assert main(["run", *task, "-n", total, *two, "--dry-run"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in words:
        assert text in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--env", "CartPole-v1"], "Discrete actions"),
        (["--env", "Pendulum-v1", "--wrappers", "[nowhere:X]"], "nowhere:X cannot be imported"),
        (["--env", "Pendulum-v1", "--env-kwargs", "{gg: 1}"], "no keyword argument 'gg'"),
        (["--env", "Pendulum-v1"], "100 leaves 25 timesteps between milestones"),
    ],
)
def test_errors_of_the_task_come_before_those_of_the_plan(arguments, words, capsys):
    assert main(["run", "--algo", "sac", "-n", "100", *arguments]) == 2
    assert words in capsys.readouterr().err


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
        ("optimize_hyperparams.py", ["20 trials of 1 seed × 30,000 timesteps", "core hours"], 0),
    ],
)
def test_the_root_scripts_are_the_commands(script, words, code, tmp_path):
    arguments = ["--dry-run"]
    if script == "visualize.py":
        arguments = ["-f", str(tmp_path / "empty")]
    done = subprocess.run(
        [sys.executable, ROOT / script, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == code
    assert all(word in done.stdout + done.stderr for word in words)
    lines = [line for line in (ROOT / script).read_text().splitlines() if line.strip()]
    assert len(lines) <= 4


# --- tune ----------------------------------------------------------------------------------------


def test_a_dry_run_prints_the_cost_of_a_search_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["tune", SEARCH, "--dry-run", "--workers", "1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    # 20 + 10 trials, then the winner and SB3's defaults on 3 seeds: 36 trainings of 30,000.
    for words in (
        "SAC on HalfCheetah-v5, seed 0",
        "20 trials of 1 seed × 30,000 timesteps, 2 evaluations of 1 episode each: learning_rate, "
        "batch_size, gamma",
        "10 trials of 1 seed × 30,000 timesteps, 2 evaluations of 1 episode each: learning_rate",
        "the best trial and SB3's defaults, on 3 fresh seeds each",
        "36 trainings, 1,080,000 timesteps, about ",
        "core hours",
        "with 1 worker ",
    ):
        assert words in shown, shown
    assert not list(tmp_path.iterdir())


def test_flags_change_the_cost_of_a_search(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["--n-trials", "5,3", "--n-seeds", "2", "-n", "60000", "--seed", "7", "--env", "Ant-v5"]
    config = tmp_path / "search.yaml"
    text = Path(SEARCH).read_text()
    config.write_text(re.sub(r".*env_kwargs.*\n", "", text))
    assert main(["tune", str(config), *flags, "--dry-run", "--workers", "999"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    # (5 + 3) trials × 2 seeds + 2 × 3: 22 trainings of 60,000.
    assert "SAC on Ant-v5, seed 7" in shown
    assert "22 trainings, 1,320,000 timesteps" in shown
    assert "instead of 999" in shown
    assert list(tmp_path.iterdir()) == [config]


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_an_algorithm_alone_has_a_search(algo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["tune", "--algo", algo.upper(), "--env", "Pendulum-v1", "--dry-run"]) == 0
    assert f"{algo.upper()} on Pendulum-v1" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def refused(arguments, capsys):
    """The one line that a command is refused with."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("gallop: ") and error.count("\n") == 1 and error[:-1].isprintable()
    return error


def test_postgresql_without_its_driver_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    error = refused(["tune", SEARCH, "--storage", "postgresql+psycopg://localhost:1/x"], capsys)
    assert 'pip install "gallop-rl[postgresql]"' in error
    assert not list(tmp_path.iterdir())


def test_a_study_of_another_search_is_left_alone(tmp_path, monkeypatch, capsys):
    from gallop.tuning import search, study

    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/postgres.db"
    other = search.load(Path(SEARCH), {"experiment.env": "Ant-v5", "experiment.env_kwargs": {},
                                       "experiment.eval_env_kwargs": {}})  # fmt: skip
    study.open_study(url, "mine", study.identity(other, 0, search.spaces(other, 0, None)))
    arguments = ["tune", SEARCH, "--storage", url, "--study-name", "mine"]
    error = refused(arguments, capsys)
    for word in ("study 'mine'", "its env is 'Ant-v5', not 'HalfCheetah-v5'", "--study-name"):
        assert word in error
    assert [path.name for path in tmp_path.iterdir()] == ["postgres.db"]
    other = search.load(Path(SEARCH), {"search_seed": 3})
    study.open_study(url, "mine too", study.identity(other, 0, search.spaces(other, 0, None)))
    assert "its search_seed is 3, not 0" in refused(
        [*arguments, "--study-name", "mine too"], capsys
    )


def test_a_study_of_somebody_elses_is_left_alone(tmp_path, monkeypatch, capsys):
    import optuna

    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/theirs.db"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    theirs = optuna.create_study(storage=url, study_name="theirs")
    theirs.tell(theirs.ask(), 1.0)
    arguments = ["tune", SEARCH, "--storage", url, "--study-name", "theirs"]
    error = refused(arguments, capsys)
    assert "study 'theirs'" in error and "--study-name" in error
    theirs.set_user_attr("gallop", "\x1b[31m")
    assert "belongs to another search" in refused(arguments, capsys)
    assert len(theirs.trials) == 1


def test_a_study_with_trials_that_somebody_enqueued_is_refused(tmp_path, monkeypatch, capsys):
    from gallop.tuning import search, study

    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/ours.db"
    ours = search.load(Path(SEARCH))
    opened = study.open_study(url, "ours", study.identity(ours, 0, search.spaces(ours, 0, None)))
    opened.enqueue_trial({"gamma": 0.99})
    error = refused(["tune", SEARCH, "--storage", url, "--study-name", "ours"], capsys)
    assert "study 'ours'" in error and "has enqueued trials" in error


def test_a_file_that_is_no_database_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("study.db").write_text("no database\n" * 100)
    error = refused(["tune", SEARCH, "--storage", "sqlite:///study.db"], capsys)
    assert "file is not a database" in error


def test_a_study_of_another_optuna_is_refused(tmp_path, monkeypatch, capsys):
    import contextlib
    import sqlite3

    import optuna

    monkeypatch.chdir(tmp_path)
    optuna.storages.RDBStorage("sqlite:///old.db").engine.dispose()
    with contextlib.closing(sqlite3.connect("old.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'v0.9.0.a'")
        database.execute("UPDATE version_info SET schema_version = 3, library_version = '0.9.0'")
        database.commit()
    error = refused(["tune", SEARCH, "--storage", "sqlite:///old.db"], capsys)
    assert "storage sqlite:///old.db cannot be used" in error and "version" in error


def test_a_damaged_search_is_refused_and_hides_no_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = Path("optuna_results/plots/SAC_X/a")
    folder.mkdir(parents=True)
    whole = {"number": 1, "parent": "a", "storage": "study.db", "study_name": "x", "start": "now",
             "reproducible": False}  # fmt: skip
    strange = whole | {"number": 0, "parent": None, "study_name": ["\x1b"]}
    for text in ("{", "[]", "3", "{}", *map(json.dumps, [whole, whole | {"parent": 3}, strange])):
        (folder / "round.json").write_text(text)
        assert "a: not a search folder" in refused(["tune", "--resume", str(folder)], capsys)
        assert "no unfinished search" in refused(["tune", "--resume"], capsys)
    (folder / "round.json").write_text(json.dumps(whole | {"number": 0, "parent": None}))
    (folder / "search.yaml").write_text("rounds: 3\n")
    assert "search.yaml: experiment: is missing" in refused(
        ["tune", "--resume", str(folder)], capsys
    )
    assert "no unfinished search" in refused(["tune", "--resume"], capsys)


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


@pytest.mark.parametrize(
    ("command", "name"),
    [("watch -o", "a.mp4"), ("report -o", "a.html"), ("compare a b --csv", "a.csv")],
)
def test_an_output_that_is_a_folder_is_refused_before_any_work(
    command, name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert main([*command.split(), name]) == 2
    told = f"gallop: {name}: is a folder; name a file, such as {name}/{name}\n"
    assert capsys.readouterr().err == told

"""Help screens and what the command line knows of settings: complete, true, readable."""

from __future__ import annotations

import inspect
import subprocess

import pytest
import yaml

import gallop
from gallop.algorithms.spec import imported
from gallop.algorithms.table import ALGORITHMS
from gallop.commands.cli import main, make_parser
from gallop.errors import ExperimentError
from gallop.experiments.flags import flags
from gallop.experiments.settings import EXPERIMENTS
from gallop.experiments.yaml_file import from_dict, load, parse, to_yaml
from gallop.tuning.parameter import Parameter

COMMANDS = next(a for a in make_parser()._actions if a.dest == "command").choices
BASE = {"algo": "sac", "env": "Pendulum-v1", "total_timesteps": 16_000}


def help_of(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    assert caught.value.code == 0
    return capsys.readouterr().out


def entry(text, flag):
    """What help says of one flag, in one line."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if f"{flag} " in line and line[:3] == "  -")
    rest = lines[start + 1 :]
    end = next(i for i, line in enumerate(rest) if not line.startswith("      "))
    return " ".join(" ".join([lines[start], *rest[:end]]).split())


# --- screens -------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help-all"], *([name, "--help"] for name in COMMANDS)]
)
def test_a_help_screen_fits_and_begins_with_one_line_of_usage(
    arguments, columns, monkeypatch, capsys
):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = help_of(capsys, *arguments).splitlines()
    assert lines[0].startswith("usage: gallop") and lines[0].endswith("[options]")
    assert lines[1] == ""
    long = [line for line in lines if len(line) > min(columns, 100)]
    # A name cannot be wrapped: the longest are those of policy_kwargs.
    assert not [line for line in long if not line.startswith("  --hyperparameters.policy_kwargs.")]


def test_run_lists_what_most_people_need_and_help_all_the_rest(capsys):
    short, everything = help_of(capsys, "run", "--help"), help_of(capsys, "run", "--help-all")
    for flag in flags():
        name = flag.name if "." in flag.name else flag.name.replace("_", "-")
        assert f"--{name} " in everything, flag.name
        assert (f"--{name} " in short) != flag.rare, flag.name
    for words in ("run control:", "resuming and extending:", "several seeds:", "TD3 hyper-param"):
        assert words in everything
    assert "--hyperparameters.tau" not in short and "--help-all" in short
    assert "VALUE " not in everything.replace("NAME:VALUE", "")


def test_help_of_one_algorithm_leaves_out_the_others(capsys):
    text = help_of(capsys, "run", "--help-all", "PPO")
    assert "n_epochs" in text and "buffer_size" not in text and "TD3 hyper" not in text
    assert entry(text, "--hyperparameters.batch_size").endswith("(default: 64)")
    assert main(["run", "--help-all", "pp"]) == 2
    assert capsys.readouterr().err == "gallop: --help-all pp: did you mean ppo?\n"


def test_help_shows_true_defaults_and_choices(capsys):
    text = help_of(capsys, "run", "--help-all")
    for flag, words in {
        "--milestones": "(default: [25,50,100])",
        "--hyperparameters.learning_rate": "(default: 0.0003; TD3, CrossQ: 0.001)",
        "--hyperparameters.batch_size": "(default: 256; PPO: 64)",
        "--hyperparameters.noise_type": "(default: none; TD3: normal)",
        "--hyperparameters.policy_delay": "(TD3, CrossQ only) (default: 2; CrossQ: 3)",
        "--hyperparameters.policy_kwargs.net_arch": "[256,256]; TD3: [400,300]; PPO: [64,64]; ",
        "--hyperparameters.buffer_size": "N Capacity of the replay buffer, in transitions of all "
        "environments (default: 1_000_000)",
        "--hyperparameters.gamma": "X Discount factor, 0 to 1 (default: 0.99)",
        "--learner": "{auto,native,sb3}",
        "--vec-env": "{dummy,subproc}",
        "--films": "{true,false}",
        "-n, --n-timesteps, --total-timesteps": "N Timesteps to train",
        "-f, --log-folder": "DIR Folder of all runs (default: results)",
    }.items():
        assert words in entry(text, flag), (flag, entry(text, flag))


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_defaults_that_are_values_are_those_of_the_experiment(algo):
    given = {**BASE, "algo": algo}
    plain = EXPERIMENTS[algo].model_validate(given)
    n_checked = 0
    for flag in flags([algo]):
        value = plain
        for part in flag.name.split("."):
            value = getattr(value, part)
        if value in (None, "", (), {}) or flag.name in given:
            assert flag.default == "" or value is None
            continue
        n_checked += 1
        named = load(None, {**{k: str(v) for k, v in given.items()}, flag.name: flag.default})
        found = named
        for part in flag.name.split("."):
            found = getattr(found, part)
        assert found == value, flag.name
    assert n_checked > 25


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_defaults_of_policy_kwargs_are_those_of_the_policy_class(algo):
    spec = ALGORITHMS[algo]
    signature = inspect.signature(imported(spec.networks.policy_classes[0]).__init__).parameters
    start = "hyperparameters.policy_kwargs."
    n_checked = 0
    for flag in flags([algo]):
        name = flag.name.removeprefix(start)
        if flag.name == name or name in ("net_arch", "optimizer_kwargs"):
            continue
        if name not in signature:  # declared for all, and refused where the class has none
            continue
        n_checked += 1
        theirs = signature[name].default
        text = flag.default
        if " for PPO, " in text:
            parts = text.removesuffix(" for others").split(" for PPO, ")
            text = parts[0 if algo == "ppo" else 1]
        if name == "activation_fn":
            assert theirs.__name__.lower() == text
        else:
            assert float(parse(text)) == float(theirs), name
    assert n_checked >= 4


def test_flags_give_types_limits_and_groups_for_documentation():
    by_name = {flag.name: flag for flag in flags()}
    gamma = by_name["hyperparameters.gamma"]
    assert (gamma.kind, gamma.limits, gamma.group) == (
        "number",
        "0 to 1",
        "common hyper-parameters",
    )
    assert by_name["hyperparameters.learning_rate"].defaults["td3"] == "0.001"
    assert by_name["hyperparameters.batch_size"].limits.endswith("PPO: at least 2")
    assert by_name["milestones"].kind == "list of integers"
    assert by_name["trackers"].choices == ("wandb", "mlflow", "trackio")
    assert by_name["hyperparameters.n_steps"].algorithms == ("ppo",)
    for flag in flags():
        assert flag.doc.endswith(".") and flag.group and flag.kind and flag.metavar, flag
        assert "Default:" not in flag.doc


# --- numbers as people write them ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("100k", 100_000), ("100K", 100_000), ("1.5M", 1_500_000), ("1e6", 1_000_000),
        ("1E+5", 100_000), ("1_000_000", 1_000_000), ("0.25m", 250_000), ("4000", 4_000),
        ("8e3", 8_000), ("'1e6'", 1_000_000), ("12.5k", 12_500),
    ],
)  # fmt: skip
def test_whole_numbers_are_taken_as_people_write_them(text, number, tmp_path):
    base = {"algo": "ppo", "env": "Pendulum-v1", "milestones": "[100]"}
    experiment = load(None, {**base, "total_timesteps": text})
    file = tmp_path / "a.yaml"
    lines = [f"{name}: {value}" for name, value in {**base, "total_timesteps": text}.items()]
    file.write_text("\n".join(lines))
    assert load(file) == experiment
    assert experiment.total_timesteps == number and type(experiment.total_timesteps) is int
    kept = yaml.safe_load(to_yaml(experiment))  # YAML 1.1, as other programs read it
    assert kept["total_timesteps"] == number and type(kept["total_timesteps"]) is int


def test_every_integer_takes_them():
    found = from_dict(
        {
            **BASE, "total_timesteps": "400k", "training_seed": "1e3", "segment": "10k",
            "evaluation": {"interval": "20k"},
            "hyperparameters": {"buffer_size": "0.5M", "policy_kwargs": {"net_arch": ["1k", 64]}},
        }
    )  # fmt: skip
    assert (found.training_seed, found.segment, found.evaluation.interval) == (1000, 10_000, 20_000)
    assert found.hyperparameters.buffer_size == 500_000
    assert found.hyperparameters.policy_kwargs.net_arch == [1000, 64]
    assert gallop.experiment("quickstart", total_timesteps="100k").total_timesteps == 100_000


@pytest.mark.parametrize(
    "text",
    ["1e-3", "1.5", "0.0001k", "1.2345k", "k", "1kk", "nan", "1 000", "1,000", "true",
     "1e99999999", "'1e-99999999'", "'1e99999999'"],
)  # fmt: skip
def test_what_is_not_whole_is_refused_in_one_line(text):
    with pytest.raises(ExperimentError) as caught:
        load(None, {**{k: str(v) for k, v in BASE.items()}, "total_timesteps": text})
    message = str(caught.value)
    assert message.startswith("total_timesteps: ") and "\n" not in message
    assert "must be a whole number" in message or "is out of range" in message, message


def test_ranges_of_a_search_take_them():
    assert Parameter(low="10k", high="1.5M").range == (10_000.0, 1_500_000.0)
    for text in ("fook", "k", "1e-40k", "nank"):
        with pytest.raises(ValueError, match="valid number"):
            Parameter(low=text, high=1)


def test_flags_of_every_command_take_them(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--algo", "ppo", "--env", "Hopper-v5", "-n", "100k", "--dry-run"]) == 0
    assert "100,352" in capsys.readouterr().out
    search = ["tune", "--algo", "sac", "--env", "Pendulum-v1", "--dry-run", "--workers", "1e0"]
    assert main([*search, "-n", "8k", "--n-trials", "1e1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "10 trials of" in shown and " × 8,000 timesteps" in shown
    assert main(["baseline", "--env", "Pendulum-v1", "--episodes", "0.002k"]) == 0
    assert "Returns of 2 episodes" in capsys.readouterr().out


# --- other names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--best-params", "--best_params"])
def test_settings_take_dashes_and_underscores(flag, capsys):
    assert main(["run", "halfcheetah_sac", flag, "none", "--dry-run"]) == 2
    assert "none" in capsys.readouterr().err


def test_bash_completes_the_values_of_a_setting(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert all(f"--{flag.name}" in script for flag in flags())
    (tmp_path / "gallop.bash").write_text(script)
    program = (
        "source gallop.bash; COMP_WORDS=(gallop run --learner na); COMP_CWORD=3; "
        '_shtab_gallop; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "native"

"""Experiments: reading, refusing in one useful line, resolving, planning."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gallop.errors import ExperimentError
from gallop.experiments.flags import flags
from gallop.experiments.grid import load as load_grid
from gallop.experiments.plan import interval_for_slope, make_plan
from gallop.experiments.yaml_file import from_dict, load, to_yaml

CONFIGS = Path(__file__).parents[1] / "configs"
REFERENCE = CONFIGS / "halfcheetah_sac.yaml"


def refusal(overrides=None, path=REFERENCE):
    with pytest.raises(ExperimentError) as caught:
        load(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_reference_experiment_is_the_specified_one():
    experiment = load(REFERENCE)
    assert experiment.hyperparameters.learning_rate == 0.0017445833077795192
    assert experiment.hyperparameters.gamma == 0.992712289037351
    assert (experiment.hyperparameters.batch_size, experiment.n_envs) == (128, 1)
    assert experiment.env_kwargs == {"frame_skip": 5, "reset_noise_scale": 0.15}
    assert experiment.evaluation_env_kwargs == {"frame_skip": 5, "reset_noise_scale": 0.10}
    plan = make_plan(experiment, transition_bytes=308)
    marks = [b.timestep for b in plan.boundaries if b.milestone]
    assert marks == [500_000, 1_000_000, 2_000_000]
    assert sum(b.evaluates for b in plan.boundaries) == 40
    assert (plan.n_gradient_steps, plan.utd_ratio) == (2_000_000 - 100, 1.0)


PUBLISHED = sorted((CONFIGS.parent / "docs" / "results").glob("*/*.yaml"))
GRIDS = [path for path in PUBLISHED if "\nalgorithms:" in path.read_text()]
EXPERIMENTS = [path for path in sorted(CONFIGS.glob("*.yaml")) if "_search" not in path.name]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_a_resolved_experiment_reads_back_equal(path, tmp_path):
    experiment = load(path)
    (tmp_path / "experiment.yaml").write_text(to_yaml(experiment))
    assert load(tmp_path / "experiment.yaml") == experiment


def check_plan(experiment):
    plan = make_plan(experiment, transition_bytes=308)
    reached = [each.milestone for each in plan.boundaries if each.milestone]
    assert reached == list(experiment.milestones)


@pytest.mark.parametrize("path", sorted(set(PUBLISHED) - set(GRIDS)), ids=lambda path: path.stem)
def test_a_published_experiment_can_be_run(path):
    check_plan(load(path))


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_a_published_grid_can_be_run(path):
    cells = load_grid(path).cells()
    assert len({cell.change for cell in cells}) > 1
    for cell in cells:
        check_plan(cell.experiment)


def test_every_kind_of_setting_reads_back_equal(tmp_path):
    experiment = from_dict(
        {
            "algo": "PPO",
            "env": "HalfCheetah-v5",
            "total_timesteps": "1e6",
            "n_envs": 4,
            "normalize": True,
            "wrappers": [
                "gymnasium.wrappers:ClipAction",
                {"gymnasium.wrappers.TransformReward": {"func": "x"}},
            ],
            "hyperparameters": {
                "learning_rate": "lin_3e-4",
                "clip_range": "lin_0.2",
                "policy_kwargs": {
                    "net_arch": {"pi": [64], "vf": [32, 32]},
                    "activation_fn": "ReLU",
                    "optimizer_kwargs": {"eps": 1e-5},
                },
                "use_sde": True,
            },
        }
    )
    (tmp_path / "experiment.yaml").write_text(to_yaml(experiment))
    assert load(tmp_path / "experiment.yaml") == experiment
    assert experiment.hyperparameters.policy_kwargs.activation_fn == "relu"
    assert experiment.normalize.observations and experiment.normalize.rewards


def test_an_experiment_is_frozen():
    with pytest.raises(ValidationError):
        load(REFERENCE).n_envs = 2


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"hyperparameters.learning_rte": "1"}, ["learning_rte", "did you mean learning_rate"]),
        (
            {"learning_rate": "1"},
            ["learning_rate: unknown setting; did you mean hyperparameters.learning_rate?"],
        ),
        (
            {"hyperparameters.net_arch": "[64]"},
            ["net_arch", "did you mean hyperparameters.policy_kwargs.net_arch?"],
        ),
        ({"nonsense": "1"}, ["nonsense", "unknown setting", "allowed: algo, env"]),
        ({"evaluation.intervall": "1"}, ["evaluation.intervall", "did you mean interval"]),
        ({"hyperparameters.gamma": "2"}, ["hyperparameters.gamma", "2", "must be at most 1"]),
        ({"total_timesteps": "-5"}, ["total_timesteps", "-5", "must be at least 1"]),
        ({"total_timesteps": "many"}, ["total_timesteps", "'many'", "whole number"]),
        ({"n_envs": "true"}, ["n_envs", "whole number"]),
        ({"n_envs": "1.5"}, ["n_envs", "1.5", "whole number"]),
        ({"algo": "sacc"}, ["algo", "'sacc'", "did you mean sac"]),
        ({"vec_env": "subprocess"}, ["vec_env", "did you mean subproc"]),
        ({"env": "HalfCheeta-v5"}, ["env", "'HalfCheeta-v5'", "did you mean HalfCheetah-v5"]),
        ({"env": "no_such_module:Env-v0"}, ["env", "no_such_module", "cannot be imported"]),
        (
            {"evaluation.interval": "30000"},
            ["30000", "milestones", "nearest that do: 25000, 31250"],
        ),
        ({"segment": "7000"}, ["7000", "evaluation.interval 50000", "6250, 10000"]),
        ({"segment": "500"}, ["500", "one full episode", "1000"]),
        (
            {"total_timesteps": "2000"},
            ["2000 leaves 500", "one full episode of each", "at least 4000, or", "[100]"],
        ),
        ({"total_timesteps": "1000001"}, ["1000001", "1000000, 1000004"]),
        ({"hyperparameters.utd": "0.3"}, ["0.3", "whole numbers are utd 0 and 1"]),
        (
            {"hyperparameters.utd": "1", "hyperparameters.gradient_steps": "1"},
            ["utd 1", "gradient_steps 1", "one of them"],
        ),
        ({"hyperparameters.learning_rate": "lin_x"}, ["'lin_x'", "lin_3e-4"]),
        ({"hyperparameters.learning_rate": "0"}, ["must be greater than 0"]),
        ({"hyperparameters.ent_coef": "autox"}, ["'autox'", "auto_NUMBER"]),
        (
            {"hyperparameters.policy_kwargs.activation_fn": "rellu"},
            ["activation_fn", "did you mean relu"],
        ),
        ({"hyperparameters.policy_kwargs.net_arch": "{pi: [64], vf: [64]}"}, ["pi and qf"]),
        ({"wrappers": "[nowhere]"}, ["wrappers", "'nowhere'", "package.module:Class"]),
        ({"milestones": "[25, 50]"}, ["milestones", "end with 100"]),
        ({"learner": "jax"}, ["learner", "'jax'", "auto, native, sb3"]),
        ({"device": "gpu"}, ["device", "'gpu'", "must be cpu, cuda, cuda:N, mps or auto"]),
        ({"films": "maybe"}, ["films", "'maybe'", "must be true or false"]),
        ({"hyperparameters.gamma": "x"}, ["'x'", "must be a number"]),
        ({"hyperparameters.gamma": ".nan"}, ["nan", "must be finite"]),
        ({"hyperparameters": "3"}, ["hyperparameters", "3", "must be a mapping"]),
        ({"hyperparameters.tau": "0"}, ["tau", "must be greater than 0"]),
    ],
)
def test_bad_input_causes_one_line_with_the_value_and_what_is_allowed(overrides, words):
    message = refusal(overrides)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("algo: sac\nenv: Pendulum-v1\ntotal_timesteps: -1\n", ":3:", ["total_timesteps", "-1"]),
        ("algo: sac\nhyperparameters:\n  gama: 1\n", ":3:", ["did you mean gamma"]),
        ("algo: sac\nenv: Pendulum-v1\nenv: Hopper-v5\n", ":3:", ["env is given twice"]),
        ("algo: sac\nhyperparameters: {batch_size: 12", ":2", ["is not valid YAML"]),
        (
            "algo: !!python/object/apply:os.getcwd []\n",
            ":1:",
            ["could not determine a constructor"],
        ),
        ("", ":", ["is empty"]),
        ("- a\n- b\n", ":", ["not a mapping"]),
    ],
)
def test_bad_files_are_refused_with_file_and_line(text, place, words, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    message = refusal(path=path)
    assert message.startswith(f"{path}{place}"), message
    assert all(word in message for word in words), message


def test_files_that_cannot_be_read_are_refused(tmp_path):
    assert "No such file" in refusal(path=tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "no text file" in refusal(path=tmp_path / "binary.yaml").replace("not a", "no")


def test_a_missing_setting_is_named():
    with pytest.raises(ExperimentError, match="total_timesteps: is missing"):
        from_dict({"algo": "sac", "env": "Pendulum-v1"})


def test_the_default_segment_leaves_each_environment_ten_full_episodes():
    one = from_dict({"algo": "sac", "env": "HalfCheetah-v5", "total_timesteps": 2_000_000})
    assert (one.evaluation.interval, one.segment) == (50_000, 10_000)
    four = from_dict(
        {"algo": "td3", "env": "HalfCheetah-v5", "total_timesteps": 2_000_000, "n_envs": 4}
    )
    assert four.segment == 50_000  # the smallest part of 50,000 with 40 episodes
    short = from_dict({"algo": "sac", "env": "Pendulum-v1", "total_timesteps": 40_000})
    assert (short.evaluation.interval, short.segment) == (1_000, 1_000)


def test_ppo_rounds_its_boundaries_up_to_whole_rollouts():
    experiment = from_dict({"algo": "ppo", "env": "HalfCheetah-v5", "total_timesteps": 100_000})
    plan = make_plan(experiment, 0)
    assert experiment.evaluation.interval == 2_500
    assert all(
        b.timestep % 2048 == 0 and 0 <= b.timestep - b.nominal < 2048 for b in plan.boundaries
    )
    assert plan.horizon == 49 * 2048  # 100,352
    assert plan.n_gradient_steps == 49 * 10 * 32
    with pytest.raises(ExperimentError, match="less than one rollout, 8192"):
        from_dict(
            {
                "algo": "ppo", "env": "HalfCheetah-v5", "total_timesteps": 100_000, "n_envs": 4,
                "evaluation": {"interval": 5000}, "segment": 5000,
            }
        )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    algo=st.sampled_from(["sac", "td3", "ppo"]),
    total=st.integers(1_000, 300_000),
    n_envs=st.integers(1, 5),
    train_freq=st.integers(1, 3),
)
def test_every_resolved_experiment_lines_up(algo, total, n_envs, train_freq):
    hyperparameters = {"n_steps": 128} if algo == "ppo" else {"train_freq": train_freq}
    try:
        experiment = from_dict(
            {
                "algo": algo, "env": "Pendulum-v1", "total_timesteps": total, "n_envs": n_envs,
                "hyperparameters": hyperparameters,
            }
        )  # fmt: skip
    except ExperimentError as error:
        assert re.search(r"\d", str(error))
        return
    plan = make_plan(experiment, 0)
    timesteps = [b.timestep for b in plan.boundaries]
    quantum = experiment.hyperparameters.quantum(n_envs)
    assert timesteps == sorted(set(timesteps))
    assert all(timestep % quantum == 0 for timestep in timesteps)
    assert [b.milestone for b in plan.boundaries if b.milestone] == [25, 50, 100]
    assert plan.boundaries[-1].milestone == 100 and plan.boundaries[-1].evaluates
    assert all(b.evaluates for b in plan.boundaries if b.milestone)
    assert experiment.segment >= 200 * n_envs  # one full episode of each environment
    if algo != "ppo":
        assert all(b.timestep == b.nominal for b in plan.boundaries)


@pytest.mark.parametrize(
    ("algo", "total", "milestones", "words"),
    [
        (
            "ppo",
            4_000,
            [25, 50, 100],
            r"than one rollout, 2048 timesteps; .* 8192, .*\[100\]$",
        ),
        (
            "ppo",
            1_000,
            [50, 100],
            r"at least 4096, .* --milestones \[100\] with at least 2048$",
        ),
        ("ppo", 2_000, [100], r"2000 is less than one rollout, 2048 timesteps; use at least 2048$"),
        ("sac", 100, [100], r"100 is less than one full episode of .* 200 timesteps; .* 200$"),
    ],
)
def test_a_total_that_is_too_short_names_what_it_lacks(algo, total, milestones, words):
    settings = {"env": "Pendulum-v1", "total_timesteps": total, "milestones": milestones}
    with pytest.raises(ExperimentError, match=words):
        from_dict({"algo": algo, "hyperparameters": {}, **settings})


def test_a_shorter_interval_that_has_enough_evaluations():
    settings = {"env": "Pendulum-v1", "total_timesteps": 4_000, "milestones": [100]}

    def interval(algo, **more):
        return interval_for_slope(
            from_dict({"algo": algo, "hyperparameters": {}, **settings, **more})
        )

    assert interval("sac", evaluation={"interval": 2_000}) == 400
    assert interval("sac", evaluation={"interval": 400}) is None, "it has enough"
    assert interval("ppo", total_timesteps=4_096) is None, "a rollout has 2,048 timesteps"


def test_every_flag_is_a_setting_that_can_be_overridden():
    names = [flag.name for flag in flags()]
    assert len(names) == len(set(names))
    assert {"hyperparameters.gamma", "hyperparameters.clip_range", "evaluation.interval"} <= {
        *names
    }
    assert all(flag.doc for flag in flags())
    experiment = load(REFERENCE, {"hyperparameters.policy_kwargs.net_arch": "[64, 64]"})
    assert experiment.hyperparameters.policy_kwargs.net_arch == [64, 64]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "a0: &a0 {x: 1}\n"
            + "".join(f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}\n" for n in range(1, 60)),
            "aliases stand for more than",
        ),
        ("a: &a {x: *a}\n", "contains itself"),
        ("a: " + "[" * 100_000, "nested too deeply"),
        ("a: " + "9" * 5_000 + "\n", "not valid YAML"),
        ("a: 1" + ":1" * 400_000 + "\n", "has more than 20,000 characters"),
        ("a: " + "x" * 1_000_001, "larger than an experiment can be"),
        ('algo: sac\nenv: Pendulum-v1\n"\\e[31m\\n": 1\n', "unknown setting"),
        ("algo: sac\nenv: '.:x'\ntotal_timesteps: 4000\n", "cannot be imported"),
        ("algo: sac\nenv: Pendulum-v1\ntotal_timesteps: 4000000000000000001\n", "must be at most"),
    ],
    ids=["doubling", "circle", "deep", "digits", "sixties", "large", "escape", "module",
         "total"],
)  # fmt: skip
def test_an_untrusted_file_causes_one_printable_line_at_once(text, words, tmp_path):
    (tmp_path / "experiment.yaml").write_text(text)
    message = refusal(path=tmp_path / "experiment.yaml")
    assert words in message and message.isprintable()


def test_overrides_keep_the_rest_of_a_section():
    experiment = load(REFERENCE, {"evaluation.n_episodes": "3", "env_kwargs.frame_skip": "4"})
    assert (experiment.evaluation.interval, experiment.evaluation.n_episodes) == (50_000, 3)
    assert experiment.env_kwargs == {"frame_skip": 4, "reset_noise_scale": 0.15}

"""Files of rl-baselines3-zoo: their notations, and code that must never run."""

from __future__ import annotations

import math

import pytest
import yaml
from conftest import tiny

from gallop.errors import ExperimentError
from gallop.experiments.yaml_file import from_dict, load
from gallop.policies import sb3_names
from gallop.sharing.zoo_export import to_zoo_args, to_zoo_config, zoo_name
from gallop.sharing.zoo_import import import_zoo, read_zoo_file
from gallop.sharing.zoo_literal import ACTIVATIONS, read_literal

SAC = """\
default:
  n_timesteps: !!float 1e6
  policy: 'MlpPolicy'

MountainCarContinuous-v0:
  n_timesteps: !!float 50000
  policy: 'MlpPolicy'
  learning_rate: !!float 3e-4
  train_freq: 32
  gradient_steps: 32
  use_sde: True
  policy_kwargs: "dict(log_std_init=-3.67, net_arch=[64, 64])"

Pendulum-v1: &pendulum
  n_timesteps: 20000
  policy: 'MlpPolicy'
  learning_rate: lin_7.3e-4
  ent_coef: 'auto'
  train_freq: [4, "step"]
  optimize_memory_usage: False
  policy_kwargs: "dict(net_arch=dict(pi=[8], qf=[16]), activation_fn=th.nn.Tanh)"

Swimmer-v4:
  <<: *pendulum
  n_timesteps: !!float 1e6
  gamma: 0.999

HopperBulletEnv-v0:
  normalize: "{'norm_obs': True, 'norm_reward': False}"
  n_timesteps: !!float 1e6
  policy: 'MlpPolicy'

FetchReach-v1:
  n_timesteps: !!float 20000
  policy: 'MultiInputPolicy'
  replay_buffer_class: NStepReplayBuffer

RealRobot-v2:
  <<: *pendulum
  train_freq: [1, "episode"]
"""

PPO = """\
atari:
  n_timesteps: !!float 1e7
  policy: 'CnnPolicy'
  frame_stack: 4

default:
  n_timesteps: !!float 1e6
  policy: 'MlpPolicy'

HalfCheetah-v5:
  normalize: true
  n_envs: 2
  n_timesteps: !!float 1e6
  policy: 'MlpPolicy'
  n_steps: 512
  clip_range: lin_0.2
  clip_range_vf: -1
  policy_kwargs: "dict(
                    log_std_init=-2,
                    ortho_init=False,
                    activation_fn=nn.ReLU,
                    net_arch=[dict(pi=[256, 256], vf=[256, 256])]
                  )"

CarRacing-v3:
  env_wrapper:
    - rl_zoo3.wrappers.FrameSkip:
        skip: 2
    - gymnasium.wrappers.GrayscaleObservation
  env_kwargs: {lap_complete_percent: 0.9}
  normalize: dict(norm_obs=False, norm_reward=True, clip_reward=5.0)
  n_timesteps: !!float 4e6
  policy: 'CnnPolicy'
"""

TD3 = """\
Pendulum-v1:
  n_timesteps: 20000
  policy: 'MlpPolicy'
  noise_type: ' ornstein-uhlenbeck '
  noise_std: 0.5
  buffer_size: !!float 2e5
Hopper-v5:
  n_timesteps: !!float 1e6
  policy: 'MlpPolicy'
  n_envs: 4
"""


@pytest.fixture
def write(tmp_path):
    """Writes a file of the Zoo and returns its path."""

    def write(text, name="sac.yml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def tasks(path):
    return {task.env: task for task in read_zoo_file(path)}


def test_anchors_merges_schedules_and_python_strings_become_settings(write):
    found = tasks(write(SAC))
    assert found["Swimmer-v4"].data == {
        "source": "sac.yml of rl-baselines3-zoo, Swimmer-v4",
        "algo": "sac",
        "env": "Swimmer-v4",
        "total_timesteps": 1_000_000,
        "hyperparameters": {
            "policy": "MlpPolicy",
            "policy_kwargs": {"net_arch": {"pi": [8], "qf": [16]}, "activation_fn": "tanh"},
            "learning_rate": "lin_7.3e-4",
            "gamma": 0.999,
            "train_freq": 4,
            "gradient_steps": 1,  # SB3's default, which differs from ours unless train_freq is 1
            "ent_coef": "auto",
        },
    }
    assert found["Swimmer-v4"].reason == ""


def test_a_total_that_does_not_line_up_is_moved_to_the_nearest(write):
    task = tasks(write(SAC))["MountainCarContinuous-v0"]
    assert task.data["total_timesteps"] == 50_048, "391 × 4 × 32"
    assert task.reason == "n_timesteps was 50,000"
    assert task.data["source"].endswith("MountainCarContinuous-v0; n_timesteps was 50,000")


def test_a_total_too_short_for_an_episode_between_milestones_is_raised_to_the_minimum(write):
    path = write("HalfCheetah-v5: {n_timesteps: 1001, policy: MlpPolicy, n_envs: 2}")
    (task,) = read_zoo_file(path)
    assert task.data["total_timesteps"] == 4 * 2 * 1000
    assert "n_timesteps was 1,001" in task.data["source"]


def test_ppos_nets_wrappers_and_normalisation_are_translated(write):
    found = tasks(write(PPO, "ppo.yml"))
    cheetah = found["HalfCheetah-v5"].data
    assert cheetah["n_envs"] == 2
    assert cheetah["normalize"] == {"observations": True, "rewards": True}
    assert cheetah["hyperparameters"] == {
        "policy": "MlpPolicy",
        "policy_kwargs": {
            "net_arch": {"pi": [256, 256], "vf": [256, 256]},
            "activation_fn": "relu",
            "log_std_init": -2.0,
            "ortho_init": False,
        },
        "n_steps": 512,
        "clip_range": "lin_0.2",
    }
    racing = found["CarRacing-v3"].data
    assert racing["wrappers"] == [
        {"rl_zoo3.wrappers:FrameSkip": {"skip": 2}},
        {"gymnasium.wrappers:GrayscaleObservation": {}},
    ]
    assert racing["env_kwargs"] == {"lap_complete_percent": 0.9}
    assert racing["normalize"] == {"observations": False, "rewards": True, "clip_rewards": 5.0}


def test_td3_without_noise_in_the_zoo_is_imported_without_noise(write):
    found = tasks(write(TD3, "td3.yml"))
    noisy = found["Pendulum-v1"].data["hyperparameters"]
    assert (noisy["noise_type"], noisy["noise_std"]) == ("ornstein-uhlenbeck", 0.5)
    assert noisy["buffer_size"] == 200_000
    silent = found["Hopper-v5"].data["hyperparameters"]
    assert silent["noise_type"] == "none", "our default would be normal"
    assert silent["gradient_steps"] == 1, "our default would be one per timestep, which is 4"


def test_unsupported_tasks_are_skipped_with_place_key_value_and_reason(write):
    path = write(SAC)
    found = tasks(path)
    assert found["FetchReach-v1"].data is None
    assert found["FetchReach-v1"].reason == (
        f"{path}:36: FetchReach-v1: replay_buffer_class: 'NStepReplayBuffer': must be "
        "HerReplayBuffer"
    )
    assert "train_freq: [1, 'episode']: must be in timesteps" in found["RealRobot-v2"].reason
    assert found["default"].data is None
    with pytest.raises(ExperimentError, match=r"sac.yml:36: FetchReach-v1: replay_buffer_class"):
        read_zoo_file(path, env="FetchReach-v1")


def test_hindsight_experience_replay_is_imported_and_exported(write):
    entry = """\
gallop_goal_task:Place-v0:
  n_timesteps: 2000
  policy: MultiInputPolicy
  learning_starts: 200
  replay_buffer_class: HerReplayBuffer
  replay_buffer_kwargs: "dict(goal_selection_strategy='episode', n_sampled_goal=2)"
"""
    (task,) = read_zoo_file(write(entry, "sac.yml"))
    settings = from_dict(task.data).hyperparameters
    assert (settings.replay_buffer, settings.n_sampled_goal) == ("her", 2)
    assert settings.goal_selection_strategy == "episode"
    back = yaml.safe_load(to_zoo_config(from_dict(task.data)))
    assert back["replay_buffer_class"] == "HerReplayBuffer"
    assert read_literal(back["replay_buffer_kwargs"]) == {
        "goal_selection_strategy": "episode", "n_sampled_goal": 2,
    }  # fmt: skip
    assert "replay_buffer" not in back and "n_sampled_goal" not in back


def test_an_unlisted_task_gets_the_files_default_and_a_remark(write):
    (task,) = read_zoo_file(write(PPO, "ppo.yml"), env="HalfCheetah-v4")
    assert task.data["hyperparameters"] == {"policy": "MlpPolicy"}
    words = "not listed, so its entry default was used (it lists HalfCheetah-v5)"
    assert task.reason == words
    assert words in task.data["source"]
    with pytest.raises(ExperimentError, match="frame_stack: 4: not supported by ppo"):
        read_zoo_file(write(PPO, "ppo.yml"), env="ALE/Pong-v5")


def test_an_unlisted_task_without_a_default_is_refused_with_the_nearest_name(write):
    with pytest.raises(ExperimentError, match=r"Pendulum-v0 is not listed.* Pendulum-v1"):
        read_zoo_file(write(TD3, "td3.yml"), env="Pendulum-v0")


def test_a_file_of_an_unsupported_algorithm_is_refused_with_those_allowed(write):
    with pytest.raises(
        ExperimentError, match="algorithm 'a2c' is not supported, allowed: sac, td3"
    ):
        read_zoo_file(write(SAC, "a2c.yml"))
    assert read_zoo_file(write(TD3, "mine.yml"), algo="TD3")[0].data["algo"] == "td3"


def test_an_import_writes_loadable_files_and_lists_skipped_tasks(write, tmp_path):
    written = import_zoo(write(SAC), tmp_path / "out")
    by_env = {task.env: task for task in written}
    assert [task.env for task in written if task.path is None] == [
        "default",
        "FetchReach-v1",
        "RealRobot-v2",
    ]
    for env in ("MountainCarContinuous-v0", "Pendulum-v1", "Swimmer-v4"):
        path = by_env[env].path
        assert path == tmp_path / "out" / "sac" / f"{env}.yaml"
        assert load(path).env == env
        assert path.read_text().startswith("source: sac.yml of rl-baselines3-zoo, ")
    bullet = by_env["HopperBulletEnv-v0"]
    assert "is not registered in Gymnasium" in bullet.reason
    data = yaml.safe_load(bullet.path.read_text())
    assert data["normalize"] == {"observations": True, "rewards": False}


def test_an_import_writes_nothing_if_a_file_exists(write, tmp_path):
    path, output = write(SAC), tmp_path / "out"
    import_zoo(path, output, env="Swimmer-v4")
    (output / "sac" / "Swimmer-v4.yaml").write_text("mine")
    with pytest.raises(ExperimentError, match=r"Swimmer-v4\.yaml already exists"):
        import_zoo(path, output)
    assert [file.name for file in (output / "sac").iterdir()] == ["Swimmer-v4.yaml"]
    assert (output / "sac" / "Swimmer-v4.yaml").read_text() == "mine"


def test_slashes_and_colons_of_a_task_become_dashes_and_its_module_is_not_imported(write, tmp_path):
    entry = "{n_timesteps: 1000, policy: MlpPolicy}"
    path = write(f"no_such_module:name/Task-v0: {entry}\n../up-v0: {entry}\n")
    written = import_zoo(path, tmp_path / "out")
    assert written[0].path.name == "no_such_module-name-Task-v0.yaml"
    assert "no_such_module was not imported" in written[0].reason
    assert written[1].path is None
    assert written[1].reason.endswith("not a valid task id")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{n_timesteps: 1000}, policy: MlpPolicy}", "not valid YAML"),
        ("{n_timesteps: 1000, gamma: 2}", r"sac.yml:1: X-v0: gamma: 2: must be at most 1"),
        ("{policy: MlpPolicy}", "n_timesteps: is missing"),
        ("{n_timesteps: 1000, policy: nets.Mine}", "policy: 'nets.Mine' is unknown"),
        ("{n_timesteps: 1000, utd: 2}", "utd: 2: not supported by"),
        ("{n_timesteps: 1000, noise_type: normal}", "noise_type: requires noise_std"),
        ("{n_timesteps: 1000, env_wrapper: [1]}", "env_wrapper: .1.: must be a path such as"),
        ("{n_timesteps: 1000, normalize: {clip: 1}}", "clip is not supported"),
        ("{n_timesteps: 1000, normalize: 'dict('}", "normalize: .* not a Python literal"),
        ("{n_timesteps: 1000, policy_kwargs: 'dict(net_arch=[64, dict(pi=[1])])'}", "shared"),
        ("{n_timesteps: 1000, policy_kwargs: 'dict(activation_fn=nn.Softmax)'}", "nn.ReLU"),
        ("{n_timesteps: 1000, policy_kwargs: 'dict(optimizer_class=RMSpropTFLike)'}", r"\(name\)"),
        ("{n_timesteps: 1000, policy_kwargs: 'dict(net_arhc=[8])'}", "did you mean net_arch"),
        ("{n_timesteps: 1e400, policy: MlpPolicy}", "n_timesteps"),
        ("{n_timesteps: 9999999999999999999}", "must be at most"),
        (f"{{n_timesteps: 1000, ent_coef: {'9' * 1999}}}", "9: must be a number of at least 0"),
        (f"{{n_timesteps: 0x{'f' * 1990}}}", "must be at most|malformed|too large|digit"),
    ],
)  # fmt: skip
def test_mistakes_are_reported_on_one_line_with_place_and_remedy(write, entry, words):
    with pytest.raises(ExperimentError, match=words) as caught:
        read_zoo_file(write(f"X-v0: {entry}\n"), env="X-v0")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch ran')",
        "dict.__class__",
        "dict(a=__import__('os'))",
        "lambda: 1",
        "[x for x in (1, 2)]",
        "{k: 1 for k in 'ab'}",
        "f'{1}'",
        "dict(a=f'{open(0)}')",
        "9**9**9",
        "'a' * 10**9",
        "1 if 2 else 3",
        "(a := 1)",
        "dict(**{'a': 1})",
        "{**{'a': 1}}",
        "dict([('a', 1)])",
        "dict(a=1, a=2)",
        "{1: 2}",
        "list((1,))",
        "nn.ReLU",
        "dict(activation_fn=nn.ReLU())",
        "dict(activation_fn=os.system)",
        "dict(activation_fn=nn.ReLU.__init__)",
        "dict(activation_fn='nn.ReLU')",
        "b'bytes'",
        "1j",
        "...",
        "-True",
        "- -1",
        "x",
        "1; 2",
        "",
        "\0",
        "'\\d'.x",
        "1is 2",
        "[" * 9 + "]" * 9,
        "[" * 10_000 + "]" * 10_000,
        "-" * 1_999 + "1",
        "9" * 1_999 + "**2",
        "(" * 999 + ")" * 999,
    ],
)
def test_a_string_with_more_than_literals_is_refused_and_not_run(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"allowed|not a Python literal|nested|characters"):
        read_literal(text)
    assert not list(tmp_path.iterdir())


def test_literals_are_read_as_python_reads_them():
    assert read_literal(" {'a': (1, -2.5), 'b': [None, True, 'x']} ") == {
        "a": [1, -2.5],
        "b": [None, True, "x"],
    }
    for name in ("nn.ELU", "th.nn.ELU", "torch.nn.ELU"):
        assert read_literal(f"dict(activation_fn={name})") == {"activation_fn": "elu"}


def test_activation_functions_are_the_same_as_in_policy_files():
    assert {ours: name for name, ours in ACTIVATIONS.items()} == sb3_names.ACTIVATIONS


def test_the_name_of_a_task_is_printable(write):
    (found,) = read_zoo_file(write('"\\e[31m\\n":\n  n_timesteps: 1000\n'))
    assert found.data is None and (found.env + found.reason).isprintable()


def test_yaml_that_expands_or_nests_too_much_is_refused(write):
    bomb = "a0: &a0 {x: 1}\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    for text, words in (
        (bomb, "aliases stand for more than"),
        ("a: &a [*a]\n", "contains itself"),
        ("a: " + "[" * 10_000, "nested too deeply|not valid YAML"),
        (f"a: '{'x' * 3000}'", "more than 2,000 characters|at most 2,000"),
        ("# " + "x" * 1_000_000, "larger than"),
        ("a: !!python/object/apply:os.system ['touch ran']", "not valid YAML"),
        ("a: !!python/object/apply:collections.OrderedDict [1, 2]", "not valid YAML"),
        ("[1]", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: 1", "a: must be a mapping"),
        ("a: 2026-99-99", "not valid YAML"),
    ):
        with pytest.raises(ExperimentError, match=words):
            read_zoo_file(write(text))


# --- export --------------------------------------------------------------------------------------


def here(algo, hyperparameters=None, **settings):
    """A tiny experiment with the default milestones, as imported files have."""
    times = {"total_timesteps": 1600, "segment": 400, "milestones": [25, 50, 100]}
    return tiny(algo, hyperparameters, **times, evaluation={"interval": 400}, **settings)


EXPERIMENTS = [
    here("sac"),
    here("sac", {"policy": "MultiInputPolicy", "utd": 0.5, "train_freq": 4, "ent_coef": "auto_0.1",
                 "policy_kwargs": {"net_arch": {"pi": [8], "qf": [16]}, "activation_fn": "elu",
                                   "optimizer_kwargs": {"eps": 1e-5}}}),
    here("td3", {"noise_type": "ornstein-uhlenbeck", "noise_std": 0.3, "gradient_steps": -1}),
    here("td3", {"noise_type": "none"}, normalize={"rewards": True}),
    here("ppo", normalize=True, n_envs=2),
    here("ppo", {"clip_range_vf": "lin_0.3", "target_kl": 0.01, "policy_kwargs": {}},
         normalize={"observations": True, "clip_observations": 5.0},
         wrappers=["gymnasium.wrappers:ClipAction",
                   {"gymnasium.wrappers:RescaleAction": {"min_action": -2, "max_action": 2}}]),
    here("tqc", {"top_quantiles_to_drop_per_net": 5, "policy_kwargs": {"n_quantiles": 30}}),
    here("crossq", {"policy_delay": 2, "policy_kwargs": {"net_arch": {"pi": [8], "qf": [16]},
                                                         "batch_norm_momentum": 0.1}}),
]  # fmt: skip


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_survives_a_round_trip_through_the_zoos_config(experiment, write):
    write(to_zoo_args(experiment), "args.yml")
    (task,) = read_zoo_file(write(to_zoo_config(experiment), "config.yml"))
    assert task.reason == ""
    back = from_dict({**experiment.model_dump(), **task.data})
    ours, n_envs = experiment.hyperparameters, experiment.n_envs
    same = {"policy": ours.policy if ours.policy != "auto" else "MlpPolicy"}
    if experiment.algo != "ppo":  # one number, for which we have two names
        same |= {"utd": None, "gradient_steps": ours.gradient_steps_a_quantum(n_envs)}
        if ours.noise_type == "none":
            same["noise_std"] = 0.1
    assert back.hyperparameters == ours.model_copy(update=same)
    for name in ("algo", "env", "env_kwargs", "n_envs", "total_timesteps", "wrappers", "normalize"):
        assert getattr(back, name) == getattr(experiment, name), name


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_exported_files_are_plain_and_have_the_keys_that_the_zoos_loader_needs(experiment):
    args = yaml.safe_load(to_zoo_args(experiment))
    assert (args["algo"], args["env"], args["seed"]) == (experiment.algo, "Pendulum-v1", 0)
    assert args["env_kwargs"] == {"max_episode_steps": 50}
    config = yaml.safe_load(to_zoo_config(experiment))
    normalize = config.get("normalize", False)
    if isinstance(normalize, str):
        words = read_literal(normalize)
        assert words["norm_obs"] == experiment.normalize.observations
    else:
        assert normalize == experiment.normalize.observations == experiment.normalize.rewards
    assert not {"utd", "noise_type"} & config.keys() or config.get("noise_std", 0) > 0
    assert all(not isinstance(value, float) or math.isfinite(value) for value in config.values())


def test_a_config_written_by_the_zoo_is_read(write):
    write("!!python/object/apply:collections.OrderedDict\n- - - algo\n    - ppo\n"
          "  - - env\n    - CartPole-v1\n", "args.yml")  # fmt: skip
    path = write("!!python/object/apply:collections.OrderedDict\n- - - gamma\n    - 0.98\n"
                 "  - - n_timesteps\n    - 100000.0\n  - - policy\n    - MlpPolicy\n",
                 "config.yml")  # fmt: skip
    (task,) = read_zoo_file(path)
    assert task.data["algo"], task.data["env"] == ("ppo", "CartPole-v1")
    assert task.data["total_timesteps"] == 100_000
    assert task.data["hyperparameters"] == {"policy": "MlpPolicy", "gamma": 0.98}
    (path.parent / "args.yml").unlink()
    with pytest.raises(ExperimentError, match="allowed: sac, td3, ppo"):
        read_zoo_file(path)
    with pytest.raises(ExperimentError, match="does not name its task"):
        read_zoo_file(path, algo="ppo")
    assert read_zoo_file(path, algo="ppo", env="CartPole-v1")[0].reason == ""


def test_the_zoos_name_of_a_task_in_paths_has_no_module_and_no_slash():
    assert zoo_name("gallop_shapes_task:a/b-v0") == "a-b-v0"

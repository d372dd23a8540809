"""Writing an experiment as config.yml and args.yml of rl-baselines3-zoo."""

from __future__ import annotations

import yaml

from gallop.algorithms.hyperparameters import OffPolicyHyperparameters
from gallop.experiments.settings import Experiment, Normalization
from gallop.experiments.yaml_file import settings_of
from gallop.sharing.zoo_literal import write_literal


def zoo_name(env: str) -> str:
    """Return the Zoo's name of a task in paths.

    >>> zoo_name("package:ns/Task-v0")
    'ns-Task-v0'
    """
    return env.rpartition(":")[2].replace("/", "-")


def to_zoo_config(experiment: Experiment, policy: str = "MlpPolicy") -> str:
    """Return the Zoo's config.yml: hyper-parameters with the Zoo's names and notation.

    Args:
        experiment: the experiment.
        policy: SB3's policy class, used if the experiment's is "auto".
    """
    settings = experiment.hyperparameters
    chosen = settings.policy if settings.policy != "auto" else policy
    data: dict[str, object] = {
        "n_timesteps": experiment.total_timesteps,
        "n_envs": experiment.n_envs,
        **settings.model_dump(mode="json", exclude={"utd", "policy_kwargs"}, exclude_none=True),
        "policy": chosen,
    }
    if isinstance(settings, OffPolicyHyperparameters):
        data["gradient_steps"] = settings.gradient_steps_a_quantum(experiment.n_envs)
        if settings.noise_type == "none":
            del data["noise_type"], data["noise_std"]
        ours = ("replay_buffer", "n_sampled_goal", "goal_selection_strategy")
        _, *goals = [data.pop(name) for name in ours]
        if settings.replay_buffer == "her":
            data["replay_buffer_class"] = "HerReplayBuffer"
            data["replay_buffer_kwargs"] = write_literal(dict(zip(ours[1:], goals, strict=True)))
    kwargs = settings.policy_kwargs.model_dump(mode="json", exclude_none=True)
    if kwargs:
        data["policy_kwargs"] = write_literal(kwargs)
    normalize = _zoo_normalize(experiment.normalize)
    if normalize is not None:
        data["normalize"] = normalize
    if experiment.wrappers:
        data["env_wrapper"] = [
            {path.replace(":", "."): dict(kwargs)} if kwargs else path.replace(":", ".")
            for wrapper in experiment.wrappers
            for path, kwargs in wrapper.items()
        ]
    if experiment.env_kwargs:
        data["env_kwargs"] = experiment.env_kwargs
    return yaml.safe_dump(data, allow_unicode=True, width=100)


def to_zoo_args(experiment: Experiment) -> str:
    """Return the Zoo's args.yml: the arguments with which its train.py would have been called.

    Keyword arguments that differ in evaluations are in eval_env_kwargs, as in the Zoo; the Zoo's
    enjoy.py uses those of training.
    """
    plain = settings_of(experiment)
    module = experiment.env.rpartition(":")[0]
    data = {
        "algo": experiment.algo,
        "conf_file": None,
        "device": experiment.device,
        "env": experiment.env,
        "env_kwargs": plain["env_kwargs"] or None,
        "eval_env_kwargs": {**plain["env_kwargs"], **plain["eval_env_kwargs"]} or None,
        "eval_episodes": experiment.evaluation.n_episodes,
        "eval_freq": experiment.evaluation.interval,
        "gym_packages": [module] if module else [],
        "hyperparams": None,
        "log_folder": "",
        "log_interval": experiment.log_interval,
        "max_total_trials": None,
        "n_eval_envs": 1,
        "n_evaluations": None,
        "n_jobs": 1,
        "n_startup_trials": 10,
        "n_timesteps": -1,
        "n_trials": 500,
        "no_optim_plots": False,
        "num_threads": experiment.n_threads or -1,
        "optimization_log_path": None,
        "optimize_hyperparameters": False,
        "progress": False,
        "pruner": "median",
        "sampler": "tpe",
        "save_freq": -1,
        "save_replay_buffer": False,
        "seed": experiment.training_seed,
        "storage": None,
        "study_name": None,
        "tensorboard_log": "",
        "track": False,
        "trained_agent": "",
        "trial_id": None,
        "truncate_last_trajectory": True,
        "uuid": False,
        "vec_env": experiment.vec_env,
        "verbose": 1,
        "wandb_entity": None,
        "wandb_project_name": "sb3",
        "wandb_tags": [],
    }
    return yaml.safe_dump(data, allow_unicode=True, width=100)


def _zoo_normalize(settings: Normalization) -> bool | str | None:
    if not settings.observations and not settings.rewards:
        return None
    words: dict[str, object] = {"norm_obs": settings.observations, "norm_reward": settings.rewards}
    defaults = Normalization()
    if settings.clip_observations != defaults.clip_observations:
        words["clip_obs"] = settings.clip_observations
    if settings.clip_rewards != defaults.clip_rewards:
        words["clip_reward"] = settings.clip_rewards
    return True if all(value is True for value in words.values()) else write_literal(words)

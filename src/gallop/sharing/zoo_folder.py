"""Exporting a finished run as a trained agent of rl-baselines3-zoo.

The new folder appears complete or not at all. The Zoo stores the normalisation of observations as a
pickle of SB3's VecNormalize, so the export writes one. Unpickling can run code: Gallop itself never
unpickles such files.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from gallop.environments.make import evaluation_env
from gallop.environments.spaces import Env
from gallop.environments.task_errors import close
from gallop.experiments.settings import Experiment
from gallop.run_folder.directory import RunDirectory
from gallop.sharing.finished_run import (
    FinishedRun,
    explaining_errors,
    finished,
    temporary_folder,
)
from gallop.sharing.onnx_file import export_if_installed
from gallop.sharing.zoo_export import to_zoo_args, to_zoo_config, zoo_name


def export_zoo(run: RunDirectory, folder: Path) -> Path:
    """Export a run in the layout of rl-baselines3-zoo: `<folder>/<algo>/<ENV>_<N>/`.

    N is one more than the highest existing number. `vecnormalize.pkl` holds the statistics of the
    final policy, as in the Zoo. It is also written if only rewards were normalised, because the Zoo
    requires it then. The final policy is there as an ONNX file, too, if onnx and onnxruntime are
    installed.

    Args:
        run: a finished run.
        folder: the Zoo's folder of trained agents; made if it does not exist.

    Returns:
        The new folder.

    Raises:
        ConsentError: if the run names code that this user has not agreed to run.
        RunError: if the run is unfinished, damaged or being run, or `folder` cannot be written.
        ExperimentError: if the ONNX file would differ from the policy.
    """
    with finished(run) as done, explaining_errors(folder):
        experiment, name = done.experiment, zoo_name(done.experiment.env)
        parent = folder / experiment.algo
        with temporary_folder(parent) as temporary:
            shutil.copyfile(run.final_model, temporary / f"{name}.zip")
            export_if_installed(run.final_model, temporary / f"{name}.onnx")
            for path in (run.best_model, run.path / "evaluations.npz"):
                if path.exists():
                    shutil.copyfile(path, temporary / path.name)
            details = temporary / name
            details.mkdir()
            (details / "args.yml").write_text(to_zoo_args(experiment), encoding="utf-8")
            env = evaluation_env(experiment)
            try:
                _write_zoo_config(experiment, env, details / "config.yml")
                if experiment.normalize.observations or experiment.normalize.rewards:
                    _write_vecnormalize(done, env, details / "vecnormalize.pkl")
            finally:
                close(env)
            return _rename_to_next(temporary, parent, name)


def _rename_to_next(temporary: Path, parent: Path, name: str) -> Path:
    """Rename the folder to the next free number, even if other processes do the same."""
    temporary.chmod(0o755)
    while True:
        numbers = [path.name.removeprefix(f"{name}_") for path in parent.glob("*_*")]
        last = max((int(number) for number in numbers if number.isdecimal()), default=0)
        target = parent / f"{name}_{last + 1}"
        try:
            temporary.rename(target)
        except OSError:
            if not target.exists():
                raise
        else:
            return target


def _write_zoo_config(experiment: Experiment, env: Env, path: Path) -> None:
    from gallop.learners.stable_baselines import policy_class

    policy = policy_class(experiment.hyperparameters.policy, env.observation_space)
    path.write_text(to_zoo_config(experiment, policy), encoding="utf-8")


def _write_vecnormalize(done: FinishedRun, env: Env, path: Path) -> None:
    """Write a pickle of VecNormalize with the statistics of the final policy's normaliser."""
    from stable_baselines3.common.running_mean_std import RunningMeanStd
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    settings, normalizer = done.experiment.normalize, done.normalizer
    wrapped = VecNormalize(
        DummyVecEnv([lambda: env]),
        training=False,
        norm_obs=settings.observations,
        norm_reward=settings.rewards,
        clip_obs=settings.clip_observations,
        clip_reward=settings.clip_rewards,
        gamma=done.experiment.hyperparameters.gamma,
    )
    if normalizer is not None:
        known = wrapped.obs_rms
        parts: dict[str, RunningMeanStd] = known if isinstance(known, dict) else {"": known}
        for key, statistics in parts.items():
            statistics.mean = normalizer.mean[key]
            statistics.var = normalizer.variance[key]
            statistics.count = normalizer.count
        wrapped.epsilon = normalizer.epsilon
    wrapped.save(str(path))

"""SB3's algorithms as a `Learner`: whole segments, one horizon, all state accessible."""

from __future__ import annotations

import json
import time
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from safetensors.numpy import load_file, save_file
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.noise import (
    ActionNoise,
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
)
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from gallop.algorithms.hyperparameters import NetArch, OffPolicyHyperparameters
from gallop.algorithms.spec import imported
from gallop.environments.spaces import Space, policy_class_index
from gallop.errors import DivergedError, ExperimentError, TaskError
from gallop.experiments.settings import Experiment
from gallop.learners.learner import (
    LogRow,
    SegmentDiagnostics,
    Tick,
    UnstableEpisodes,
    diverged,
    evidence,
)
from gallop.learners.normalization import RunningNormalization
from gallop.policies import acting, sb3_names, sb3_zip
from gallop.policies.policy import Array, Policy
from gallop.strict_json import dumps

TICK_SECONDS = 0.1


class _OneHorizon(BaseAlgorithm):
    """Let schedules extend over the whole run instead of one call of `learn`.

    SB3 sets the horizon to the present timestep plus those of this call. PPO passes it on as a
    local value, so this method is the only place to correct it.
    """

    horizon = 0

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, self.horizon or total_timesteps)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "horizon"]


class _Rows(KVWriter):
    """Collects SB3's rows of the log, for the caller to write."""

    def __init__(self) -> None:
        self.rows: list[LogRow] = []

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0
    ) -> None:
        numbers = (int, float, np.number)
        values = {k: float(v) for k, v in key_values.items() if isinstance(v, numbers)}
        self.rows.append(LogRow(step, values))

    def close(self) -> None:
        pass


class _OnStep(BaseCallback):
    """Calls `on_tick` at most ten times per second, and counts episodes with unstable physics."""

    def __init__(self, on_tick: Tick) -> None:
        super().__init__()
        self._on_tick = on_tick
        self._next = 0.0
        self.unstable = UnstableEpisodes()

    def _on_step(self) -> bool:
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + TICK_SECONDS
            self._on_tick(self.num_timesteps)
        dones = self.locals["dones"]
        if dones.any():
            infos = (info for info, done in zip(self.locals["infos"], dones, strict=True) if done)
            self.unstable.note(infos, self.num_timesteps)
        return True


class StableBaselinesLearner:
    """SB3 behind the `Learner` protocol.

    In each segment the environments are rebuilt, the normaliser's statistics are passed on, every
    random stream is seeded from the segment's seed, and SB3's `learn(reset_num_timesteps=False)` is
    called. Tests show that resuming is exact, also in a new process.
    """

    def __init__(
        self, experiment: Experiment, environments: VecEnv, seed: int, n_threads: int
    ) -> None:
        """
        Args:
            experiment: a resolved experiment.
            environments: the training environments.
            seed: of the initial weights.
            n_threads: threads of PyTorch.
        """
        torch.set_num_threads(n_threads)
        self._experiment = experiment
        self._model = make_model(experiment, environments, seed)
        self._normalization = RunningNormalization(experiment, environments)
        self._n_before = 0  # updates of the initial policy, if it came from a file

    @property
    def timestep(self) -> int:
        """Timesteps learnt from, over all environments."""
        return int(self._model.num_timesteps)

    @property
    def n_gradient_steps(self) -> int:
        """Gradient steps taken; see `Learner.n_gradient_steps`."""
        if self._experiment.algorithm.on_policy:  # its _n_updates counts epochs
            adam = self._model.policy.optimizer.state
            return int(max((state["step"] for state in adam.values()), default=0))
        return int(self._model._n_updates)

    @property
    def policy(self) -> Policy:
        """The current policy; a copy, if the kernels support it."""
        return acting.acting(self._model.policy, self._normalization.normalizer())

    @property
    def replay(self) -> SB3Replay | None:
        """The replay buffer; None for on-policy algorithms."""
        if isinstance(self._model, OffPolicyAlgorithm):
            assert self._model.replay_buffer is not None
            return SB3Replay(self._model.replay_buffer, self.timestep)
        return None

    def learn(
        self, environments: VecEnv, seed: int, timesteps: int, horizon: int, on_tick: Tick
    ) -> SegmentDiagnostics:
        """Learn for one segment; see `Learner.learn`."""
        model, rows, callback = self._model, _Rows(), _OnStep(on_tick)
        environments = self._normalization.wrap(environments)
        model.horizon = horizon
        model.set_env(environments, force_reset=True)
        hindsight = self._hindsight()
        if hindsight is not None:
            hindsight.env = environments  # computes the rewards of other goals
        model.set_random_seed(seed)
        model.set_logger(Logger(folder=None, output_formats=[rows]))
        started, first = time.perf_counter(), self.timestep
        try:
            self._learn(timesteps, callback)
        except DivergedError as error:
            raised = self._diverged() if error.cause == "action" else error
            raised.evidence = evidence(self.timestep, rows.rows, callback.unstable.n)
            raise raised from None
        except TaskError as error:
            if error.cause:
                error.evidence = evidence(self.timestep, rows.rows, callback.unstable.n)
            raise
        if hindsight is not None:
            _end_episodes(hindsight)
        seconds = time.perf_counter() - started
        # Values recorded since the last row belong to this segment: a resumed run would lose them.
        model.dump_logs()
        return SegmentDiagnostics(
            rows=[self._with_utd(row) for row in rows.rows],
            n_timesteps=self.timestep - first,
            seconds=seconds,
            n_unstable=callback.unstable.n,
        )

    def _hindsight(self) -> HerReplayBuffer | None:
        """The replay buffer, if it is one of hindsight experience replay."""
        buffer = getattr(self._model, "replay_buffer", None)
        return buffer if isinstance(buffer, HerReplayBuffer) else None

    def _learn(self, timesteps: int, callback: BaseCallback) -> None:
        try:
            self._model.learn(
                timesteps,
                callback=callback,
                log_interval=self._experiment.log_interval,
                reset_num_timesteps=False,
            )
        except ValueError as error:
            if "satisfy the constraint" in str(error):  # torch's distributions refuse NaN
                raise self._diverged() from None
            raise
        except RuntimeError as error:
            if "end of the first episode" in str(error):  # HerReplayBuffer
                settings: Any = self._experiment.hyperparameters
                raise ExperimentError(
                    f"{settings.learning_starts}: her learns from whole "
                    "episodes, and the first had not ended by then; use more",
                    "hyperparameters.learning_starts",
                ) from None
            raise
        self._check_finite()

    def save_state(self, folder: Path) -> None:
        """Write everything that `load_state` needs, except the replay buffer."""
        model = self._model
        tensors = {f"policy/{k}": v for k, v in model.policy.state_dict().items()}
        for name, optimizer in self._optimizers():
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{k}": v for k, v in state.items()}
        if getattr(model, "log_ent_coef", None) is not None:
            tensors["log_ent_coef"] = model.log_ent_coef
        arrays = {name: _to_numpy(tensor) for name, tensor in tensors.items()}
        arrays |= self._normalization.arrays()
        save_file(arrays, folder / "learner.safetensors")
        counters = {
            "num_timesteps": model.num_timesteps,
            "_n_updates": model._n_updates,
            "n_before": self._n_before,
            "_episode_num": model._episode_num,
            "ep_info_buffer": [{"r": e["r"], "l": e["l"]} for e in model.ep_info_buffer or ()],
            "ep_success_buffer": [float(success) for success in model.ep_success_buffer or ()],
        }
        (folder / "learner.json").write_text(dumps(counters, indent=1))

    def load_state(self, folder: Path) -> None:
        """Restore a saved state; see `Learner.load_state`."""
        model = self._model
        arrays = load_file(folder / "learner.safetensors")
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        model.policy.load_state_dict(_below(tensors, "policy"))
        for name, optimizer in self._optimizers():
            state: dict[int, dict[str, torch.Tensor]] = {}
            for key, tensor in _below(tensors, name).items():
                index, _, part = key.partition("/")
                state.setdefault(int(index), {})[part] = tensor
            fresh = optimizer.state_dict()
            optimizer.load_state_dict({"state": state, "param_groups": fresh["param_groups"]})
        if "log_ent_coef" in tensors:
            with torch.no_grad():
                model.log_ent_coef.copy_(tensors["log_ent_coef"])
        self._normalization.restore(arrays)
        counters = json.loads((folder / "learner.json").read_text())
        model.num_timesteps = counters["num_timesteps"]
        model._n_updates = counters["_n_updates"]
        self._n_before = counters.get("n_before", 0)
        model._episode_num = counters["_episode_num"]
        infos = [{"r": float(e["r"]), "l": e["l"]} for e in counters["ep_info_buffer"]]
        successes = [float(success) for success in counters["ep_success_buffer"]]
        for name, values in (("ep_info_buffer", infos), ("ep_success_buffer", successes)):
            setattr(model, name, deque(values, maxlen=model._stats_window_size))

    def save_policy(self, path: Path) -> None:
        """Write an SB3 zip, and the normaliser file if observations are normalised."""
        normalizer = self._normalization.normalizer()
        if normalizer is None and self._experiment.algorithm.on_policy:
            # Readers conclude from this that observations were normalised (policies/sb3_zip.py),
            # but SB3 sets it for rewards, too. The reset of the next segment sets it again.
            self._model._last_original_obs = None
        sb3_zip.write(self._model, normalizer, path)

    def read_policy(self, path: Path) -> None:
        """Start from an SB3 zip; see `Learner.read_policy`."""
        model, found = self._model, sb3_zip.read_training(path)
        tensors = {name: torch.from_numpy(array) for name, array in found.tensors.items()}
        try:
            model.policy.load_state_dict(tensors)
            for name, optimizer in self._optimizers():
                state = found.optimizers.get(name, {})
                fresh = optimizer.state_dict()["param_groups"]
                optimizer.load_state_dict({"state": state, "param_groups": fresh})
        except (RuntimeError, ValueError) as error:
            raise sb3_zip.does_not_fit(path, error) from None
        if getattr(model, "log_ent_coef", None) is not None and "log_ent_coef" in found.variables:
            with torch.no_grad():
                model.log_ent_coef.copy_(found.variables["log_ent_coef"])
        self._normalization.take(found.normalizer, path)
        model._n_updates = self._n_before = int(found.data.get("_n_updates", 0))

    def close(self) -> None:
        """Nothing to free: the environments belong to the caller."""

    def _check_finite(self) -> None:
        parameters = self._model.policy.parameters()
        if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
            raise self._diverged()

    def _diverged(self) -> DivergedError:
        return diverged(self.timestep, self._experiment.hyperparameters.learning_rate)

    def _optimizers(self) -> Iterator[tuple[str, torch.optim.Optimizer]]:
        policy = self._model.policy
        if self._experiment.algorithm.on_policy:
            yield "policy.optimizer", policy.optimizer
            return
        yield "actor.optimizer", policy.actor.optimizer
        yield "critic.optimizer", policy.critic.optimizer
        if getattr(self._model, "ent_coef_optimizer", None) is not None:
            yield "ent_coef_optimizer", self._model.ent_coef_optimizer

    def _with_utd(self, row: LogRow) -> LogRow:
        """Add the UTD ratio to a row: the actual one since learning started; for PPO, the planned
        one."""
        updates = row.values.get("train/n_updates")
        start = getattr(self._experiment.hyperparameters, "learning_starts", 0)
        if updates is None or row.timestep <= start:
            return row
        if self._experiment.algorithm.on_policy:  # SB3 logs its epochs, not its gradient steps
            utd = self._experiment.hyperparameters.utd_ratio(self._experiment.n_envs)
        else:
            utd = (updates - self._n_before) / (row.timestep - start)
        return LogRow(row.timestep, {**row.values, "train/utd": utd})


class SB3Replay:
    """SB3's replay buffer as a `Replay`.

    Attributes:
        capacity: rows that the buffer can hold.
    """

    def __init__(self, buffer: ReplayBuffer, timestep: int) -> None:
        """
        Args:
            buffer: SB3's buffer.
            timestep: timesteps stored so far, over all environments.
        """
        self._buffer = buffer
        self.capacity = int(buffer.buffer_size)
        self._n_added = timestep // buffer.n_envs  # every timestep stores exactly one row

    @property
    def n_added(self) -> int:
        """Rows stored so far, including those already overwritten."""
        return self._n_added

    def read(self, start: int, stop: int) -> dict[str, Array]:
        """Copy rows [start, stop); see `Replay.read`."""
        places = np.arange(start, stop) % self.capacity
        return {name: array[places] for name, array in self._arrays()}

    def write(self, start: int, arrays: dict[str, Array]) -> None:
        """Write rows back to their places; see `Replay.write`."""
        n_rows = len(next(iter(arrays.values())))
        rows = np.arange(start, start + n_rows)
        places = rows % self.capacity
        for name, array in self._arrays():
            array[places] = arrays[name]
        buffer = self._buffer
        buffer.pos = self._n_added % self.capacity
        buffer.full = self._n_added >= self.capacity
        if isinstance(buffer, HerReplayBuffer):
            buffer._current_ep_start[:] = buffer.pos  # segments end all episodes
            # An episode whose first rows are overwritten is no longer learnt from.
            first = rows[:, None] - (places[:, None] - buffer.ep_start[places]) % self.capacity
            buffer.ep_length[places] *= first >= self._n_added - self.capacity

    def _arrays(self) -> Iterator[tuple[str, Array]]:
        for name in ("observations", "next_observations"):
            stored = getattr(self._buffer, name)
            if isinstance(stored, dict):  # Dict spaces
                yield from ((f"{name}/{key}", array) for key, array in stored.items())
            else:
                yield name, stored
        episodes = ("ep_start", "ep_length") if isinstance(self._buffer, HerReplayBuffer) else ()
        for name in ("actions", "rewards", "dones", "timeouts", *episodes):
            yield name, getattr(self._buffer, name)


def _end_episodes(buffer: HerReplayBuffer) -> None:
    """Truncate the episodes that are under way: the next segment begins with a reset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it warns that it does so
        buffer.truncate_last_trajectory()


def make_model(experiment: Experiment, environments: VecEnv, seed: int) -> Any:
    """Make SB3's algorithm with the experiment's hyper-parameters.

    Args:
        experiment: a resolved experiment.
        environments: the training environments.
        seed: of the initial weights.
    """
    settings = experiment.hyperparameters
    ours = {"policy", "policy_kwargs", "utd", "gradient_steps", "noise_type", "noise_std"}
    ours |= {"replay_buffer", "n_sampled_goal", "goal_selection_strategy"}
    kwargs = {name: getattr(settings, name) for name in type(settings).model_fields}
    kwargs = {name: _schedule(value) for name, value in kwargs.items() if name not in ours}
    if isinstance(settings, OffPolicyHyperparameters):
        kwargs["gradient_steps"] = settings.gradient_steps_a_quantum(experiment.n_envs)
        kwargs["action_noise"] = _action_noise(
            settings.noise_type, settings.noise_std, environments.action_space
        )
        if settings.replay_buffer == "her":
            if not environments.has_attr("compute_reward"):
                raise ValueError("her needs a task with the method compute_reward")
            kwargs["replay_buffer_class"] = HerReplayBuffer
            kwargs["replay_buffer_kwargs"] = {
                "n_sampled_goal": settings.n_sampled_goal,
                "goal_selection_strategy": settings.goal_selection_strategy,
            }
    sb3_class = imported(experiment.algorithm.sb3_class)
    algorithm = type(sb3_class.__name__, (_OneHorizon, sb3_class), {})
    model = algorithm(
        policy=policy_class(settings.policy, environments.observation_space),
        env=environments,
        policy_kwargs=_policy_kwargs(experiment),
        seed=seed,
        device=experiment.device,
        verbose=0,
        **kwargs,
    )
    _scale_frozen_actions(model.policy)
    return model


def _scale_frozen_actions(policy: Any) -> None:
    """Scale dimensions whose lowest and highest action are equal to 0.

    SB3 divides by the width, and would store NaN for them while actions are random.
    """
    space = policy.action_space
    if not isinstance(space, spaces.Box) or not (frozen := space.low == space.high).any():
        return
    width = np.where(frozen, 1, space.high - space.low)

    def scale_action(action: Array) -> Array:
        scaled: Array = np.where(frozen, 0, 2 * (action - space.low) / width - 1)
        return scaled.astype(np.float32)

    policy.scale_action = scale_action


def _schedule(value: Any) -> Any:
    """Convert `lin_X` to SB3's own schedule, so that zips open where Gallop is not installed."""
    if isinstance(value, str) and value.startswith("lin_"):
        return LinearSchedule(start=float(value.removeprefix("lin_")), end=0.0, end_fraction=1.0)
    return value


def policy_class(name: str, observation_space: Space) -> str:
    """SB3's name of a policy class.

    >>> from gymnasium import spaces
    >>> policy_class("auto", spaces.Box(-1, 1, (17,)))
    'MlpPolicy'

    Args:
        name: such a name, or "auto" to choose by the observation space.
        observation_space: the task's.
    """
    if name != "auto":
        return name
    names = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
    return names[policy_class_index(observation_space)]


def _policy_kwargs(experiment: Experiment) -> dict[str, Any]:
    given = experiment.hyperparameters.policy_kwargs
    kwargs = given.model_dump(exclude_none=True)
    if isinstance(given.net_arch, NetArch):
        kwargs["net_arch"] = given.net_arch.model_dump(exclude_none=True)
    if given.activation_fn is not None:
        kwargs["activation_fn"] = sb3_names.activation_class(given.activation_fn)
    return kwargs


def _action_noise(kind: str, std: float, action_space: Any) -> ActionNoise | None:
    if kind == "none":
        return None
    mean, sigma = np.zeros(action_space.shape), np.full(action_space.shape, std)
    if kind == "normal":
        return NormalActionNoise(mean, sigma)
    return OrnsteinUhlenbeckActionNoise(mean, sigma)


def _to_numpy(tensor: Any) -> Array:
    array = tensor.detach().cpu().numpy() if isinstance(tensor, torch.Tensor) else tensor
    return np.array(array, order="C")


def _below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}

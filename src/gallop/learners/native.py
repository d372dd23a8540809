"""The native learner: its networks, its state and its log.

The loops are in native_off_policy.py and native_ppo.py, the gradient steps in native/. SB3
initialises the weights and writes the policy files, through a model that never trains.
"""

from __future__ import annotations

import inspect
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs

from gallop.algorithms.hyperparameters import Hyperparameters
from gallop.errors import DivergedError, TaskError
from gallop.experiments.settings import Experiment
from gallop.learners.learner import SegmentDiagnostics, Tick, UnstableEpisodes, diverged, evidence
from gallop.learners.native_log import Log, Ticks
from gallop.learners.native_replay import NativeReplay
from gallop.learners.normalization import RunningNormalization
from gallop.learners.stable_baselines import make_model
from gallop.policies import acting, sb3_names, sb3_zip
from gallop.policies.kernels import Mlp
from gallop.policies.mlp_policy import MlpPolicy, bounds
from gallop.policies.policy import Array, Policy
from gallop.strict_json import dumps

if TYPE_CHECKING:
    from gallop import _kernels

STATISTICS_WINDOW = 100  # episodes in rollout/ep_rew_mean, as in SB3

H = TypeVar("H", bound=Hyperparameters)

Infos: TypeAlias = list[dict[str, Any]]
"""One `info` per environment, with keys of Gymnasium, SB3 and the task."""


class Optimized(NamedTuple):
    """One of SB3's optimizers, and its parameters."""

    parameters: dict[str, torch.nn.Parameter]
    """By SB3's names, in the optimizer's order."""
    optimizer: torch.optim.Optimizer
    """Adam, with its settings and state."""


class NativeLearner(Generic[H]):
    """The common part of SAC, TD3 and PPO; a `Learner`. Subclasses add `_learn` and `_optimizers`.

    Attributes:
        networks: name, such as "actor" or "critic0" -> network.
        timestep: as in the protocol.
        n_gradient_steps: as in the protocol.
        replay: the replay buffer; None for PPO.
    """

    _hyperparameters: type[H]
    replay: NativeReplay | None = None
    _targets = False
    _target_of_actor = False

    def __init__(
        self, experiment: Experiment, environments: VecEnv, seed: int, engine: _kernels.Engine
    ) -> None:
        """
        Args:
            experiment: one that the native learner supports; see `choose.why_not_native`.
            environments: for their spaces.
            seed: of the initial weights, which SB3 draws.
            engine: threads and instruction set of the kernels.
        """
        torch.set_num_threads(1)
        _spare_the_compiler()
        self._experiment = experiment
        assert isinstance(experiment.hyperparameters, self._hyperparameters)
        self._settings: H = experiment.hyperparameters
        self._template: BaseAlgorithm = make_model(experiment, environments, seed)
        for buffer in ("replay_buffer", "rollout_buffer"):  # unused memory
            if hasattr(self._template, buffer):
                setattr(self._template, buffer, None)
        self._normalization = RunningNormalization(experiment, environments)
        self._engine = engine
        policy = self._template.policy
        tensors = _arrays(policy.state_dict())
        self._layers = sb3_names.network_layers(tensors)
        self.networks: dict[str, Mlp] = {}
        for name, layers in self._layers.items():
            shape = acting.shape_of(policy, name, layers, tensors)
            has_target = self._targets and (name != "actor" or self._target_of_actor)
            self.networks[name] = Mlp(self._engine, shape, learns=True, target=has_target)
        self._head = acting.head_of(policy)
        if self._head != "choice":
            self._low, self._high = bounds(environments.action_space)
        self._take(tensors)
        self.timestep = 0
        self.n_gradient_steps = 0
        self._n_before = 0  # gradient steps of the initial policy, if it came from a file
        self._n_updates = 0
        self._n_episodes = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=STATISTICS_WINDOW)
        self._successes: deque[float] = deque(maxlen=STATISTICS_WINDOW)
        self._unstable = UnstableEpisodes()
        self._log: Log

    # --- the Learner protocol ---

    @property
    def policy(self) -> Policy:
        """The current policy; its networks change with the learner."""
        normalizer = self._normalization.normalizer()
        return MlpPolicy(
            self.networks["actor"], self._head, self._template.action_space, normalizer
        )

    def learn(
        self, environments: VecEnv, seed: int, timesteps: int, horizon: int, on_tick: Tick
    ) -> SegmentDiagnostics:
        """Learn for one segment; see `Learner.learn`."""
        environments = self._normalization.wrap(environments)
        environments.seed(seed)
        started, first = time.perf_counter(), self.timestep
        self._log = Log(first)
        self._unstable = UnstableEpisodes()
        rng, end = np.random.default_rng(seed), first + timesteps
        try:
            self._learn(environments, rng, end, horizon, Ticks(on_tick))
            self._check_finite()
        except DivergedError as error:
            raised = self._diverged() if error.cause == "action" else error
            raised.evidence = evidence(self.timestep, self._log.rows, self._unstable.n)
            raise raised from None
        except TaskError as error:
            if error.cause:
                error.evidence = evidence(self.timestep, self._log.rows, self._unstable.n)
            raise
        self._dump(self.timestep)
        return SegmentDiagnostics(
            rows=self._log.rows,
            n_timesteps=self.timestep - first,
            seconds=time.perf_counter() - started,
            n_unstable=self._unstable.n,
        )

    def _learn(
        self,
        environments: VecEnv,
        rng: np.random.Generator,
        end: int,
        horizon: int,
        tick: Callable[[int], None],
    ) -> None:
        raise NotImplementedError

    def save_state(self, folder: Path) -> None:
        """Write everything that `load_state` needs, except the replay buffer."""
        arrays = {f"policy/{name}": value for name, value in self._tensors().items()}
        for moment in ("first_moment", "second_moment"):
            parts = self._moments(moment)
            arrays |= {f"{moment}/{name}": value for name, value in parts.items()}
        arrays |= self._normalization.arrays() | self._own_arrays()
        save_file(arrays, folder / "learner.safetensors")
        counters = {
            "timestep": self.timestep,
            "n_gradient_steps": self.n_gradient_steps,
            "n_before": self._n_before,
            "n_updates": self._n_updates,
            "n_episodes": self._n_episodes,
            "recent": list(self._recent),
            "successes": list(self._successes),
        }
        (folder / "learner.json").write_text(dumps(counters, indent=1))

    def load_state(self, folder: Path) -> None:
        """Restore a saved state; see `Learner.load_state`."""
        arrays = load_file(folder / "learner.safetensors")
        self._take(_below(arrays, "policy"))
        for moment in ("first_moment", "second_moment"):
            self._take_moments(moment, _below(arrays, moment))
        self._normalization.restore(arrays)
        self._take_own_arrays(arrays)
        counters = json.loads((folder / "learner.json").read_text())
        self.timestep = counters["timestep"]
        self.n_gradient_steps = counters["n_gradient_steps"]
        self._n_before = counters.get("n_before", 0)
        self._n_updates = counters["n_updates"]
        self._n_episodes = counters["n_episodes"]
        self._recent.clear()
        self._recent.extend((float(total), length) for total, length in counters["recent"])
        self._successes.clear()
        self._successes.extend(map(float, counters["successes"]))

    def save_policy(self, path: Path) -> None:
        """Write an SB3 zip that plain SB3 can open and train further."""
        model, normalizer = self._template, self._normalization.normalizer()
        model.policy.load_state_dict(_torch(self._tensors()))
        first, second = self._moments("first_moment"), self._moments("second_moment")
        for parameters, optimizer in self._optimizers():
            optimizer.state.clear()
            for name, parameter in parameters.items():
                if (n_steps := self._n_optimizer_steps(name)) > 0:
                    optimizer.state[parameter] = {
                        "step": torch.tensor(float(n_steps)),
                        "exp_avg": torch.tensor(first[name]),
                        "exp_avg_sq": torch.tensor(second[name]),
                    }
        model.num_timesteps, model._n_updates = self.timestep, self._n_updates
        model._episode_num = self._n_episodes
        # Readers of PPO zips conclude from this that observations were normalised (sb3_zip.py).
        raw = np.zeros((model.n_envs, *(model.observation_space.shape or ())), np.float32)
        model._last_original_obs = raw if normalizer is not None else None
        sb3_zip.write(model, normalizer, path)

    def read_policy(self, path: Path) -> None:
        """Start from an SB3 zip; see `Learner.read_policy`."""
        found = sb3_zip.read_training(path)
        try:
            self._template.policy.load_state_dict(_torch(found.tensors))
        except RuntimeError as error:
            raise sb3_zip.does_not_fit(path, error) from None
        self._normalization.take(found.normalizer, path)
        self._take(found.tensors)
        names = [list(parameters) for parameters, _ in self._optimizers()]
        states = [found.optimizers.get(key, {}) for key in self._optimizer_files()]
        for moment, key in (("first_moment", "exp_avg"), ("second_moment", "exp_avg_sq")):
            known = {
                name: np.asarray(state[index][key], np.float32)
                for module, state in zip(names, states, strict=True)
                for index, name in enumerate(module)
                if index in state
            }
            zeros = {n: np.zeros_like(v) for n, v in self._moments(moment).items()}
            self._take_moments(moment, zeros | known)
        n_steps = [int(part["step"]) for state in states for part in state.values()]
        self.n_gradient_steps = max(n_steps, default=0)
        self._n_updates = int(found.data.get("_n_updates", self.n_gradient_steps))
        self._n_before = self.n_gradient_steps
        self._take_own_training(found)

    def close(self) -> None:
        """Nothing to free: the environments belong to the caller."""

    # --- for the subclasses ---

    def _own_arrays(self) -> dict[str, Array]:
        """Arrays that a subclass learns in addition to its networks."""
        return {}

    def _take_own_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Restore them."""

    def _own_tensors(self) -> dict[str, NDArray[np.float32]]:
        """Parameters in SB3's state dict that belong to no network, by SB3's names."""
        return {}

    def _take_own_training(self, found: sb3_zip.Training) -> None:
        """Restore a subclass's own arrays from a policy file."""

    def _n_optimizer_steps(self, name: str) -> int:
        """Number of Adam's steps on this parameter."""
        return self.n_gradient_steps

    def _optimizer_files(self) -> list[str]:
        """Names of the optimizers' members in an SB3 zip, without suffix, as in `_optimizers`."""
        return ["actor.optimizer", "critic.optimizer"]

    def _optimizers(self) -> list[Optimized]:
        """SB3's optimizers."""
        raise NotImplementedError

    def _adam(self) -> _kernels.AdamSettings:
        """The settings of SB3's optimizer, for the kernels."""
        from gallop import _kernels

        group = self._optimizers()[0].optimizer.param_groups[0]
        beta1, beta2 = group["betas"]
        return _kernels.AdamSettings(
            beta1=beta1, beta2=beta2, epsilon=group["eps"], weight_decay=group["weight_decay"]
        )

    def _rate(self, setting: float | str, horizon: int, n_coming: int = 0) -> float:
        """The value of a constant or of a linear schedule (`lin_X`), `n_coming` timesteps later."""
        if isinstance(setting, str):
            progress_remaining = 1 - (self.timestep + n_coming) / horizon
            return float(setting.removeprefix("lin_")) * progress_remaining
        return float(setting)

    def _note_episodes(self, dones: Array, infos: Infos) -> int:
        """Remember returns, lengths and successes of finished episodes; return their number."""
        n_finished = 0
        for done, info in zip(dones, infos, strict=True):
            if not done:
                continue
            n_finished += 1
            self._unstable.note([info], self.timestep)
            if (episode := info.get("episode")) is not None:  # Monitor's
                self._recent.append((float(episode["r"]), int(episode["l"])))
            if (success := info.get("is_success")) is not None:
                self._successes.append(float(success))
        return n_finished

    def _dump(self, timestep: int) -> None:
        """Write one row of the log, as SB3 does at this point."""
        log = self._log
        if self._recent:
            log.record("rollout/ep_rew_mean", float(np.mean([r for r, _ in self._recent])))
            log.record("rollout/ep_len_mean", float(np.mean([n for _, n in self._recent])))
        if self._successes:
            log.record("rollout/success_rate", float(np.mean(self._successes)))
        log.dump(timestep)

    # --- parameters by SB3's names ---

    def _take(self, tensors: Mapping[str, Array]) -> None:
        for name, network in self.networks.items():
            layers = self._layers[name]
            network.write(network.parameters, sb3_names.concatenated(layers, tensors))
            if network.target is not None:
                target = sb3_names.of_target(layers)
                network.write(network.target, sb3_names.concatenated(target, tensors))

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        tensors = self._own_tensors()
        for name, network in self.networks.items():
            layers = self._layers[name]
            tensors |= sb3_names.split(layers, network.read(network.parameters))
            if network.target is not None:
                target = sb3_names.of_target(layers)
                tensors |= sb3_names.split(target, network.read(network.target))
        return {name: np.ascontiguousarray(value) for name, value in tensors.items()}

    def _moments(self, moment: str) -> dict[str, NDArray[np.float32]]:
        parts: dict[str, NDArray[np.float32]] = {}
        for name, network in self.networks.items():
            parts |= sb3_names.split(self._layers[name], network.read(getattr(network, moment)))
        return {name: np.ascontiguousarray(value) for name, value in parts.items()}

    def _take_moments(self, moment: str, parts: Mapping[str, Array]) -> None:
        for name, network in self.networks.items():
            network.write(
                getattr(network, moment), sb3_names.concatenated(self._layers[name], parts)
            )

    def _check_finite(self) -> None:
        if all(np.isfinite(network.parameters).all() for network in self.networks.values()):
            return
        raise self._diverged()

    def _diverged(self) -> DivergedError:
        return diverged(self.timestep, self._settings.learning_rate)


def _spare_the_compiler() -> None:
    """Keep PyTorch from importing its compiler, which takes 80 MB and a second.

    The first optimizer would import it, only to exempt optimizers from compilation. Nothing is
    compiled here.
    """
    optimizer = torch.optim.Optimizer
    for method in (optimizer.add_param_group, optimizer.state_dict, optimizer.load_state_dict):
        plain = inspect.unwrap(method)
        setattr(plain, "__dynamo_disable", plain)  # where torch._disable_dynamo looks first


def as_array(observations: VecEnvObs) -> Array:
    """Narrow the type of observations to an array: the native learner supports only Box spaces."""
    assert isinstance(observations, np.ndarray)
    return observations


def _arrays(state: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}


def _torch(arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


def _below(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}

"""An experiment: typed, frozen, validated.

Every setting is declared once, here, with its type, default, unit and range. YAML's keys, the
command line's flags and its help follow from these declarations (yaml_file.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
    create_model,
    model_validator,
)

from gallop.algorithms.hyperparameters import Hyperparameters
from gallop.algorithms.spec import AlgorithmSpec
from gallop.algorithms.table import ALGORITHMS
from gallop.errors import alternatives
from gallop.fields import Arguments, Float, Int, LowerCase, PositiveInt, Settings, Wrapper


class Evaluation(Settings):
    """Evaluation during training, on the validation seeds, deterministic."""

    interval: PositiveInt | None = None
    """Timesteps between two evaluations; default: a tenth of the way between milestones."""
    n_episodes: Annotated[Int, Field(ge=1, le=1000)] = 5
    """Episodes an evaluation."""
    max_episode_timesteps: PositiveInt | None = None
    """Timesteps after which an episode of any evaluation is cut; default: ten times the task's own
    time limit, at least 10,000."""


class Normalization(Settings):
    """Running normalisation, with SB3's VecNormalize."""

    observations: bool = False
    """Observations to mean 0 and variance 1."""
    rewards: bool = False
    """Rewards to a variance of 1 of the discounted return (training only)."""
    clip_observations: Annotated[Float, Field(gt=0)] = 10.0
    """Bound of normalised observations."""
    clip_rewards: Annotated[Float, Field(gt=0)] = 10.0
    """Bound of normalised rewards."""


def _percentages(value: tuple[int, ...]) -> tuple[int, ...]:
    if list(value) != sorted(set(value)) or not value or value[0] < 1 or value[-1] != 100:
        raise ValueError("ascending whole percentages that end with 100 are needed")
    return value


def _tracker_names(value: Any) -> Any:
    """Accept wandb and wandb,mlflow, as shells give them; refuse a name given twice."""
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",")]
    if isinstance(value, list | tuple) and any(value.count(name) > 1 for name in value):
        raise ValueError("each tracker can be named once")
    return value


if TYPE_CHECKING:
    Algo: TypeAlias = str
else:
    Algo = Literal[tuple(ALGORITHMS)]
TrackerName = Literal["wandb", "mlflow", "trackio"]


class Experiment(Settings):
    """One run, described completely: with the versions of its dependencies it gives its bits."""

    algo: Annotated[Algo, LowerCase] = Field(description=f"Algorithm: {alternatives(ALGORITHMS)}.")
    env: str
    """Gymnasium's id of the task; `module:Id-v0` imports the module that registers it."""
    env_kwargs: Arguments = {}
    """The task's own keyword arguments, in training and in evaluation."""
    eval_env_kwargs: Arguments = {}
    """Keyword arguments that differ in evaluation."""
    wrappers: tuple[Wrapper, ...] = ()
    """Gymnasium wrappers by import path, first applied first; evaluations leave out those that
    change rewards and nothing else, and report the task's own returns."""
    total_timesteps: PositiveInt
    """Timesteps over all environments."""
    training_seed: Annotated[Int, Field(ge=0, lt=2**63)] = 0
    """Seed from which every random stream of training derives."""
    n_envs: Annotated[Int, Field(ge=1, le=4096)] = 1
    """Environments that step together."""
    vec_env: Literal["dummy", "subproc"] = "dummy"
    """Environments in this process, or each in a worker process."""
    watchdog: Annotated[Float, Field(ge=0)] = 300.0
    """Seconds after which a call of the task that does not return ends the run; 0: never."""
    segment: PositiveInt | None = None
    """Timesteps between two resumable states; default: ten full episodes an environment."""
    milestones: Annotated[tuple[Int, ...], AfterValidator(_percentages)] = (25, 50, 100)
    """Percentages of total_timesteps at which a milestone is kept."""
    evaluation: Evaluation = Evaluation()
    """Evaluation during training."""
    normalize: Normalization = Normalization()
    """Normalisation of observations and rewards."""
    hyperparameters: SerializeAsAny[Hyperparameters]
    """Of the algorithm, with SB3's names and defaults."""
    learner: Literal["auto", "native", "sb3"] = "auto"
    """Whose implementation trains; auto takes the fastest that serves the experiment."""
    precision: Literal["float32", "bf16x3", "bf16"] = "float32"
    """In which the native learner multiplies hidden layers while it learns; those with bf16 need a
    processor that has it. Weights, sums, losses and policies stay float32."""
    device: str = Field(default="cpu", pattern=r"^(cpu|auto|cuda(:\d+)?|mps)$")
    """PyTorch's device: cpu, cuda, cuda:N, mps or auto."""
    n_threads: Annotated[Int, Field(ge=1, le=1024)] | None = None
    """Threads; default: for the native learner what the process may use, at most two (their number
    does not change its bits), for SB3 one (it does change those)."""
    log_interval: PositiveInt | None = None
    """Episodes (PPO: rollouts) between two rows of progress.csv; default 4 (PPO: 1)."""
    films: bool = True
    """Film an episode at each milestone."""
    trackers: Annotated[tuple[TrackerName, ...], BeforeValidator(_tracker_names)] = ()
    """Trackers besides TensorBoard: wandb, mlflow, trackio, or several; they change no bit."""
    init_from: str = ""
    """Policy file (SB3 zip) whose networks and optimizers training starts from."""
    best_params: str = ""
    """Take the hyper-parameters that a search found: its folder or results.json, or best (the
    newest finished search of this algorithm on this task)."""
    trial: Literal["best"] | Annotated[Int, Field(ge=0)] = "best"
    """With best_params: which trial's, by number."""
    source: str = ""
    """Where the hyper-parameters come from; changes nothing."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_sections(cls, data: Any) -> Any:
        """`normalize: true` means both; an absent section means its defaults."""
        if isinstance(data, dict):
            data = {key: value for key, value in data.items() if value is not None}
            if isinstance(data.get("normalize"), bool):
                both = data["normalize"]
                data["normalize"] = {"observations": both, "rewards": both}
        return data

    @property
    def algorithm(self) -> AlgorithmSpec:
        """What depends on the algorithm."""
        return ALGORITHMS[self.algo]

    @property
    def evaluation_env_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the task in every evaluation."""
        return {**self.env_kwargs, **self.eval_env_kwargs}


class TaskArguments(Settings):
    """What a task is given beside its id, where no experiment says it or another one is wanted."""

    env_kwargs: Arguments = {}
    """Keyword arguments, on top of those that an experiment has."""
    wrappers: tuple[Wrapper, ...] | None = None
    """Instead of an experiment's; None leaves those."""


def _experiment_of(spec: AlgorithmSpec) -> type[Experiment]:
    """Experiments with an algorithm's own hyper-parameters."""
    name, own = f"{spec.title}Experiment", (spec.hyperparameters, spec.hyperparameters())
    # In one line: pydantic reads the source of this call for docstrings, and fails on half of it.
    return create_model(name, __base__=Experiment, hyperparameters=own)


EXPERIMENTS = {name: _experiment_of(spec) for name, spec in ALGORITHMS.items()}
"""Name of the algorithm -> experiments with its hyper-parameters."""

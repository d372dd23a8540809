"""An experiment: typed, frozen, validated.

Every setting is declared once, here, with its type, default, range and documentation. The keys of
YAML files (yaml_file.py) and the flags of the command line (flags.py) follow from the declarations.
In the docstring of a field, the text after "Default:" describes a default that depends on other
settings.
"""

from __future__ import annotations

import re
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
from gallop.fields import Arguments, Float, Int, LowerCase, PositiveInt, Settings, Shown, Wrapper

TASK = "task and algorithm"
TRAINING = "training length, evaluation and milestones"
START = "starting point"
MACHINE = "learner and machine"
OUTPUT = "output and trackers"
NORMALISATION = "normalisation"

_WRAPPERS = "list of import paths, or of {PATH: {KEY: VALUE}}"


class Evaluation(Settings):
    """Evaluation during training: deterministic, on the validation seeds."""

    interval: Annotated[PositiveInt | None, Shown(metavar="TIMESTEPS")] = None
    """Timesteps between evaluations. Default: a tenth of the distance between milestones, or more
    where that is shorter than an episode or (PPO) a rollout."""
    n_episodes: Annotated[Int, Field(ge=1, le=1000)] = 5
    """Episodes per evaluation."""
    max_episode_timesteps: Annotated[PositiveInt | None, Shown(metavar="TIMESTEPS", rare=True)] = (
        None
    )
    """Timesteps after which every evaluation cuts an episode. Default: ten times the task's own
    time limit, at least 10,000."""


class Normalization(Settings):
    """Running normalisation with SB3's VecNormalize."""

    observations: bool = False
    """Normalise observations to mean 0 and variance 1."""
    rewards: bool = False
    """Divide rewards by the standard deviation of the discounted return, in training only."""
    clip_observations: Annotated[Float, Field(gt=0), Shown(rare=True)] = 10.0
    """Clip normalised observations to this absolute value."""
    clip_rewards: Annotated[Float, Field(gt=0), Shown(rare=True)] = 10.0
    """Clip normalised rewards to this absolute value."""


def _listed(value: Any) -> Any:
    """Accept a single element instead of a list."""
    return value if isinstance(value, list | tuple) else [value]


def _percentages(value: tuple[int, ...]) -> tuple[int, ...]:
    if list(value) != sorted(set(value)) or not value or value[0] < 1 or value[-1] != 100:
        raise ValueError("must be ascending whole percentages that end with 100")
    return value


def _tracker_names(value: Any) -> Any:
    """Accept wandb and wandb,mlflow, as shells give them; refuse a name given twice."""
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",")]
    if isinstance(value, list | tuple) and any(value.count(name) > 1 for name in value):
        raise ValueError("each tracker can be named only once")
    return value


def _device(value: str) -> str:
    if not re.fullmatch(r"cpu|auto|cuda(:\d+)?|mps", value, re.ASCII):
        raise ValueError("must be cpu, cuda, cuda:N, mps or auto")
    return value


if TYPE_CHECKING:
    Algo: TypeAlias = str
else:
    Algo = Literal[tuple(ALGORITHMS)]
TrackerName = Literal["wandb", "mlflow", "trackio"]


class Experiment(Settings):
    """A complete description of one run."""

    algo: Annotated[Algo, LowerCase, Shown(group=TASK)] = Field(description="Algorithm.")
    env: Annotated[str, Shown(group=TASK, metavar="ID")]
    """Gymnasium's id of the task; `module:Id-v0` imports the module that registers it."""
    env_kwargs: Annotated[Arguments, Shown(group=TASK)] = {}
    """Keyword arguments of the task, in training and evaluation."""
    eval_env_kwargs: Annotated[Arguments, Shown(group=TASK, rare=True)] = {}
    """Keyword arguments that differ in evaluation."""
    wrappers: Annotated[
        tuple[Wrapper, ...],
        BeforeValidator(_listed),
        Shown(group=TASK, metavar="[PATH,...]", kind=_WRAPPERS),
    ] = ()
    """Gymnasium wrappers by import path; the first is applied first. Evaluations leave out wrappers
    that change only rewards, and report the task's own returns."""
    rescale_actions: Annotated[bool, Shown(group=TASK)] = False
    """Let the policy's actions go from -1 to 1, and map them to the task's bounds: Gymnasium's
    wrapper RescaleAction, after all other wrappers."""
    total_timesteps: Annotated[PositiveInt, Shown(group=TRAINING)]
    """Timesteps to train, over all environments together."""
    training_seed: Annotated[Int, Field(ge=0, lt=2**63), Shown(group=TRAINING)] = 0
    """Seed of all random streams in training."""
    n_envs: Annotated[Int, Field(ge=1, le=4096), Shown(group=TASK)] = 1
    """Environments that step together."""
    vec_env: Annotated[Literal["dummy", "subproc"], Shown(group=TASK)] = "dummy"
    """Step the environments in this process, or each in its own process."""
    watchdog: Annotated[Float, Field(ge=0), Shown(group=TASK, metavar="SECONDS", rare=True)] = 300.0
    """Stop the run when a call of the task takes longer than this many seconds; 0: never."""
    segment: Annotated[
        PositiveInt | None, Shown(group=TRAINING, metavar="TIMESTEPS", rare=True)
    ] = None
    """Timesteps between resumable states. Default: the shortest that fits and leaves each
    environment ten full episodes."""
    milestones: Annotated[
        tuple[Int, ...],
        BeforeValidator(_listed),
        AfterValidator(_percentages),
        Shown(group=TRAINING, metavar="[N,...,100]"),
    ] = (25, 50, 100)
    """Milestones, in percent of the timesteps."""
    evaluation: Annotated[Evaluation, Shown(group=TRAINING)] = Evaluation()
    """Evaluation during training."""
    normalize: Annotated[
        Normalization,
        Shown(group=NORMALISATION, metavar="{true,false}", kind="boolean or mapping"),
    ] = Normalization()
    """Normalise both observations and rewards, or neither. Default: false."""
    hyperparameters: SerializeAsAny[Hyperparameters]
    """Hyper-parameters of the algorithm, with SB3's names and defaults."""
    learner: Annotated[Literal["auto", "native", "sb3"], Shown(group=MACHINE)] = "auto"
    """Implementation that trains; auto: the native one where it supports the experiment."""
    device: Annotated[str, AfterValidator(_device), Shown(group=MACHINE, metavar="DEVICE")] = "cpu"
    """PyTorch device: cpu, cuda, cuda:N, mps or auto."""
    n_threads: Annotated[
        Annotated[Int, Field(ge=1, le=1024)] | None, Shown(group=MACHINE, metavar="N")
    ] = None
    """Threads for learning. Results on the native learner do not depend on the number; on SB3 they
    do. Default: on the native learner, the usable cores but at most 2; on SB3, 1."""
    log_interval: Annotated[PositiveInt | None, Shown(group=OUTPUT, rare=True)] = None
    """Episodes (PPO: rollouts) between rows of progress.csv. Default: 4 (PPO: 1)."""
    films: Annotated[bool, Shown(group=OUTPUT)] = True
    """Film an episode at each milestone."""
    audit: Annotated[bool, Shown(group=OUTPUT)] = True
    """Measure at each milestone how the policy moves (MuJoCo tasks)."""
    film_overlay: Annotated[bool, Shown(group=OUTPUT, rare=True)] = False
    """Write time, speed and return into the films."""
    trackers: Annotated[
        tuple[TrackerName, ...],
        BeforeValidator(_tracker_names),
        Shown(group=OUTPUT, metavar="NAME[,NAME...]"),
    ] = ()
    """Trackers in addition to TensorBoard: wandb, mlflow, trackio, or several. They do not change
    the results."""
    init_from: Annotated[str, Shown(group=START, metavar="ZIP")] = ""
    """Initial policy: start from the networks and optimizers of this SB3 zip."""
    best_params: Annotated[str, Shown(group=START, metavar="SEARCH|best")] = ""
    """Take the hyper-parameters found by a search: its folder, its results.json, or best for the
    newest finished search of this algorithm on this task."""
    trial: Annotated[
        Literal["best"] | Annotated[Int, Field(ge=0)], Shown(group=START, metavar="N|best")
    ] = "best"
    """With best_params: the trial whose hyper-parameters to take."""
    source: Annotated[str, Shown(group=START, metavar="TEXT", rare=True)] = ""
    """Where the hyper-parameters come from; recorded only."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_sections(cls, data: Any) -> Any:
        """Let `normalize: true` mean both, and treat null as a setting that was left out."""
        if isinstance(data, dict):
            data = {key: value for key, value in data.items() if value is not None}
            if isinstance(data.get("normalize"), bool):
                both = data["normalize"]
                data["normalize"] = {"observations": both, "rewards": both}
        return data

    @property
    def algorithm(self) -> AlgorithmSpec:
        """The entry of the algorithm in the table of algorithms."""
        return ALGORITHMS[self.algo]

    @property
    def evaluation_env_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the task in every evaluation."""
        return {**self.env_kwargs, **self.eval_env_kwargs}


Factor = Annotated[Float, Field(gt=0)]


class Physics(Settings):
    """What to change; a setting that is left out stays as the task has it."""

    timestep: Annotated[Float, Field(gt=0)] | None = None
    """Seconds of a physics step. Timesteps keep their length: they get more or fewer of them."""
    integrator: Literal["euler", "rk4", "implicit", "implicitfast"] | None = None
    """MuJoCo's integrator."""
    solver: Literal["pgs", "cg", "newton"] | None = None
    """MuJoCo's solver of contacts."""
    cone: Literal["pyramidal", "elliptic"] | None = None
    """Shape of friction cones."""
    friction: Factor | None = None
    """Factor of all coefficients of friction."""
    mass: Factor | None = None
    """Factor of all masses and moments of inertia."""
    gravity: Float | None = None
    """Vertical acceleration in m/s²; on Earth -9.81."""
    action_delay: Annotated[Int, Field(ge=0, le=1000)] | None = None
    """Timesteps by which actions are late; before the first, the actuators get 0."""

    def in_words(self) -> str:
        """The changes, for a table: `timestep 0.005, mass × 1.2`."""
        given = self.model_dump(exclude_none=True)
        factors = ("friction", "mass")
        return ", ".join(f"{n} {'× ' * (n in factors)}{v}" for n, v in given.items())


class TaskArguments(Settings):
    """What evaluates a policy on another task than that of its experiment."""

    env_kwargs: Arguments = {}
    """Keyword arguments, added to those of the experiment."""
    wrappers: Annotated[tuple[Wrapper, ...], BeforeValidator(_listed)] | None = None
    """Wrappers that replace those of the experiment; None keeps those."""
    physics: Physics | None = None
    """Changes of the simulator; None leaves it as it is."""


def _experiment_of(spec: AlgorithmSpec) -> type[Experiment]:
    """A subclass of Experiment with the hyper-parameters of one algorithm."""
    name, own = f"{spec.title}Experiment", (spec.hyperparameters, spec.hyperparameters())
    # On one line: pydantic parses the source of this call for docstrings, and fails on part of it.
    return create_model(name, __base__=Experiment, hyperparameters=own)


EXPERIMENTS = {name: _experiment_of(spec) for name, spec in ALGORITHMS.items()}
"""Name of the algorithm -> model of experiments with its hyper-parameters."""

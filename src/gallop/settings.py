"""An experiment: typed, frozen, validated.

Every setting is declared once, here, with its type, default, unit and range. YAML's keys, the
command line's flags and its help follow from these declarations (experiment_file.py).
"""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

EPISODES_PER_SEGMENT = 10  # what the default segment leaves every environment, in full episodes
UNLIMITED_EPISODE_TIMESTEPS = 1_000  # assumed for tasks that have no time limit
MAX_TIMESTEPS = 10**12  # beyond it nobody trains, and looking for divisors takes forever


def printable(text: str) -> str:
    """One line, with all that a terminal would obey spelled out.

    >>> print(printable("a\\x1b[31m"))
    a\\x1b[31m
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class ExperimentError(ValueError):
    """Something in an experiment is wrong; `field` is the dotted name of the setting, if one.

    The message is one printable line, whatever a stranger's file puts into it: line ends and
    escape sequences, which a terminal obeys, are spelled out.
    """

    def __init__(self, message: str, field: str = "") -> None:
        message = printable(message)
        super().__init__(message)
        self.message = message
        self.field = field


class DivergedError(RuntimeError):
    """Training has left the finite numbers; the last boundary is still good."""


def nearest(name: str, allowed: list[str]) -> str:
    """The end of an error message: the nearest allowed names, or all of them if they are few.

    >>> nearest("learning_rte", ["learning_rate", "gamma"])
    'did you mean learning_rate?'
    """
    by_lower_case = {candidate.lower(): candidate for candidate in allowed}
    close = difflib.get_close_matches(name.lower(), list(by_lower_case), n=2, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(by_lower_case[match] for match in close)}?"
    shown = ", ".join(allowed[:24]) + (", …" if len(allowed) > 24 else "")
    return f"allowed: {shown}"


# --- types of single values ----------------------------------------------------------------------


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names of nested settings, and their values.

    >>> dict(flat({"algo": "sac", "evaluation": {"interval": 100}}))
    {'algo': 'sac', 'evaluation.interval': 100}
    """
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _whole_number(value: Any) -> Any:
    """Accept 1e6 and "2e6", which YAML and shells give as float or text; refuse true and 0.5."""
    if isinstance(value, bool):
        raise ValueError("a whole number is needed, not true or false")
    if isinstance(value, str):
        try:
            value = float(value) if not value.lstrip("+-").isdigit() else int(value)
        except ValueError:
            raise ValueError("a whole number is needed") from None
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError("a whole number is needed")
        return int(value)
    return value


def _real_number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")
    return value


def _schedule(value: Any) -> float | str:
    """A constant, or `lin_X`: X at the first timestep, falling linearly to 0 at the last."""
    text = str(value)
    number = text.removeprefix("lin_")
    try:
        start = float(number)
    except ValueError:
        raise ValueError("a number or lin_NUMBER is needed, such as 3e-4 or lin_3e-4") from None
    if isinstance(value, bool) or not 0 < start < math.inf:
        raise ValueError("must be greater than 0 and finite")
    return text if text.startswith("lin_") else start


def _entropy_coefficient(value: Any) -> float | str:
    if isinstance(value, str) and value.startswith("auto"):
        start = value.removeprefix("auto").removeprefix("_") or "1"
        try:
            if float(start) > 0:
                return value
        except ValueError:
            pass
    else:
        try:
            if not isinstance(value, bool) and 0 <= float(value) < math.inf:
                return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise ValueError("a number of at least 0, auto, or auto_NUMBER is needed")


def _target_entropy(value: Any) -> float | str:
    if value == "auto":
        return "auto"
    try:
        if not isinstance(value, bool) and math.isfinite(float(value)):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError("a number or auto is needed")


def _wrapper(value: Any) -> Any:
    """`package.module:Class`, or a mapping of one such path to its keyword arguments."""
    path: Any = value
    kwargs: Any = {}
    if isinstance(value, Mapping) and len(value) == 1:
        path, kwargs = next(iter(value.items()))
    if not isinstance(path, str) or not isinstance(kwargs or {}, Mapping):
        raise ValueError("an import path such as package.module:Class is needed")
    module, _, attribute = path.replace(":", ".").rpartition(".")
    if not module or not attribute.isidentifier():
        raise ValueError("an import path such as package.module:Class is needed")
    return {path: dict(kwargs or {})}


Int = Annotated[int, BeforeValidator(_whole_number)]
PositiveInt = Annotated[Int, Field(ge=1)]
Float = Annotated[float, BeforeValidator(_real_number), Field(allow_inf_nan=False)]
Schedule = Annotated[float | str, BeforeValidator(_schedule)]
Wrapper = Annotated[dict[str, dict[str, Any]], BeforeValidator(_wrapper)]
LowerCase = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)


class Settings(BaseModel):
    """Base of every part: frozen, no unknown keys, docs under each field."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


# --- the parts -----------------------------------------------------------------------------------

ActivationName = Literal["relu", "tanh", "elu", "leaky_relu", "silu", "gelu"]
Layers = Annotated[list[PositiveInt], Field(max_length=32)]


class NetArch(Settings):
    """Hidden layers of the actor and of the critics, apart."""

    pi: Layers
    qf: Layers | None = None
    vf: Layers | None = None


class PolicyKwargs(Settings):
    """What SB3's policy classes accept. Settings left out keep SB3's own default."""

    net_arch: Layers | NetArch | None = None
    """Hidden layers: a list of widths, or {pi: [...], qf: [...]} (PPO: vf)."""
    activation_fn: Annotated[ActivationName, LowerCase] | None = None
    """Activation function by name."""
    log_std_init: Float | None = None
    """First value of the log standard deviation (PPO, gSDE)."""
    ortho_init: bool | None = None
    """Orthogonal initialisation (PPO)."""
    use_expln: bool | None = None
    """gSDE: expln() instead of exp() for positive standard deviations."""
    clip_mean: Annotated[Float, Field(ge=0)] | None = None
    """gSDE of SAC: bound of the mean action before tanh."""
    n_critics: PositiveInt | None = None
    """Number of critics (SAC, TD3)."""
    share_features_extractor: bool | None = None
    """One feature extractor for actor and critic."""
    normalize_images: bool | None = None
    """Divide images by 255."""
    optimizer_kwargs: dict[str, Any] | None = None
    """Keyword arguments of Adam, such as {eps: 1.0e-5}."""


class Hyperparameters(Settings):
    """What every algorithm has. Names and defaults are SB3's."""

    policy: Literal["auto", "MlpPolicy", "MultiInputPolicy", "CnnPolicy"] = "auto"
    """SB3's policy class; auto: by the observation space."""
    policy_kwargs: PolicyKwargs = PolicyKwargs()
    """Networks."""
    learning_rate: Schedule = 3e-4
    """Adam's step size, constant or lin_X."""
    gamma: Annotated[Float, Field(ge=0, le=1)] = 0.99
    """Discount factor, 0 to 1."""


class OffPolicyHyperparameters(Hyperparameters):
    """What SAC and TD3 share."""

    buffer_size: PositiveInt = 1_000_000
    """Replay buffer, transitions over all environments."""
    learning_starts: Annotated[Int, Field(ge=0)] = 100
    """Timesteps with random actions and without gradient steps."""
    batch_size: PositiveInt = 256
    """Transitions a gradient step."""
    tau: Annotated[Float, Field(gt=0, le=1)] = 0.005
    """Polyak factor of the target networks, 0 to 1."""
    train_freq: PositiveInt = 1
    """Timesteps of every environment between two rounds of gradient steps."""
    utd: Annotated[Float, Field(ge=0)] | None = None
    """UTD ratio: gradient steps per timestep, whatever n_envs is; default 1."""
    gradient_steps: Annotated[Int, Field(ge=-1)] | None = None
    """Gradient steps every train_freq × n_envs timesteps, instead of utd; -1: as many."""
    noise_type: Literal["none", "normal", "ornstein-uhlenbeck"] = "none"
    """Noise added to actions while training."""
    noise_std: Annotated[Float, Field(ge=0)] = 0.1
    """Standard deviation of that noise, in actions scaled to -1 … 1."""

    @model_validator(mode="after")
    def _one_of_utd_and_gradient_steps(self) -> OffPolicyHyperparameters:
        if self.utd is not None and self.gradient_steps is not None:
            raise ValueError(
                f"utd {self.utd:g} and gradient_steps {self.gradient_steps} are two names for one "
                "thing: give one of them"
            )
        return self

    def quantum(self, n_envs: int) -> int:
        """Timesteps that training cannot divide."""
        return self.train_freq * n_envs

    def gradient_steps_a_quantum(self, n_envs: int) -> int:
        """Gradient steps every `quantum` timesteps.

        >>> SACHyperparameters(utd=0.5).gradient_steps_a_quantum(n_envs=4)
        2

        Raises:
            ExperimentError: where the UTD ratio gives no whole number of them.
        """
        quantum = self.quantum(n_envs)
        if self.gradient_steps is not None:
            return quantum if self.gradient_steps == -1 else self.gradient_steps
        wanted = (1.0 if self.utd is None else self.utd) * quantum
        if wanted > MAX_TIMESTEPS:
            raise ExperimentError(f"{self.utd:g} is more than is possible", "hyperparameters.utd")
        if not math.isclose(wanted, round(wanted), abs_tol=1e-9):
            raise ExperimentError(
                f"{self.utd:g} gives {wanted:g} gradient steps every train_freq × n_envs = "
                f"{quantum} timesteps; the nearest whole numbers are utd "
                f"{math.floor(wanted) / quantum:g} and {math.ceil(wanted) / quantum:g}",
                "hyperparameters.utd",
            )
        return round(wanted)

    def utd_ratio(self, n_envs: int) -> float:
        """UTD ratio: gradient steps per timestep once learning has started."""
        return self.gradient_steps_a_quantum(n_envs) / self.quantum(n_envs)

    def n_gradient_steps(self, timesteps: int, n_envs: int) -> int:
        """Gradient steps of the critics until that timestep."""
        quantum = self.quantum(n_envs)
        rounds = timesteps // quantum - self.learning_starts // quantum
        return max(0, rounds) * self.gradient_steps_a_quantum(n_envs)


class SACHyperparameters(OffPolicyHyperparameters):
    """Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), as in SB3."""

    ent_coef: Annotated[float | str, BeforeValidator(_entropy_coefficient)] = "auto"
    """Entropy coefficient: a number, auto (learnt), or auto_X (learnt from X on)."""
    target_entropy: Annotated[float | str, BeforeValidator(_target_entropy)] = "auto"
    """Entropy that auto aims at; auto: minus the number of actions."""
    target_update_interval: PositiveInt = 1
    """Gradient steps between two updates of the target networks."""
    use_sde: bool = False
    """Generalised state-dependent exploration (gSDE)."""
    sde_sample_freq: Int = -1
    """gSDE: timesteps between two noise matrices; -1: one a rollout."""
    use_sde_at_warmup: bool = False
    """gSDE instead of random actions before learning starts."""


class TD3Hyperparameters(OffPolicyHyperparameters):
    """Twin delayed DDPG (Fujimoto et al. 2018, arXiv:1802.09477), as in SB3, with noise."""

    learning_rate: Schedule = 1e-3
    """Adam's step size, constant or lin_X."""
    noise_type: Literal["none", "normal", "ornstein-uhlenbeck"] = "normal"
    """Noise added to actions while training (SB3's default, none, never explores)."""
    policy_delay: PositiveInt = 2
    """Gradient steps of the critics for one of the actor."""
    target_policy_noise: Annotated[Float, Field(ge=0)] = 0.2
    """Standard deviation of the target policy's smoothing noise."""
    target_noise_clip: Annotated[Float, Field(ge=0)] = 0.5
    """Bound of that noise."""


class PPOHyperparameters(Hyperparameters):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347), as in SB3."""

    n_steps: PositiveInt = 2048
    """Timesteps of every environment a rollout."""
    batch_size: Annotated[Int, Field(ge=2)] = 64
    """Transitions a gradient step."""
    n_epochs: PositiveInt = 10
    """Passes over each rollout."""
    gae_lambda: Annotated[Float, Field(ge=0, le=1)] = 0.95
    """Factor of generalised advantage estimation, 0 to 1."""
    clip_range: Schedule = 0.2
    """Clipping of the probability ratio, constant or lin_X."""
    clip_range_vf: Schedule | None = None
    """Clipping of the value function; none by default."""
    normalize_advantage: bool = True
    """Advantages to mean 0 and standard deviation 1 in each minibatch."""
    ent_coef: Annotated[Float, Field(ge=0)] = 0.0
    """Weight of the entropy bonus."""
    vf_coef: Annotated[Float, Field(ge=0)] = 0.5
    """Weight of the value loss."""
    max_grad_norm: Annotated[Float, Field(gt=0)] = 0.5
    """Bound of the gradient's norm."""
    use_sde: bool = False
    """Generalised state-dependent exploration (gSDE)."""
    sde_sample_freq: Int = -1
    """gSDE: timesteps between two noise matrices; -1: one a rollout."""
    target_kl: Annotated[Float, Field(gt=0)] | None = None
    """End a round's epochs early beyond this KL divergence."""

    def quantum(self, n_envs: int) -> int:
        """Timesteps that training cannot divide: one rollout."""
        return self.n_steps * n_envs

    def utd_ratio(self, n_envs: int) -> float:
        """UTD ratio: gradient steps per timestep."""
        rollout = self.quantum(n_envs)
        return self.n_epochs * math.ceil(rollout / self.batch_size) / rollout

    def n_gradient_steps(self, timesteps: int, n_envs: int) -> int:
        """Gradient steps until that timestep (fewer where target_kl ends a round early)."""
        return round(timesteps * self.utd_ratio(n_envs))


class Evaluation(Settings):
    """Evaluation during training, on the validation seeds, deterministic."""

    interval: PositiveInt | None = None
    """Timesteps between two evaluations; default: a tenth of the way between milestones."""
    n_episodes: Annotated[Int, Field(ge=1, le=1000)] = 5
    """Episodes an evaluation."""


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


Algo = Literal["sac", "td3", "ppo"]
TrackerName = Literal["wandb", "mlflow", "trackio"]


class Experiment(Settings):
    """One run, described completely: with the versions of its dependencies it gives its bits."""

    algo: Annotated[Algo, LowerCase]
    """Algorithm: sac, td3 or ppo."""
    env: str
    """Gymnasium's id of the task; `module:Id-v0` imports the module that registers it."""
    env_kwargs: dict[str, Any] = {}
    """The task's own keyword arguments, in training and in evaluation."""
    eval_env_kwargs: dict[str, Any] = {}
    """Keyword arguments that differ in evaluation."""
    wrappers: tuple[Wrapper, ...] = ()
    """Gymnasium wrappers by import path, first applied first."""
    total_timesteps: PositiveInt
    """Timesteps over all environments."""
    training_seed: Annotated[Int, Field(ge=0, lt=2**63)] = 0
    """Seed from which every random stream of training derives."""
    n_envs: Annotated[Int, Field(ge=1, le=4096)] = 1
    """Environments that step together."""
    vec_env: Literal["dummy", "subproc"] = "dummy"
    """Environments in this process, or each in a worker process."""
    segment: PositiveInt | None = None
    """Timesteps between two resumable states; default: ten full episodes an environment."""
    milestones: Annotated[tuple[Int, ...], AfterValidator(_percentages)] = (25, 50, 100)
    """Percentages of total_timesteps at which a milestone is kept."""
    evaluation: Evaluation = Evaluation()
    """Evaluation during training."""
    normalize: Normalization = Normalization()
    """Normalisation of observations and rewards."""
    hyperparameters: SACHyperparameters | TD3Hyperparameters | PPOHyperparameters
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
    def evaluation_env_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the task in every evaluation."""
        return {**self.env_kwargs, **self.eval_env_kwargs}


class _SACExperiment(Experiment):
    hyperparameters: SACHyperparameters = SACHyperparameters()


class _TD3Experiment(Experiment):
    hyperparameters: TD3Hyperparameters = TD3Hyperparameters()


class _PPOExperiment(Experiment):
    hyperparameters: PPOHyperparameters = PPOHyperparameters()


EXPERIMENTS: dict[str, type[Experiment]] = {
    "sac": _SACExperiment,
    "td3": _TD3Experiment,
    "ppo": _PPOExperiment,
}


# --- what depends on several settings ------------------------------------------------------------


def resolve(experiment: Experiment) -> Experiment:
    """Fill in the defaults that follow from other settings, and check that all lines up.

    Raises:
        ExperimentError: with the nearest values that would line up.
    """
    if experiment.total_timesteps > MAX_TIMESTEPS:
        raise ExperimentError(f"more than {MAX_TIMESTEPS:,} are not possible", "total_timesteps")
    quantum = experiment.hyperparameters.quantum(experiment.n_envs)
    limit = task_spec(experiment.env).max_episode_steps or UNLIMITED_EPISODE_TIMESTEPS
    limit = experiment.env_kwargs.get("max_episode_steps", limit)
    if not isinstance(limit, int) or limit < 1:
        raise ExperimentError(
            f"{limit!r}: a whole number of at least 1 is needed", "env_kwargs.max_episode_steps"
        )
    episode = limit * experiment.n_envs
    # PPO rounds its boundaries up to a rollout; SAC and TD3 hit theirs exactly.
    grid = 1 if experiment.algo == "ppo" else quantum
    _check_networks(experiment)
    experiment.hyperparameters.utd_ratio(experiment.n_envs)  # raises if it does not come out even
    _check_total(experiment, grid, max(episode, quantum))
    marks = milestone_timesteps(experiment)
    gap = math.gcd(*marks)
    interval = experiment.evaluation.interval
    if interval is None:
        floor = max(episode, quantum)
        tenths = [gap // n for n in (10, 5, 4, 2) if gap % n == 0 and gap // n >= floor]
        interval = next((part for part in tenths if part % grid == 0), gap)
    _check_divides(interval, gap, grid, "evaluation.interval", f"the milestones {_list(marks)}")
    segment = experiment.segment
    if segment is None:
        wanted = max(EPISODES_PER_SEGMENT * episode, quantum)
        parts = [part for part in _divisors(interval) if part % grid == 0 and part >= wanted]
        segment = min(parts, default=interval)
    _check_divides(segment, interval, grid, "segment", f"evaluation.interval {interval}")
    if segment < max(episode, quantum):
        least = "one full episode of each environment" if episode >= quantum else "one rollout"
        raise ExperimentError(
            f"{segment} timesteps are less than {least}, {max(episode, quantum)} timesteps; "
            f"make it at least that, and evaluation.interval a multiple of it",
            "segment" if experiment.segment else "evaluation.interval",
        )
    return experiment.model_copy(
        update={
            "segment": segment,
            "evaluation": experiment.evaluation.model_copy(update={"interval": interval}),
            "log_interval": experiment.log_interval or (1 if experiment.algo == "ppo" else 4),
        }
    )


def task_spec(env: str) -> EnvSpec:
    """Gymnasium's specification of a task, its module imported if the id names one.

    Raises:
        ExperimentError: if Gymnasium knows no such task, with the nearest names.
    """
    import gymnasium

    module, _, name = env.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:  # it may be anybody's code
            raise ExperimentError(
                f"{env!r}: {module!r} cannot be imported: {error}", "env"
            ) from None
    try:
        return gymnasium.spec(name)
    except (gymnasium.error.Error, ValueError):
        known = [key for key in gymnasium.registry if not key.startswith(("GymV", "phys2d"))]
        hint = nearest(name, known)
        hint = hint if hint.startswith("did") else "`module:Name-v0` imports a task of your own"
        raise ExperimentError(f"{env!r} is no task that Gymnasium knows; {hint}", "env") from None


def _check_networks(experiment: Experiment) -> None:
    arch = experiment.hyperparameters.policy_kwargs.net_arch
    if not isinstance(arch, NetArch):
        return
    critic, other = ("vf", "qf") if experiment.algo == "ppo" else ("qf", "vf")
    if getattr(arch, critic) is None or getattr(arch, other) is not None:
        raise ExperimentError(
            f"{experiment.algo} needs the keys pi and {critic}",
            "hyperparameters.policy_kwargs.net_arch",
        )


def milestone_timesteps(experiment: Experiment) -> list[int]:
    """Nominal timesteps of the milestones."""
    return [experiment.total_timesteps * percent // 100 for percent in experiment.milestones]


def _check_total(experiment: Experiment, grid: int, least: int) -> None:
    """The milestones must be whole numbers of timesteps, on the grid, `least` apart."""
    total, percentages = experiment.total_timesteps, experiment.milestones
    whole = 100 // math.gcd(100, *percentages)  # totals that give whole numbers
    step = math.gcd(*percentages) * whole // 100  # what the milestones of that total have in common
    unit = whole * (grid // math.gcd(grid, step))
    if total % unit:
        nearby = [value for value in (total // unit * unit, (total // unit + 1) * unit) if value]
        on_grid = f" into multiples of train_freq × n_envs = {grid}" if grid > 1 else ""
        raise ExperimentError(
            f"{total} cannot be cut at {_list(percentages)} %{on_grid}; the nearest totals that "
            f"can are {_list(nearby)}",
            "total_timesteps",
        )
    gap = math.gcd(*milestone_timesteps(experiment))
    if gap < least:
        needed = math.ceil(least * total / gap / unit) * unit
        raise ExperimentError(
            f"{total} leaves {gap} timesteps from milestone to milestone, and one full episode of "
            f"each environment (PPO: one rollout) needs {least}; at least {needed} are needed",
            "total_timesteps",
        )


def _check_divides(part: int, whole: int, grid: int, field: str, of: str) -> None:
    if whole % part == 0 and part % grid == 0:
        return
    fitting = [value for value in _divisors(whole) if value % grid == 0]
    below = max((value for value in fitting if value < part), default=None)
    above = min((value for value in fitting if value > part), default=None)
    offers = [value for value in (below, above) if value is not None]
    needs = f"must divide {of}" + (f" and be a multiple of {grid}" if grid > 1 else "")
    hint = f"nearest that do: {_list(offers)}" if offers else f"none does: change {of.split()[-1]}"
    raise ExperimentError(f"{part} {needs}; {hint}", field)


def _divisors(number: int) -> list[int]:
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)})


def _list(values: Any) -> str:
    return ", ".join(str(value) for value in values)

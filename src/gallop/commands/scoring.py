"""Evaluate policies, or the random policy, on the evaluation seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

from gallop.commands.consent import trusted
from gallop.environments.identity import Identity, differences, identity_of
from gallop.environments.make import Task, evaluation_task
from gallop.environments.probe import Probed, probe
from gallop.environments.watchdog import watching
from gallop.errors import ExperimentError, counted
from gallop.evaluation.episodes import Episodes, RandomPolicy
from gallop.evaluation.episodes import evaluate as play
from gallop.evaluation.intervals import interval_generator
from gallop.evaluation.statistics import compare, summarise
from gallop.experiments import seeding
from gallop.experiments.presets import find_example
from gallop.experiments.seeding import spans
from gallop.experiments.settings import TaskArguments
from gallop.experiments.task import UNLIMITED_EPISODE_TIMESTEPS, task_spec
from gallop.experiments.yaml_file import load, task_arguments
from gallop.policies.policy import Array, Observations, Policy, begin_episodes
from gallop.policies.sb3_zip import Options, normalizer_option
from gallop.report.display import Display, Pair, Row
from gallop.run_folder.consent import with_consent
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.find_policy import (
    Named,
    find_policy,
    stands_alone,
    with_arguments,
    with_reset_noise,
)
from gallop.run_folder.numbers import Cut, write_rewards

# More episodes use the numbers after the evaluation seeds, up to the first validation seed.
MAX_EPISODES = seeding.VALIDATION_SEEDS[0] - seeding.EVALUATION_SEEDS[0]


def evaluate(
    what: str | PathLike[str] | None = None,
    *,
    env: str | None = None,
    env_kwargs: Mapping[str, object] | None = None,
    wrappers: Sequence[str | Mapping[str, object]] | None = None,
    n_episodes: int | None = None,
    seeds: Sequence[int] | None = None,
    reset_noise_scale: float | None = None,
    physics: Mapping[str, object] | None = None,
    stochastic: bool = False,
    normalizer: str | PathLike[str] | None = None,
    activation: str | None = None,
    trust: bool = False,
    results: str | PathLike[str] = Path("results"),
) -> Episodes:
    """Play one episode per seed with a policy. Nothing is written or printed.

    All policies are scored on the same ten evaluation seeds unless told otherwise, so the returns
    of two policies on one task can be compared episode by episode.

    Args:
        what: what `gallop.run` returned, or the path of a run (its best policy), of a milestone's
            folder, or of an SB3 zip; None: the newest run.
        env: id of the task, for a zip outside a run folder whose name does not contain it.
        env_kwargs: keyword arguments of the task, on top of the run's own.
        wrappers: Gymnasium wrappers, written as in an experiment, instead of the run's own.
        n_episodes: number of episodes; default: 10, one for each evaluation seed.
        seeds: seeds of the episodes' initial states, instead of `n_episodes`.
        reset_noise_scale: spread of the initial states, instead of the run's or the task's own.
        physics: changes of a MuJoCo task's simulator, such as ``{"timestep": 0.005, "mass": 1.2}``:
            `timestep`, `integrator`, `solver`, `cone`, `friction`, `mass`, `gravity` and
            `action_delay`; friction and mass are factors. The command also plays the unchanged
            task.
        stochastic: sample actions from the policy's distribution, with a fixed seed, instead of
            taking the deterministic action.
        normalizer: the policy's normaliser file, if it is not next to the zip; "none": leave
            observations as they are.
        activation: activation function of a checkpoint of rsl_rl, rl_games or skrl, which do not
            store it.
        trust: run the task and wrappers that an untrusted folder names. For a single zip outside a
            run folder: let SB3's own loader run the code in it, if it cannot be read otherwise.
        results: the folder that holds all runs.

    Returns:
        The episodes. Their seeds, returns and lengths are arrays of shape [n].

    Raises:
        ConsentError: if the folder names code that you have not agreed to run.
        ExperimentError: if there is no such policy, or it belongs to another task.
        PolicyFileError: if the policy file cannot be read.

    Example:
        The policy of the newest run on 20 seeds, and on two chosen seeds::

            import gallop

            episodes = gallop.evaluate(n_episodes=20)
            print(episodes.returns.mean(), episodes.lengths)
            print(gallop.evaluate(seeds=[1, 2]))
    """
    path = None if what is None else Path(what)
    arguments = task_arguments({"env_kwargs": env_kwargs, "wrappers": wrappers, "physics": physics})
    named = with_consent(
        lambda: find_policy(
            path,
            env=env,
            results=Path(results),
            reset_noise_scale=reset_noise_scale,
            arguments=arguments,
        ),
        lambda request: trust and trusted(request),
    )
    trusts_zip = trust and stands_alone([path] if path else [], env)
    options = Options(
        normalizer_option(normalizer),
        0 if stochastic else None,
        trusts_zip,
        activation=activation,
    )
    policy = named.read(options)
    with watching(named.task.watchdog):
        return _play(policy, named.task, chosen_seeds(n_episodes, seeds))


def _play(policy: Policy, task: Task, seeds: Sequence[int]) -> Episodes:
    return play(policy, task.make, seeds, task.max_episode_timesteps)


class _Counted:
    """A policy that reports each timestep; all episodes step together."""

    def __init__(self, policy: Policy, on_timestep: Callable[[], None]) -> None:
        self._policy, self._on_timestep = policy, on_timestep

    def begin(self) -> None:
        """Tell the policy that new episodes start."""
        begin_episodes(self._policy)

    def act(self, observations: Observations) -> Array:
        """Report a timestep, and return the actions of the policy."""
        self._on_timestep()
        return self._policy.act(observations)


def longest_episode(task: Task) -> int:
    """Timesteps of the longest possible episode."""
    limit = task.kwargs.get("max_episode_steps") or task_spec(task.env).max_episode_steps
    limit = int(limit or UNLIMITED_EPISODE_TIMESTEPS)
    return min(limit, task.max_episode_timesteps or limit)


def chosen_seeds(n_episodes: int | None, seeds: Sequence[int] | None) -> list[int]:
    """The given seeds, or the first `n_episodes` evaluation seeds.

    Args:
        n_episodes: number of evaluation seeds; None: all ten.
        seeds: other seeds; None: evaluation seeds.

    Raises:
        ExperimentError: if both are given, or their number is not valid.
    """
    if seeds is not None:
        if n_episodes is not None:
            raise ExperimentError("--episodes and --seeds are mutually exclusive")
        if not seeds or any(seed < 0 for seed in seeds):
            raise ExperimentError("--seeds: must be one or more seeds of at least 0")
        return list(seeds)
    n = len(seeding.EVALUATION_SEEDS) if n_episodes is None else n_episodes
    if not 1 <= n <= MAX_EPISODES:
        raise ExperimentError(f"--episodes {n}: must be from 1 to {MAX_EPISODES}")
    first = seeding.EVALUATION_SEEDS[0]
    return list(range(first, first + n))


def evaluate_all(
    what: Sequence[Path],
    *,
    env: str | None,
    seeds: Sequence[int],
    reset_noise_scale: float | None,
    options: Options,
    results: Path,
    output: Path | None,
    display: Display,
    arguments: TaskArguments | None = None,
) -> None:
    """Evaluate policies on the same seeds, print a table, and compare each with the first.

    Args:
        what: run or milestone folders, or SB3 zips; none: the best policy of the newest run.
        env: id of the task, for zips outside a run folder.
        seeds: one episode is played for each.
        reset_noise_scale: noise of initial states, instead of that of the run or the task.
        options: how to read the policy files.
        results: folder of all runs.
        output: .npz file to write the first policy's returns to.
        display: prints the results.
        arguments: keyword arguments and wrappers of the task.

    Raises:
        ExperimentError: as `evaluate` does, and if two policies are for different tasks.
    """
    names: list[Path | None] = [*what] if what else [None]
    arguments = arguments or TaskArguments()
    physics, unchanged = arguments.physics, arguments.model_copy(update={"physics": None})
    found = [
        find_policy(
            name,
            env=env,
            results=results,
            reset_noise_scale=reset_noise_scale,
            arguments=unchanged,
        )
        for name in names
    ]
    for named in found[1:]:
        if named.task.env != found[0].task.env:
            raise ExperimentError(
                f"{named.path} is for {named.task.env}, {found[0].path} for {found[0].task.env}: "
                "only policies of one task can be compared"
            )
    looked_at = [_look_at(named, display) for named in found]
    partners = _partners(found, looked_at, display)
    if physics is not None:  # each policy is played without and with the changes
        found = [each for named in found for each in (named, named.with_physics(physics))]
        for named in found[1::2]:
            named.task.closed()  # raises before anything is played, if it cannot be changed
        repeats = [not probed.ignores_seed for _, probed in looked_at]
        partners = [
            each
            for i, partner in enumerate(partners)
            for each in (None if partner is None else 2 * partner, 2 * i if repeats[i] else None)
        ]
    judged = []
    for named in found:
        policy = named.read(options)
        if note := named.normalizer_note(options):
            display.say(f"{named.label}: {note}")
        bar = display.episodes(named.label, len(seeds), longest_episode(named.task))
        with bar as on_timestep, watching(named.task.watchdog):
            judged.append(_play(_Counted(policy, on_timestep), named.task, seeds))
    rows = [
        Row(named.label, None, summarise(episodes.returns, interval_generator()))
        for named, episodes in zip(found, judged, strict=True)
    ]
    pairs = [
        Pair(
            f"{_letter(i)} − {_letter(partner)}",
            compare(judged[i].returns, judged[partner].returns, interval_generator()),
        )
        for i, partner in enumerate(partners)
        if partner is not None
    ]
    if len(rows) > 1:
        rows = [row._replace(policy=f"{_letter(i)}: {row.policy}") for i, row in enumerate(rows)]
    title = found[0].task.env if len(rows) > 1 else f"{found[0].task.env}, {found[0].path}"
    display.results(title, rows, pairs)
    kind = "deterministic" if options.stochastic_seed is None else "stochastic"
    display.say(
        f"Returns of {counted(len(seeds), f'{kind} episode')}, {_seeds(seeds)}"
        + ("" if reset_noise_scale is None else f", reset noise {reset_noise_scale:g}")
        + ".\nIntervals are over initial states of one policy, not over training seeds."
    )
    for episodes, named in zip(judged, found, strict=True):
        if episodes.n_unstable:
            display.say(
                f"{named.label}: physics blew up in {counted(episodes.n_unstable, 'episode')}"
            )
        _say_left_out(named.label, episodes, display)
    if output is not None:
        write_rewards(output, judged[0])
        display.say(f"rewards {output}" + (" (of the first policy)" if len(rows) > 1 else ""))


def _look_at(named: Named, display: Display) -> tuple[Identity, Probed]:
    """Print what is unusual about a policy and its task; return what the task is and does."""
    with watching(named.task.watchdog):
        note = named.task.reward_wrappers().note
        task, probed = identity_of(named.task), probe(named.task)
    for text in (named.note, note and f"returns are {note}", probed.note, named.task_note(task)):
        if text:
            display.say(f"{named.path}: {text}")
    return task, probed


def _partners(
    found: Sequence[Named], looked_at: Sequence[tuple[Identity, Probed]], display: Display
) -> list[int | None]:
    """Return, for each policy, the index of the one that it is compared with, episode by episode:
    the first one, if the episodes are pairs."""
    partners: list[int | None] = [None]
    first, _ = looked_at[0]
    repeats = not any(probed.ignores_seed for _, probed in looked_at)
    for named, (task, _) in zip(found[1:], looked_at[1:], strict=True):
        different = differences(task, first)
        if different:
            display.say(
                f"{named.path} and {found[0].path} are scored on different tasks, so their "
                f"episodes are not compared in pairs: {'; '.join(different)}"
            )
        partners.append(0 if repeats and not different else None)
    return partners


def baseline(
    what: Path | None,
    *,
    env: str | None,
    seeds: Sequence[int],
    reset_noise_scale: float | None,
    output: Path | None,
    display: Display,
    arguments: TaskArguments | None = None,
) -> Episodes:
    """Evaluate the random policy on a task, or on that of a run or an experiment file.

    Args:
        what: run folder, experiment file or id of a task; None: `env` is the task.
        env: id of the task.
        seeds: one episode is played for each.
        reset_noise_scale: noise of initial states, instead of that of the run or the task.
        output: .npz file to write the returns to.
        display: prints the results.
        arguments: keyword arguments and wrappers of the task.

    Returns:
        The episodes.

    Raises:
        ExperimentError: if the task is unknown or does not work.
    """
    task = _task_of(what, env)
    with watching(task.watchdog):
        task = with_reset_noise(with_arguments(task, arguments), reset_noise_scale)
        if note := task.reward_wrappers().note:
            display.say(f"returns are {note}")
        made, probed = task.closed(), probe(task)
        if probed.note:
            display.say(f"{task.env}: {probed.note}")
    policy = RandomPolicy(made.action_space, seeds)
    bar = display.episodes("random policy", len(seeds), longest_episode(task))
    with bar as on_timestep, watching(task.watchdog):
        episodes = _play(_Counted(policy, on_timestep), task, seeds)
    row = Row("random", None, summarise(episodes.returns, interval_generator()))
    display.results(f"Random policy on {task.env}", [row])
    display.say(f"Returns of {counted(len(seeds), 'episode')}, {_seeds(seeds)}.")
    _say_left_out("random", episodes, display)
    if output is not None:
        write_rewards(output, episodes)
        display.say(f"rewards {output}")
    return episodes


def _task_of(what: Path | None, env: str | None) -> Task:
    if env is not None:
        if what is not None:
            raise ExperimentError(f"{what} and --env {env} are mutually exclusive")
        task_spec(env)
        return Task(env, {})
    if what is None:
        raise ExperimentError("a RUN, a CONFIG or --env is required")
    what = find_example(what) or what
    if what.is_dir():
        return evaluation_task(RunDirectory(what).read_experiment())
    if what.suffix in (".yaml", ".yml") or what.is_fifo():
        return evaluation_task(load(what))
    if not what.exists():  # the id of a task instead of a file
        task_spec(str(what))
        return Task(str(what), {})
    raise ExperimentError(f"{what}: not a run, an experiment file or a task")


def _say_left_out(label: str, episodes: Episodes, display: Display) -> None:
    """Report episodes of which the table shows only a part."""
    n, length = len(episodes.seeds), int(episodes.lengths.max())
    cut = {label: Cut(episodes.n_cut, n, length)} if episodes.n_cut else {}
    not_finite = {label: (episodes.n_not_finite, n)} if episodes.n_not_finite else {}
    display.left_out(cut, not_finite)


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {spans(seeds)}"


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"#{number + 1}"

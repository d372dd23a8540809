"""A finished run as others want it: the Zoo's folder of a trained agent, and a folder for the
Hugging Face hub. Either is there whole or not at all, and neither overwrites anything.

The Zoo keeps the normalisation of observations as a pickle, so its export writes one, with SB3's
own VecNormalize. Whoever opens a pickle runs what is in it: Gallop never reads one that way.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from gallop import __version__
from gallop.environments.make import evaluation_env
from gallop.environments.spaces import Env
from gallop.errors import ExperimentError, RunError
from gallop.evaluation.episodes import Episodes
from gallop.evaluation.statistics import Comparison, Summary, compare, summarise
from gallop.experiments.plan import make_plan
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import to_yaml
from gallop.policies.normalizer import Normalizer
from gallop.policies.normalizer_file import normalizer_path, read_normalizer
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.resume_state import last_timestep
from gallop.runs.film_queue import FILM
from gallop.sharing.zoo_export import to_zoo_args, to_zoo_config, zoo_name

REPLAY = "replay.mp4"  # the name under which the hub looks for a film
CARD, RESULTS = "README.md", "results.json"


def export_zoo(run: RunDirectory, folder: Path) -> Path:
    """Write a run in the layout of rl-baselines3-zoo: `<folder>/<algo>/<ENV>_<N>/`.

    N is one more than the greatest there. `vecnormalize.pkl` holds the statistics of the final
    policy, as the Zoo's own does. It is written where rewards alone were normalised too, because
    the Zoo asks for it then.

    Returns:
        The new folder.

    Raises:
        RunError: if the folder holds no run, the run is under way or unfinished, or nothing can be
            written there.
    """
    with _finished(run) as done, _writing(folder):
        experiment, name = done.experiment, zoo_name(done.experiment.env)
        parent = folder / experiment.algo
        with _temporary(parent) as temporary:
            shutil.copyfile(run.final_model, temporary / f"{name}.zip")
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
                env.close()
            return _rename_to_next(temporary, parent, name)


def export_hub(run: RunDirectory, folder: Path) -> Path:
    """Write a run as a folder that the Hugging Face hub shows: model card, film, policy, results.

    The policy is the final one; all numbers are those of its episodes on the evaluation seeds.

    Returns:
        `folder`.

    Raises:
        RunError: as `export_zoo` does, and if `folder` exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists already, and is no empty folder")
    with _finished(run) as done, _writing(folder), _temporary(folder.parent) as temporary:
        model = temporary / f"{done.stem}.zip"
        shutil.copyfile(run.final_model, model)
        if done.normalizer is not None:
            done.normalizer.save(normalizer_path(model))
        film = run.milestone(done.experiment.milestones[-1]).film
        if film.exists():
            shutil.copyfile(film, temporary / REPLAY)
        (temporary / RESULTS).write_text(json.dumps(_results(done), indent=2) + "\n")
        # A policy that training started from lies somewhere on this machine; its name is enough.
        shared = {"init_from": re.split(r"[/\\]", done.experiment.init_from)[-1]}
        settings = to_yaml(done.experiment.model_copy(update=shared))
        (temporary / run.experiment_file.name).write_text(settings, encoding="utf-8")
        (temporary / CARD).write_text(_card(done, _missing_film(run, done)), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        temporary.chmod(0o755)
        temporary.rename(folder)
    return folder


def push(folder: Path, repo_id: str) -> str:
    """Upload what `export_hub` has written to the Hugging Face hub, as a public repository.

    Args:
        repo_id: user/name; made if it is not there yet.

    Returns:
        Its address.

    Raises:
        ExperimentError: in one line, if huggingface_hub is missing, the folder or the id is wrong,
            nobody is logged in, or the hub refuses or cannot be reached.
    """
    if not all((folder / name).is_file() for name in (CARD, RESULTS)):
        raise ExperimentError(f"{folder} is no export for the hub: it lacks {CARD} or {RESULTS}")
    try:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise ExperimentError("pushing needs huggingface_hub: pip install 'gallop[hub]'") from None
    if repo_id.count("/") != 1:
        raise ExperimentError(f"{repo_id!r} is no name of a repository: user/name is needed")
    if get_token() is None:
        raise ExperimentError("nobody is logged in to the hub: hf auth login, or set HF_TOKEN")
    api = HfApi()
    try:
        url = api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id, folder_path=folder, commit_message=f"gallop {__version__}"
        )
    except HFValidationError as error:
        raise ExperimentError(f"{repo_id!r} is no name of a repository: {_line(error)}") from None
    except HfHubHTTPError as error:
        reasons = {401: "the token is not accepted", 403: "the token may not write there"}
        status = error.response.status_code
        reason = reasons.get(status, error.server_message or _line(error))
        raise ExperimentError(f"{repo_id}: the hub refused ({status}): {reason}") from None
    except Exception as error:  # what the client raises for a dead network changes with its version
        reason = f"{type(error).__name__}: {_line(error)}"
        raise ExperimentError(f"{repo_id}: the hub cannot be reached: {reason}") from None
    return str(url)


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"


# --- the run -------------------------------------------------------------------------------------


class _Done(NamedTuple):
    """What both exports need of a run that has come to its end."""

    experiment: Experiment
    normalizer: Normalizer | None
    episodes: Episodes
    """Of the final policy, on the evaluation seeds."""
    baseline: Episodes
    provenance: dict[str, Any]

    @property
    def stem(self) -> str:
        """Name of the policy file, as the hub has it."""
        return f"{self.experiment.algo}-{zoo_name(self.experiment.env)}"


@contextlib.contextmanager
def _finished(run: RunDirectory) -> Iterator[_Done]:
    """The run, held so that nobody else goes on with it."""
    experiment = run.read_experiment()
    with run.locked():
        episodes, baseline = run.numbers.read_episodes("final"), run.numbers.read_episodes("random")
        if not run.final_model.exists() or episodes is None or baseline is None:
            raise RunError(
                f"{run.path} is not finished: it stands at {last_timestep(run.state):,} of "
                f"{make_plan(experiment).horizon:,} timesteps; gallop run --resume {run.path} "
                "goes on with it"
            )
        normalizer = None
        if experiment.normalize.observations:
            normalizer = read_normalizer(normalizer_path(run.final_model))
        try:
            provenance = run.read_json("provenance.json")
        except (OSError, ValueError) as error:
            raise RunError(f"{run.path}: its provenance.json cannot be read: {error}") from None
        yield _Done(experiment, normalizer, episodes, baseline, provenance)


# --- files ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def _temporary(parent: Path) -> Iterator[Path]:
    """A folder to fill and then rename; where that fails, nothing of it is left."""
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):  # it is in use
                folder.rmdir()


def _rename_to_next(temporary: Path, parent: Path, name: str) -> Path:
    """Give it the next number; whoever took that in the meantime keeps it."""
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


def _write_vecnormalize(done: _Done, env: Env, path: Path) -> None:
    """VecNormalize's own pickle, with the statistics of the final policy's normaliser."""
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
        known: Any = wrapped.obs_rms
        parts: dict[str, RunningMeanStd] = known if isinstance(known, dict) else {"": known}
        for key, statistics in parts.items():
            statistics.mean = normalizer.mean[key]
            statistics.var = normalizer.variance[key]
            statistics.count = normalizer.count
        wrapped.epsilon = normalizer.epsilon
    wrapped.save(str(path))


def _results(done: _Done) -> dict[str, Any]:
    """results.json: the hub's five keys, and every episode."""
    episodes = done.episodes
    return {
        "mean_reward": float(episodes.returns.mean()),
        "std_reward": float(episodes.returns.std()),
        "is_deterministic": True,
        "n_eval_episodes": len(episodes.seeds),
        "eval_datetime": done.provenance.get("end") or _now(),
        "episodes": [
            {"seed": int(seed), "return": float(value), "length": int(length)}
            for seed, value, length in zip(
                episodes.seeds, episodes.returns, episodes.lengths, strict=True
            )
        ],
    }


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def _missing_film(run: RunDirectory, done: _Done) -> str:
    """Why there is no film; empty if there is one."""
    milestone = run.milestone(done.experiment.milestones[-1])
    if milestone.film.exists():
        return ""
    missing = (milestone.read_meta() or {}).get("missing", {})
    return str(missing.get(FILM, "it is not in the run's folder"))


# --- the model card ------------------------------------------------------------------------------


def _card(done: _Done, missing_film: str) -> str:
    """README.md: YAML that the hub reads, then Markdown."""
    front = yaml.safe_dump(_metadata(done), sort_keys=False, allow_unicode=True)
    parts = [
        _introduction(done, missing_film),
        _results_section(done),
        _sb3_section(done),
        _gallop_section(done),
        _settings_section(done),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(done: _Done) -> dict[str, Any]:
    """What the hub's index and the Zoo's scripts look for."""
    env, returns = done.experiment.env, done.episodes.returns
    task = "reinforcement-learning"
    metric = {
        "type": "mean_reward",
        "value": f"{returns.mean():.2f} +/- {returns.std():.2f}",
        "name": "mean_reward",
        "verified": False,
    }
    result = {
        "task": {"type": task, "name": task},
        "dataset": {"name": env, "type": env},
        "metrics": [metric],
    }
    return {
        "library_name": "stable-baselines3",
        "pipeline_tag": task,
        "tags": [env, "deep-reinforcement-learning", task, "stable-baselines3", "gallop"],
        "model-index": [{"name": done.experiment.algo.upper(), "results": [result]}],
    }


def _introduction(done: _Done, missing_film: str) -> str:
    algo, env = done.experiment.algo.upper(), _plain(done.experiment.env)
    horizon = make_plan(done.experiment).horizon
    film = f"[A film]({REPLAY}) shows the episode of seed {int(done.episodes.seeds[0])}."
    if missing_film:
        film = f"There is no film of it: {_plain(missing_film)}."
    return (
        f"# {algo} on {env}\n\n"
        f"A policy that {algo} trained on {env} for {horizon:,} timesteps, training seed "
        f"{done.experiment.training_seed}, with Gallop {__version__}. It is an ordinary zip of "
        f"Stable-Baselines3. {film}"
    )


def _results_section(done: _Done) -> str:
    generator = np.random.default_rng(0)  # the same returns always have the same interval
    ours, random = done.episodes.returns, done.baseline.returns
    seeds = ", ".join(str(seed) for seed in done.episodes.seeds)
    rows = [
        _row("this policy", summarise(ours, generator)),
        _row("random actions", summarise(random, generator)),
    ]
    text = (
        "## Results\n\n"
        "| policy | episodes | mean ± std | IQM | 95 % interval of the mean |\n"
        "|---|---:|---:|---:|---:|\n" + "\n".join(rows) + "\n\n"
        f"Returns of one episode for each of the seeds {seeds}, which training never saw; the "
        "policy acts deterministically. Its episodes are in `results.json`. Intervals are over "
        "starts of one policy, not over training seeds: they say nothing about how well the "
        "algorithm does when it is trained again."
    )
    if done.episodes.seeds.tolist() == done.baseline.seeds.tolist():
        text += " " + _difference(compare(ours, random, generator))
    return text


def _row(policy: str, summary: Summary) -> str:
    low, high = summary.mean_interval
    return (
        f"| {policy} | {summary.n} | {summary.mean:,.2f} ± {summary.std:,.2f} | "
        f"{summary.iqm:,.2f} | {low:,.2f} … {high:,.2f} |"
    )


def _difference(comparison: Comparison) -> str:
    difference = comparison.difference
    low, high = difference.interval
    return (
        f"Seed by seed it is {difference.mean:+,.2f} from random actions "
        f"(95 % interval {low:+,.2f} … {high:+,.2f})."
    )


def _sb3_section(done: _Done) -> str:
    return (
        "## With Stable-Baselines3 alone\n\n"
        "In a folder with this repository's files (`load` unpickles, and so runs, what is in a "
        "zip: open only those that you trust):\n\n" + _fenced("python", _sb3_code(done))
    )


def _sb3_code(done: _Done) -> str:
    """A program that gives the numbers of the card; what a user chose is in it as literals only."""
    experiment, normalizer = done.experiment, done.normalizer
    kwargs = experiment.model_dump(mode="json")
    env_kwargs = {**kwargs["env_kwargs"], **kwargs["eval_env_kwargs"]}
    made = ", ".join([repr(experiment.env), *([f"**{env_kwargs!r}"] if env_kwargs else [])])
    wrappers = [
        f"env = getattr(importlib.import_module({module!r}), {name!r})(env, **{arguments!r})"
        for wrapper in kwargs["wrappers"]
        for path, arguments in wrapper.items()
        for module, _, name in [path.replace(":", ".").rpartition(".")]
    ]
    algo, observation = experiment.algo.upper(), "observation"
    lines = [
        *(["import importlib", ""] if wrappers else []),
        "import gymnasium",
        "import numpy as np",
        f"from stable_baselines3 import {algo}",
        "",
        f'model = {algo}.load({f"{done.stem}.zip"!r}, device="cpu")',
        f"env = gymnasium.make({made})",
        *wrappers,
    ]
    if normalizer is not None:
        observation = "normalise(observation)"
        lines += ["", *_normaliser_code(done.stem, normalizer)]
    return "\n".join(
        [
            *lines,
            "",
            "returns = []",
            f"for seed in {[int(seed) for seed in done.episodes.seeds]}:",
            "    observation, _ = env.reset(seed=seed)",
            "    total, ended = 0.0, False",
            "    while not ended:",
            f"        action, _ = model.predict({observation}, deterministic=True)",
            "        observation, reward, terminated, truncated, _ = env.step(action)",
            "        total, ended = total + float(reward), terminated or truncated",
            "    returns.append(total)",
            'print(f"{np.mean(returns):.2f} +/- {np.std(returns):.2f}")',
        ]
    )


def _normaliser_code(stem: str, normalizer: Normalizer) -> list[str]:
    """What policies trained on normalised observations need: arithmetic, no VecNormalize."""
    file = normalizer_path(Path(f"{stem}.zip")).name
    result = "    return scale(observation)"
    if "" not in normalizer.mean:
        keys = sorted(normalizer.mean)
        result = (
            "    return {key: scale(part, key) if key in "
            f"{keys!r} else part for key, part in observation.items()}}"
        )
    return [
        f"statistics = np.load({file!r})",
        "",
        "",
        'def scale(values, key=""):',
        '    variance = statistics[f"variance/{key}"] + statistics["epsilon"]',
        '    scaled = (values - statistics[f"mean/{key}"]) / np.sqrt(variance)',
        '    return np.clip(scaled, -statistics["clip"], statistics["clip"]).astype(np.float32)',
        "",
        "",
        "def normalise(observation):",
        result,
        "",
    ]


def _gallop_section(done: _Done) -> str:
    commands = (
        f"gallop watch {done.stem}.zip\n"
        f"gallop run experiment.yaml   # trains it again, from the same seed"
    )
    return "## With Gallop\n\nGallop reads the zip without running any code in it:\n\n" + _fenced(
        "console", commands
    )


def _settings_section(done: _Done) -> str:
    experiment = done.experiment
    shown = experiment.model_dump(
        mode="json",
        exclude_none=True,
        include={
            *("algo", "env", "env_kwargs", "eval_env_kwargs", "wrappers", "total_timesteps"),
            *("n_envs", "normalize", "hyperparameters", "training_seed", "source"),
        },
    )
    shown = {name: value for name, value in shown.items() if value not in ({}, [], "")}
    found = done.provenance.get("versions", {})
    versions = {"python": done.provenance.get("python", "unknown"), **found}
    listed = ", ".join(f"{_plain(name)} {_plain(value)}" for name, value in versions.items())
    learner = _plain(done.provenance.get("learner", "unknown"))
    return (
        "## Hyper-parameters\n\n"
        + _fenced("yaml", yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).rstrip())
        + "\n\nAll settings are in `experiment.yaml`.\n\n"
        f"## Versions\n\nTrained with the {learner} learner; {listed}."
    )


def _plain(text: Any) -> str:
    """Text that Markdown shows as it is.

    >>> print(_plain("a_b*<c>|d"))
    a\\_b\\*\\<c\\>\\|d
    """
    return re.sub(r"([\\`*_\[\]<>|#~!$&])", r"\\\1", " ".join(str(text).split()))


def _fenced(language: str, text: str) -> str:
    """A block of code; its fence is longer than any that the text might close it with."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"

"""The model card, README.md of a folder for the hub: the policy, its returns, how to use it."""

from __future__ import annotations

import math
import re
from pathlib import Path

from gallop import __version__
from gallop.environments.make import evaluation_task
from gallop.environments.watchdog import watching
from gallop.errors import ExperimentError, counted
from gallop.evaluation.intervals import interval_generator
from gallop.evaluation.statistics import Comparison, Summary, compare, summarise
from gallop.experiments import yaml_text
from gallop.experiments.plan import make_plan
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import settings_of
from gallop.fields import plain
from gallop.policies.normalizer import Normalizer
from gallop.policies.normalizer_file import normalizer_path
from gallop.sharing.finished_run import FinishedRun

REPLAY = "replay.mp4"  # the hub shows a film of this name
CARD, RESULTS = "README.md", "results.json"


def model_card(done: FinishedRun, missing_film: str, *, has_onnx: bool) -> str:
    """Return the text of the card: YAML for the hub's index, then Markdown.

    Args:
        done: the run.
        missing_film: why there is no film; "" if there is one.
        has_onnx: whether the policy is in the folder as an ONNX file, too.
    """
    front = yaml_text.write(_metadata(done))
    parts = [
        _introduction(done, missing_film),
        _results_section(done),
        _sb3_section(done),
        *([_onnx_section(done)] if has_onnx else []),
        _gallop_section(done),
        _settings_section(done),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(done: FinishedRun) -> dict[str, object]:
    """Return the metadata read by the hub's index and by the Zoo's scripts."""
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
        "model-index": [{"name": done.experiment.algorithm.title, "results": [result]}],
    }


def _introduction(done: FinishedRun, missing_film: str) -> str:
    algo, env = done.experiment.algorithm.title, _plain(done.experiment.env)
    horizon = make_plan(done.experiment).horizon
    film = f"[A film]({REPLAY}) shows the episode with seed {int(done.episodes.seeds[0])}."
    if missing_film:
        film = f"There is no film: {_plain(missing_film)}."
    return (
        f"# {algo} on {env}\n\n"
        f"A policy trained by {algo} on {env} for {counted(horizon, 'timestep')} with Gallop "
        f"{__version__}, training seed {done.experiment.training_seed}. The policy file is an "
        f"ordinary {_package(done)} zip. {film}"
    )


def _package(done: FinishedRun) -> str:
    """Return the name of the package whose class opens the zip."""
    module = done.experiment.algorithm.sb3_class.partition(":")[0]
    return {"stable_baselines3": "Stable-Baselines3", "sb3_contrib": "sb3-contrib"}[module]


def _results_section(done: FinishedRun) -> str:
    generator = interval_generator()
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
        f"Returns of one episode per evaluation seed ({seeds}), with deterministic actions. These "
        "seeds were not used in training. All episodes are in `results.json`. The intervals cover "
        "the initial states of one policy, not training seeds: they do not show how much results "
        "vary between training runs."
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
        f"The mean difference from random actions on the same seeds is {difference.mean:+,.2f} "
        f"(95 % interval {low:+,.2f} … {high:+,.2f})."
    )


def _sb3_section(done: FinishedRun) -> str:
    return (
        f"## With {_package(done)} alone\n\n"
        "Run this in a folder with this repository's files. `load` unpickles parts of the zip, "
        "which can run code: only load files that you trust.\n\n"
        + _fenced("python", _sb3_code(done))
    )


def _onnx_section(done: FinishedRun) -> str:
    policy = f"{done.stem}.onnx"
    code = (
        "import numpy as np\n"
        "import onnxruntime\n\n"
        f"session = onnxruntime.InferenceSession({policy!r})\n"
        "names = [each.name for each in session.get_inputs()]\n\n\n"
        "def act(observation):\n"
        "    parts = observation if isinstance(observation, dict) else {names[0]: observation}\n"
        "    batch = {name: np.asarray(parts[name], np.float32)[None] for name in names}\n"
        "    return session.run(None, batch)[0][0]\n"
    )
    return (
        "## With ONNX Runtime, without PyTorch\n\n"
        f"`{_plain(policy)}` is the same policy as one ONNX file. It takes raw observations and "
        "returns the task's own actions: normalisation and scaling are inside.\n\n"
        + _fenced("python", code)
    )


def _sb3_code(done: FinishedRun) -> str:
    """Return a program that reproduces the card's numbers; user input appears only as literals."""
    experiment, normalizer = done.experiment, done.normalizer
    kwargs = settings_of(experiment)
    env_kwargs = {**kwargs["env_kwargs"], **kwargs["eval_env_kwargs"]}
    keywords = [f"**{_literal(env_kwargs)}"] if env_kwargs else []
    made = ", ".join([repr(experiment.env), *keywords])
    left_out, task_action = _evaluated_with(experiment)
    wrappers = [
        f"env = getattr(importlib.import_module({module!r}), {name!r})"
        f"(env, **{_literal(arguments)})"
        for wrapper in kwargs["wrappers"]
        for path, arguments in wrapper.items()
        if path not in left_out
        for module, _, name in [path.replace(":", ".").rpartition(".")]
    ]
    library, _, algo = experiment.algorithm.sb3_class.partition(":")
    observation = "observation"
    # SB3 opens no zip with a replay buffer of hindsight experience replay without the task.
    hindsight = getattr(experiment.hyperparameters, "replay_buffer", "") == "her"
    given = "env=env, " if hindsight else ""
    lines = [
        *(["import importlib", ""] if wrappers else []),
        "import gymnasium",
        "import numpy as np",
        f"from {library} import {algo}",
        "",
        f"env = gymnasium.make({made})",
        *wrappers,
        f'model = {algo}.load({f"{done.stem}.zip"!r}, {given}device="cpu")',
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
            *([f"        action = {task_action}"] if task_action else []),
            "        observation, reward, terminated, truncated, _ = env.step(action)",
            "        total, ended = total + float(reward), terminated or truncated",
            "    returns.append(total)",
            'print(f"{np.mean(returns):.2f} +/- {np.std(returns):.2f}")',
        ]
    )


def _evaluated_with(experiment: Experiment) -> tuple[tuple[str, ...], str]:
    """Return the wrappers left out in evaluations, and Python code that converts the policy's
    action to the task's; both are empty if the task cannot be made on this machine."""
    from gallop.environments.actions import task_action_in_python

    task = evaluation_task(experiment)
    try:
        with watching(task.watchdog):
            env = task.closed()
            return task.reward_wrappers().left_out, task_action_in_python(env)
    except ExperimentError:
        return (), ""


def _literal(value: object) -> str:
    """Return a Python literal; `repr` would write inf and nan as undefined names.

    >>> _literal({"limits": [0.8, float("inf")]})
    "{'limits': [0.8, float('inf')]}"
    """
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(k)}: {_literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    return repr(value)


def _normaliser_code(stem: str, normalizer: Normalizer) -> list[str]:
    """Return code that normalises observations without VecNormalize, as lines."""
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


def _gallop_section(done: FinishedRun) -> str:
    commands = (
        f"gallop watch {done.stem}.zip\n"
        f"gallop run experiment.yaml   # repeats the training, with the same seed"
    )
    return "## With Gallop\n\nGallop loads the zip without running any code in it:\n\n" + _fenced(
        "console", commands
    )


def _settings_section(done: FinishedRun) -> str:
    experiment = done.experiment
    shown = experiment.model_dump(
        exclude_none=True,
        include={
            *("algo", "env", "env_kwargs", "eval_env_kwargs", "wrappers", "total_timesteps"),
            *("n_envs", "normalize", "hyperparameters", "training_seed", "source"),
        },
    )
    shown = {k: v for k, v in plain(shown).items() if v not in ({}, [], "")}
    found = done.provenance.get("versions")
    versions = {"python": done.provenance.get("python", "unknown")}
    versions |= found if isinstance(found, dict) else {}
    listed = ", ".join(f"{_plain(name)} {_plain(value)}" for name, value in versions.items())
    learner = _plain(done.provenance.get("learner", "unknown"))
    return (
        "## Hyper-parameters\n\n"
        + _fenced("yaml", yaml_text.write(shown).rstrip())
        + "\n\nAll settings are in `experiment.yaml`.\n\n"
        f"## Versions\n\nTrained with the {learner} learner; {listed}."
    )


def _plain(text: object) -> str:
    """Escape text so that Markdown shows it literally.

    >>> print(_plain("a_b*<c>|d"))
    a\\_b\\*\\<c\\>\\|d
    """
    return re.sub(r"([\\`*_\[\]<>|#~!$&])", r"\\\1", " ".join(str(text).split()))


def _fenced(language: str, text: str) -> str:
    """Return a block of code; its fence is longer than any run of backticks in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"

"""The YAML files that come with Gallop: presets, search spaces and examples.

A preset is a tuned experiment for one algorithm and task, with its source. Examples are complete
experiments and searches. They are found by name from any folder.
"""

from __future__ import annotations

import os
import re
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from gallop.errors import ExperimentError, did_you_mean, nearest
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import compose, read_setting


class Preset(NamedTuple):
    """A tuned experiment for one algorithm and task."""

    algo: str
    """Name of the algorithm."""
    env: str
    """Id of the task."""
    path: Path
    """Its YAML file."""

    @property
    def source(self) -> str:
        """Where the hyper-parameters come from."""
        return str(read_setting(self.path, "source") or "")


def all_presets() -> list[Preset]:
    """All presets, sorted by algorithm and task."""
    files = sorted((shipped_files() / "presets").glob("*/*.yaml"))
    return [Preset(file.parent.name, file.stem, file) for file in files]


def find(algo: str, env: str) -> Preset | None:
    """The preset of an algorithm on a task, if there is one."""
    for preset in all_presets():
        if (preset.algo, preset.env) == (algo.lower(), env):
            return preset
    return None


def hint(algo: str, env: str) -> str:
    """A hint for a task without a preset: a similar task that has one, if any."""
    others = [preset.env for preset in all_presets() if preset.algo == algo.lower()]
    # Versions of a task differ little, so the hyper-parameters of one suit the other.
    task = re.sub(r"-v\d+$", "", env)
    same = [other for other in others if re.sub(r"-v\d+$", "", other) == task]
    if same:
        return f"there is one for {same[0]}"
    return did_you_mean(env, others) or "gallop presets lists all presets"


def examples() -> list[Path]:
    """The files of all examples, experiments and searches, sorted by name."""
    folder = shipped_files()
    return sorted([*folder.glob("*.yaml"), *folder.glob("robots/*.yaml")])


def is_search(example: Path) -> bool:
    """Whether an example is a search for `gallop tune`, not an experiment for `gallop run`."""
    return read_setting(example, "rounds") is not None


def find_example(name: Path) -> Path | None:
    """The example of a name, with or without .yaml; None if there is a file of that name."""
    if name.is_file() or name.name != str(name):
        return None
    return next((path for path in examples() if str(name) in (path.stem, path.name)), None)


def config_file(config: Path) -> Path:
    """The file that CONFIG names: a path, or the name of an example.

    Raises:
        ExperimentError: if there is neither.
    """
    found = find_example(config)
    if found is None and config.name == str(config) and not config.exists():
        names = [path.stem for path in examples()]
        raise ExperimentError(f"{config}: No such file or example; {nearest(config.stem, names)}")
    return found or config


def experiment(
    config: str | PathLike[str] | None = None, *, preset: bool = True, **settings: Any
) -> Experiment:
    """Make an experiment from a file, from a preset, or from settings alone, and check it.

    >>> experiment(algo="ppo", env="Hopper-v5", training_seed=1).hyperparameters.gamma
    0.999

    Args:
        config: a YAML file, or the name of an example; None: the preset of `algo` and `env`, if
            there is one.
        preset: False ignores presets: what is not given keeps SB3's default.
        **settings: settings as in YAML, on top of the file's. A nested setting changes only what it
            names: `hyperparameters={"gamma": 0.98}` keeps the other hyper-parameters.

    Returns:
        The experiment, with every default filled in. It is immutable;
        `experiment.hyperparameters` has the hyper-parameters under SB3's names.

    Raises:
        ExperimentError: with the setting, the value and what is allowed.

    Example:
        An example, a preset with one change, and an experiment from settings alone::

            import gallop

            quickstart = gallop.experiment("quickstart", training_seed=1)
            hopper = gallop.experiment(
                algo="ppo", env="Hopper-v5", hyperparameters={"gamma": 0.99}
            )
            pendulum = gallop.experiment(
                algo="sac", env="Pendulum-v1", preset=False, total_timesteps=20_000
            )
    """
    settings = {
        name: os.fspath(value) if isinstance(value, PathLike) else value
        for name, value in settings.items()
    }
    path = None if config is None else config_file(Path(config))
    if path is None and preset and {"algo", "env"} <= settings.keys():
        found = find(str(settings["algo"]), str(settings["env"]))
        path = found.path if found else None
    if path is None and not settings:
        raise ExperimentError("a config is required, such as 'quickstart', or algo and env")
    return compose(path, settings)


def search_space(algo: str) -> Path:
    """The YAML file with the search space of an algorithm, which is the same for all tasks.

    Raises:
        ExperimentError: if there is no such algorithm.
    """
    folder = shipped_files() / "searches"
    names = [file.stem for file in sorted(folder.glob("*.yaml"))]
    if algo.lower() not in names:
        raise ExperimentError(f"--algo {algo!r} is unknown; {nearest(algo, names)}")
    return folder / f"{algo.lower()}.yaml"


def shipped_files() -> Path:
    """The folder of presets, examples, searches and robots: inside an installed package, or
    configs/ of a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parents[1] / "configs"

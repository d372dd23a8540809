"""Presets: tuned starting points, a YAML file for each algorithm and task, each with its source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from gallop.errors import ExperimentError, nearest
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import compose, read_setting


class Preset(NamedTuple):
    """A tuned starting point."""

    algo: str
    env: str
    path: Path

    @property
    def source(self) -> str:
        """Whose tuning it is."""
        return str(read_setting(self.path, "source") or "")


def all_presets() -> list[Preset]:
    """Every preset, by algorithm and task."""
    return [Preset(f.parent.name, f.stem, f) for f in sorted(_folder().glob("*/*.yaml"))]


def find(algo: str, env: str) -> Preset | None:
    """The preset of an algorithm on a task, if there is one."""
    for preset in all_presets():
        if (preset.algo, preset.env) == (algo.lower(), env):
            return preset
    return None


def hint(algo: str, env: str) -> str:
    """What to say where there is no preset: the nearest one, if one is near."""
    others = [preset.env for preset in all_presets() if preset.algo == algo.lower()]
    # v4 and v5 of a task differ in their bodies' contacts and rewards; its hyper-parameters serve.
    task = re.sub(r"-v\d+$", "", env)
    same = [other for other in others if re.sub(r"-v\d+$", "", other) == task]
    if same:
        return f"there is one for {same[0]}"
    found = nearest(env, others)
    return found if found.startswith("did") else "gallop presets lists those there are"


def experiment(
    config: str | Path | None = None, *, preset: bool = True, **settings: Any
) -> Experiment:
    """An experiment, checked and resolved: from a file, from a preset, or from settings alone.

    >>> experiment(algo="ppo", env="Hopper-v5", training_seed=1).hyperparameters.gamma
    0.999

    Args:
        config: a YAML file; None takes the preset of `algo` and `env`, where there is one.
        preset: False leaves presets aside: what is not given keeps SB3's default.
        settings: as in YAML, on top of the file's: `hyperparameters={"gamma": 0.98}` changes one.

    Raises:
        ExperimentError: naming the setting, the value and what is allowed.
    """
    path = None if config is None else Path(config)
    if path is None and preset and {"algo", "env"} <= settings.keys():
        found = find(str(settings["algo"]), str(settings["env"]))
        path = found.path if found else None
    if path is None and not settings:
        raise ExperimentError(
            "a CONFIG is needed, such as configs/quickstart.yaml, or algo and env"
        )
    return compose(path, settings)


def search_space(algo: str) -> Path:
    """The search of an algorithm for whatever task, a YAML file.

    Raises:
        ExperimentError: if there is no such algorithm.
    """
    names = [file.stem for file in sorted(_folder("searches").glob("*.yaml"))]
    if algo.lower() not in names:
        raise ExperimentError(f"--algo {algo!r} is unknown; {nearest(algo, names)}")
    return _folder("searches") / f"{algo.lower()}.yaml"


def _folder(name: str = "presets") -> Path:
    """An installed package has them inside; a checkout, in configs/."""
    here = Path(__file__).resolve().parent
    inside = here.parent / "configs" / name
    return inside if inside.is_dir() else here.parents[2] / "configs" / name

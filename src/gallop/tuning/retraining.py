"""Retraining of the best trials and of SB3's defaults on fresh seeds.

A search picks the highest of many noisy values, so the winner's own value is biased upwards.
Retraining on training seeds and episodes that no trial used gives an unbiased comparison.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gallop.evaluation.intervals import interval_generator
from gallop.evaluation.statistics import (
    Difference,
    Interval,
    bootstrap_interval,
    interquartile_mean,
    paired_difference_of_few,
)
from gallop.execution.work import Engine, WorkItem
from gallop.experiments import seeding
from gallop.run_folder.directory import RunDirectory
from gallop.runs.stopping import Stop
from gallop.tuning.coordinator import SECONDS_BETWEEN_LOOKS, timestep_of
from gallop.tuning.search_directory import RoundDirectory
from gallop.tuning.search_settings import Search
from gallop.tuning.trial import COMMAND, make_folder

DEFAULTS = "defaults"


class Candidate(NamedTuple):
    """Settings to be retrained."""

    name: str
    """`trial-007` or `defaults`; also the name of its folder."""
    trial: int | None
    """Number of the trial; None for the defaults, unless one of the best trials has them."""
    settings: Mapping[str, object]
    """Hyper-parameters, nested."""
    in_the_search: float | None
    """Its value in the search."""


class Again(NamedTuple):
    """The results of a candidate on fresh seeds."""

    candidate: Candidate
    scores: tuple[float, ...]
    """One score per fresh training seed, computed as in the search."""
    reason: str
    """Why there are no scores, if a training failed."""

    @property
    def value(self) -> float | None:
        """IQM over the fresh seeds."""
        return float(interquartile_mean(self.scores)) if self.scores else None

    @property
    def interval(self) -> Interval | None:
        """95 % bootstrap interval of the IQM over seeds; None with one seed."""
        if len(self.scores) < 2:
            return None
        generator = interval_generator()
        return bootstrap_interval(self.scores, generator, interquartile_mean)


def gain(again: Again, defaults: Again) -> Difference | None:
    """Return the gain over the defaults on the same fresh seeds, with Student's interval."""
    if not again.scores or len(again.scores) != len(defaults.scores):
        return None
    return paired_difference_of_few(again.scores, defaults.scores)


def train_again(
    directory: RoundDirectory,
    search: Search,
    candidates: Sequence[Candidate],
    engine: Engine,
    stop: Stop,
    show: Callable[[int, int], None],
) -> list[Again]:
    """Train every candidate on every fresh seed.

    Args:
        directory: folder of the last round.
        search: the search.
        candidates: what to train.
        engine: trains the work items.
        stop: whether a signal has arrived.
        show: called with the timesteps trained so far and in total.

    Returns:
        The results, in the order of the candidates.

    Raises:
        Stopped: after a signal; another call resumes.
    """
    last_round = len(search.rounds) - 1
    seeds = seeding.fresh_seeds(search.search_seed, search.retraining.n_seeds)
    folders: dict[str, list[RunDirectory]] = {}
    total = 0
    for candidate in candidates:
        folders[candidate.name] = []
        for index, seed in enumerate(seeds):
            experiment = search.trial_experiment(last_round, candidate.settings, seed)
            episodes = seeding.search_episodes(experiment.evaluation.n_episodes, fresh=True)
            path = directory.retraining(candidate.name, index).path
            folders[candidate.name].append(make_folder(path, experiment, episodes))
            total += (timesteps := experiment.total_timesteps)
    # Seed by seed, so that all candidates have equally many results if it is stopped.
    for index in range(len(seeds)):
        for candidate in candidates:
            folder = folders[candidate.name][index]
            if not folder.is_finished():
                engine.submit(WorkItem(folder.path, COMMAND))
    failures: dict[str, str] = {}
    every = [(name, folder) for name, of_one in folders.items() for folder in of_one]
    while True:
        stop.check()
        for ended in engine.poll():
            if ended.exit_code != 0:
                failures[str(ended.item.folder)] = ended.reason
        show(sum(timestep_of(folder, timesteps) for _, folder in every), total)
        if all(f.is_finished() or str(f.path) in failures for _, f in every):
            break
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return [_again(search, c, folders[c.name], failures) for c in candidates]


def _again(
    search: Search, candidate: Candidate, folders: list[RunDirectory], failures: Mapping[str, str]
) -> Again:
    scores = []
    for folder in folders:
        reason = failures.get(str(folder.path))
        evaluations = folder.numbers.read_evaluations()
        if reason is not None or evaluations is None:
            return Again(candidate, (), reason or "there was no evaluation")
        means = evaluations.results.mean(axis=1)
        scores.append(float(means[-search.objective.n_last :].mean()))
    return Again(candidate, tuple(scores), "")

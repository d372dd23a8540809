"""What pages and comparisons tell of a run, read from its files; nothing is played or imported.

A folder may come from anyone: numbers that the manifest says are damaged are refused, and an audit
or a film that cannot be read is left out, with the reason.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.environments.probe import Probed
from gallop.errors import ExperimentError, RunError, counted
from gallop.evaluation.episodes import Episodes
from gallop.evaluation.statistics import Slope
from gallop.experiments.plan import last_timestep
from gallop.experiments.resolve import milestone_timesteps
from gallop.experiments.settings import Experiment
from gallop.learners.learner import LogRow
from gallop.report.pages.audit_record import AuditRecord, read_audit
from gallop.report.run_figures import title_of
from gallop.report.run_report import reward_note, slope_at
from gallop.run_folder import manifest
from gallop.run_folder.directory import Milestone, RunDirectory
from gallop.run_folder.files import Json
from gallop.run_folder.numbers import Cut, Evaluations
from gallop.run_folder.seed_group import SeedGroup, is_group


class Judged(NamedTuple):
    """A policy on the evaluation seeds."""

    key: str
    """As in episodes.csv: random, 025, best, final."""
    label: str
    timestep: int
    episodes: Episodes


class FilmFile(NamedTuple):
    """A film, or why there is none."""

    label: str
    path: Path | None
    note: str
    seed: int | None = None
    """Of the episode that it shows, if known."""
    episode_return: float = math.nan


class MilestoneFacts(NamedTuple):
    """A milestone that the run has reached."""

    percent: int
    timestep: int
    film: FilmFile
    audit: AuditRecord | None
    """None if there is no audit."""
    audit_note: str
    """Why there is none; empty if there is one."""


class RunFacts(NamedTuple):
    """A run."""

    folder: RunDirectory
    name: str
    title: str
    experiment: Experiment
    horizon: int
    timestep: int
    """The latest for which there is any number."""
    status: str
    """finished, running, stopped or diverged."""
    reason: str
    """Why it diverged."""
    judged: tuple[Judged, ...]
    """Random policy, milestones, best and final policy, as far as there are any."""
    milestones: tuple[MilestoneFacts, ...]
    evaluations: Evaluations | None
    slope: Slope | None
    probed: Probed
    returns_note: str
    cut: Mapping[str, Cut]
    provenance: Json
    seconds: float
    """Of training, without evaluations; NaN if unknown."""
    trained: int
    """Timesteps in those seconds."""
    progress_film: FilmFile | None

    @property
    def seed(self) -> int:
        """The training seed."""
        return self.experiment.training_seed

    def policy(self, key: str) -> Judged | None:
        """Return the policy of that key."""
        return next((each for each in self.judged if each.key == key), None)

    @property
    def is_trained(self) -> bool:
        """Whether training has reached its end, though films or audits may still be missing."""
        return self.timestep >= self.horizon

    @property
    def timesteps_a_second(self) -> float:
        """Speed of training, without evaluations; NaN if unknown."""
        return self.trained / self.seconds

    @property
    def last(self) -> Judged | None:
        """The final policy, else that of the latest milestone."""
        trained = [each for each in self.judged if each.key not in ("random", "best")]
        return self.policy("final") or (trained[-1] if trained else None)

    @property
    def audited(self) -> MilestoneFacts | None:
        """The latest milestone with an audit."""
        found = [each for each in self.milestones if each.audit and not each.audit.why_not]
        return found[-1] if found else None

    @property
    def why_no_audit(self) -> str:
        """Why no milestone has an audit; empty if one has, or there is no milestone yet."""
        if self.audited is not None:
            return ""
        reasons = (
            each.audit.why_not if each.audit else each.audit_note for each in self.milestones
        )
        return next(filter(None, reversed(list(reasons))), "")


class Side(NamedTuple):
    """A run, or a group of training seeds, that is compared with others."""

    letter: str
    name: str
    title: str
    path: Path
    runs: tuple[RunFacts, ...]
    is_group: bool
    unusable: Mapping[int, str] = {}
    """Training seed -> why its run was left out."""

    @property
    def label(self) -> str:
        """Letter and name."""
        return f"{self.letter}: {self.name}" if self.letter else self.name


def read_side(path: Path, letter: str = "", *, running: bool | None = None) -> Side:
    """Read a run or a group.

    Args:
        path: its folder.
        letter: by which a comparison calls it.
        running: of a run, whether it is being trained; None: whether another process holds it.

    Raises:
        RunError: if it is neither, or a run's numbers are damaged.
    """
    if not is_group(path):
        run = read_run(RunDirectory(path), running=running)
        return Side(letter, run.name, run.title, path, (run,), False)
    group = SeedGroup(path)
    experiment, runs, unusable = group.look_at_experiment(), [], {}
    for seed, folder in group.runs().items():
        try:
            runs.append(read_run(folder))
        except RunError as error:  # the others are still worth a look
            unusable[seed] = error.message
    return Side(letter, path.name, title_of(experiment), path, tuple(runs), True, unusable)


def read_run(folder: RunDirectory, *, running: bool | None = None) -> RunFacts:
    """Read a run.

    Args:
        folder: the run.
        running: whether it is being trained; None: whether another process holds it.

    Raises:
        RunError: if it is not a run, or its numbers are damaged.
    """
    experiment = folder.look_at_experiment()
    manifest.check(*folder.numbers.files)
    try:
        return _read(folder, experiment, running)
    except (ExperimentError, OSError):
        raise
    except (ValueError, OverflowError, TypeError, KeyError) as error:
        raise RunError(f"{folder.path} is damaged: {error}") from None


def _read(folder: RunDirectory, experiment: Experiment, running: bool | None) -> RunFacts:
    quantum = experiment.hyperparameters.quantum(experiment.n_envs)
    horizon = last_timestep(experiment)
    marks = {
        percent: math.ceil(nominal / quantum) * quantum
        for nominal, percent in zip(
            milestone_timesteps(experiment), experiment.milestones, strict=True
        )
    }
    evaluations = folder.numbers.read_evaluations()
    judged = _judged(folder, marks, evaluations, horizon)
    status, reason = _status(folder, running)
    seconds, trained = _training_time(folder, horizon)
    by_key = {each.key: each.episodes for each in judged}
    milestones = tuple(
        _milestone(folder.milestone(percent), percent, timestep, by_key[f"{percent:03d}"])
        for percent, timestep in marks.items()
        if f"{percent:03d}" in by_key
    )
    return RunFacts(
        folder=folder,
        name=folder.name,
        title=title_of(experiment),
        experiment=experiment,
        horizon=horizon,
        timestep=horizon if status == "finished" else folder.numbers.last_timestep(),
        status=status,
        reason=reason,
        judged=judged,
        milestones=milestones,
        evaluations=evaluations,
        slope=slope_at(folder, horizon),
        probed=folder.read_probed(),
        returns_note=reward_note(folder, experiment),
        cut=folder.numbers.cut_episodes(),
        provenance=_provenance(folder),
        seconds=seconds,
        trained=trained,
        progress_film=_progress_film(folder, milestones),
    )


def _judged(
    folder: RunDirectory,
    marks: Mapping[int, int],
    evaluations: Evaluations | None,
    horizon: int,
) -> tuple[Judged, ...]:
    best = None if evaluations is None else evaluations.best_timestep
    wanted = [("random", "random", 0)]
    wanted += [(f"{percent:03d}", f"{percent} %", at) for percent, at in marks.items()]
    wanted += [("best", "best", best)] if best is not None else []
    wanted += [("final", "final", horizon)]
    found = ((key, label, at, folder.numbers.read_episodes(key)) for key, label, at in wanted)
    return tuple(Judged(key, label, at, played) for key, label, at, played in found if played)


def _status(folder: RunDirectory, running: bool | None) -> tuple[str, str]:
    if folder.is_finished():
        return "finished", ""
    if running:
        return "running", ""
    if (diverged := folder.read_diverged()) is not None:
        return "diverged", diverged.message
    is_held = running is None and folder.is_locked()
    return ("running" if is_held else "stopped"), ""


def _milestone(
    milestone: Milestone, percent: int, timestep: int, episodes: Episodes
) -> MilestoneFacts:
    meta = milestone.read_meta() or {}
    missing = meta.get("missing")
    missing = missing if isinstance(missing, Mapping) else {}
    audit, audit_note = _audit(milestone.audit, missing.get(milestone.audit.name))
    index = episodes.first_finite
    seed = None if index is None else int(episodes.seeds[index])
    if audit is not None and audit.filmed is not None:
        seed = audit.filmed.seed
    of_seed = {int(s): float(r) for s, r in zip(episodes.seeds, episodes.returns, strict=True)}
    reason = missing.get(milestone.film.name)
    there, why_not = _film(milestone.film)
    film = FilmFile(
        label=f"{percent} %",
        path=there,
        note=_said(meta.get("film_note")) if there else why_not or _said(reason) or "no film",
        seed=seed,
        episode_return=math.nan if seed is None else of_seed.get(seed, math.nan),
    )
    return MilestoneFacts(percent, timestep, film, audit, audit_note)


def _audit(path: Path, reason: object) -> tuple[AuditRecord | None, str]:
    """Read an audit; the reason is what meta.json says if there is none."""
    if not path.exists():
        return None, _said(reason) or "this milestone was not audited"
    try:
        manifest.check(path)
        return read_audit(path), ""
    except RunError as error:
        return None, error.message
    except (OSError, ValueError) as error:
        return None, f"{path.name} cannot be read: {error}"


def _film(path: Path) -> tuple[Path | None, str]:
    """Return the path of a film, or None and why it is not shown."""
    if not path.is_file():
        return None, ""
    try:
        manifest.check(path)
    except RunError as error:
        return None, error.message
    return path, ""


def _progress_film(folder: RunDirectory, milestones: Sequence[MilestoneFacts]) -> FilmFile | None:
    path, why_not = _film(folder.progress_film)
    if path is None and not why_not:
        return None
    shown = [each for each in milestones if each.film.path is not None]
    starts = {each.film.seed for each in shown}
    panels = [
        f"{each.percent} % ({counted(each.timestep, 'timestep')}"
        + (f", start {each.film.seed})" if len(starts) > 1 else ")")
        for each in shown
    ]
    label = "side by side: " + ", ".join(panels)
    if len(starts) == 1:
        label += f"; all from start {starts.pop()}"
    return FilmFile(label, path, why_not)


def _provenance(folder: RunDirectory) -> Json:
    try:
        return folder.read_json(folder.provenance_file.name)
    except (OSError, RunError):
        return {}


def _training_time(folder: RunDirectory, horizon: int) -> tuple[float, int]:
    """Return the seconds of training, without evaluations, and the timesteps trained in them.

    The clock of progress.csv starts anew in every segment.
    """
    ends = [segment.timestep for segment in folder.numbers.read_segments()] or [horizon]
    latest: dict[int, LogRow] = {}
    for row in folder.numbers.read_log():
        elapsed = row.values.get("time/time_elapsed", math.nan)
        if math.isfinite(elapsed) and elapsed > 0:
            latest[bisect.bisect_left(ends, row.timestep)] = row
    seconds = sum(row.values["time/time_elapsed"] for row in latest.values())
    trained = sum(
        row.timestep - (ends[number - 1] if number else 0) for number, row in latest.items()
    )
    return (float(seconds), int(trained)) if seconds and trained > 0 else (math.nan, 0)


def _said(value: object) -> str:
    return value[:300] if isinstance(value, str) else ""


def mean_of(episodes: Episodes) -> float:
    """Return the mean of the finite returns; NaN if there is none."""
    finite: NDArray[np.float64] = episodes.returns[np.isfinite(episodes.returns)]
    return float(finite.mean()) if finite.size else math.nan


def training_seeds(runs: Sequence[RunFacts]) -> str:
    """Return the training seeds as text."""
    return ", ".join(str(run.seed) for run in runs)

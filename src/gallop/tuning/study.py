"""A round as an Optuna study: its storage, sampler and pruner, and the sampling of trials.

A trial's sampler is seeded only by (search seed, round, trial number). So a trial that is sampled
again, after a kill or with other workers, gets the same values from the same history. Nothing
depends on the name of a study or folder.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from gallop.errors import ExperimentError
from gallop.run_folder.full_disk import is_full
from gallop.tuning.optuna_adapter import KeyedHyperband, in_memory, running_trial
from gallop.tuning.parameter import Space, Value
from gallop.tuning.search_directory import without_password
from gallop.tuning.search_settings import Pruner, Sampler, Search, n_evaluations
from gallop.tuning.space import suggest

IDENTITY = "gallop"  # user attribute of a study: which search it belongs to
OPTUNA_VERSIONS = "optuna_versions"  # likewise: versions that have sampled its trials, in order
FIRST_TRIAL = "first_trial"  # user attribute of a trial: where the round's first values come from
RETRY_OF = "retry_of"  # likewise: number of the failed trial that it retries
SECONDS_TO_CONNECT = 10


@contextlib.contextmanager
def explaining_storage(url: str, *others: type[Exception]) -> Iterator[None]:
    """Report errors of the storage in one line, except a full disk on this machine.

    Args:
        url: of the storage.
        others: further exceptions that only the storage can raise within the block.

    Raises:
        ExperimentError: in place of the library's own exception.
    """
    # Optuna wraps some of SQLAlchemy's exceptions.
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    expected: tuple[type[Exception], ...] = (SQLAlchemyError, StorageInternalError, *others)
    try:
        yield
    except ExperimentError:
        raise
    except expected as error:
        if url.startswith("sqlite") and is_full(error):
            raise
        cause = error.__cause__ or error
        lines = [line.strip() for line in str(getattr(cause, "orig", None) or cause).splitlines()]
        reason = next((line for line in lines if line), type(error).__name__)
        if isinstance(cause, ModuleNotFoundError) and cause.name == "psycopg":
            reason += ': to fix it: pip install "gallop-rl[postgresql]"'
        reason = re.sub(r"[^\s'\"]*@", "", reason)  # the rest of a password that contains an @
        raise ExperimentError(
            f"storage {without_password(url)} cannot be used: {reason[:200]}"
        ) from None


def open_study(url: str, name: str, identity: Mapping[str, Value]) -> optuna.Study:
    """Create a study, or open the existing one of this name.

    Args:
        url: of the storage, in SQLAlchemy's form.
        name: of the study.
        identity: what the study is about; an existing study about something else is refused.

    Raises:
        ExperimentError: if the storage cannot be used, or has another study of this name.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with explaining_storage(url, ImportError, ValueError):
        arguments = {"connect_timeout": SECONDS_TO_CONNECT} if url.startswith("postgres") else {}
        try:
            storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": arguments})
        except RuntimeError as error:  # the tables are of another Optuna version
            raise ValueError(str(error)) from None
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        found = study.user_attrs.get(IDENTITY)
        if found is None and not study.get_trials(deepcopy=False):
            study.set_user_attr(OPTUNA_VERSIONS, [optuna.__version__])
            study.set_user_attr(IDENTITY, dict(identity))
            found = dict(identity)
    if not isinstance(found, dict):
        raise ExperimentError(
            f"study {name!r} in {without_password(url)} belongs to another search; "
            "choose another name with --study-name"
        )
    if study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
        raise ExperimentError(
            f"study {name!r} in {without_password(url)} has enqueued trials, which are not "
            "supported; choose another name with --study-name"
        )
    for key, value in identity.items():
        if found.get(key) != value:
            raise ExperimentError(
                f"study {name!r} in {without_password(url)} belongs to another search: its {key} "
                f"is {found.get(key)!r}, not {value!r}; choose another name with --study-name"
            )
    return study


def identity(search: Search, round_number: int, space: Space) -> dict[str, Value]:
    """Return what a round's study is about; trials of another study would not be comparable."""
    return {
        "algo": search.algo,
        "env": search.env,
        "round": round_number + 1,
        "search_seed": search.search_seed,
        "n_seeds": search.n_seeds,
        "parameters": ", ".join(space),
    }


def optuna_versions(study: optuna.Study) -> list[str]:
    """Return the versions of Optuna that have sampled the study's trials, in order."""
    # Early versions of Gallop required Optuna 5.0.0 and recorded nothing.
    return [str(version) for version in study.user_attrs.get(OPTUNA_VERSIONS) or ["5.0.0"]]


def check_optuna_version(study: optuna.Study, reproducible: bool) -> str:
    """Check whether the installed Optuna is the version that has sampled the study's trials.

    From the same seed and history, another version may sample other trials. Their values mean the
    same, so a search that need not be reproducible can be resumed.

    Returns:
        What to tell the user about another version; empty if it is the same.

    Raises:
        ExperimentError: if the version differs, and the search is reproducible.
    """
    last, installed = optuna_versions(study)[-1], optuna.__version__
    if last == installed:
        return ""
    both = (
        f"study {study.study_name!r} was searched with Optuna {last}, and {installed} is installed"
    )
    back = f'pip install "optuna=={last}"'
    if reproducible:
        raise ExperimentError(
            f"{both}, which may sample other trials from the same seed, but the search must be "
            f"reproducible; to get the same trials: {back}"
        )
    return (
        f"{both}: it resumes with {installed}, which may sample other trials (to get the same "
        f"ones: {back})"
    )


def add_optuna_version(study: optuna.Study) -> None:
    """Record that the installed Optuna continues the study."""
    study.set_user_attr(OPTUNA_VERSIONS, [*optuna_versions(study), optuna.__version__])


def make_sampler(
    settings: Sampler, search_seed: int, round_number: int, trial: int, conditional: bool
) -> BaseSampler:
    """Make the sampler of one trial.

    Args:
        settings: of the sampler.
        search_seed: the search's seed.
        round_number: counted from 0.
        trial: number of the trial.
        conditional: whether some parameters exist only under a condition.
    """
    seed = int(np.random.SeedSequence((search_seed, round_number, trial)).generate_state(1)[0])
    if settings.name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # Conditions divide the parameters into groups that exist together.
        return optuna.samplers.TPESampler(
            n_startup_trials=settings.n_startup_trials,
            multivariate=settings.multivariate,
            group=settings.multivariate and conditional,
            constant_liar=settings.constant_liar,
            seed=seed,
        )


def make_pruner(settings: Pruner, n_steps: int, key: str) -> optuna.pruners.BasePruner:
    """Make the pruner of a round.

    Args:
        settings: of the pruner.
        n_steps: reports of a whole trial.
        key: of the round, by which Hyperband assigns trials to brackets.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if settings.name == "median":
            return optuna.pruners.MedianPruner(
                n_startup_trials=settings.n_startup_trials, n_warmup_steps=settings.n_warmup_steps
            )
        if settings.name == "successive_halving":
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=settings.min_resource, reduction_factor=settings.reduction_factor
            )
        if settings.name == "hyperband":
            return KeyedHyperband(key, settings.min_resource, n_steps, settings.reduction_factor)
        if settings.name == "wilcoxon":
            return optuna.pruners.WilcoxonPruner(
                p_threshold=settings.p_threshold, n_startup_steps=settings.n_warmup_steps
            )
        return optuna.pruners.NopPruner()


def n_steps(search: Search, round_number: int) -> int:
    """Return the number of reports of a trial: of seeds for wilcoxon, otherwise of evaluations."""
    if search.pruner.name == "wilcoxon":
        return search.n_seeds
    experiment = search.trial_experiment(round_number, {}, 0)
    return search.n_seeds * n_evaluations(experiment)


def failed(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that failed and were not retried."""
    trials = study.get_trials(deepcopy=False)
    again = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    state = optuna.trial.TrialState.FAIL
    return [trial for trial in trials if trial.state == state and trial.number not in again]


class First(NamedTuple):
    """The first trial of a round."""

    values: Mapping[str, Value]
    note: str
    """Where they come from."""


class Asker:
    """Samples the trials of one round."""

    def __init__(
        self,
        study: optuna.Study,
        search: Search,
        round_number: int,
        space: Space,
        first: First | None,
    ) -> None:
        """Set the study's pruner, and prepare to sample trials.

        Args:
            study: of the round.
            search: the search.
            round_number: counted from 0.
            space: the round's search space.
            first: the first trial; None: it is sampled, too.
        """
        self._study, self._search, self._round, self._space = study, search, round_number, space
        self._first = first
        self._conditional = any(parameter.when for parameter in space.values())
        key = f"{search.search_seed}/{round_number}"
        study.pruner = make_pruner(search.pruner, n_steps(search, round_number), key)

    def ask(self) -> tuple[optuna.Trial, dict[str, Value]]:
        """Sample the next trial, and return it with its values.

        They are sampled in a copy and stored at once, so that a kill leaves no incomplete trial.
        """
        before = self._study.get_trials()
        settings, seed = self._search.sampler, self._search.search_seed
        sampler = make_sampler(settings, seed, self._round, len(before), self._conditional)
        copied = in_memory(self._study, before, sampler)
        attributes: dict[str, Value] = {}
        if self._first is not None and not before:
            copied.enqueue_trial(dict(self._first.values))
            attributes = {FIRST_TRIAL: self._first.note}
        suggest(copied.ask(), self._search.algo, self._space)
        return self._add(copied.get_trials()[-1], attributes)

    def ask_again(self, failed: FrozenTrial) -> tuple[optuna.Trial, dict[str, Value]]:
        """Add a trial with the values of one that failed; return it with its values."""
        note = {k: v for k, v in failed.user_attrs.items() if k == FIRST_TRIAL}
        return self._add(failed, {**note, RETRY_OF: failed.number})

    def _add(
        self, drawn: FrozenTrial, attributes: dict[str, Value]
    ) -> tuple[optuna.Trial, dict[str, Value]]:
        self._study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params=drawn.params,
                distributions=drawn.distributions,
                user_attrs=attributes,
            )
        )
        return self._begun(self._study.get_trials()[-1])

    def running(self) -> list[tuple[optuna.Trial, dict[str, Value]]]:
        """Return running trials with their values, by number; a killed coordinator left them."""
        running = self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
        return [self._begun(frozen) for frozen in running]

    def n_asked(self) -> int:
        """Return the number of trials started over all calls, without counting retries."""
        trials = self._study.get_trials(deepcopy=False)
        return sum(RETRY_OF not in trial.user_attrs for trial in trials)

    def _begun(self, frozen: FrozenTrial) -> tuple[optuna.Trial, dict[str, Value]]:
        values = {name: frozen.params[name] for name in self._space if name in frozen.params}
        return running_trial(self._study, frozen), values

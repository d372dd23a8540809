"""A round as an Optuna study: storage, sampler, pruner; asking for trials and telling of them.

The sampler of a trial is seeded by (search seed, round, trial number) alone, so a trial that is
asked for again, after a kill or with other workers, draws the same from the same history. Nothing
depends on what a study or a folder is called.
"""

from __future__ import annotations

import contextlib
import json
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import HyperbandPruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from gallop.settings import ExperimentError
from gallop.tuning.search import Pruner, Sampler, Search, n_evaluations
from gallop.tuning.search_directory import without_password
from gallop.tuning.space import Space, Value, suggest

IDENTITY = "gallop"  # user attribute of a study: whose it is
SECONDS_TO_CONNECT = 10


@contextlib.contextmanager
def explaining_storage(url: str, *others: type[Exception]) -> Iterator[None]:
    """Whatever a database does not like becomes one line.

    Args:
        others: what else can only come from the storage.
    """
    # Optuna wraps some of its own around those of SQLAlchemy.
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    expected: tuple[type[Exception], ...] = (SQLAlchemyError, StorageInternalError, *others)
    try:
        yield
    except ExperimentError:
        raise
    except expected as error:
        cause = error.__cause__ or error
        lines = [line.strip() for line in str(getattr(cause, "orig", None) or cause).splitlines()]
        reason = next((line for line in lines if line), type(error).__name__)
        reason = re.sub(r"[^\s'\"]*@", "", reason)  # the end of a password that has an @ itself
        raise ExperimentError(
            f"storage {without_password(url)} cannot be used: {reason[:200]}"
        ) from None


def open_study(url: str, name: str, identity: Mapping[str, Any]) -> optuna.Study:
    """A new study, or the one that is there under this name.

    Args:
        url: of the storage, as SQLAlchemy takes it.
        identity: what the study is about; a study of something else is refused.

    Raises:
        ExperimentError: if the storage cannot be reached, or holds another study of this name.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with explaining_storage(url, ImportError, ValueError):
        arguments = {"connect_timeout": SECONDS_TO_CONNECT} if url.startswith("postgres") else {}
        try:
            storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": arguments})
        except RuntimeError as error:  # another version of Optuna made the tables
            raise ValueError(str(error)) from None
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        found = study.user_attrs.get(IDENTITY)
        if found is None and not study.get_trials(deepcopy=False):
            study.set_user_attr(IDENTITY, dict(identity))
            found = dict(identity)
    if not isinstance(found, dict):
        raise ExperimentError(
            f"study {name!r} in {without_password(url)} was not made by this search; "
            "--study-name gives another name"
        )
    for key, value in identity.items():
        if found.get(key) != value:
            raise ExperimentError(
                f"study {name!r} in {without_password(url)} is of another search: its {key} is "
                f"{found.get(key)!r}, not {value!r}; --study-name gives another name"
            )
    return study


def identity(search: Search, round_number: int, space: Space) -> dict[str, Any]:
    """What a round's study is about: trials of another one would mean something else."""
    return {
        "algo": search.algo,
        "env": search.env,
        "round": round_number + 1,
        "search_seed": search.search_seed,
        "n_seeds": search.n_seeds,
        "parameters": ", ".join(space),
    }


class _Sampler(BaseSampler):
    """Draws each parameter that is drawn on its own from a stream of its own.

    So a trial that a kill left half drawn draws the rest as it would have: what is stored already,
    and is not drawn again, moves no stream.
    """

    def __init__(self, make: Callable[[int], BaseSampler], entropy: tuple[int, ...]) -> None:
        """
        Args:
            make: a sampler with a seed.
        """
        self._make, self._entropy = make, entropy
        self._together = make(_word(entropy))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._together.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        # After a kill: what was drawn together is there, or there was nothing to be drawn together.
        parts: list[str] = []
        while part := trial.system_attrs.get(f"tpe:relative_params:{len(parts)}"):
            parts.append(part)
        with contextlib.suppress(ValueError):  # half of it is there
            if parts:
                drawn: dict[str, Any] = json.loads("".join(parts))
                return drawn
        if trial.params and getattr(self._together, "_constant_liar", False):
            return {}
        return self._together.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # fmt: skip
        own = self._make(_word((*self._entropy, zlib.crc32(param_name.encode()))))
        return own.sample_independent(study, trial, param_name, param_distribution)


def _word(entropy: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def make_sampler(
    settings: Sampler, search_seed: int, round_number: int, trial: int, conditional: bool
) -> BaseSampler:
    """The sampler of one trial."""

    def make(seed: int) -> BaseSampler:
        if settings.name == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # With conditions the parameters fall into groups that exist together.
            return optuna.samplers.TPESampler(
                n_startup_trials=settings.n_startup_trials,
                multivariate=settings.multivariate,
                group=settings.multivariate and conditional,
                constant_liar=settings.constant_liar,
                seed=seed,
            )

    return _Sampler(make, (search_seed, round_number, trial))


class _Hyperband(HyperbandPruner):
    """Deals trials to brackets by a key of ours, where Optuna takes the study's name."""

    def __init__(self, key: str, max_resource: int, settings: Pruner) -> None:
        super().__init__(settings.min_resource, max_resource, settings.reduction_factor)
        self._key = key

    def _get_bracket_id(self, study: optuna.Study, trial: FrozenTrial) -> int:
        return super()._get_bracket_id(SimpleNamespace(study_name=self._key), trial)  # type: ignore[arg-type]


def make_pruner(settings: Pruner, n_steps: int, key: str) -> optuna.pruners.BasePruner:
    """The pruner of a round; `n_steps` reports make a whole trial.

    Args:
        key: of the round; Hyperband deals trials to its brackets by it.
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
            return _Hyperband(key, n_steps, settings)
        if settings.name == "wilcoxon":
            return optuna.pruners.WilcoxonPruner(
                p_threshold=settings.p_threshold, n_startup_steps=settings.n_warmup_steps
            )
        return optuna.pruners.NopPruner()


def n_steps(search: Search, round_number: int) -> int:
    """Reports that make a whole trial: seeds for Wilcoxon's test, else every seed's evaluations."""
    if search.pruner.name == "wilcoxon":
        return search.n_seeds
    experiment = search.trial_experiment(round_number, {}, 0)
    return search.n_seeds * n_evaluations(experiment)


def is_stopped_again(trial: optuna.Trial, value: float) -> bool:
    """What the pruner says of a trial's last report, if it may have been asked already.

    Successive halving writes down the rungs that a trial has reached, and would take the same
    question for one about the next rung. So it is asked in a copy that does not know of the first.

    Args:
        value: of the last report.
    """
    study = trial.study
    copied = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), direction="maximize", pruner=study.pruner
    )
    for frozen in study.get_trials():
        if frozen.number == trial.number:
            kept = frozen.system_attrs.items()
            frozen.system_attrs = {k: v for k, v in kept if not (_is_rung(k) and v == value)}
        copied.add_trial(frozen)
    stopped = study.pruner.prune(copied, copied.get_trials()[trial.number])
    for name, reached in copied.get_trials()[trial.number].system_attrs.items():
        if _is_rung(name):
            study._storage.set_trial_system_attr(trial._trial_id, name, reached)
    return stopped


def _is_rung(attribute: str) -> bool:
    return attribute.startswith("completed_rung_")


class Asker:
    """Asks for trials of one round."""

    def __init__(
        self, study: optuna.Study, search: Search, round_number: int, space: Space
    ) -> None:
        self._study, self._search, self._round, self._space = study, search, round_number, space
        self._conditional = any(parameter.when for parameter in space.values())
        key = f"{search.search_seed}/{round_number}"
        study.pruner = make_pruner(search.pruner, n_steps(search, round_number), key)

    def enqueue(self, values: Mapping[str, Value], note: str) -> None:
        """Set the first trial's values, unless the study has begun."""
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(dict(values), user_attrs={"first_trial": note})

    def ask(self) -> tuple[optuna.Trial, dict[str, Value]]:
        """The next trial and its values."""
        waiting = self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
        number = waiting[0].number if waiting else len(self._study.get_trials(deepcopy=False))
        self._study.sampler = self._sampler(number)
        return self._suggest(self._study.ask())

    def running(self) -> list[tuple[optuna.Trial, dict[str, Value]]]:
        """Trials that were begun and not told of, by number: a killed coordinator's."""
        found = []
        states = (optuna.trial.TrialState.RUNNING,)
        for frozen in sorted(self._study.get_trials(states=states), key=lambda t: t.number):
            self._study.sampler = self._sampler(frozen.number)
            found.append(self._suggest(optuna.trial.Trial(self._study, frozen._trial_id)))
        return found

    def n_asked(self) -> int:
        """Trials that were begun, over all calls."""
        waiting = optuna.trial.TrialState.WAITING
        return sum(trial.state != waiting for trial in self._study.get_trials(deepcopy=False))

    def _suggest(self, trial: optuna.Trial) -> tuple[optuna.Trial, dict[str, Value]]:
        return trial, suggest(trial, self._search.algo, self._space)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        settings, seed = self._search.sampler, self._search.search_seed
        return make_sampler(settings, seed, self._round, number, self._conditional)

"""A run that has come to its end, held while it is exported, and the folder it is exported to."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gallop.errors import RunError
from gallop.evaluation.episodes import Episodes
from gallop.experiments.plan import make_plan
from gallop.experiments.settings import Experiment
from gallop.policies.normalizer import Normalizer
from gallop.policies.normalizer_file import normalizer_path, read_normalizer
from gallop.run_folder import manifest
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.links import check_contents
from gallop.run_folder.resume_state import last_timestep
from gallop.sharing.zoo_export import zoo_name


class FinishedRun(NamedTuple):
    """What both exports need of a run."""

    experiment: Experiment
    normalizer: Normalizer | None
    episodes: Episodes
    """Of the final policy, on the evaluation seeds."""
    baseline: Episodes
    provenance: dict[str, object]

    @property
    def stem(self) -> str:
        """Name of the policy file, as the hub has it."""
        return f"{self.experiment.algo}-{zoo_name(self.experiment.env)}"


@contextlib.contextmanager
def finished(run: RunDirectory) -> Iterator[FinishedRun]:
    """The run, held so that nobody else goes on with it."""
    check_contents(run.path)
    experiment = run.read_experiment()
    with run.locked():
        film = run.milestone(experiment.milestones[-1]).film
        policy = (run.final_model, normalizer_path(run.final_model), film)
        manifest.check(*policy, *run.numbers.files, run.path / "provenance.json")
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
        yield FinishedRun(experiment, normalizer, episodes, baseline, provenance)


# --- folders -------------------------------------------------------------------------------------


@contextlib.contextmanager
def explaining_errors(folder: Path) -> Iterator[None]:
    """An error of the file system becomes one line."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
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

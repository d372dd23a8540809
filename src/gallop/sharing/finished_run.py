"""A finished run, held while it is exported, and helpers for writing the export's folder."""

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
from gallop.run_folder.run_paths import TEMPORARY
from gallop.sharing.zoo_export import zoo_name


class FinishedRun(NamedTuple):
    """The data of a run that both exports need."""

    experiment: Experiment
    normalizer: Normalizer | None
    episodes: Episodes
    """Episodes of the final policy on the evaluation seeds."""
    baseline: Episodes
    """Episodes of the random policy on the same seeds."""
    provenance: dict[str, object]

    @property
    def stem(self) -> str:
        """Name of the policy file without .zip, as usual on the hub."""
        return f"{self.experiment.algo}-{zoo_name(self.experiment.env)}"


@contextlib.contextmanager
def finished(run: RunDirectory) -> Iterator[FinishedRun]:
    """Read a finished run and hold its lock within the block.

    Raises:
        ConsentError: if it names code that this user has not agreed to run.
        RunError: if it is not finished, is damaged, or another process is running it.
    """
    check_contents(run.path)
    experiment = run.read_experiment()
    with run.locked():
        film = run.milestone(experiment.milestones[-1]).film
        policy = (run.final_model, normalizer_path(run.final_model), film)
        manifest.check(*policy, *run.numbers.files, run.path / "provenance.json")
        episodes, baseline = run.numbers.read_episodes("final"), run.numbers.read_episodes("random")
        if not run.final_model.exists() or episodes is None or baseline is None:
            raise RunError(
                f"{run.path} is not finished (timestep {last_timestep(run.state):,} of "
                f"{make_plan(experiment).horizon:,}); finish it first: gallop run --resume "
                f"{run.path}"
            )
        normalizer = None
        if experiment.normalize.observations:
            normalizer = read_normalizer(normalizer_path(run.final_model))
        try:
            provenance = run.read_json("provenance.json")
        except (OSError, ValueError) as error:
            raise RunError(f"{run.path}: provenance.json cannot be read: {error}") from None
        yield FinishedRun(experiment, normalizer, episodes, baseline, provenance)


# --- folders -------------------------------------------------------------------------------------


@contextlib.contextmanager
def explaining_errors(folder: Path) -> Iterator[None]:
    """Within the block, turn errors of the file system into one line.

    Raises:
        RunError: naming the folder and the reason.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder to be filled and renamed; if the block fails, nothing is left."""
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()

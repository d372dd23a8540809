"""A run's folder: every file name and format in it, and writes that are whole or absent.

results/<ALGO>_<ENV_ID>/<run>/ holds the experiment, its provenance, all numbers as plain CSV, NPZ
and JSON, figures, policy files, and the milestones under checkpoints/. Files that grow are written
anew and renamed, so that a reader, or a crash, never sees half of one.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation import Episodes
from gallop.experiment_file import load, read_setting, to_yaml
from gallop.learners.learner import LogRow
from gallop.settings import Experiment, ExperimentError

GROUP_FILE = "group.yaml"  # what makes a folder a group of runs, one below it for each seed
_EPISODE_COLUMNS = ["policy", "timestep", "seed_family", "seed", "return", "length"]


class RunError(ExperimentError):
    """A run folder cannot be used; the message says why and what would help."""


class HeldError(RunError):
    """Another process holds the run."""


@dataclass(frozen=True)
class Evaluations:
    """All evaluations during training so far; evaluations.npz with SB3's keys, and the seeds."""

    timesteps: NDArray[np.int64]  # [k]
    results: NDArray[np.float64]  # [k, n_episodes], returns
    ep_lengths: NDArray[np.int64]  # [k, n_episodes]
    seeds: NDArray[np.int64]  # [n_episodes]

    def log_rows(self) -> list[LogRow]:
        """What SB3 would log of each."""
        names = ("eval/mean_reward", "eval/mean_ep_length")
        means = np.stack([self.results.mean(axis=1), self.ep_lengths.mean(axis=1)], axis=1)
        return [
            LogRow(timestep, dict(zip(names, values, strict=True)))
            for timestep, values in zip(self.timesteps.tolist(), means.tolist(), strict=True)
        ]


class RunDirectory:
    """Paths and formats of one run. Making the object touches nothing on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # --- names ---

    @property
    def group(self) -> Path | None:
        """The folder of the group of training seeds that this run belongs to, if it does."""
        return self.path.parent if (self.path.parent / GROUP_FILE).is_file() else None

    @property
    def name(self) -> str:
        """What it is called below results/<ALGO>_<ENV_ID>: `first`, or `group/seed-3`."""
        return self.path.name if self.group is None else f"{self.group.name}/{self.path.name}"

    @property
    def experiment_file(self) -> Path:
        return self.path / "experiment.yaml"

    @property
    def seeds_file(self) -> Path:
        return self.path / "seeds.json"

    @property
    def log_file(self) -> Path:
        return self.path / "run.log"

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def initial_model(self) -> Path:
        """A copy of the policy file that training started from, if it did."""
        return self.state / "initial_model.zip"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def _tracker_runs(self) -> Path:
        return self.state / "trackers.json"

    @property
    def best_model(self) -> Path:
        return self.path / "best_model.zip"

    @property
    def final_model(self) -> Path:
        return self.path / "final_model.zip"

    @property
    def learning_curve(self) -> Path:
        return self.path / "learning_curve.png"

    @property
    def comparison(self) -> Path:
        return self.path / "comparison.png"

    @property
    def milestone_bars(self) -> Path:
        return self.path / "checkpoint_means_barplot.png"

    def milestone(self, percent: int) -> Milestone:
        """The folder of one milestone."""
        return Milestone(self.path / "checkpoints" / f"{percent:03d}")

    def film_job(self, percent: int) -> Path:
        """What the film of a milestone is made from; it exists until the film does."""
        return self.state / "films" / f"{percent:03d}.npz"

    # --- the run as a whole ---

    def create(
        self, experiment: Experiment, save_initial: Callable[[Path], None] | None = None
    ) -> None:
        """Make the folder and write the resolved experiment.

        `save_initial` writes the policy file that training starts from, if it does from one. The
        experiment comes last: a folder without it is no run.

        Raises:
            RunError: if it exists already (a run is never overwritten) or cannot be written.
        """
        try:
            self.path.mkdir(parents=True)
            self.state.mkdir()
        except FileExistsError:
            hint = "gallop run --resume goes on with it; --name gives another"
            raise RunError(
                f"{self.path} exists already, and runs are never overwritten; {hint}"
            ) from None
        except OSError as error:
            raise RunError(f"{self.path} cannot be made: {error.strerror}") from None
        if save_initial is not None:
            with replacing(self.state) as temporary:
                save_initial(temporary / self.initial_model.name)
        self.write_experiment(experiment)

    def write_experiment(self, experiment: Experiment) -> None:
        """Write experiment.yaml."""
        write_bytes(self.experiment_file, to_yaml(experiment).encode())

    def kept_while_growing(self) -> list[Path]:
        """What a run appends to while it trains."""
        names = ("random_baseline_rewards.npz", "evaluations.npz", "episodes.csv", "progress.csv")
        return [*(self.path / name for name in names), self.tensorboard]

    def read_experiment(self) -> Experiment:
        """The resolved experiment that this run was started with.

        Raises:
            RunError: if the folder holds no run.
        """
        if not self.experiment_file.is_file():
            raise RunError(f"{self.path} is no run: it holds no experiment.yaml")
        return read_trained(self.experiment_file)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run; a second process that wants it is refused.

        Raises:
            HeldError: if another process is running it.
            RunError: if the folder cannot be written.
        """
        busy = HeldError(f"{self.path} is being run by another process")
        with hold(self.state / "lock", self.path, busy):
            yield

    def is_locked(self) -> bool:
        """Whether another process is running it."""
        try:
            with self.locked():
                return False
        except RunError:
            return True

    def is_finished(self) -> bool:
        """Whether it has come to its end."""
        try:
            return self.read_json("provenance.json").get("end") is not None
        except (OSError, ValueError):
            return False

    # --- numbers ---

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        """seeds.json or provenance.json."""
        write_bytes(self.path / name, (json.dumps(data, indent=2) + "\n").encode())

    def read_json(self, name: str) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        return data

    def read_tracker_runs(self) -> dict[str, str]:
        """Tracker -> its own id of this run; those that have one so far."""
        if not self._tracker_runs.exists():
            return {}
        runs: dict[str, str] = json.loads(self._tracker_runs.read_text(encoding="utf-8"))
        return runs

    def write_tracker_run(self, tracker: str, run_id: str) -> None:
        """Remember a tracker's id of this run, so that a resumed run goes on with the same one."""
        runs = self.read_tracker_runs() | {tracker: run_id}
        write_bytes(self._tracker_runs, (json.dumps(runs, indent=2) + "\n").encode())

    def write_baseline(self, episodes: Episodes) -> None:
        write_rewards(self.path / "random_baseline_rewards.npz", episodes)

    def read_baseline(self) -> NDArray[np.float64] | None:
        """The random policy's returns, or None before they exist."""
        return _read_rewards(self.path / "random_baseline_rewards.npz")

    def read_evaluations(self) -> Evaluations | None:
        """All evaluations so far, or None before the first."""
        path = self.path / "evaluations.npz"
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as file:
            return Evaluations(**{name: file[name] for name in Evaluations.__annotations__})

    def append_evaluation(self, timestep: int, episodes: Episodes) -> Evaluations:
        """Add one evaluation and return them all."""
        before = self.read_evaluations()
        row = Evaluations(
            timesteps=np.array([timestep]),
            results=episodes.returns[None],
            ep_lengths=episodes.lengths[None],
            seeds=episodes.seeds,
        )
        if before is not None:
            row = Evaluations(
                timesteps=np.concatenate([before.timesteps, row.timesteps]),
                results=np.concatenate([before.results, row.results]),
                ep_lengths=np.concatenate([before.ep_lengths, row.ep_lengths]),
                seeds=row.seeds,
            )
        write_npz(self.path / "evaluations.npz", vars(row))
        return row

    def append_episodes(
        self, policy: str, timestep: int, seed_family: str, episodes: Episodes
    ) -> None:
        """Add rows to episodes.csv: every episode ever judged, with its seed.

        Judging the same policy again, as a resumed run may, replaces its rows.
        """
        columns, rows = _read_csv(self.path / "episodes.csv")
        judged = {"policy": policy, "timestep": str(timestep), "seed_family": seed_family}
        rows = [row for row in rows if not judged.items() <= row.items()]
        columns = columns or _EPISODE_COLUMNS
        columns += [name for name in episodes.reward_terms if name not in columns]
        for i, seed in enumerate(episodes.seeds):
            row = {
                **judged,
                "seed": str(seed),
                "return": repr(float(episodes.returns[i])),
                "length": str(episodes.lengths[i]),
            }
            terms = episodes.reward_terms.items()
            rows.append(row | {name: repr(float(values[i])) for name, values in terms})
        _write_csv(self.path / "episodes.csv", columns, rows)

    def read_episodes(self, policy: str) -> Episodes | None:
        """Episodes of one policy on the evaluation seeds; None before it was judged."""
        _, rows = _read_csv(self.path / "episodes.csv")
        rows = [r for r in rows if (r["policy"], r["seed_family"]) == (policy, "evaluation")]
        if not rows:
            return None
        return Episodes(
            seeds=np.array([int(row["seed"]) for row in rows]),
            returns=np.array([float(row["return"]) for row in rows]),
            lengths=np.array([int(row["length"]) for row in rows]),
        )

    def final_return(self) -> float | None:
        """Mean return of the final policy on the evaluation seeds; None before it was judged."""
        _, rows = _read_csv(self.path / "episodes.csv")
        returns = [float(row["return"]) for row in rows if row["policy"] == "final"]
        return float(np.mean(returns)) if returns else None

    def append_log(self, log: Iterable[LogRow]) -> None:
        """Add rows under SB3's keys to progress.csv."""
        log = list(log)
        columns, rows = _read_csv(self.path / "progress.csv")
        rows += [{name: repr(value) for name, value in row.values.items()} for row in log]
        columns = sorted({*columns, *(name for row in log for name in row.values)})
        _write_csv(self.path / "progress.csv", columns, rows)

    def keep_episodes(self, policies: Mapping[str, str]) -> None:
        """Keep the episodes of these policies alone, under new names."""
        columns, rows = _read_csv(self.path / "episodes.csv")
        kept = [{**r, "policy": policies[r["policy"]]} for r in rows if r["policy"] in policies]
        if columns:
            _write_csv(self.path / "episodes.csv", columns, kept)

    def read_log(self) -> list[LogRow]:
        """Every row so far, from progress.csv and from the evaluations, in order of timesteps."""
        _, rows = _read_csv(self.path / "progress.csv")
        values = [{name: float(text) for name, text in row.items() if text} for row in rows]
        log = [LogRow(int(row["time/total_timesteps"]), row) for row in values]
        evaluations = self.read_evaluations()
        if evaluations is not None:
            log += evaluations.log_rows()
        return sorted(log, key=lambda row: row.timestep)

    def forget_after(self, timestep: int) -> None:
        """Drop every number later than the boundary that a resumed run goes on from."""
        evaluations = self.read_evaluations()
        if evaluations is not None:
            keep = evaluations.timesteps <= timestep
            kept = {
                "timesteps": evaluations.timesteps[keep],
                "results": evaluations.results[keep],
                "ep_lengths": evaluations.ep_lengths[keep],
                "seeds": evaluations.seeds,
            }
            write_npz(self.path / "evaluations.npz", kept)
        for name, column in (
            ("episodes.csv", "timestep"),
            ("progress.csv", "time/total_timesteps"),
        ):
            columns, rows = _read_csv(self.path / name)
            if columns:
                rows = [row for row in rows if float(row[column]) <= timestep]
                _write_csv(self.path / name, columns, rows)


class Milestone:
    """One folder below checkpoints/."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def model(self) -> Path:
        return self.path / "model.zip"

    @property
    def boxplot(self) -> Path:
        return self.path / "boxplot_trained_vs_random.png"

    @property
    def histogram(self) -> Path:
        return self.path / "trained_rewards_hist.png"

    @property
    def film(self) -> Path:
        return self.path / "rollout.mp4"

    @property
    def gif(self) -> Path:
        return self.path / "rollout.gif"

    def files(self) -> list[Path]:
        """All that a milestone holds beside its meta.json."""
        rewards = self.path / "trained_rewards.npz"
        return [self.model, rewards, self.boxplot, self.histogram, self.film, self.gif]

    def write_rewards(self, episodes: Episodes) -> None:
        write_rewards(self.path / "trained_rewards.npz", episodes)

    def read_rewards(self) -> NDArray[np.float64] | None:
        """Returns of the evaluation episodes, or None before they exist."""
        return _read_rewards(self.path / "trained_rewards.npz")

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        write_bytes(self.path / "meta.json", (json.dumps(meta, indent=2) + "\n").encode())

    def read_meta(self) -> dict[str, Any] | None:
        path = self.path / "meta.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


# --- finding runs --------------------------------------------------------------------------------


def run_path(results: Path, algo: str, env: str, name: str) -> Path:
    """results/<ALGO>_<ENV_ID>/<run>.

    Raises:
        RunError: if the name is no single path component.
    """
    if not re.fullmatch(r"[^/\\:\0]+", name) or name in (".", ".."):
        raise RunError(f"{name!r} is no name of a run: one path component is needed")
    return results / f"{algo.upper()}_{re.sub('[/:]', '-', env)}" / name


def all_runs(results: Path) -> list[RunDirectory]:
    """Every run below a results folder, those in groups of training seeds too, oldest first."""
    found = [file.parent for file in results.glob("*/*/experiment.yaml")]
    groups = [file.parent for file in results.glob(f"*/*/{GROUP_FILE}")]
    found += [file.parent for group in groups for file in group.glob("*/experiment.yaml")]
    found = [path for path in found if not path.name.startswith(".")]  # not whole yet: `new_folder`
    return [RunDirectory(path) for path in sorted(found, key=lambda p: (p.stat().st_ctime, p.name))]


def containing_run(path: Path) -> RunDirectory | None:
    """The run that a file or folder belongs to, if any."""
    for folder in (path, *path.resolve().parents):
        if (folder / "experiment.yaml").is_file():
            return RunDirectory(folder)
    return None


def read_trained(file: Path) -> Experiment:
    """The experiment that a results folder holds.

    Raises:
        ExperimentError: if it is none, or would import code that lies beside it.
    """
    _refuse_code_that_came_along(file)
    return load(file)


def _refuse_code_that_came_along(file: Path) -> None:
    """A run's experiment may name modules to import: its task, its wrappers. In a folder from a
    stranger they could lie in that same folder, and be found from the folder that we are in.

    Raises:
        RunError: if a module would come from beside the run and from nowhere else.
    """
    env, wrappers = read_setting(file, "env"), read_setting(file, "wrappers")
    wrappers = wrappers if isinstance(wrappers, list) else []
    paths = [name for w in wrappers for name in (w if isinstance(w, dict) else [w])]
    modules = {str(path).replace(":", ".").partition(".")[0] for path in paths}
    modules |= {str(env).rpartition(":")[0].partition(".")[0]} - {""}
    here, folder = Path.cwd(), file.resolve().parent
    # All that came with it: its own folder, and the one below here that holds it.
    along = [folder]
    if folder.is_relative_to(here) and folder != here:
        along.append(here / folder.relative_to(here).parts[0])
    chosen = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    trusted = [Path(part).resolve() for part in chosen if part]
    others = [p for p in sys.path if Path(p or ".").resolve() != here or here in trusted]
    for module in modules:
        if module in sys.modules or PathFinder.find_spec(module, others):
            continue
        spec = PathFinder.find_spec(module, [str(here)])
        found = [*(spec.submodule_search_locations or []), spec.origin] if spec else []
        if any(Path(p).resolve().is_relative_to(a) for p in found if p for a in along):
            raise RunError(
                f"{file} names the module {module!r}, which lies beside the run: reading it would "
                "run that code; if you trust it, set PYTHONPATH=."
            )


# --- whose a folder is ---------------------------------------------------------------------------


@contextlib.contextmanager
def hold(file: Path, folder: Path, busy: RunError) -> Iterator[None]:
    """Hold a folder by its lock file; `busy` is raised where another process does.

    Raises:
        RunError: if the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock: FileLock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise busy from None
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


# --- writes that are whole or absent -------------------------------------------------------------


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file: temporary file, fsync, rename."""
    with replacing(path.parent) as folder:
        (folder / path.name).write_bytes(content)


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Replace an .npz of plain arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files replace those of `folder` when the block ends well.

    Each file appears whole: it is synced to disk before it is renamed to its place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    try:
        yield temporary
        for file in sorted(temporary.iterdir()):
            _sync(file)
            file.replace(folder / file.name)
        _sync(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path`, whole, when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=path.parent))
    try:
        yield temporary
        for file in sorted(temporary.iterdir()):
            _sync(file)
        _sync(temporary)
        if path.exists():  # left by a run that was killed between here and its next boundary
            shutil.rmtree(path)
        temporary.chmod(0o755)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary folders of processes that were killed while they wrote."""
    for leftover in folder.rglob(".new-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- formats -------------------------------------------------------------------------------------


def write_rewards(path: Path, episodes: Episodes) -> None:
    """Replace an .npz of rewards, seeds and ep_lengths."""
    arrays = {"rewards": episodes.returns, "seeds": episodes.seeds, "ep_lengths": episodes.lengths}
    write_npz(path, arrays)


def _read_rewards(path: Path) -> NDArray[np.float64] | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        return np.asarray(file["rewards"])


def _read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    if not path.exists():
        return [], []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        return list(reader.fieldnames or ()), list(reader)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())

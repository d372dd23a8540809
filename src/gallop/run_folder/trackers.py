"""Experiment trackers, which receive the numbers of a run in addition to its own files.

TensorBoard is always on; Weights & Biases, MLflow and trackio are on if the experiment names them.
A tracker cannot affect training: if it fails, it is dropped and training continues; and because
random streams are reseeded for every segment, random numbers that a tracker draws change nothing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gallop.errors import ExperimentError
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import settings_of
from gallop.fields import flat
from gallop.learners.learner import LogRow
from gallop.run_folder.directory import RunDirectory
from gallop.strict_json import strict

log = logging.getLogger(__name__)

PROJECT = "gallop"


class Tracker(Protocol):
    """Interface of a tracker: receives the numbers of one run."""

    def log(self, row: LogRow) -> None:
        """Receive one row. Timesteps never decrease, but two rows may have the same timestep."""
        ...

    def close(self) -> None:
        """Flush and close. The run may be finished, or be resumed later."""
        ...


def check_installed(names: Iterable[str]) -> None:
    """Refuse trackers whose packages are not installed.

    Raises:
        ExperimentError: with the command that installs them.
    """
    missing = [name for name in names if not _is_installed(name)]
    if missing:
        raise ExperimentError(
            f"trackers: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not "
            f'installed; to install: pip install "gallop-rl[{",".join(missing)}]"',
            "trackers",
        )


def _is_installed(package: str) -> bool:
    # W&B makes a folder "wandb" wherever it runs, which Python takes for a package without origin.
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


# --- all trackers of a run -----------------------------------------------------------------------


class Trackers:
    """The trackers of a run while it trains, without those that failed."""

    def __init__(self) -> None:
        self._trackers: list[Tracker] = []

    def open(self, make: Callable[..., Tracker], *arguments: object) -> None:
        """Make a tracker and add it; if that fails, only warn."""
        try:
            self._trackers.append(make(*arguments))
        except Exception as error:
            self._warn(make.__name__, error)

    def add(self, tracker: Tracker) -> None:
        """Add a tracker that is already open."""
        self._trackers.append(tracker)

    def log(self, rows: Iterable[LogRow]) -> None:
        """Pass rows to every tracker."""
        rows = list(rows)
        for tracker in list(self._trackers):
            try:
                for row in rows:
                    tracker.log(row)
            except Exception as error:
                self._trackers.remove(tracker)
                self._warn(type(tracker).__name__, error)

    def close(self) -> None:
        """Close all trackers; calling it again does nothing."""
        while self._trackers:
            tracker = self._trackers.pop()
            try:
                tracker.close()
            except Exception as error:
                self._warn(type(tracker).__name__, error)

    def _warn(self, name: str, error: Exception) -> None:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        log.warning("%s failed, and the run continues without it: %s", name, reason)


@contextlib.contextmanager
def opened(
    folder: RunDirectory,
    experiment: Experiment,
    timestep: int,
    own: Sequence[Tracker] = (),
) -> Iterator[Trackers]:
    """Yield TensorBoard and the trackers named by the experiment; closed when the block ends.

    Args:
        folder: the run, which stores its ids at the trackers.
        experiment: its experiment.
        timestep: of the boundary from which the run resumes; 0 for a new run.
        own: custom trackers of the caller, closed with the others.
    """
    trackers = Trackers()
    try:
        trackers.open(TensorBoard, folder, timestep)
        for name in experiment.trackers:
            trackers.open(TRACKERS[name], folder, experiment)
        for tracker in own:
            trackers.add(tracker)
        yield trackers
    finally:
        trackers.close()


# --- one class each ------------------------------------------------------------------------------


class TensorBoard:
    """Event files in the run's folder, written in the calling thread.

    SummaryWriter writes in a thread of its own, which prints a traceback if that fails.
    """

    def __init__(self, folder: RunDirectory, timestep: int) -> None:
        """
        Args:
            folder: the run.
            timestep: of the boundary from which the run resumes.
        """
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        is_resumed = folder.tensorboard.exists()
        folder.tensorboard.mkdir(parents=True, exist_ok=True)
        second = _wait_for_a_new_second(folder.tensorboard)
        path = folder.tensorboard / f"events.out.tfevents.{second}.gallop"
        self._records = RecordWriter(path.open("xb"))
        self._write(file_version="brain.Event:2")
        if is_resumed:
            # Makes readers discard what a killed run wrote after its last boundary.
            self._write(step=timestep + 1, session_log=SessionLog(status=SessionLog.START))
        self._records.flush()

    def log(self, row: LogRow) -> None:
        """Write one row of the log."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=float(value)) for name, value in row.values.items()
        ]
        self._write(step=row.timestep, summary=Summary(value=values))
        self._records.flush()

    def close(self) -> None:
        """Close the event file."""
        self._records.close()

    def _write(self, **fields: object) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())


def _wait_for_a_new_second(tensorboard: Path) -> int:
    """Wait for a second in which no event file was opened, and return it.

    Readers sort the files by name, and so by the second in which they were opened.
    """
    names = (file.name.split(".") for file in tensorboard.glob("events.out.tfevents.*"))
    newest = max((int(parts[3]) for parts in names), default=0)
    while (second := int(time.time())) == newest:
        time.sleep(0.02)
    return second


class WeightsAndBiases:
    """A run at Weights & Biases; its local files are in the run's folder."""

    def __init__(self, folder: RunDirectory, experiment: Experiment) -> None:
        """
        Args:
            folder: the run.
            experiment: its experiment, for W&B's config.
        """
        # Silent, and at most a minute of waiting at the end if the network is down.
        _set_defaults(WANDB_SILENT="true", WANDB_CONSOLE="off", WANDB_FINISH_TIMEOUT="60")
        import wandb

        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
            raise RuntimeError("not logged in; wandb login does it, WANDB_MODE=offline needs none")
        run_id = folder.read_tracker_runs().get("wandb", uuid.uuid4().hex)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run_id,
            name=_run_name(folder),
            dir=os.environ.get("WANDB_DIR", str(folder.path)),
            config=strict(settings_of(experiment)),
            resume="allow",
            reinit="create_new",  # leave a run that the caller has open alone
        )
        folder.write_tracker_run("wandb", run_id)
        self._end, self._timestep = experiment.total_timesteps, 0
        # W&B's process buffers numbers, and loses them when it is killed together with ours.
        for row in folder.numbers.read_log():
            self.log(row)

    def log(self, row: LogRow) -> None:
        """Send one row of the log."""
        # Steps must increase. Rows that a resumed run repeats are identical.
        if row.timestep >= self._run.step:
            self._run.log(row.values, step=row.timestep)
        self._timestep = row.timestep

    def close(self) -> None:
        """Finish W&B's run; it counts as failed if training has not reached its end."""
        self._run.finish(exit_code=0 if self._timestep >= self._end else 1)


class MLflow:
    """A run in MLflow, on the server or in the store given by MLFLOW_TRACKING_URI."""

    def __init__(self, folder: RunDirectory, experiment: Experiment) -> None:
        """
        Args:
            folder: the run.
            experiment: its experiment, for MLflow's parameters.
        """
        # Fewer retries than the default, which takes minutes: training waits for the answers.
        _set_defaults(
            MLFLOW_LOGGING_LEVEL="WARNING",
            MLFLOW_HTTP_REQUEST_MAX_RETRIES="2",
            MLFLOW_HTTP_REQUEST_TIMEOUT="20",
        )
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        self._end, self._timestep = experiment.total_timesteps, 0
        run_id = folder.read_tracker_runs().get("mlflow")
        if run_id is None:
            name = _run_name(folder)
            run = self._client.create_run(self._mlflow_experiment(), run_name=name)
            run_id = run.info.run_id
            settings = flat(settings_of(experiment))
            params = [Param(name, str(value)) for name, value in settings]
            self._client.log_batch(run_id, params=params)
            folder.write_tracker_run("mlflow", run_id)
        else:
            self._client.update_run(run_id, status="RUNNING")
        self._run_id = run_id
        self._known = self._last_steps()
        # A server that was unreachable has only the first rows.
        for row in folder.numbers.read_log():
            self.log(row)

    def _mlflow_experiment(self) -> str:
        """Return the id of the MLflow experiment, which is a collection of runs."""
        if "MLFLOW_EXPERIMENT_ID" in os.environ:
            return os.environ["MLFLOW_EXPERIMENT_ID"]
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        known: str = found.experiment_id if found else self._client.create_experiment(name)
        return known

    def _last_steps(self) -> dict[str, int]:
        """Return the last step of each metric: MLflow does not replace rows sent twice."""
        names = self._client.get_run(self._run_id).data.metrics
        histories = {name: self._client.get_metric_history(self._run_id, name) for name in names}
        return {name: max(point.step for point in points) for name, points in histories.items()}

    def log(self, row: LogRow) -> None:
        """Send one row of the log."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, row.timestep)
            for name, value in row.values.items()
            if row.timestep > self._known.get(name, -1)
        ]
        if metrics:
            self._client.log_batch(self._run_id, metrics=metrics)
        self._timestep = row.timestep

    def close(self) -> None:
        """End MLflow's run, as finished or, if training has not reached its end, killed."""
        status = "FINISHED" if self._timestep >= self._end else "KILLED"
        self._client.set_terminated(self._run_id, status)


class Trackio:
    """A run in trackio. Rows repeated by a resumed run appear twice, with identical values."""

    def __init__(self, folder: RunDirectory, experiment: Experiment) -> None:
        """
        Args:
            folder: the run.
            experiment: its experiment, for trackio's config.
        """
        with contextlib.redirect_stdout(io.StringIO()):
            import trackio

            self._trackio = trackio
            # A run of the same name may also be one whose folder was deleted.
            is_known = "trackio" in folder.read_tracker_runs()
            self._run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", PROJECT),
                name=_run_name(folder),
                config=strict(settings_of(experiment)),
                resume="allow" if is_known else "never",
                embed=False,
            )
        folder.write_tracker_run("trackio", self._run.id)
        if not is_known:  # an extended run starts with the numbers of the original run
            for row in folder.numbers.read_log():
                self.log(row)

    def log(self, row: LogRow) -> None:
        """Send one row of the log."""
        self._run.log(row.values, step=row.timestep)

    def close(self) -> None:
        """Finish trackio's run."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._trackio.finish()


TRACKERS: Mapping[str, Callable[[RunDirectory, Experiment], Tracker]] = {
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def _run_name(folder: RunDirectory) -> str:
    """Return the run's name at trackers: <ALGO>_<ENV_ID>/<run>."""
    path = folder.path.resolve()
    return f"{path.parent.name}/{path.name}"


def _set_defaults(**variables: str) -> None:
    """Set environment variables of the trackers, unless the user has set them."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)

"""Trackers: what they receive, that they change nothing, and how they behave on resume."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny

from gallop.errors import ExperimentError
from gallop.experiments.flags import flags
from gallop.experiments.yaml_file import from_dict, load, to_yaml
from gallop.learners.learner import LogRow
from gallop.report.display import Display
from gallop.run_folder import trackers
from gallop.run_folder.directory import RunDirectory
from gallop.runs import workflow
from gallop.runs.extend import extend


def is_installed(name):
    return importlib.util.find_spec(name) is not None


NAMED = [
    pytest.param(name, marks=pytest.mark.skipif(not is_installed(name), reason=f"needs {name}"))
    for name in trackers.TRACKERS
]


class Notebook:
    """A custom tracker that keeps everything."""

    def __init__(self):
        self.rows = []
        self.n_closed = 0

    def log(self, row):
        self.rows.append(row)

    def close(self):
        self.n_closed += 1

    def points(self, name):
        return [(row.timestep, row.values[name]) for row in self.rows if name in row.values]


class Failing(Notebook):
    """Fails from a given timestep on, as if the network were down."""

    def __init__(self, timestep):
        super().__init__()
        self.timestep = timestep

    def log(self, row):
        super().log(row)
        if row.timestep >= self.timestep:
            raise ConnectionError("the network is down\nand more lines")


class Drawing(Notebook):
    """Draws random numbers from every global generator."""

    def log(self, row):
        random.random(), np.random.random(), torch.rand(1)


class Stopping(Notebook):
    """Sends Ctrl-C at a given timestep."""

    def log(self, row):
        super().log(row)
        if row.timestep == 240:
            raise KeyboardInterrupt


def run(experiment, results, *own, name="a"):
    return workflow.run(experiment, results, name, Display(quiet=True), own_trackers=own)


def parameters(path):
    """The bytes of every array of a policy file."""
    with zipfile.ZipFile(path) as archive:
        tensors = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def tensorboard_points(folder, name):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder.tensorboard))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(name)]


def row(timestep, **values):
    return LogRow(timestep, {"time/total_timesteps": timestep, **values})


# --- the setting ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wandb", ("wandb",)),
        ("wandb,mlflow", ("wandb", "mlflow")),
        ("[trackio, wandb]", ("trackio", "wandb")),
        ("[]", ()),
    ],
)
def test_trackers_are_given_as_words_or_as_a_list(tmp_path, text, expected):
    (tmp_path / "a.yaml").write_text(to_yaml(tiny("sac")))
    experiment = load(tmp_path / "a.yaml", {"trackers": text})
    assert experiment.trackers == expected
    (tmp_path / "b.yaml").write_text(to_yaml(experiment))
    assert load(tmp_path / "b.yaml") == experiment


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("wandb,wandb", "trackers: 'wandb,wandb': each tracker can be named only once"),
        ("wanbd", "trackers: 'wanbd' is unknown; did you mean wandb?"),
        (["tensorboard"], "trackers: 'tensorboard' is unknown; allowed: wandb, mlflow, trackio"),
        (3, "trackers: 3: "),
    ],
)
def test_an_unknown_tracker_is_refused_in_one_line(value, message):
    with pytest.raises(ExperimentError) as caught:
        tiny("sac", trackers=value)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_flag_is_derived_from_the_setting_and_lists_every_tracker():
    (flag,) = [flag for flag in flags() if flag.name == "trackers"]
    assert flag.doc.startswith("Trackers in addition to TensorBoard")
    assert all(name in flag.doc for name in trackers.TRACKERS)


# --- not installed -------------------------------------------------------------------------------


def test_a_tracker_that_is_not_installed_is_refused_with_the_command_that_installs_it():
    with pytest.raises(ExperimentError) as caught:
        trackers.check_installed(["no_such_tracker", "numpy"])
    assert caught.value.field == "trackers"
    assert "\n" not in str(caught.value)
    assert 'pip install "gallop-rl[no_such_tracker]"' in str(caught.value)


def test_a_folder_with_its_name_is_not_an_installed_package(tmp_path, monkeypatch):
    (tmp_path / "gallop_no_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert is_installed("gallop_no_tracker"), "Python takes it for a package"
    with pytest.raises(ExperimentError):
        trackers.check_installed(["gallop_no_tracker"])


def test_nothing_is_written_if_a_tracker_is_not_installed(tmp_path):
    missing = [name for name in trackers.TRACKERS if not is_installed(name)]
    if not missing:
        pytest.skip("all are installed")
    with pytest.raises(ExperimentError, match=re.escape(f'"gallop-rl[{",".join(missing)}]"')):
        run(tiny("sac", trackers=missing), tmp_path / "results")
    assert list(tmp_path.iterdir()) == []


# --- TensorBoard, and custom trackers ------------------------------------------------------------


def test_tensorboard_and_a_custom_tracker_receive_what_is_in_the_files(tmp_path):
    notebook = Notebook()
    folder = run(tiny("sac", log_interval=1), tmp_path, notebook)
    evaluations = folder.numbers.read_evaluations()
    expected = list(zip([120, 240, 360], evaluations.results.mean(axis=1), strict=True))
    assert notebook.points("eval/mean_reward") == expected
    assert tensorboard_points(folder, "eval/mean_reward") == pytest.approx(np.array(expected))
    progress = (folder.path / "progress.csv").read_text().splitlines()
    assert len(notebook.points("train/utd")) == len(progress) - 1
    assert notebook.n_closed == 1


def test_tensorboard_drops_rows_after_the_boundary(tmp_path):
    folder, experiment = RunDirectory(tmp_path / "a"), tiny("sac")
    with trackers.opened(folder, experiment, 0) as opened:
        opened.log([row(100, **{"train/x": 0.5}), row(200, **{"train/x": 0.5})])
    time.sleep(1.1)  # event files are sorted by the seconds in their names
    with trackers.opened(folder, experiment, 100) as opened:
        opened.log([row(200, **{"train/x": 0.25})])
    assert tensorboard_points(folder, "train/x") == [(100, 0.5), (200, 0.25)]


def test_tensorboard_reads_event_files_in_the_order_in_which_they_were_opened(tmp_path):
    folder, experiment = RunDirectory(tmp_path / "a"), tiny("sac")
    for timestep in (100, 200):
        with trackers.opened(folder, experiment, timestep) as opened:
            opened.log([row(timestep, **{"train/x": 0.5})])
    first, second = sorted(file.name.split(".")[3] for file in folder.tensorboard.iterdir())
    assert int(first) < int(second)  # the names tell the order, by the second
    assert [step for step, _ in tensorboard_points(folder, "train/x")] == [100, 200]


def test_a_stopped_run_closes_its_trackers_and_resumes_in_them(tmp_path):
    stopped, resumed, whole = Stopping(), Notebook(), Notebook()
    with pytest.raises(KeyboardInterrupt):
        run(tiny("sac"), tmp_path, stopped)
    assert stopped.n_closed == 1
    folder = RunDirectory(tmp_path / "SAC_Pendulum-v1" / "a")
    workflow.resume(folder, Display(quiet=True), own_trackers=[resumed])
    run(tiny("sac"), tmp_path, whole, name="b")
    points = [*stopped.points("eval/mean_reward"), *resumed.points("eval/mean_reward")]
    assert points == whole.points("eval/mean_reward")
    steps = [step for step, _ in tensorboard_points(folder, "eval/mean_reward")]
    assert steps == [120, 240, 360]
    assert resumed.n_closed == 1


def test_an_extended_run_is_a_new_run_at_the_trackers(tmp_path):
    before = run(tiny("sac"), tmp_path)
    before.write_tracker_run("mlflow", "a1")
    longer = {"total_timesteps": 720, "evaluation.interval": 120}
    quiet = Display(quiet=True)
    after = extend(before, longer, results=tmp_path, name="b", new_horizon=True, display=quiet)
    assert after.read_tracker_runs() == {}
    assert before.read_tracker_runs() == {"mlflow": "a1"}


# --- a tracker changes nothing -------------------------------------------------------------------


def test_a_failing_tracker_is_dropped_with_one_warning_and_training_continues(tmp_path, caplog):
    failing, notebook = Failing(200), Notebook()
    with caplog.at_level("WARNING", "gallop"):
        folder = run(tiny("sac", log_interval=1), tmp_path, failing, notebook)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    line = "Failing failed, and the run continues without it: the network is down"
    assert warnings == [line]
    assert line in folder.log_file.read_text()
    assert [row.timestep for row in failing.rows if row.timestep >= 200] == [220]
    assert notebook.points("eval/mean_reward")[-1][0] == 360
    alone = run(tiny("sac", log_interval=1), tmp_path, name="b")
    assert parameters(folder.final_model) == parameters(alone.final_model)


def test_trackers_that_cannot_be_opened_or_closed_are_dropped(caplog):
    def broken(what):
        raise OSError(f"no {what}")

    class Unclosable(Notebook):
        def close(self):
            broken("end")

    opened = trackers.Trackers()
    with caplog.at_level("WARNING", "gallop"):
        opened.open(broken, "beginning")
        opened.add(Unclosable())
        opened.log([row(1)])
        opened.close()
        opened.close()
    assert [record.message.split(": ")[-1] for record in caplog.records] == [
        "no beginning",
        "no end",
    ]


@pytest.mark.parametrize("learner", ["native", "sb3"])
@pytest.mark.parametrize("algo", ["sac", "td3", "ppo"])
def test_a_tracker_that_uses_the_global_generators_changes_no_bit(tmp_path, algo, learner):
    experiment = tiny(algo, learner=learner, log_interval=1)
    quiet = run(experiment, tmp_path, name="quiet")
    drawing = run(experiment, tmp_path, Drawing(), name="drawing")
    assert parameters(quiet.final_model) == parameters(drawing.final_model)


# --- the real trackers, if they are installed ----------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from gallop.experiments import yaml_file as experiment_file; from gallop.runs import workflow
from gallop.report.display import Display

class Killing:
    def log(self, row):
        if row.timestep == 240 and "eval/mean_reward" in row.values:
            os.kill(os.getpid(), signal.SIGKILL)

    def close(self):
        raise AssertionError

experiment = experiment_file.load(Path("config.yaml"))
workflow.run(experiment, Path("results"), "a", Display(quiet=True), own_trackers=[Killing()])
"""


def environment(home):
    """Environment variables that keep everything on this machine, in `home`."""
    return os.environ | {
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TRACKIO_DIR": str(home / "trackio"),
        "HF_HUB_OFFLINE": "1",
    }


def python(home, *arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=home,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=300,
    )


def printed(home, program, *arguments):
    done = python(home, "-W", "ignore", "-c", program, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def read_wandb(home, folder):
    """Merge runs with the same id, as `wandb sync` does: id -> name, config, points."""
    from wandb.proto import wandb_internal_pb2

    found = {}
    for path in sorted(folder.path.glob("wandb/offline-run-*/run-*.wandb")):
        run_id, points, state = path.stem.removeprefix("run-"), [], None
        found.setdefault(run_id, {"parts": []})
        for data in leveldb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.HasField("run"):
                config = {c.key: json.loads(c.value_json) for c in record.run.config.update}
                assert record.run.project == "gallop"
                found[run_id] |= {"name": record.run.display_name, "config": config}
            if record.HasField("history"):
                items = record.history.item
                points.append({i.nested_key[0]: json.loads(i.value_json) for i in items})
            if record.HasField("exit"):
                state = {0: "finished"}.get(record.exit.exit_code, "stopped")
        found[run_id]["state"] = state
        found[run_id]["parts"].append([(p["_step"], p) for p in points])
    return found


def leveldb_records(data):
    """The records of a .wandb file, which is a LevelDB log after a header of seven bytes."""
    at, record = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # there is no header at the end of a block
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a complete record, or the last part of one
            yield record
            record = b""


READ_MLFLOW = """
import json
from mlflow import MlflowClient
client, found = MlflowClient(), {}
for run in client.search_runs([client.get_experiment_by_name("gallop").experiment_id]):
    points = {
        name: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    found[run.info.run_id] = {
        "name": run.info.run_name,
        "state": run.info.status,
        "config": run.data.params,
        "points": points,
    }
print(json.dumps(found))
"""

READ_TRACKIO = """
import json
import trackio
found = {}
for run in trackio.Api().runs("gallop"):
    found[run.id] = {"name": run.name, "config": run.config}
print(json.dumps(found))
"""


def read_trackio(home, folder):
    found = printed(home, READ_TRACKIO)
    for run in found.values():
        run["points"] = {}
        for metric in ("eval/mean_reward", "train/utd", "time/total_timesteps"):
            named = ("--project", "gallop", "--run", run["name"], "--metric", metric)
            command = ("-m", "trackio.cli", "get", "metric", *named, "--json")
            done = python(home, "-W", "ignore", *command)
            assert done.returncode == 0, done.stderr
            values = json.loads(done.stdout)["values"]
            run["points"][metric] = [(value["step"], value["value"]) for value in values]
    return found


def read(tracker, home, folder):
    """Read all runs with the tracker's own reader: run id -> content."""
    if tracker == "mlflow":
        return printed(home, READ_MLFLOW)
    if tracker == "trackio":
        return read_trackio(home, folder)
    found = read_wandb(home, folder)
    for run in found.values():
        names = {name for part in run["parts"] for _, point in part for name in point}
        run["points"] = {}
        for name in names:
            points = {}
            for part in run["parts"]:
                points |= {step: point[name] for step, point in part if name in point}
            run["points"][name] = sorted(points.items())
    return found


def once(points):
    """Drop duplicates: trackio keeps rows after the last boundary, which a resumed run repeats."""
    found = dict(points)
    assert all(value == pytest.approx(found[step]) for step, value in points)
    return sorted(found.items())


@pytest.fixture(scope="module", params=NAMED)
def told(request, tmp_path_factory):
    """A run with one tracker, killed after logging timestep 240 and resumed from 120."""
    tracker, home = request.param, tmp_path_factory.mktemp(request.param)
    experiment = tiny("sac", log_interval=1, trackers=[tracker])
    (home / "config.yaml").write_text(to_yaml(experiment))
    killed = python(home, "-c", KILLED)
    assert killed.returncode == -9, killed.stderr
    folder = RunDirectory(home / "results" / "SAC_Pendulum-v1" / "a")
    (run_before,) = read(tracker, home, folder)
    resumed = python(home, "-m", "gallop", "run", "--resume", folder.path, "--quiet")
    assert resumed.returncode == 0, resumed.stderr
    return tracker, home, folder, run_before, resumed


def test_a_resumed_run_continues_the_same_run_at_the_tracker(told):
    tracker, home, folder, run_before, _ = told
    ((run_id, found),) = read(tracker, home, folder).items()
    assert run_id == run_before == folder.read_tracker_runs()[tracker]
    evaluations = folder.numbers.read_evaluations()
    expected = list(zip([120, 240, 360], evaluations.results.mean(axis=1), strict=True))
    points = found["points"]["eval/mean_reward"]
    points = once(points) if tracker == "trackio" else [tuple(point) for point in points]
    assert points == [(step, pytest.approx(value)) for step, value in expected]
    steps = [step for step, _ in found["points"]["train/utd"]]
    steps = sorted(set(steps)) if tracker == "trackio" else steps
    assert steps == [50, 100, 120, 170, 220, 240, 290, 340, 360]


def test_the_tracker_gets_the_runs_name_and_settings(told):
    tracker, home, folder, _, _ = told
    (found,) = read(tracker, home, folder).values()
    assert found["name"] == "SAC_Pendulum-v1/a"
    config = found["config"]
    if tracker == "mlflow":
        assert config["hyperparameters.batch_size"] == "16"
        assert config["hyperparameters.policy_kwargs.net_arch"] == "[16]"
    else:
        assert config["hyperparameters"]["batch_size"] == 16
        settings = {name: value for name, value in config.items() if not name.startswith("_")}
        assert from_dict(settings) == folder.read_experiment()
    if tracker != "trackio":
        assert found["state"].lower() == "finished"


def test_the_tracker_prints_nothing(told):
    _, _, _, _, resumed = told
    assert (resumed.stdout, resumed.stderr) == ("", "")


def test_the_policy_is_bit_identical_to_one_without_the_tracker(told, tmp_path):
    folder = told[2]
    alone = run(tiny("sac", log_interval=1), tmp_path)
    assert parameters(folder.final_model) == parameters(alone.final_model)


@pytest.mark.parametrize("tracker", NAMED)
def test_an_unreachable_tracker_only_causes_a_warning(tracker, tmp_path):
    """The store is unusable in different ways, with the same outcome."""
    experiment = tiny("sac", log_interval=1, trackers=[tracker])
    (tmp_path / "config.yaml").write_text(to_yaml(experiment))
    nowhere = "http://127.0.0.1:9"  # nothing listens on the discard port
    unreachable = {
        "WANDB_MODE": "online",
        "WANDB_API_KEY": "0" * 40,
        "WANDB_BASE_URL": nowhere,
        "WANDB_INIT_TIMEOUT": "5",
        "MLFLOW_TRACKING_URI": nowhere,
        "TRACKIO_DIR": "/dev/null/nowhere",
    }
    done = subprocess.run(
        [sys.executable, "-m", "gallop", "run", "config.yaml", "--name", "a"],
        cwd=tmp_path,
        env=environment(tmp_path) | unreachable,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    folder = RunDirectory(tmp_path / "results" / "SAC_Pendulum-v1" / "a")
    assert folder.final_model.exists()
    log = folder.log_file.read_text()
    if tracker == "trackio":  # trackio warns by itself and raises nothing
        assert log.count("trackio failed") == 1, log
    else:
        assert log.count("the run continues without it") == 1, log
        assert "the run continues without it" in " ".join((done.stdout + done.stderr).split())


@pytest.mark.skipif(not is_installed("wandb"), reason="needs wandb")
def test_wandb_without_a_login_is_dropped_and_never_asks(tmp_path):
    (tmp_path / "config.yaml").write_text(to_yaml(tiny("sac", trackers=["wandb"])))
    without = {n: v for n, v in os.environ.items() if n not in ("WANDB_API_KEY", "WANDB_MODE")}
    done = subprocess.run(
        [sys.executable, "-m", "gallop", "run", "config.yaml", "--name", "a"],
        cwd=tmp_path,
        env=without | {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    log = Path(tmp_path, "results", "SAC_Pendulum-v1", "a", "run.log").read_text()
    assert "not logged in; wandb login" in log

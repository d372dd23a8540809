"""Tasks that misbehave: one line with the task, the timestep and its code; the state is kept."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import runs

from gallop.commands.cli import main
from gallop.run_folder import resume_state

TASK = "gallop_misbehaving_task:Misbehaving-v0"
HERE = r"\(.*gallop_misbehaving_task\.py:\d+\)"
# Messages after "…:Misbehaving-v0, training, segment 0, after timestep 29: ".
FAILS = {
    "raises": rf"RuntimeError: a leg broke {HERE}",
    "raises_lines": rf"ValueError: first line … {HERE}",
    "raises_long": rf"ValueError: x{{300}} … {HERE}",
    "raises_key": rf"KeyError: 'x' {HERE}",
    "raises_nothing": rf"AssertionError {HERE}",
    "raises_escapes": rf"ValueError: \\x1b\[2Jgone {HERE}",
    "raises_own": rf"Tired: of walking {HERE}",
    "raises_unspeakable": rf"UnspeakableError {HERE}",
    "raises_pipe": rf"BrokenPipeError: \[Errno 32\] Broken pipe {HERE}",
    "raises_os": rf"OSError: \[Errno 5\] Input/output error: '/dev/robot' {HERE}",
    "raises_eof": rf"EOFError: no more input {HERE}",
    "raises_stop": rf"StopIteration: the log has ended {HERE}",
    "raises_exit": rf"SystemExit: 3 {HERE}",
    "raises_memory": rf"MemoryError: no more memory {HERE}",
    "observation_nan": r"returned NaN in an observation \(index 1 of 2 values\)",
    "observation_inf": r"returned minus infinity in an observation \(index 1 of 2 values\)",
    "observation_huge": r"returned 1e\+39, which overflows float32, in an observation \(.*\)",
    "observation_shape": r"step returned an observation of shape \(3,\), expected \(2,\)",
    "observation_column": r"step returned an observation of shape \(2, 1\), expected \(2,\)",
    "observation_scalar": r"step returned an observation of shape \(\), expected \(2,\)",
    "observation_none": r"step returned None as the observation, expected numbers of shape \(2,\)",
    "observation_text": r"step returned a str as the observation, .*",
    "observation_complex": r"step returned an array of shape \(2,\) as the observation, .*",
    "observation_objects": r"step returned an array of shape \(2,\) as the observation, .*",
    "observation_dict": r"step returned a dict as the observation, .*",
    "reward_nan": r"returned NaN as the reward",
    "reward_inf": r"returned infinity as the reward",
    "reward_huge": r"returned -1e\+300, which overflows float32, as the reward",
    "reward_large": r"returned 1e\+30 as the reward, .*--normalize\.rewards true",
    "reward_none": r"returned None as the reward, expected a number",
    "reward_text": r"returned a str as the reward, expected a number",
    "reward_pair": r"returned an array of shape \(2,\) as the reward, .*:LinearReward, which .*",
    "reward_complex": r"returned a complex as the reward, expected a number",
    "end_none": r"returned None as `terminated`, expected True or False",
    "end_text": r"returned a str as `truncated`, expected True or False",
    "end_pair": r"returned an array of shape \(2,\) as `terminated`, expected True or False",
    "four": r"step must return \(observation, .*, info\): .*",
    "six": r"step must return \(observation, .*, info\): .*",
    "nothing": r"step must return \(observation, .*, info\), not None|TypeError: .*",
}
RESETS = {  # at the end of the second episode
    "reset_raises": rf"RuntimeError: motor cold {HERE}",
    "late_old_reset": r"reset must return \(observation, info\), not an array of shape \(2,\).*",
    "late_reset_nan": r"returned NaN in an observation \(index 0 of 2 values\)",
}
DIVERGED = (
    *("observation_nan", "observation_inf", "observation_huge", "late_reset_nan"),
    *("reward_nan", "reward_inf", "reward_huge", "reward_large"),
)
REFUSED = {  # before anything is written
    "old_reset": r"reset must return \(observation, info\), not an array of shape \(2,\).*",
    "reset_none": r"reset must return \(observation, info\), not None",
    "reset_shape": r"reset returned an observation of shape \(3,\), expected \(2,\)",
}
TRAINS = {  # and what run.log says once, or ""
    "good": "",
    "reset_info_none": "Misbehaving-v0 returns None as info, expected a dictionary: ignored",
    "reward_array": "",
    "reward_zero_d": "",
    "reward_int": "",
    "end_array": "",
    "end_int": "",
    "observation_list": "",
    "observation_f64": "",
    "info_none": "Misbehaving-v0 returns None as info, expected a dictionary: ignored",
    "info_text": "Misbehaving-v0 returns a str as info, expected a dictionary: ignored",
    "one_buffer": "",
    "in_place": "",
    "term_none": "'reward_contact' in info is not a number",
    "term_text": "'reward_shape' in info is not a number",
    "term_array": "'reward_parts' in info is not a number",
    "term_complex": "'reward_z' in info is not a number",
    "key_number": "",
    "success_pair": "is_success, expected a number",
    "success_text": "is_success, expected a number",
    "success_array": "",
    "episode_text": "",
    "episode_own": "",
    "truncated_text": "",
    "terminal_none": "",
    "unstable_false": "",
    "info_function": "",
    "info_lock": "",
    "close_raises": "close() failed: RuntimeError: already closed",
}
ALGORITHMS = {
    "sac": ["batch_size:16", "learning_starts:20"],
    "ppo": ["n_steps:40", "batch_size:20", "n_epochs:2"],
}


class Said:
    """The outcome of a run."""

    def __init__(self, code: int, output: str, errors: str, home: Path) -> None:
        self.code, self.output = code, output
        self.lines = [line for line in errors.splitlines() if line.strip()]
        folders = list(home.glob("results/*/a"))
        self.folder = folders[0] if folders else None

    @property
    def log(self) -> str:
        return "" if self.folder is None else (self.folder / "run.log").read_text()


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Runs a kind of misbehaviour in this process."""
    monkeypatch.chdir(tmp_path)

    def call(kind, algo="sac", vec_env="dummy", task=TASK, learner="auto", more=()):
        kwargs = kind if kind.startswith("{") else f"{{kind: {kind}}}"
        capsys.readouterr()
        code = main(
            [
                *("run", "--no-preset", "--name", "a", "--algo", algo, "--env", task),
                *("--env-kwargs", kwargs, "--vec-env", vec_env, "--learner", learner),
                *("-n", "80", "--segment", "40", "--eval-freq", "80", "--milestones", "[100]"),
                *("--eval-episodes", "2", "--films", "false", "--n_threads", "1"),
                *more,
                *("-params", *ALGORITHMS[algo], "policy_kwargs.net_arch:[16]"),
            ]
        )
        output, errors = capsys.readouterr()
        return Said(code, output, errors, tmp_path)

    return call


def check(kind, said):
    """Check for one line, the exit code, details in run.log, and a folder that can be resumed."""
    if kind in REFUSED:
        assert said.code == 2 and said.folder is None
        assert re.fullmatch(f"gallop: {TASK} does not work with .*: {REFUSED[kind]}", *said.lines)
        return
    if kind in TRAINS:
        assert said.code == 0, said.lines
        assert said.lines == []
        assert (
            said.log.count(TRAINS[kind]) == 1
            if TRAINS[kind]
            else not re.search("ignored|left out", said.log)
        )
        return
    assert said.code == 1
    timestep, pattern = (39, RESETS[kind]) if kind in RESETS else (29, FAILS[kind])
    where = rf"training, segment 0, after timestep ({timestep}|{timestep + 1})"
    assert len(said.lines) == 1
    assert re.fullmatch(f"gallop: {TASK}, {where}: ({pattern})", said.lines[0]), said.lines[0]
    assert "saved up to timestep 0" in said.output
    assert f"gallop run --resume {Path('results')}" in said.output.replace("\n", "")
    if kind.startswith("raises"):
        assert "Traceback" in said.log and "gallop_misbehaving_task.py" in said.log
    assert (said.folder / "diverged.json").exists() == (kind in DIVERGED)
    assert resume_state.newest_boundary(said.folder / "state") is None


SAMPLE = (
    "raises",
    "raises_exit",
    "raises_pipe",
    "raises_unspeakable",
    "observation_nan",
    "observation_column",
)
SAMPLE += ("reward_none", "reward_large", "four", "reset_raises", "old_reset", "late_reset_nan")


@pytest.mark.parametrize("kind", SAMPLE)
def test_a_tasks_mistake_is_reported_on_one_line(kind, run):
    check(kind, run(kind))


@pytest.mark.parametrize("kind", ["info_lock", "success_pair"])
def test_unusual_info_works(kind, run):
    check(kind, run(kind))


KINDS = [*FAILS, *RESETS, *REFUSED, *TRAINS]


WAYS = list(itertools.product(["sac", "ppo"], ["dummy", "subproc"]))


@pytest.mark.parametrize(
    ("kind", "algo", "vec_env"),
    [
        pytest.param(kind, *way, marks=mark)
        for number, kind in enumerate(KINDS)
        for shift, way in enumerate(WAYS)
        # The slow tests do each kind in one way, `make faults` in every way.
        for mark in [pytest.mark.faults, *[pytest.mark.slow] * (number % len(WAYS) == shift)]
    ],
)
def test_every_kind_with_both_algorithms_and_in_workers(kind, algo, vec_env, run):
    said = run(kind, algo, vec_env)
    check(kind, said)
    runs.record("misbehaving", kind=kind, algo=algo, vec_env=vec_env, exit_code=said.code)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raises", "observation_nan", "reward_large", "success_pair"])
@pytest.mark.parametrize("algo", ["sac", "ppo"])
def test_the_sb3_learner_reports_the_same(kind, algo, run):
    check(kind, run(kind, algo, learner="sb3"))


def test_there_are_sixty_kinds():
    assert len(KINDS) >= 60 and not set(SAMPLE) - set(KINDS)


def test_spaces_that_a_worker_cannot_send_are_reported(run):
    said = run("locked_space", vec_env="subproc")
    assert said.code == 1 and len(said.lines) == 1
    assert "its spaces cannot be sent from a worker process: TypeError" in said.lines[0]
    assert said.lines[0].endswith("use --vec-env dummy")
    assert said.folder is None

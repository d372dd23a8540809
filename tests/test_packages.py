"""Tasks of other packages: names, what is refused in the dry run, and real packages."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from gallop.commands.cli import main
from gallop.experiments import packages, task

WARNS = pytest.mark.filterwarnings("ignore")  # Gymnasium and packages warn of their spaces
DRY = ["run", "--dry-run", "-n", "1000", "--no-preset", "--milestones", "100"]


def refused(arguments, capsys):
    """The one line with which a dry run is refused."""
    assert main([*DRY, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("FetchPush-v4", "gymnasium_robotics has it: gymnasium_robotics:FetchPush-v4"),
        ("dm_control/cheetah-run-v0", 'pip install "shimmy[dm-control]"'),
        ("Meta-World/MT1", "metaworld has it: metaworld:Meta-World/MT1 (pip install metaworld)"),
        ("myoElbowPose1D6MRandom-v0", "myosuite has it"),
        ("PandaReach-v3", "panda_gym:PandaReach-v3"),
        ("ALE/Pong-v5", "ale_py:ALE/Pong-v5"),
        ("PongNoFrameskip-v4", "ale_py:PongNoFrameskip-v4"),
        ("minecart-v0", "mo_gymnasium:minecart-v0"),
        ("PyFlyt/QuadX-Hover-v4", "PyFlyt.gym_envs:PyFlyt/QuadX-Hover-v4 (pip install pyflyt)"),
        ("PyFlyt.gym_envs:PyFlyt/QuadX-Hover-v4", "pip install pyflyt"),
        ("gallop_odd_task:Many-v0", "is registered for gymnasium.make_vec alone"),
        ("Hopper-v3", "needs mujoco-py and is no longer a part of Gymnasium: use Hopper-v5"),
        ("HalfCheetah-v2", "use HalfCheetah-v5"),
        # A module that does not register the task: Gymnasium would take its own.
        ("gallop_wrappers:HalfCheetah-v5", "gallop_wrappers does not register HalfCheetah-v5"),
        ("nowhere_gym:Walk-v0", "'nowhere_gym' cannot be imported"),
    ],
)
def test_an_unknown_id_says_where_the_task_is(env, words, capsys):
    package = packages.package_for(env.rpartition(":")[2])
    if package and importlib.util.find_spec(package.module.partition(".")[0]):
        pytest.skip("that package is installed")
    assert words in refused(["--algo", "sac", "--env", env], capsys)


def test_a_package_that_is_not_installed_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "metaworld", None)
    error = refused(["--algo", "sac", "--env", "metaworld:Meta-World/MT1"], capsys)
    assert "pip install metaworld" in error


def test_a_package_whose_tasks_another_of_its_modules_registers_is_named():
    hint = task._hint("PyFlyt", "PyFlyt/QuadX-Hover-v4", {})
    assert hint == "PyFlyt.gym_envs registers it: PyFlyt.gym_envs:PyFlyt/QuadX-Hover-v4"


@pytest.mark.parametrize(
    ("place", "words"),
    [("/x/gymnasium_robotics/utils.py", '"mujoco<3.12"'), ("/x/another_package/utils.py", "")],
)
def test_an_assertion_of_gymnasium_robotics_names_the_mujoco_that_it_needs(place, words):
    with pytest.raises(AssertionError) as raised:
        exec(compile("assert 1 > 2", place, "exec"))
    hint = packages.about_versions(raised.value)
    assert words in hint and bool(words) == bool(hint)


def test_mujoco_without_its_bindings_is_explained(monkeypatch):
    """As pip leaves it after an upgrade from 3.15.0 to 4.0.0."""
    import mujoco

    assert packages.about_mujoco() == ""
    monkeypatch.delattr(mujoco, "MjModel")
    assert 'pip install --force-reinstall "mujoco<3.16"' in packages.about_mujoco()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("tuple", "sac has no networks for Tuple observations"),
        ("text", "sac has no networks for Text observations"),
        ("small image", "images of 8×8×3 are too small for SB3's network, which needs 36×36"),
        ("text in a Dict", "Text observations (part 'mission')"),
        ("small image in a Dict", "images of 8×8×3 (part 'image') are too small"),
        ("vector reward", "reward"),
        ("no range", "has no action with a range: index 0 goes from 0 to 0"),
        ("silent", "AssertionError"),
    ],
)
def test_what_no_learner_can_train_is_refused_in_the_dry_run(kind, words, capsys):
    arguments = ["--algo", "sac", "--env", "gallop_odd_task:OddSpaces-v0", "--env-kwargs"]
    assert words in refused([*arguments, f"{{kind: {kind}}}"], capsys)


def test_an_error_without_text_has_its_place(capsys):
    arguments = ["--algo", "sac", "--env", "gallop_odd_task:OddSpaces-v0", "--env-kwargs"]
    assert "gallop_odd_task.py:" in refused([*arguments, "{kind: silent}"], capsys)


def test_one_milestone_and_one_wrapper_need_no_brackets(capsys):
    wrapper = "gymnasium.wrappers:RescaleObservation"
    given = ["--algo", "sac", "--env", "Pendulum-v1", "--wrappers", "gallop_wrappers:Halved"]
    assert main([*DRY, *given]) == 0
    shown = capsys.readouterr().out
    assert "100 % at 1,000" in shown and "gallop_wrappers:Halved" in shown
    assert wrapper not in shown


# --- PPO and action bounds -----------------------------------------------------------------------


@WARNS
def test_ppo_is_warned_of_bounds_that_do_not_fit_and_rescales_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    odd = ["--env", "gallop_odd_task:OddSpaces-v0", "--env-kwargs", "{kind: knees}"]
    assert main([*DRY, "--algo", "ppo", *odd, "-params", "n_steps:500"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "2 actions have unusual bounds, as action 0 goes from -2.82 to -0.888, but PPO" in words
    rescaled = [*DRY, "--algo", "ppo", *odd, "-params", "n_steps:500", "--rescale-actions", "true"]
    assert main(rescaled) == 0
    assert "PPO begins near 0" not in " ".join(capsys.readouterr().out.split())
    assert main([*DRY, "--algo", "sac", *odd]) == 0, "SAC scales actions itself"
    assert "begins near 0" not in " ".join(capsys.readouterr().out.split())


# --- real packages; .ci/check_extras installs them ------------------------------------------------


@WARNS
def test_minigrids_text_is_refused_by_name(capsys):
    pytest.importorskip("minigrid", reason="minigrid, a package of tasks, is not installed")
    steps = ["-params", "n_steps:500"]
    error = refused(["--algo", "ppo", "--env", "minigrid:MiniGrid-Empty-5x5-v0", *steps], capsys)
    assert "MissionSpace observations (part 'mission')" in error or "7×7×3 (part" in error


@WARNS
def test_rewards_of_mo_gymnasium_are_refused_by_name(capsys):
    pytest.importorskip("mo_gymnasium", reason="mo-gymnasium, a package of tasks, is not installed")
    error = refused(["--algo", "sac", "--env", "mo_gymnasium:mo-mountaincarcontinuous-v0"], capsys)
    assert "an array of shape (2,) as the reward" in error and "LinearReward" in error


@WARNS
def test_highway_env_trains_twice_to_the_same_bits(tmp_path, capsys):
    """It replaces its spaces, unseeded, at every reset. Parking is a task with goals."""
    pytest.importorskip("highway_env", reason="highway-env, a package of tasks, is not installed")
    digests = []
    for name in ("a", "b"):
        arguments = ["--algo", "sac", "--env", "highway_env:parking-v0", "-n", "24"]
        arguments += ["--env-kwargs", "{max_episode_steps: 6}", "--eval-episodes", "1"]
        settings = ["replay_buffer:her", "learning_starts:6", "policy_kwargs.net_arch:[16]"]
        small = ["--no-preset", "--milestones", "100", "--films", "false", "--num-threads", "1"]
        command = ["run", *arguments, "-params", *settings, *small, "--name", name]
        assert main([*command, "-f", str(tmp_path)]) == 0
        (run,) = tmp_path.glob(f"*/{name}")
        digests.append((run / "episodes.csv").read_bytes())
    assert digests[0] == digests[1]

"""The contract suite: every learner must pass it with every algorithm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from algorithm_rows import BOTH, EVERY, ROWS
from conftest import tiny

from gallop.algorithms.table import ALGORITHMS
from gallop.environments.make import evaluation_env
from gallop.errors import DivergedError
from gallop.evaluation.episodes import evaluate
from gallop.policies import sb3_zip
from gallop.run_folder import resume_state

RUNS = {
    f"{learner}: {algo}, {case}": (algo, {"learner": learner, **settings})
    for algo, row in ROWS.items()
    for case, (learners, settings) in row.contract.items()
    for learner in learners
}
cases = pytest.mark.parametrize("case", RUNS)
learners = pytest.mark.parametrize("learner", BOTH)
every = pytest.mark.parametrize(("algo", "learner"), EVERY)


def experiment_of(case):
    algo, settings = RUNS[case]
    return tiny(algo, **settings)


def test_every_algorithm_has_a_row():
    assert ROWS.keys() == ALGORITHMS.keys()


@cases
def test_the_same_seed_gives_the_same_bits_and_another_seed_different_ones(
    case, trainers, tmp_path
):
    first, second = trainers(experiment_of(case)), trainers(experiment_of(case))
    other = trainers(experiment_of(case).model_copy(update={"training_seed": 1}))
    digests = []
    for number, trainer in enumerate((first, second, other)):
        next(trainer.segments())
        digests.append(trainer.digest(tmp_path / str(number)))
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


@cases
@pytest.mark.parametrize("n_done", [1, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(case, n_done, trainers, tmp_path):
    whole = trainers(experiment_of(case))
    rows = []
    for outcome in whole.segments():
        rows += outcome.diagnostics.rows
        if outcome.boundary.segment + 1 == n_done:
            resume_state.save_boundary(tmp_path / "state", whole.learner, n_done)
            rows.clear()  # of the segments before the stop
    resumed = trainers(experiment_of(case))
    saved = resume_state.newest_boundary(tmp_path / "state")
    resume_state.load_boundary(saved, resumed.learner)
    assert resumed.learner.timestep == saved.timestep
    resumed_rows = [r for o in resumed.to_the_end(saved.n_segments) for r in o.diagnostics.rows]
    assert resumed.digest(tmp_path / "b") == whole.digest(tmp_path / "a")
    clock = {"time/fps", "time/time_elapsed"}
    for ours, theirs in zip(resumed_rows, rows, strict=True):
        assert ours.timestep == theirs.timestep
        for name in theirs.values.keys() - clock:
            np.testing.assert_equal(ours.values[name], theirs.values[name], err_msg=name)


@every
def test_a_new_process_resumes_to_the_same_bits(algo, learner, trainers, tmp_path):
    import subprocess
    import sys
    from pathlib import Path

    whole = trainers(tiny(algo, learner=learner, normalize={"observations": True}))
    for outcome in whole.segments():
        if outcome.boundary.segment == 1:
            resume_state.save_boundary(tmp_path / "state", whole.learner, 2)
    program = f"""
from pathlib import Path
from conftest import Trainer, tiny
from gallop.run_folder import resume_state as checkpoint
trainer = Trainer(tiny({algo!r}, learner={learner!r}, normalize={{"observations": True}}))
saved = checkpoint.newest_boundary(Path("state"))
checkpoint.load_boundary(saved, trainer.learner)
trainer.to_the_end(saved.n_segments)
print(trainer.digest(Path("b")))
"""
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": tests, "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == whole.digest(tmp_path / "a")


# The items of a resume state, and how to lose each: the run must then differ. "Full" is lost in a
# buffer that has wrapped around, TD3's counter where it is odd, the timestep under a schedule.
def _lose_adam_of_sb3(learner):
    for _, optimizer in learner._optimizers():
        optimizer.state.clear()


def _lose_entropy_coefficient_of_sb3(learner):
    with torch.no_grad():
        learner._model.log_ent_coef.zero_()


def _lose_targets_of_sb3(learner):
    learner._model.critic_target.load_state_dict(learner._model.critic.state_dict())


def _lose_adam_of_native(learner):
    for network in learner.networks.values():
        network.first_moment[:] = network.second_moment[:] = 0


def _lose_targets_of_native(learner):
    for network in learner.networks.values():
        if network.target is not None:
            network.target[:] = network.parameters


def _set(path, value):
    """Return a function that sets a dotted attribute of the learner."""

    def lose(learner):
        *parents, last = path.split(".")
        for name in parents:
            learner = getattr(learner, name)
        setattr(learner, last, value)

    return lose


LOSSES = {
    "sb3: Adam's moments": ("sac", _lose_adam_of_sb3),
    "sb3: Adam's moments of PPO": ("ppo", _lose_adam_of_sb3),
    "sb3: entropy coefficient": ("sac", _lose_entropy_coefficient_of_sb3),
    "sb3: target networks": ("sac", _lose_targets_of_sb3),
    "sb3: timestep": ("sac", _set("_model.num_timesteps", 0)),
    "sb3: replay buffer's content": (
        "sac",
        lambda learner: learner._model.replay_buffer.rewards.fill(0),
    ),
    "sb3: replay buffer is full": ("sac", _set("_model.replay_buffer.full", False)),
    "sb3: replay buffer's position": ("sac", _set("_model.replay_buffer.pos", 0)),
    "sb3: gradient steps of TD3": ("td3", _set("_model._n_updates", 0)),
    "sb3: normaliser": ("ppo", _set("_normalization.observations.count", 1.0)),
    "sb3: return statistics": ("ppo", _set("_normalization.returns.var", 1.0)),
    "native: Adam's moments": ("sac", _lose_adam_of_native),
    "native: Adam's moments of PPO": ("ppo", _lose_adam_of_native),
    "native: Adam's moments of log_std": ("ppo", lambda learner: learner.log_std[1].fill(0)),
    "native: log_std": ("ppo", lambda learner: learner.log_std[0].fill(0)),
    "native: entropy coefficient": ("sac", lambda learner: learner.entropy[:1].fill(0)),
    "native: its Adam's moments": ("sac", lambda learner: learner.entropy[1:].fill(0)),
    "native: target networks": ("sac", _lose_targets_of_native),
    "native: target of TD3's actor": ("td3", _lose_targets_of_native),
    "native: timestep": ("sac", _set("timestep", 0)),
    "native: replay buffer's content": (
        "sac",
        lambda learner: learner.replay.arrays["rewards"].fill(0),
    ),
    "native: replay buffer is full": ("sac", _set("replay.n_added", 90)),  # 240 modulo 150
    "native: replay buffer's position": ("sac", _set("replay.n_added", 150)),
    "native: gradient steps of TD3": ("td3", _set("n_gradient_steps", 0)),
    "native: normaliser": ("ppo", _set("_normalization.observations.count", 1.0)),
    "native: return statistics": ("ppo", _set("_normalization.returns.var", 1.0)),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_state_that_lacks_one_item_does_not_resume_exactly(loss, trainers, tmp_path):
    from gallop.environments.vectorised import rebuild
    from gallop.experiments import seeding

    algo, lose = LOSSES[loss]
    settings = {"normalize": True} if algo == "ppo" else {}
    experiment = tiny(algo, learner=loss.partition(":")[0], **settings)
    whole = trainers(experiment)
    for outcome in whole.segments():
        if outcome.boundary.segment == 1:
            resume_state.save_boundary(tmp_path / "state", whole.learner, 2)
    saved = resume_state.newest_boundary(tmp_path / "state")

    def last_segment(spoil):
        """The parameters after the same last segment; any difference comes from the lost item."""
        resumed = trainers(experiment)
        resume_state.load_boundary(saved, resumed.learner)
        spoil(resumed.learner)
        timesteps = whole.plan.boundaries[2].timestep - whole.plan.boundaries[1].timestep
        rebuild(resumed.environments)
        resumed.learner.learn(
            resumed.environments, seeding.segment_seed(0, 2), timesteps, 360, lambda timestep: None
        )
        return parameters(resumed.learner)

    theirs = parameters(whole.learner)
    kept, lost = last_segment(lambda learner: None), last_segment(lose)
    assert all(np.array_equal(kept[name], theirs[name]) for name in theirs)
    assert any(not np.array_equal(lost[name], theirs[name]) for name in theirs)


def parameters(learner):
    """Every parameter of the policy and its critics, by SB3's names."""
    if hasattr(learner, "networks"):
        return learner._tensors()
    return {n: t.numpy().copy() for n, t in learner._model.policy.state_dict().items()}


@cases
def test_the_policy_file_acts_like_the_learner(case, trainers, tmp_path):
    trainer = trainers(experiment_of(case))
    next(trainer.segments())
    trainer.learner.save_policy(tmp_path / "policy.zip")
    env = evaluation_env(trainer.experiment)
    policy = sb3_zip.read(tmp_path / "policy.zip", env.observation_space, env.action_space)
    seeds = [1, 2, 3]
    ours = evaluate(policy, lambda: evaluation_env(trainer.experiment), seeds)
    theirs = evaluate(trainer.learner.policy, lambda: evaluation_env(trainer.experiment), seeds)
    np.testing.assert_array_equal(ours.returns, theirs.returns)
    assert len(set(ours.returns)) > 1 or trainer.experiment.env == "CartPole-v1"


@every
def test_a_schedule_falls_once_over_the_whole_run(algo, learner, trainers):
    trainer = trainers(tiny(algo, {"learning_rate": "lin_1e-3"}, learner=learner))
    rates = {}
    for outcome in trainer.to_the_end():
        for row in outcome.diagnostics.rows:
            if "train/learning_rate" in row.values:
                rates[row.timestep] = row.values["train/learning_rate"]
    for timestep, rate in rates.items():
        # A row of PPO within a segment has the rate of the previous rollout.
        lag = (30 if ALGORITHMS[algo].on_policy else 1) if timestep % 120 else 0
        assert rate == pytest.approx(1e-3 * (1 - (timestep - lag) / 360), abs=1e-12)
    assert rates[360] == 0


@learners
@pytest.mark.parametrize(
    ("n_envs", "settings", "gradient_steps"),
    [
        # Learning starts at the first timestep after 31 at which a round ends.
        (1, {"utd": 1}, 120 - 31),
        (2, {"utd": 1}, 120 - 30),
        (2, {"utd": 0.5}, (120 - 30) // 2),
        (2, {"utd": 2, "train_freq": 2}, 2 * (120 - 28)),
        (2, {"gradient_steps": -1}, 120 - 30),
        (2, {"gradient_steps": 1}, (120 - 30) // 2),
    ],
)
def test_the_utd_ratio_does_not_depend_on_the_number_of_environments(
    n_envs, settings, gradient_steps, learner, trainers
):
    trainer = trainers(tiny("sac", settings, n_envs=n_envs, learner=learner))
    outcome = next(trainer.segments())
    settings = trainer.experiment.hyperparameters
    assert trainer.learner.n_gradient_steps == gradient_steps
    assert settings.n_gradient_steps(120, n_envs) == gradient_steps, "the plan says the same"
    row = outcome.diagnostics.rows[-1]
    assert row.values["train/utd"] == pytest.approx(settings.utd_ratio(n_envs), rel=0.05)


@learners
def test_ppo_counts_minibatches_as_gradient_steps(learner, trainers):
    trainer = trainers(tiny("ppo", learner=learner))
    next(trainer.segments())
    assert trainer.learner.n_gradient_steps == 4 * 2 * (30 // 15)  # rollouts × epochs × batches


@learners
def test_the_tick_can_stop_a_segment_and_sees_its_timesteps(learner, trainers):
    trainer = trainers(tiny("sac", learner=learner))
    seen = []

    def tick(timestep):
        seen.append(timestep)
        if timestep > 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.learner.learn(trainer.environments, 1, 100_000, 100_000, tick)
    assert seen == sorted(seen)
    assert seen[0] >= 1


@learners
@pytest.mark.parametrize("algo", ["sac", "ppo"])
def test_diverging_training_is_reported(algo, learner, trainers):
    trainer = trainers(tiny(algo, {"learning_rate": 1e30}, learner=learner))
    with pytest.raises(DivergedError, match="a learning_rate below 1e"):
        trainer.to_the_end()


def test_boundaries_before_the_last_two_are_deleted(trainers, tmp_path):
    trainer = trainers(tiny("sac"))
    trainer.to_the_end(state=tmp_path)
    kept = sorted(p.name for p in tmp_path.iterdir() if p.name != "replay")
    assert kept == ["000000000240", "000000000360"]
    # The older boundary needs rows 90 to 240, the newer one 210 to 360.
    assert len(list((tmp_path / "replay").iterdir())) == 3


@pytest.mark.parametrize("file", ["learner.safetensors", "learner.json", "boundary.json", "shard"])
def test_a_damaged_boundary_is_replaced_by_the_previous_one(file, trainers, tmp_path):
    state = tmp_path / "state"
    whole = trainers(tiny("sac"))
    whole.to_the_end(state=state)
    if file == "shard":
        victim = state / "replay" / "000000000240-000000000360.safetensors"
    else:
        victim = state / "000000000360" / file
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0xFF
    victim.write_bytes(content)
    saved = resume_state.newest_boundary(state)
    assert saved.timestep == 240
    resumed = trainers(tiny("sac"))
    resume_state.load_boundary(saved, resumed.learner)
    resumed.to_the_end(saved.n_segments, state=state)
    assert resumed.digest(tmp_path / "b") == whole.digest(tmp_path / "a")
    assert resume_state.newest_boundary(state).timestep == 360


def test_no_boundary_is_found_in_an_empty_or_missing_state(tmp_path):
    assert resume_state.newest_boundary(tmp_path / "none") is None
    (tmp_path / "000000000120").mkdir()
    assert resume_state.newest_boundary(tmp_path) is None


@cases
def test_training_can_start_from_a_policy_file(case, trainers, tmp_path):
    experiment = experiment_of(case)
    first = trainers(experiment)
    next(first.segments())
    first.learner.save_policy(tmp_path / "a.zip")
    second = trainers(experiment)
    second.learner.read_policy(tmp_path / "a.zip")
    space = first.environments.observation_space
    samples = [space.sample() for _ in range(8)]
    batch = (
        {key: np.stack([sample[key] for sample in samples]) for key in space}
        if experiment.env.startswith("gallop_goal_task")
        else np.stack(samples)
    )
    np.testing.assert_array_equal(second.learner.policy.act(batch), first.learner.policy.act(batch))
    assert second.learner.timestep == 0
    assert second.learner.n_gradient_steps == first.learner.n_gradient_steps > 0
    second.learner.save_policy(tmp_path / "b.zip")
    third = trainers(experiment)
    third.learner.read_policy(tmp_path / "b.zip")
    digests = []
    for number, trainer in enumerate((second, third)):
        (outcome, *_) = trainer.segments()
        utd = [r.values["train/utd"] for r in outcome.diagnostics.rows if "train/utd" in r.values]
        planned = experiment.hyperparameters.utd_ratio(experiment.n_envs)
        assert utd == [] or utd[-1] == pytest.approx(planned, rel=0.1), "old steps do not count"
        digests.append(trainer.digest(tmp_path / str(number)))
    assert digests[0] == digests[1], "what a learner writes down is all that a beginning needs"


@learners
def test_an_initial_policy_must_be_normalised_like_the_experiment(learner, trainers, tmp_path):
    plain = trainers(tiny("sac", learner=learner))
    plain.learner.save_policy(tmp_path / "plain.zip")
    normal = trainers(tiny("sac", learner=learner, normalize=True))
    normal.learner.save_policy(tmp_path / "normal.zip")
    for name, trainer in (("plain", normal), ("normal", plain)):
        with pytest.raises(sb3_zip.PolicyFileError, match="normalise"):
            trainer.learner.read_policy(tmp_path / f"{name}.zip")
    wide = trainers(tiny("sac", {"policy_kwargs": {"net_arch": [17]}}, learner=learner))
    with pytest.raises(sb3_zip.PolicyFileError, match=r"do not fit the experiment.*net_arch"):
        wide.learner.read_policy(tmp_path / "plain.zip")

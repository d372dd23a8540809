"""The compiled kernels on their own. No PyTorch here: the sanitizers run this file."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from gallop import _kernels
from gallop.policies import kernels
from gallop.policies.kernels import Mlp, Shape, aligned_zeros

every_set = pytest.mark.parametrize("isa", _kernels.instruction_sets())


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def random_layers(widths, seed=0):
    rng = np.random.default_rng(seed)
    pairs = itertools.pairwise(widths)
    return [
        ((normal(rng, n, m) / np.sqrt(m)).astype(np.float32), np.float32(0.1) * normal(rng, n))
        for m, n in pairs
    ]


def network(engine, widths, hidden="relu", last="none", learns=True, seed=0):
    mlp = Mlp(engine, Shape(widths, hidden, last), learns=learns, target=learns)
    mlp.write(mlp.parameters, random_layers(widths, seed))
    if learns:
        mlp.target[:] = mlp.parameters
    return mlp


@every_set
@pytest.mark.parametrize("widths", [[3, 1], [17, 256, 256, 12], [1, 1, 1], [40, 33, 70, 5], [5, 2]])
@pytest.mark.parametrize("hidden", ["relu", "tanh"])
def test_forward_is_the_product_of_its_layers(isa, widths, hidden):
    mlp = network(kernels.engine(1, isa), widths, hidden, "tanh", learns=False)
    x = normal(np.random.default_rng(1), 37, widths[0])
    y = x.astype(np.float64)
    layers = random_layers(widths)
    for number, (weight, bias) in enumerate(layers):
        y = y @ weight.T.astype(np.float64) + bias
        is_last = number == len(layers) - 1
        y = np.tanh(y) if is_last or hidden == "tanh" else np.maximum(y, 0)
    np.testing.assert_allclose(mlp.forward(x), y, atol=2e-6)


@every_set
def test_a_row_does_not_depend_on_the_other_rows(isa):
    mlp = network(kernels.engine(1, isa), [17, 100, 100, 6], "tanh", learns=False)
    x = normal(np.random.default_rng(1), 45, 17)
    together = mlp.forward(x)
    for n in (1, 2, 7, 13, 14, 15, 44):
        np.testing.assert_array_equal(mlp.forward(np.ascontiguousarray(x[:n])), together[:n])


@every_set
def test_vectorised_functions_are_as_exact_as_float32_allows(isa):
    # One layer with tanh is tanh; the rest is exercised where parity with SB3 is tested.
    mlp = Mlp(kernels.engine(1, isa), Shape([1, 40], "relu", "tanh"))
    mlp.write(mlp.parameters, [(np.ones((40, 1)), np.zeros(40))])
    scales = np.geomspace(1e-30, 100, 4001)
    x = np.concatenate([-scales, [0.0], scales]).astype(np.float32)[:, None]
    exact = np.tanh(x[:, 0].astype(np.float64))
    error = np.abs(mlp.forward(x)[:, 0] - exact) / np.spacing(np.abs(exact).astype(np.float32))
    assert error.max() < 3  # units in the last place


@pytest.mark.parametrize("widths", [[17, 256, 64, 12], [3, 1], [40, 33, 1], [2, 1, 1, 3]])
def test_what_is_written_is_read_back(widths):
    mlp = Mlp(kernels.engine(1), Shape(widths, "relu"))
    layers = random_layers(widths)
    mlp.write(mlp.parameters, layers)
    for written, read in zip(layers, mlp.read(mlp.parameters), strict=True):
        np.testing.assert_array_equal(written[0], read[0])
        np.testing.assert_array_equal(written[1], read[1])


ROWS, N_OBSERVATIONS, N_ACTIONS = 300, 9, 3


def replay(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "observations": normal(rng, 2 * ROWS, N_OBSERVATIONS),
        "following": rng.permutation(np.arange(ROWS, 2 * ROWS, dtype=np.int32)),
        "actions": np.tanh(normal(rng, ROWS, N_ACTIONS)),
        "rewards": normal(rng, ROWS),
        "ends": rng.random(ROWS) < 0.1,
    }


def adam(epsilon):
    return _kernels.AdamSettings(beta1=0.9, beta2=0.999, epsilon=epsilon, weight_decay=0.0)


class OffPolicy:
    """SAC's or TD3's kernel with its networks, on random transitions."""

    def __init__(self, algo, engine, batch, hidden=(40, 33), n_critics=2, activation="relu"):
        inputs = N_OBSERVATIONS + N_ACTIONS
        outputs = 2 * N_ACTIONS if algo == "sac" else N_ACTIONS
        last = "none" if algo == "sac" else "tanh"
        self.actor = network(engine, [N_OBSERVATIONS, *hidden, outputs], activation, last=last)
        self.critics = [
            network(engine, [inputs, *hidden, 1], activation, seed=i) for i in range(n_critics)
        ]
        self.entropy = np.zeros(3, np.float32)
        shared = {
            "actor": self.actor.kernel,
            "critics": [critic.kernel for critic in self.critics],
            "adam": adam(epsilon=1e-8),
            "batch": batch,
            "gamma": 0.99,
            "tau": 0.005,
        }
        if algo == "sac":
            self.kernel = _kernels.Sac(
                **shared,
                entropy=self.entropy,
                learn_entropy=True,
                target_entropy=-3.0,
                target_update_interval=1,
            )
        else:
            self.kernel = _kernels.Td3(
                **shared, target_noise=0.2, target_noise_clip=0.5, policy_delay=2
            )
        self.kernel.use_replay(**replay())
        self.batch, self.n_noise = batch, 2 if algo == "sac" else 1

    def step(self, n=4, seed=0, begin_before=None, **how):
        """Take n steps; `begin_before` finishing them by so many seconds."""
        rng = np.random.default_rng(seed)
        indices = rng.integers(0, ROWS, (n, self.batch))
        noise = normal(rng, n, self.n_noise, self.batch, N_ACTIONS)
        if begin_before is None:
            self.losses = self.step_on(indices, noise, **how)
        else:
            self.kernel.begin(indices=indices, noise=noise, learning_rate=1e-3, n_done=0, **how)
            time.sleep(begin_before)
            self.losses = self.kernel.finish()
        return self.losses

    def step_on(self, indices, noise, n_done=0, **how):
        return self.kernel.step(
            indices=indices, noise=noise, learning_rate=1e-3, n_done=n_done, **how
        )

    def bits(self):
        arrays = [self.entropy]
        for mlp in (self.actor, *self.critics):
            arrays += [mlp.parameters, mlp.first_moment, mlp.second_moment, mlp.target]
        return [array.tobytes() for array in arrays]


class OnPolicy:
    def __init__(self, engine, batch, discrete, target_kl=0.0, activation="tanh", hidden=(40, 33)):
        self.policy = network(engine, [N_OBSERVATIONS, *hidden, N_ACTIONS], activation)
        self.value = network(engine, [N_OBSERVATIONS, *hidden, 1], activation, seed=1)
        self.log_std = [aligned_zeros(32, shift) for shift in range(3)]
        self.discrete = discrete
        self.kernel = _kernels.Ppo(
            policy=self.policy.kernel,
            value=self.value.kernel,
            log_std=self.log_std[0],
            log_std_first_moment=self.log_std[1],
            log_std_second_moment=self.log_std[2],
            adam=adam(epsilon=1e-5),
            batch=batch,
            discrete=discrete,
            normalize_advantage=True,
            entropy_weight=0.01,
            value_weight=0.5,
            max_gradient_norm=0.5,
            target_kl=target_kl,
        )

    def epoch(self, rows=100, **changed):
        rng = np.random.default_rng(0)
        actions = normal(rng, rows, N_ACTIONS)
        if self.discrete:
            actions = rng.integers(0, N_ACTIONS, (rows, 1)).astype(np.float32)
        arrays = {
            "observations": normal(rng, rows, N_OBSERVATIONS),
            "actions": actions,
            "values": normal(rng, rows),
            "log_probs": -2 + 0.1 * normal(rng, rows),
            "advantages": normal(rng, rows),
            "returns": normal(rng, rows),
        }
        settings = {"learning_rate": 1e-3, "n_done": 0, "clip_range": 0.2}
        order = changed.pop("indices", rng.permutation(rows))
        return self.kernel.epoch(indices=order, **{**arrays, **settings, **changed})

    def bits(self):
        arrays = [*self.log_std]
        for mlp in (self.policy, self.value):
            arrays += [mlp.parameters, mlp.first_moment, mlp.second_moment]
        return [array.tobytes() for array in arrays]


@every_set
@pytest.mark.parametrize("algo", ["sac", "td3"])
@pytest.mark.parametrize("batch", [1, 37, 64])
@pytest.mark.parametrize("n_critics", [1, 2, 3])
def test_two_threads_leave_the_same_bits_as_one(isa, algo, batch, n_critics):
    runs = [OffPolicy(algo, kernels.engine(n, isa), batch, n_critics=n_critics) for n in (1, 2, 1)]
    losses = [run.step() for run in runs]
    assert runs[0].bits() == runs[1].bits() == runs[2].bits()
    np.testing.assert_array_equal(losses[0], losses[1])
    assert np.isfinite(losses[0][:, -1]).all()


@every_set
@pytest.mark.parametrize("discrete", [False, True])
def test_two_threads_leave_the_same_bits_as_one_in_ppo(isa, discrete):
    runs = [OnPolicy(kernels.engine(n, isa), 37, discrete) for n in (1, 2)]
    losses = [run.epoch()[0] for run in runs]
    assert runs[0].bits() == runs[1].bits()
    np.testing.assert_array_equal(losses[0], losses[1])
    assert losses[0].shape == (3, 6)  # 37, 37 and 26 rows


def shift_biases(mlp, by):
    """Lower or raise what goes into every hidden ReLU, and so the share of zeros behind it."""
    layers = mlp.read(mlp.parameters)
    mlp.write(mlp.parameters, [(w, b + np.float32(by)) for w, b in layers[:-1]] + layers[-1:])
    if mlp.target is not None:
        mlp.target[:] = mlp.parameters


DENSE, ALWAYS_SPARSE = 0.0, 2.0


@every_set
@pytest.mark.parametrize("shift", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize(
    ("batch", "hidden"),
    [(128, (256, 256)), (37, (64, 65)), (1, (100, 70, 130)), (150, (70, 64, 97))],
)
@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_leaving_out_zeros_changes_no_bit(isa, algo, batch, hidden, shift):
    """Signed zeros would show: Adam keeps them."""

    def run(n_threads, sparse_below):
        engine = kernels.engine(n_threads, isa, sparse_below=sparse_below)
        made = OffPolicy(algo, engine, batch, hidden)
        for mlp in (made.actor, *made.critics):
            shift_biases(mlp, shift)
        return made.step(n=6), made.bits()

    losses, bits = run(1, DENSE)
    for n_threads, sparse_below in ((1, ALWAYS_SPARSE), (2, ALWAYS_SPARSE), (1, None), (2, None)):
        again, same = run(n_threads, sparse_below)
        assert same == bits
        np.testing.assert_array_equal(again, losses)


@every_set
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_leaving_out_zeros_changes_no_bit_in_ppo(isa, activation):
    made = [
        OnPolicy(kernels.engine(n, isa, sparse_below=below), 70, False, 0.0, activation, (96, 130))
        for n, below in ((1, DENSE), (1, ALWAYS_SPARSE), (2, None))
    ]
    losses = [run.epoch()[0] for run in made]  # 70 and 30 rows
    assert made[0].bits() == made[1].bits() == made[2].bits()
    np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_array_equal(losses[0], losses[2])


@every_set
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_weight_behind_a_unit_that_is_not_zero_is_seen(isa, bad):
    """A unit that is zero hides it: dense arithmetic makes 0 x infinity NaN, sparse leaves it out.
    A learner finds such a weight when it checks its parameters, at the end of a segment."""
    engine = kernels.engine(1, isa, sparse_below=ALWAYS_SPARSE)
    mlp = network(engine, [3, 64, 64, 2], learns=False)
    layers = mlp.read(mlp.parameters)
    layers[0][1][7] = 100  # this unit is never zero
    layers[1][0][5, 7] = bad
    mlp.write(mlp.parameters, layers)
    assert not np.isfinite(mlp.forward(normal(np.random.default_rng(0), 9, 3))).any()


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_a_step_may_begin_long_before_it_is_finished(algo):
    """The other thread then does most of it, or all; or nothing, with one thread."""
    expected = OffPolicy(algo, kernels.engine(1), 64, (64, 64))
    losses = [expected.step(n=5, seed=seed) for seed in range(8)]
    for n_threads in (1, 2):
        run = OffPolicy(algo, kernels.engine(n_threads), 64, (64, 64))
        for seed in range(8):
            run.step(n=5, seed=seed, begin_before=0.0005 * seed)
            np.testing.assert_array_equal(run.losses, losses[seed])
        assert run.bits() == expected.bits()


def test_calls_between_begin_and_finish_are_refused():
    run = OffPolicy("sac", kernels.engine(2), 64)
    before = OffPolicy("sac", kernels.engine(1), 64)
    with pytest.raises(ValueError, match=r"no gradient steps have begun: call begin\(\) first"):
        run.kernel.finish()
    rng = np.random.default_rng(0)
    arguments = {
        "indices": rng.integers(0, ROWS, (3, 64)),
        "noise": normal(rng, 3, 2, 64, N_ACTIONS),
        "learning_rate": 1e-3,
        "n_done": 0,
    }
    run.kernel.begin(**arguments)
    with pytest.raises(ValueError, match="gradient steps have begun already"):
        run.kernel.begin(**arguments)
    with pytest.raises(ValueError, match="gradient steps have begun: call finish"):
        run.kernel.use_replay(**replay())
    with pytest.raises(RuntimeError, match="gradient steps have begun on this engine"):
        run.actor.forward(np.zeros((1, N_OBSERVATIONS), np.float32))
    run.kernel.finish()
    before.kernel.step(**arguments)
    assert run.bits() == before.bits()
    run.kernel.begin(**arguments)  # a learner may be deleted meanwhile
    actor = run.actor
    del run
    actor.forward(np.zeros((1, N_OBSERVATIONS), np.float32))


def test_ppo_stops_where_the_policy_has_moved_too_far():
    run = OnPolicy(kernels.engine(1), 20, discrete=False, target_kl=1e-9)
    before = run.bits()
    losses, n_learnt = run.epoch()
    assert (len(losses), n_learnt) == (1, 0)
    assert run.bits() == before


def test_steps_in_one_call_equal_steps_one_by_one():
    whole, parts = (OffPolicy("sac", kernels.engine(1), 16) for _ in range(2))
    rng = np.random.default_rng(0)
    indices = rng.integers(0, ROWS, (3, 16))
    noise = normal(rng, 3, 2, 16, N_ACTIONS)
    whole.step_on(indices, noise)
    for i in range(3):
        parts.step_on(indices[i : i + 1].copy(), noise[i : i + 1].copy(), n_done=i)
    assert whole.bits() == parts.bits()


@pytest.mark.parametrize("algo", ["sac", "td3"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("name", ["observations", "following", "actions", "rewards"])
def test_values_that_are_not_finite_come_out_as_such_and_nothing_crashes(algo, value, name):
    run = OffPolicy(algo, kernels.engine(2), 37)
    data = replay()
    if name == "following":
        data["observations"][ROWS:] = value
    else:
        data[name][:ROWS] = value
    run.kernel.use_replay(**data)
    assert not np.isfinite(run.step()[:, 1]).all()  # the critics' loss


def test_arrays_of_wrong_shape_are_refused():
    run = OffPolicy("sac", kernels.engine(1), 8)
    before = run.bits()
    noise = np.zeros((1, 2, 8, N_ACTIONS), np.float32)
    for index in (-1, ROWS):
        with pytest.raises(IndexError, match=f"index {index} is not in the replay buffer"):
            run.step_on(np.full((1, 8), index), noise)
    for follows in (-1, 2 * ROWS):
        run.kernel.use_replay(**replay() | {"following": np.full(ROWS, follows, np.int32)})
        with pytest.raises(IndexError, match="next observation of transition 3 is not in"):
            run.step_on(np.full((1, 8), 3), noise)
    run.kernel.use_replay(**replay())
    with pytest.raises(ValueError, match=r"indices must be \[gradient steps, 8\]"):
        run.step_on(np.zeros((1, 7), np.int64), noise)
    with pytest.raises(ValueError, match="the shape of noise does not match"):
        run.step_on(np.zeros((2, 8), np.int64), noise)
    with pytest.raises(ValueError, match="the inputs must be"):
        run.actor.forward(np.zeros((1, N_OBSERVATIONS + 1), np.float32))
    with pytest.raises(ValueError, match="does not fit one of"):
        run.actor.write(run.actor.parameters, random_layers([N_OBSERVATIONS, 40, 34, 6]))
    with pytest.raises(ValueError, match="a width must be at least 1"):
        _kernels.Mlp(engine=kernels.engine(1), widths=[3, 0, 1], hidden="relu", last="none")
    with pytest.raises(ValueError, match="elu: activation must be relu, tanh or none"):
        _kernels.Mlp(engine=kernels.engine(1), widths=[3, 1], hidden="elu", last="none")
    with pytest.raises(ValueError, match="sparc: not an instruction set of this machine"):
        kernels.engine(1, "sparc")
    ppo = OnPolicy(kernels.engine(1), 10, discrete=True)
    with pytest.raises(IndexError, match="index 100 is not in the rollout"):
        ppo.epoch(indices=np.full(10, 100))
    with pytest.raises(ValueError, match="an action is out of range"):
        ppo.epoch(actions=np.full((100, 1), 3, np.float32))
    run.actor.write(run.actor.parameters, random_layers([N_OBSERVATIONS, 40, 33, 6]))
    assert run.bits() == before


def test_advantages_by_hand():
    # One environment of three steps; the episode ends after the second. gamma 0.5, lambda 0.5:
    # step 2: 3 + 0.5 * 4 - 2 = 3; step 1: 2 - 1 = 1 (it ends); step 0: 1 + 0.5 * 1 - 0 + 0.25 * 1.
    found = _kernels.advantages(
        rewards=np.array([[1], [2], [3]], np.float32),
        values=np.array([[0], [1], [2]], np.float32),
        starts=np.array([[1], [0], [1]], np.float32),
        last_values=np.array([4], np.float32),
        last_starts=np.array([0], np.float32),
        gamma=0.5,
        gae_lambda=0.5,
    )
    np.testing.assert_array_equal(found, [[1.75], [1], [3]])


def test_threads_respect_what_the_process_may_use():
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from gallop.policies import kernels; print(kernels.n_threads(None), kernels.n_threads(5))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "2"]  # of five requested threads, two have work
    assert kernels.n_threads(None) == min(2, len(os.sched_getaffinity(0)))

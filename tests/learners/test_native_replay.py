"""The native replay buffer against a plain list of transitions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gallop.learners.native_replay import NativeReplay

N_OBSERVATIONS, N_ACTIONS = 2, 1


def history(rng, n_timesteps, n_envs, p_end):
    """Transitions of environments whose episodes end with this probability per timestep."""
    transitions = []
    now = rng.random((n_envs, N_OBSERVATIONS), np.float32)
    for _ in range(n_timesteps):
        following = rng.random((n_envs, N_OBSERVATIONS), np.float32)
        transitions.append(
            {
                "observations": now,
                "next_observations": following,
                "actions": rng.random((n_envs, N_ACTIONS), np.float32),
                "rewards": rng.random(n_envs, np.float32),
                "ends": np.zeros(n_envs, np.bool_),
            }
        )
        ended = rng.random(n_envs) < p_end
        first = rng.random((n_envs, N_OBSERVATIONS), np.float32)
        now = np.where(ended[:, None], first, following)
    return transitions


def stacked(transitions):
    return {name: np.stack([t[name] for t in transitions]) for name in transitions[0]}


def empty(capacity, n_envs):
    return NativeReplay(capacity * n_envs, n_envs, N_OBSERVATIONS, N_ACTIONS)


def add(replay, transition):
    """Add a timestep; whatever another thread may read meanwhile does not change."""
    rest = dict(transition)
    replay.begin(rest.pop("observations"))
    rows = readable(replay)
    before = contents(replay, rows)
    replay.add(**rest)
    assert contents(replay, rows) == before


def readable(replay):
    """Rows that may be sampled as if the next timestep had been added, except that timestep's."""
    shape = (20 * (replay.n_filled + 1),)
    rows = np.unique(replay.sample(np.random.default_rng(0), shape, n_coming=1))
    return rows[[not replay.includes_next(row) for row in rows]]


def contents(replay, rows):
    arrays = replay.arrays
    following = arrays["observations"][arrays["following"][rows]]
    names = ("observations", "actions", "rewards", "ends", "following")
    return [following.tobytes(), *(arrays[name][rows].tobytes() for name in names)]


def check(replay, transitions):
    """The buffer has the newest transitions, and samples all of these and no others."""
    live = transitions[-replay.capacity :]
    found = replay.read(len(transitions) - len(live), len(transitions))
    for name, expected in stacked(live).items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)
    rows = np.unique(replay.sample(np.random.default_rng(0), (100 * replay.n_filled,)))
    arrays = replay.arrays
    sampled = {
        (*arrays["observations"][row], *arrays["observations"][arrays["following"][row]],
         *arrays["actions"][row], arrays["rewards"][row])
        for row in rows
    }  # fmt: skip
    assert sampled == {
        (*t["observations"][i], *t["next_observations"][i], *t["actions"][i], t["rewards"][i])
        for t in live
        for i in range(len(t["rewards"]))
    }


@given(
    st.integers(0, 2**32),
    st.integers(1, 12),
    st.integers(1, 3),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.integers(1, 40),
)
def test_it_equals_a_list_of_the_newest_transitions(
    seed, capacity, n_envs, n_timesteps, p_end, n_before
):
    transitions = history(np.random.default_rng(seed), n_timesteps, n_envs, p_end)
    replay = empty(capacity, n_envs)
    for transition in transitions:
        add(replay, transition)
    check(replay, transitions)
    # It has no more rows for last observations than are needed at once.
    assert replay._n_last <= (capacity + 1) * n_envs

    # Written back in two pieces, as a checkpoint does, then filled further.
    again = empty(capacity, n_envs)
    again.n_added = n_timesteps
    oldest = max(0, n_timesteps - capacity)
    middle = min(max(oldest, n_before), n_timesteps)
    for start, stop in ((oldest, middle), (middle, n_timesteps)):
        if start < stop:
            again.write(start, stacked(transitions[start:stop]))
    check(again, transitions)
    more = history(np.random.default_rng(seed + 1), 2 * capacity + 1, n_envs, p_end)
    for n, transition in enumerate(more, start=1):
        add(again, transition)
        check(again, [*transitions, *more[:n]])


def test_sampling_before_a_timestep_is_added_equals_sampling_afterwards():
    replay = empty(5, 2)
    for n, transition in enumerate(history(np.random.default_rng(0), 12, 2, 0.3)):
        rng = [np.random.default_rng(n), np.random.default_rng(n)]
        early = replay.sample(rng[0], (100,), n_coming=1)
        includes_next = replay.includes_next(early)
        next_rows = {int(replay._rows(np.array([n]))[0, i]) for i in range(2)}
        assert includes_next == bool(next_rows & set(early.tolist()))
        add(replay, transition)
        np.testing.assert_array_equal(early, replay.sample(rng[1], (100,)))


def test_an_observation_is_stored_once():
    capacity = 1000
    replay = empty(capacity, 1)
    for transition in history(np.random.default_rng(0), capacity, 1, 0.01):
        add(replay, transition)
    used = np.flatnonzero(replay.arrays["observations"].any(axis=1))
    assert capacity < len(used) < 1.05 * capacity

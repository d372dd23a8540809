"""Each finding is where it belongs and nowhere else, on hand-made motions."""

from __future__ import annotations

import numpy as np
import pytest
from hand_made import (
    ANATOMY,
    DT,
    FOOT_B,
    SHIN_A,
    SHIN_B,
    TORSO,
    WEIGHT,
    motion,
    standing,
    trot,
)

from gallop.evaluation.audit.audit import Audit, Audited, summary
from gallop.evaluation.audit.findings import exploit, findings, measure, spans
from gallop.evaluation.audit.rewards import rewards
from gallop.evaluation.audit.sensitivity import HALF_STEP, Change

N = 500
RUN = np.linspace(0, 10, N + 1)
TURN = 2 * np.pi
T = np.linspace(0, 1, N + 1)
CALM = 0.3 * np.sin(np.arange(N) / 8)
CHATTER = np.sign(np.sin(np.arange(N) * 2.5))
OVER = np.pi * np.clip(T / 0.05, 0, 1)


def on(body, share=1.0, slip=0.0):
    return [(i, body, share * WEIGHT, 0.0, slip) for i in range(N)]


def toes(rows):
    return [(step, body, force, 0.09, slip) for step, body, force, _, slip in rows]


def one_toe(rows):
    return [row if row[1] == FOOT_B else toes([row])[0] for row in rows]


def deeper(trajectory, depth):
    contacts = trajectory.contacts
    deep = np.where(contacts.step // 100 == 2, depth, 0.0)
    return trajectory._replace(contacts=contacts._replace(depth=deep))


def with_energy(trajectory, share):
    """The actuators work at 400 W each, and the energy grows by this share more."""
    powers = np.full((N, 2), 400.0)
    gained = 800.0 * DT * np.arange(N) * (1 + share)
    return trajectory._replace(actuator_power=powers, energy=gained)


TROT = motion(x=RUN, rows=trot(), controls=CALM)
MOTIONS = {
    "statue": (motion(rows=standing()), ["survives without moving"]),
    "true trot": (TROT, []),
    "stand on both feet and be moved": (motion(x=RUN, rows=standing(), controls=CALM), []),
    "slide": (motion(x=RUN, rows=standing(slip=2.0)), ["sliding"]),
    "slip on the spot": (motion(rows=standing(slip=2.0)), ["survives without moving"]),
    "roll on the torso": (motion(x=RUN, rows=on(TORSO), controls=CALM), ["on the body"]),
    "drag the torso": (
        motion(x=RUN, rows=on(TORSO, slip=2.0), controls=CALM), ["on the body", "sliding"],
    ),
    "on the shins": (
        motion(x=RUN, rows=on(SHIN_A, 0.5) + on(SHIN_B, 0.5), controls=CALM), ["on the shins"],
    ),
    "somersault, then run": (
        motion(pitch=TURN * np.clip(T / 0.2, 0, 1), x=RUN, rows=trot(), controls=CALM),
        ["somersault start"],
    ),
    "run, then somersault": (
        motion(pitch=-TURN * np.clip((T - 0.6) / 0.2, 0, 1), x=RUN, rows=trot(), controls=CALM),
        ["somersaults"],
    ),
    "backward rolls": (
        motion(pitch=-3 * TURN * T, x=RUN, rows=trot(), controls=CALM), ["somersaults"],
    ),
    "run on the back": (motion(pitch=OVER, x=RUN, rows=trot(), controls=CALM),
                        ["inverted running"]),
    "lie on the back": (motion(pitch=OVER, rows=on(TORSO)),
                        ["upside down", "on the body", "survives without moving"]),
    "toe run": (motion(x=RUN, rows=toes(trot()), controls=CALM), ["on toes"]),
    "one toe": (motion(x=RUN, rows=one_toe(trot()), controls=CALM), []),
    "chatter": (motion(x=RUN, rows=trot(), controls=CHATTER), ["bang-bang"]),
    "push to one side": (motion(x=RUN, rows=trot(), controls=np.ones(N)), []),
    "hops": (motion(x=RUN, rows=trot(duty=0.15), controls=CALM), ["bounding"]),
    "in the floor": (deeper(TROT, 0.07), ["deep penetration"]),
    "hardly in the floor": (deeper(TROT, 0.05), []),
    "energy from nowhere": (with_energy(TROT, 0.5), ["simulator exploit"]),
    "energy from actuators": (with_energy(TROT, 0.0), []),
    "energy lost": (with_energy(TROT, -0.5), []),
}  # fmt: skip
STYLE = ("on toes", "bounding", "bang-bang")


def names(trajectory, anatomy=ANATOMY):
    return [each.name for each in findings(trajectory, anatomy, measure(trajectory, anatomy))]


@pytest.mark.parametrize("name", MOTIONS)
def test_findings_are_where_they_belong(name):
    trajectory, expected = MOTIONS[name]
    found = findings(trajectory, ANATOMY, measure(trajectory, ANATOMY))
    assert [finding.name for finding in found] == expected
    for finding in found:
        assert "%" in finding.rule or "full turn" in finding.rule
        assert any(letter.isdigit() for letter in finding.measured)
        assert finding.kind == ("trait" if finding.name in STYLE else "warning")
        assert finding.evidence == (
            "consistent with" if finding.name == "simulator exploit" else "measured"
        )
        assert finding.seconds, "it has seconds that show it"
        for start, end in finding.seconds:
            assert 0 <= start < end <= N * DT + 1e-9


def test_every_finding_of_an_episode_is_in_the_table():
    found = {name for _, expected in MOTIONS.values() for name in expected}
    assert found == {
        "inverted running", "upside down", "somersault start", "somersaults", "on the body",
        "on the shins", "on toes", "sliding", "bang-bang", "survives without moving",
        "simulator exploit", "deep penetration", "bounding",
    }  # fmt: skip


def seconds(name, motion_name):
    trajectory, _ = MOTIONS[motion_name]
    found = findings(trajectory, ANATOMY, measure(trajectory, ANATOMY))
    return next(each.seconds for each in found if each.name == name)


@pytest.mark.parametrize(
    ("name", "motion_name", "expected"),
    [
        ("inverted running", "run on the back", [(0.13, 5.0)]),
        ("somersault start", "somersault, then run", [(0.125, 0.88)]),
        ("somersaults", "run, then somersault", [(3.125, 3.88)]),
        ("deep penetration", "in the floor", [(2.0, 3.0)]),
        ("on toes", "toe run", [(0.0, 5.0)]),
        ("sliding", "slide", [(0.0, 5.0)]),
        ("on the shins", "on the shins", [(0.0, 5.0)]),
    ],
)
def test_a_finding_names_the_seconds_that_show_it(name, motion_name, expected):
    np.testing.assert_allclose(seconds(name, motion_name), expected, atol=0.02)


@pytest.mark.parametrize("name", MOTIONS)
def test_a_motion_and_the_mirrored_one_have_the_same_findings(name):
    """Front and rear change places: x, pitch, and the ends of each foot; toes become heels."""
    trajectory, expected = MOTIONS[name]
    qpos = trajectory.qpos * [-1, 1, -1, 1]
    mirrored = trajectory._replace(qpos=qpos, qvel=trajectory.qvel * [-1, 1, -1, 1])
    found = names(mirrored)
    assert found == expected
    turned = ANATOMY._replace(
        feet=tuple(foot._replace(heel=foot.toe, toe=foot.heel) for foot in ANATOMY.feet)
    )
    assert names(mirrored, turned) == [each for each in expected if each != "on toes"]


@pytest.mark.parametrize("name", MOTIONS)
@pytest.mark.parametrize(("length", "mass"), [(0.1, 1.0), (1.0, 20.0), (5.0, 0.3)])
def test_findings_do_not_depend_on_the_unit_of_length_or_mass(name, length, mass):
    """A robot that is larger and heavier moves in the same seconds."""
    trajectory, expected = MOTIONS[name]
    contacts, force = trajectory.contacts, length * mass
    scaled = trajectory._replace(
        qpos=trajectory.qpos * [length, 1, 1, 1],
        qvel=trajectory.qvel * [length, 1, 1, 1],
        actuator_power=trajectory.actuator_power * force * length,
        energy=trajectory.energy * force * length,
        contacts=contacts._replace(
            force=contacts.force * force, normal=contacts.normal * force,
            point=contacts.point * length, velocity=contacts.velocity * length,
            depth=contacts.depth * length,
        ),
    )  # fmt: skip
    anatomy = ANATOMY._replace(
        mass=ANATOMY.mass * mass, gravity=ANATOMY.gravity * length, height=ANATOMY.height * length,
        feet=tuple(foot._replace(heel=foot.heel * length, toe=foot.toe * length)
                   for foot in ANATOMY.feet),
    )  # fmt: skip
    assert names(scaled, anatomy) == expected


@pytest.mark.parametrize("name", MOTIONS)
@pytest.mark.parametrize("late", [1, 20])
def test_findings_do_not_depend_on_when_they_happen(name, late):
    """The same motion after a short pause on its feet."""
    trajectory, expected = MOTIONS[name]
    before = motion(rows=standing(n=late), n=late)
    contacts = trajectory.contacts._replace(step=trajectory.contacts.step + late)
    joined = trajectory._replace(
        qpos=np.concatenate([before.qpos[:-1] + trajectory.qpos[0], trajectory.qpos]),
        qvel=np.concatenate([before.qvel[:-1], trajectory.qvel]),
        ctrl=np.concatenate([np.repeat(trajectory.ctrl[:1], late, axis=0), trajectory.ctrl]),
        actuator_power=np.concatenate([before.actuator_power, trajectory.actuator_power]),
        other_power=np.concatenate([before.other_power, trajectory.other_power]),
        energy=np.concatenate([before.energy + trajectory.energy[0], trajectory.energy]),
        contacts=type(contacts)(*(np.concatenate(pair)
                                  for pair in zip(before.contacts, contacts, strict=True))),
    )  # fmt: skip
    assert names(joined) == expected


def test_a_small_bit_of_energy_is_an_error_of_the_time_step():
    assert names(with_energy(TROT, 0.04)) == [] and names(with_energy(TROT, 0.06)) != []
    weak = with_energy(TROT, 0.5)
    weak = weak._replace(actuator_power=weak.actuator_power / 50, energy=weak.energy / 50)
    assert names(weak) == [], "40 J do not lift it by its height"
    assert names(with_energy(TROT, 0.3)._replace(actuator_power=np.zeros((N, 2)))) == []


def test_an_episode_that_ends_at_once_does_not_survive():
    assert names(motion(rows=standing(n=150), n=150)) == []
    assert names(motion(rows=standing(n=250), n=250)) == ["survives without moving"]
    nothing = motion(n=1)
    shapes = {"qpos": nothing.qpos[:1], "qvel": nothing.qvel[:1], "ctrl": nothing.ctrl[:0]}
    assert findings(nothing._replace(**shapes), ANATOMY, measure(nothing, ANATOMY)) == []


def test_a_robot_without_feet_cannot_stand_on_the_wrong_part():
    snake = ANATOMY._replace(feet=(), parts={1: "torso", 2: "mid", 3: "tail"})
    assert names(motion(x=RUN, rows=on(TORSO), controls=CALM), snake) == []


def test_spans_are_the_longest_runs():
    values = np.zeros(100, bool)
    values[[*range(5, 10), *range(20, 40), *range(50, 53), *range(60, 70)]] = True
    expected = [(2.0, 4.0), (6.0, 7.0), (0.5, 1.0)]
    np.testing.assert_allclose(spans(values, 0.1), expected)
    values[41] = True
    joined = [(2.0, 4.2), (6.0, 7.0), (0.5, 1.0)]
    np.testing.assert_allclose(spans(values, 0.1, gap=0.15), joined)
    np.testing.assert_allclose(spans(values, 0.1, gap=1.05), [(0.5, 7.0)])
    assert spans(np.zeros(5, bool), 0.1) == ()
    assert spans(np.ones(5, bool), 0.1, gap=1.0) == ((0.0, 0.5),)


@pytest.mark.parametrize(
    ("half", "evidence"),
    [
        (990.0, None),
        (850.0, None),
        (700.0, "consistent with"),
        (300.0, "implied"),
        (-50.0, "implied"),
        (np.nan, None),
    ],
)
def test_a_return_that_vanishes_at_half_the_physics_step_is_not_physics(half, evidence):
    found = exploit(np.full(5, 1000.0), np.full(5, half))
    assert (found.evidence if found else None) == evidence


def test_one_fall_at_half_the_physics_step_is_no_exploit():
    returns, half = np.full(5, 1000.0), np.array([10.0, 950.0, 960.0, 940.0, 970.0])
    assert exploit(returns, half) is None and exploit(half, returns) is None
    assert exploit(np.full(5, -20.0), np.full(5, -500.0)) is None, "there is no return to lose"
    assert exploit(np.array([np.nan, 9.0]), np.array([9.0, 9.0])) is None, "the usual is not known"


def audited(motion_name, seed):
    trajectory, _ = MOTIONS[motion_name]
    measures = measure(trajectory, ANATOMY)
    found = findings(trajectory, ANATOMY, measures)
    return Audited(seed, 1000.0, N, trajectory, measures, rewards(trajectory, ANATOMY, {}), found)


def test_a_summary_names_each_finding_once_with_warnings_first():
    names_ = ("hops", "somersault, then run", "true trot", "somersault, then run")
    found = Audit(ANATOMY, [audited(name, seed) for seed, name in enumerate(names_)], [])
    rows = summary(found)
    assert [(row["name"], row["kind"], row["episodes"], row["seed"]) for row in rows] == [
        ("somersault start", "warning", 2, 1), ("bounding", "trait", 1, 0),
    ]  # fmt: skip
    assert all(row["of"] == 4 and row["seconds"] for row in rows)


@pytest.mark.parametrize(
    ("half", "evidence"), [(990.0, None), (700.0, "consistent with"), (300.0, "implied")]
)
def test_half_the_physics_step_replaces_what_the_energy_says(half, evidence):
    episodes = [audited("energy from nowhere", seed) for seed in range(3)]
    (row,) = summary(Audit(ANATOMY, episodes, []))
    assert row["name"] == "simulator exploit" and row["evidence"] == "consistent with"
    change = Change(HALF_STEP, np.full(3, half))
    rows = summary(Audit(ANATOMY, episodes, [change]))
    assert [row["evidence"] for row in rows] == ([] if evidence is None else [evidence])
    failed = Change(HALF_STEP, np.full(3, np.nan), "diverged")
    assert summary(Audit(ANATOMY, episodes, [failed])) == [row]

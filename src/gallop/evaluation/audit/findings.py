"""Findings: what in a policy's motion a reader of its return should know of.

Each rule is stated once, next to its threshold and the reason for it, and each finding carries the
measurement that it rests on. A finding never changes a return.

Two kinds. A *warning* says that the return may not mean what a reader thinks: no policy that runs
on its feet, upright, has one. A *trait* describes a way of moving that is neither good nor bad.

How strong the evidence is:

- *measured*: the finding says no more than what was measured.
- *implied*: what was measured leaves hardly another explanation.
- *consistent with*: what was measured would look like this, and there are other explanations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation.audit.actuation import SATURATED, Actuation, actuation, scaled_controls
from gallop.evaluation.audit.anatomy import Anatomy
from gallop.evaluation.audit.contact import (
    Contact,
    contact,
    floor_force,
    floor_forces,
    in_contact,
    label,
    normal_forces,
    slipping,
)
from gallop.evaluation.audit.energy import Energy, created, energy
from gallop.evaluation.audit.posture import Posture, posture, uprightness
from gallop.evaluation.audit.rewards import STANDING, standing
from gallop.evaluation.audit.toes import Toes, on_toe, toes
from gallop.evaluation.audit.trajectory import Trajectory
from gallop.evaluation.audit.travel import speeds

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Evidence: TypeAlias = Literal["measured", "implied", "consistent with"]
Kind: TypeAlias = Literal["warning", "trait"]

EXPLOIT = "simulator exploit"
INVERTED_SHARE = 0.2
"""Of the time. An upright robot is never upside down; one that falls over and gets up again is for
a second or two."""
START_SECONDS = 2.0
"""Within which a somersault belongs to the start: a body needs about one second for a full turn."""
TORSO_SHARE, SHIN_SHARE = 0.1, 0.1
"""Of the floor's impulse. On a walking robot it is 0; a tenth of the weight is a part of the gait,
and no longer a stumble."""
ON_TOES_SHARE = 0.9
"""Of each foot's impulse. A person who walks carries about half of it on the front half of the
foot, and a sprinter nearly all."""
SLIDING_SHARE = 0.5
"""Of the way. Soft contacts creep, and feet slip when they land: up to a quarter of the way in
policies that step."""
FLIGHT_SHARE = 0.6
"""Of the time. Running animals are in the air for half of a stride and hardly more."""
BANG_BANG_SHARE, BOTH_LIMITS_SHARE = 0.8, 0.5
"""Of the controls, and of the actuators. A control that stays at one limit is no back and forth."""
SURVIVED_SECONDS = 2.0
STILL_SHARE = 0.9
"""Of the time. The start and the end may move."""
DEEP_SHARE = 0.1
"""Of the robot's height: as if a person stood in the floor to the shin. At HalfCheetah's time step
of 10 ms, even feet that land at 4 m/s are 40 mm (5 %) deep before the floor pushes."""
CREATED_SHARE = 0.05
"""Of the actuators' work, of energy from no force. Below, it is the ordinary error of a time step.
"""
KEPT_SHARE, VANISHED_SHARE = 0.8, 0.5
"""Of the return at half the physics step: policies of HalfCheetah keep about 90 % of it."""
WINDOW = 1.0
"""Seconds over which is averaged what is judged by its share of time."""
GAP = 0.5
"""Seconds that may pass between two steps of one gait that show a finding."""


class Measures(NamedTuple):
    """All measures of one episode."""

    posture: Posture
    contact: Contact
    toes: Toes
    actuation: Actuation
    energy: Energy


class Finding(NamedTuple):
    """One thing that a reader should know."""

    name: str
    kind: Kind
    rule: str
    """When it is reported."""
    measured: str
    """What was measured, in the rule's units."""
    evidence: Evidence
    seconds: tuple[tuple[float, float], ...]
    """Start and end of the parts of the episode that show it; the longest first, at most three."""


def measure(trajectory: Trajectory, anatomy: Anatomy) -> Measures:
    """Measure an episode."""
    return Measures(
        posture(trajectory, anatomy),
        contact(trajectory, anatomy),
        toes(trajectory, anatomy),
        actuation(trajectory, anatomy),
        energy(trajectory, anatomy),
    )


def findings(trajectory: Trajectory, anatomy: Anatomy, measures: Measures) -> list[Finding]:
    """Apply the rules to an episode: warnings first, then traits."""
    if not trajectory.n:
        return []
    found = [
        _inverted(trajectory, anatomy, measures.posture),
        _somersaults(measures.posture),
        _on_the_body(trajectory, anatomy),
        _on_the_shins(trajectory, anatomy),
        _sliding(trajectory, anatomy, measures.contact),
        _still(trajectory, anatomy),
        _deep(trajectory, anatomy, measures.contact),
        _energy_from_no_force(trajectory, anatomy, measures.energy),
        _on_toes(trajectory, anatomy, measures.toes),
        _bounding(trajectory, anatomy, measures.contact),
        _bang_bang(trajectory, anatomy, measures.actuation),
    ]
    return [finding for finding in found if finding is not None]


def _inverted(trajectory: Trajectory, anatomy: Anatomy, measured: Posture) -> Finding | None:
    is_inverted = uprightness(trajectory, anatomy)[:-1] < 0
    for start, end in measured.somersaults:  # a turn passes through upside down
        is_inverted[_steps(start, trajectory) : _steps(end, trajectory)] = False
    share = float(is_inverted.mean())
    if share <= INVERTED_SHARE:
        return None
    moves = ~standing(trajectory, anatomy)[is_inverted]
    return Finding(
        "inverted running" if moves.mean() > 0.5 else "upside down",
        "warning",
        f"turned beyond ±90 degrees for more than {INVERTED_SHARE:.0%} of the time, not counting "
        "somersaults",
        f"{share:.0%} of the time, at a mean speed of "
        f"{speeds(trajectory, anatomy)[is_inverted].mean():.2f} m/s",
        "measured",
        spans(is_inverted, trajectory.dt, GAP),
    )


def _somersaults(measured: Posture) -> Finding | None:
    turns = measured.somersaults
    if not turns:
        return None
    is_start = all(start < START_SECONDS for start, _ in turns)
    n = len(turns)
    return Finding(
        "somersault start" if is_start else "somersaults",
        "warning",
        f"a full turn of the body{f' within the first {START_SECONDS:g} s' if is_start else ''}",
        f"{n} full {'turn' if n == 1 else 'turns'}, the first from {turns[0][0]:.1f} to "
        f"{turns[0][1]:.1f} s; {_net_turns(measured.net_turns)}",
        "measured",
        turns[:3],
    )


def _net_turns(turns: float) -> str:
    if abs(turns) < 0.05:
        return "no net turns"
    return f"{abs(turns):.1f} net turns {'forward' if turns > 0 else 'backward'}"


def _on_the_body(trajectory: Trajectory, anatomy: Anatomy) -> Finding | None:
    others = [body for body, part in anatomy.parts.items() if part not in ("foot", "shin")]
    return _carried(
        "on the body", "parts other than feet and shins", others, TORSO_SHARE, trajectory, anatomy
    )


def _on_the_shins(trajectory: Trajectory, anatomy: Anatomy) -> Finding | None:
    shins = [body for body, part in anatomy.parts.items() if part == "shin"]
    return _carried("on the shins", "shins", shins, SHIN_SHARE, trajectory, anatomy)


def _carried(
    name: str,
    what: str,
    bodies: Sequence[int],
    least: float,
    trajectory: Trajectory,
    anatomy: Anatomy,
) -> Finding | None:
    """Report that these bodies carry more than this share of the floor's impulse."""
    total = float(floor_force(trajectory).sum())
    forces = {body: normal_forces(trajectory, body) for body in bodies}
    carried = sum(forces.values(), start=np.zeros(trajectory.n))
    if not anatomy.feet or total == 0 or carried.sum() / total <= least:
        return None
    touching = in_contact(carried, anatomy)
    most = max(forces, key=lambda body: float(forces[body].sum()))
    return Finding(
        name,
        "warning",
        f"more than {least:.0%} of the floor's impulse on {what}",
        f"{carried.sum() / total:.0%} of the impulse, {touching.mean():.0%} of the time; "
        f"{forces[most].sum() / total:.0%} on {label(anatomy, most)}",
        "measured",
        spans(touching, trajectory.dt, GAP),
    )


def _sliding(trajectory: Trajectory, anatomy: Anatomy, measured: Contact) -> Finding | None:
    is_still, share = standing(trajectory, anatomy), measured.slip_share
    if share is None or share <= SLIDING_SHARE or is_still.mean() > STILL_SHARE:
        return None
    slides = slipping(trajectory, anatomy) > SLIDING_SHARE * speeds(trajectory, anatomy)
    return Finding(
        "sliding",
        "warning",
        f"more than {SLIDING_SHARE:.0%} of the way is slid: what carries the load moves along the "
        "floor",
        f"{share:.0%} of the way" + (": it slides further than it gets" if share > 1.05 else ""),
        "measured",
        spans(slides & ~is_still, trajectory.dt, GAP),
    )


def _still(trajectory: Trajectory, anatomy: Anatomy) -> Finding | None:
    seconds = trajectory.n * trajectory.dt
    is_still = standing(trajectory, anatomy)
    if not anatomy.feet or seconds < SURVIVED_SECONDS or is_still.mean() <= STILL_SHARE:
        return None
    return Finding(
        "survives without moving",
        "warning",
        f"slower than {STANDING:g} times its height per second for more than {STILL_SHARE:.0%} of "
        f"an episode of at least {SURVIVED_SECONDS:g} s",
        f"{is_still.mean():.0%} of {seconds:.1f} s; mean speed of the whole episode "
        f"{speeds(trajectory, anatomy).mean():.2f} m/s",
        "measured",
        spans(is_still, trajectory.dt),
    )


def _deep(trajectory: Trajectory, anatomy: Anatomy, measured: Contact) -> Finding | None:
    least = DEEP_SHARE * anatomy.height
    if measured.deepest <= least:
        return None
    floor = floor_forces(trajectory)
    is_deep = np.zeros(trajectory.n, bool)
    is_deep[floor.step[floor.depth > least]] = True
    return Finding(
        "deep penetration",
        "warning",
        f"deeper in the floor than {DEEP_SHARE:.0%} of the robot's height",
        f"{1000 * measured.deepest:.0f} mm; the robot is {1000 * anatomy.height:.0f} mm tall",
        "measured",
        spans(is_deep, trajectory.dt, GAP),
    )


def _energy_from_no_force(
    trajectory: Trajectory, anatomy: Anatomy, measured: Energy
) -> Finding | None:
    least = anatomy.weight * anatomy.height  # statues do no work, and nothing is a large share of 0
    if measured.residual <= least or measured.residual_share <= CREATED_SHARE:
        return None
    gain = _running_mean(created(trajectory) / trajectory.dt, trajectory.dt)
    power = _running_mean(np.abs(trajectory.actuator_power).sum(axis=1), trajectory.dt)
    return Finding(
        EXPLOIT,
        "warning",
        f"the robot gains energy from no force: more than {CREATED_SHARE:.0%} of the actuators' "
        "work",
        f"{measured.residual:,.0f} J, {measured.residual_share:.0%} of the work; whether the "
        "return depends on it, the sensitivity to half the physics step tells",
        "consistent with",
        spans(gain > CREATED_SHARE * power, trajectory.dt),
    )


def _on_toes(trajectory: Trajectory, anatomy: Anatomy, measured: Toes) -> Finding | None:
    shares = measured.toe_share
    if not shares or min(shares.values()) <= ON_TOES_SHARE:
        return None
    return Finding(
        "on toes",
        "trait",
        f"more than {ON_TOES_SHARE:.0%} of the impulse of each foot on its front half",
        ", ".join(f"{name} {share:.0%}" for name, share in shares.items()),
        "measured",
        spans(on_toe(trajectory, anatomy) > ON_TOES_SHARE, trajectory.dt, GAP),
    )


def _bounding(trajectory: Trajectory, anatomy: Anatomy, measured: Contact) -> Finding | None:
    if not anatomy.feet or not measured.time_share or measured.flight <= FLIGHT_SHARE:
        return None
    return Finding(
        "bounding",
        "trait",
        f"more than {FLIGHT_SHARE:.0%} of the time in the air",
        f"{measured.flight:.0%} of the time; longest flight {measured.longest_flight:.2f} s",
        "measured",
        spans(~in_contact(floor_force(trajectory), anatomy), trajectory.dt),
    )


def _bang_bang(trajectory: Trajectory, anatomy: Anatomy, measured: Actuation) -> Finding | None:
    if measured.saturated <= BANG_BANG_SHARE or measured.both_limits <= BOTH_LIMITS_SHARE:
        return None
    at_limit = (np.abs(scaled_controls(trajectory, anatomy)) >= SATURATED).mean(axis=1)
    timestep = trajectory.dt * trajectory.n_per_timestep
    return Finding(
        "bang-bang",
        "trait",
        f"more than {BANG_BANG_SHARE:.0%} of controls at a limit of their range, and more than "
        f"{BOTH_LIMITS_SHARE:.0%} of actuators often at both of theirs",
        f"{measured.saturated:.0%} of controls at a limit, {measured.both_limits:.0%} of actuators "
        "often at both",
        "measured",
        spans(_running_mean(at_limit, timestep) > BANG_BANG_SHARE, timestep),
    )


def exploit(returns: Floats, at_half_step: Floats) -> Finding | None:
    """Judge whether a return is that of a body or of a time step.

    Medians are compared, because one fall in ten episodes says nothing about the time step.

    Args:
        returns: of the episodes as they are, shape [n].
        at_half_step: of the same episodes at half the physics step, shape [n]; NaN if they could
            not be played.
    """
    if not len(returns) or not np.isfinite([*returns, *at_half_step]).all():
        return None
    usual, half = float(np.median(returns)), float(np.median(at_half_step))
    if usual <= 0 or half >= KEPT_SHARE * usual:
        return None
    has_vanished = half < VANISHED_SHARE * usual
    least = VANISHED_SHARE if has_vanished else KEPT_SHARE
    return Finding(
        EXPLOIT,
        "warning",
        f"less than {least:.0%} of the return at half the physics step",
        f"{half / usual:.0%}: a median return of {half:,.0f} instead of {usual:,.0f}",
        "implied" if has_vanished else "consistent with",
        (),
    )


def spans(values: Bools, dt: float, gap: float = 0.0) -> tuple[tuple[float, float], ...]:
    """Start and end, in seconds, of the three longest runs of True.

    Args:
        values: one per step.
        dt: seconds per step.
        gap: runs that are at most so many seconds apart are one.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], values, [False]]).astype(int)))
    starts, ends = edges[::2], edges[1::2]
    is_apart = (starts[1:] - ends[:-1]) * dt > gap
    starts = starts[np.concatenate([[True], is_apart])[: len(starts)]]
    ends = ends[np.concatenate([is_apart, [True]])[-len(ends) :]] if len(ends) else ends
    runs = [(float(start * dt), float(end * dt)) for start, end in zip(starts, ends, strict=True)]
    return tuple(sorted(runs, key=lambda run: run[0] - run[1])[:3])


def _running_mean(values: Floats, dt: float) -> Floats:
    """Mean over the window around each step, shape [n]; a window ends where the values do."""
    n, half = len(values), max(1, round(WINDOW / dt / 2))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    start, end = np.maximum(np.arange(n) - half, 0), np.minimum(np.arange(n) + half, n)
    means: Floats = (sums[end] - sums[start]) / (end - start)
    return means


def _steps(seconds: float, trajectory: Trajectory) -> int:
    return round(seconds / trajectory.dt)

"""Findings: what in a policy's motion a reader of its return should know of.

Each rule is stated once, with the measurement that it is about. A finding never changes a return.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation.audit.actuation import Actuation, actuation
from gallop.evaluation.audit.anatomy import Anatomy
from gallop.evaluation.audit.contact import (
    Contact,
    contact,
    floor_forces,
    in_contact,
    normal_forces,
)
from gallop.evaluation.audit.energy import Energy, energy
from gallop.evaluation.audit.posture import Posture, posture, uprightness
from gallop.evaluation.audit.toes import Toes, toes
from gallop.evaluation.audit.trajectory import Trajectory

Bools = NDArray[np.bool_]
Evidence: TypeAlias = Literal["measured", "implied", "consistent with"]

INVERTED_SHARE = 0.2
START_SECONDS = 2.0
ON_TOES_SHARE = 0.9
SLIDING_SHARE = 0.5
BANG_BANG_SHARE = 0.8
REVERSALS_SHARE = 0.2
STILL_HEIGHTS_PER_SECOND = 0.1
TORSO_SHARE = 0.1
SHIN_SHARE = 0.1
FLIGHT_SHARE = 0.6
LIMIT_SHARE = 0.3
DEEP_SHARE = 0.05
RESIDUAL_SHARE = 0.1


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
    """Apply the rules to an episode."""
    found = [
        *_turns(trajectory, anatomy, measures.posture),
        *_contacts(trajectory, anatomy, measures.contact),
        *_feet(trajectory, anatomy, measures),
        *_actuators(measures.actuation),
        *_physics(trajectory, anatomy, measures),
    ]
    return found


def _turns(trajectory: Trajectory, anatomy: Anatomy, measured: Posture) -> list[Finding]:
    found = []
    if measured.upside_down > INVERTED_SHARE:
        when = spans(uprightness(trajectory, anatomy)[:-1] < 0, trajectory.dt)
        found.append(
            Finding(
                "inverted running" if _speed(trajectory, anatomy) > 0 else "upside down",
                f"more than {INVERTED_SHARE:.0%} of the time beyond 90 degrees",
                f"{measured.upside_down:.0%} of the time beyond 90 degrees",
                "measured",
                when,
            )
        )
    if measured.somersaults:
        starts = [span for span in measured.somersaults if span[0] < START_SECONDS]
        is_start = len(starts) == len(measured.somersaults)
        direction = "forward" if measured.net_turns > 0 else "backward"
        found.append(
            Finding(
                "somersault start" if is_start else "somersaults",
                f"a full turn{f' that begins within {START_SECONDS:g} s' if is_start else ''}",
                f"{len(measured.somersaults)} full turn(s), {direction}, the first at "
                f"{measured.somersaults[0][0]:.1f} s",
                "measured",
                measured.somersaults[:3],
            )
        )
    return found


def _contacts(trajectory: Trajectory, anatomy: Anatomy, measured: Contact) -> list[Finding]:
    found = []
    parts = {part: [b for b, each in anatomy.parts.items() if each == part]
             for part in ("torso", "shin")}  # fmt: skip
    feet = {foot.body for foot in anatomy.feet}
    for part, share, name in (
        ("torso", TORSO_SHARE, "on the body"),
        ("shin", SHIN_SHARE, "on the shins"),
    ):
        impulse, total = 0.0, float(floor_forces(trajectory).normal.sum()) or 1.0
        touching = np.zeros(trajectory.n, bool)
        for body in parts[part]:
            if body not in feet:
                force = normal_forces(trajectory, body)
                impulse += float(force.sum())
                touching |= in_contact(force, anatomy)
        if impulse / total > share:
            found.append(
                Finding(
                    name,
                    f"more than {share:.0%} of the floor's impulse on the {part}",
                    f"{impulse / total:.0%} of the impulse, {touching.mean():.0%} of the time",
                    "measured",
                    spans(touching, trajectory.dt),
                )
            )
    if measured.flight > FLIGHT_SHARE:
        nothing = ~np.logical_or.reduce(
            [in_contact(normal_forces(trajectory, body), anatomy)
             for body in set(floor_forces(trajectory).body.tolist())]
            or [np.zeros(trajectory.n, bool)]
        )  # fmt: skip
        found.append(
            Finding(
                "bounding",
                f"more than {FLIGHT_SHARE:.0%} of the time without contact",
                f"{measured.flight:.0%} of the time, {measured.longest_flight:.2f} s at once",
                "measured",
                spans(nothing, trajectory.dt),
            )
        )
    return found


def _feet(trajectory: Trajectory, anatomy: Anatomy, measures: Measures) -> list[Finding]:
    found = []
    shares = measures.toes.toe_share
    if shares and min(shares.values()) > ON_TOES_SHARE:
        found.append(
            Finding(
                "on toes",
                f"more than {ON_TOES_SHARE:.0%} of each foot's impulse on its front half",
                ", ".join(f"{name} {share:.0%}" for name, share in shares.items()),
                "measured",
                (),
            )
        )
    slip = measures.contact.slip_share
    if slip > SLIDING_SHARE and _speed(trajectory, anatomy) > _slow(anatomy):
        found.append(
            Finding(
                "sliding",
                f"a loaded foot moves along the floor at more than {SLIDING_SHARE:.0%} of the "
                "robot's speed",
                f"{slip:.0%} of the robot's speed",
                "measured",
                (),
            )
        )
    if abs(_speed(trajectory, anatomy)) < _slow(anatomy):
        found.append(
            Finding(
                "survives without moving",
                f"slower than {STILL_HEIGHTS_PER_SECOND:g} times its height per second",
                f"{_speed(trajectory, anatomy):.3f} m/s",
                "measured",
                ((0.0, trajectory.n * trajectory.dt),),
            )
        )
    return found


def _actuators(measured: Actuation) -> list[Finding]:
    if measured.saturated <= BANG_BANG_SHARE or measured.reversals <= REVERSALS_SHARE:
        return []
    return [
        Finding(
            "bang-bang",
            f"more than {BANG_BANG_SHARE:.0%} of controls at a limit, and more than "
            f"{REVERSALS_SHARE:.0%} go from one limit to the other",
            f"{measured.saturated:.0%} at a limit, {measured.reversals:.0%} reversed",
            "measured",
            (),
        )
    ]


def _physics(trajectory: Trajectory, anatomy: Anatomy, measures: Measures) -> list[Finding]:
    found = []
    if measures.contact.deepest > DEEP_SHARE * anatomy.height:
        found.append(
            Finding(
                "deep penetration",
                f"deeper in the floor than {DEEP_SHARE:.0%} of its height",
                f"{measures.contact.deepest * 1000:.0f} mm",
                "measured",
                (),
            )
        )
    if measures.energy.residual > 0 and measures.energy.residual_share > RESIDUAL_SHARE:
        found.append(
            Finding(
                "simulator exploit",
                f"more than {RESIDUAL_SHARE:.0%} of the energy comes from no force",
                f"{measures.energy.residual:.0f} J, {measures.energy.residual_share:.0%}",
                "implied",
                (),
            )
        )
    return found


def spans(values: Bools, dt: float) -> tuple[tuple[float, float], ...]:
    """Start and end, in seconds, of the three longest runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], values, [False]]).astype(int)))
    runs = [(float(start * dt), float(end * dt)) for start, end in edges.reshape(-1, 2)]
    return tuple(sorted(runs, key=lambda run: run[0] - run[1])[:3])


def _speed(trajectory: Trajectory, anatomy: Anatomy) -> float:
    """Mean velocity along the world's x axis."""
    along = trajectory.qpos[:, anatomy.forward]
    return float(along[-1] - along[0]) / (trajectory.n * trajectory.dt) if trajectory.n else 0.0


def _slow(anatomy: Anatomy) -> float:
    return STILL_HEIGHTS_PER_SECOND * anatomy.height

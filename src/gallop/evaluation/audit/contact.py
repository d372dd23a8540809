"""Contact: what touches the floor, for how long and how hard; steps and strides.

A body is in contact when the floor pushes it with more than `LEAST_SHARE` of the robot's weight.
The floor is all that never moves, walls and stairs included; a ball or another robot is no floor.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation.audit.anatomy import Anatomy, Foot
from gallop.evaluation.audit.trajectory import Contacts, Trajectory
from gallop.evaluation.audit.travel import way

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEAST_SHARE = 0.01
SHORTEST_STRIDE, LONGEST_STRIDE = 0.1, 2.0
"""Seconds between which a stride period is looked for."""
STRIDE_WINDOW = 0.1
"""Seconds over which loads are averaged first: touchdowns last a few ms, and are never periodic to
the ms."""
LEAST_CORRELATION = 0.4
"""Of a gait with itself one stride later; below, it has no period. Random contacts reach 0.2."""
LEAST_VARIATION = 0.05
"""Standard deviation of the load that a gait has at least, as a share of the weight. What stands
trembles, but it never lifts a foot."""
SHORTEST_SWING = 0.04
"""Seconds. A foot that is off the floor for less has bounced, and was not lifted."""
LOADED_SHARE = 0.1
"""Of the weight, above which what moves along the floor slips."""


class Contact(NamedTuple):
    """Of one episode. Bodies are named by part and name, such as "foot bfoot"."""

    time_share: Mapping[str, float]
    """Share of time in contact, per body that ever is."""
    impulse_share: Mapping[str, float]
    """Share of the floor's normal impulse, per body."""
    flight: float
    """Share of time in which nothing touches the floor."""
    longest_flight: float
    """In seconds."""
    duty_factor: Mapping[str, float]
    """Share of time in contact, per foot."""
    touchdowns: Mapping[str, int]
    """Number of times that each foot lands."""
    order: tuple[str, ...]
    """Feet in the order in which they land in a cycle, which begins with the first foot; the most
    frequent order of all cycles."""
    stride: float | None
    """Seconds per stride, by the autocorrelation of the feet's loads; None: no period."""
    stride_spread: float | None
    """Standard deviation of the times between touchdowns of one foot that are a stride apart, in s;
    None: no period, or fewer than two such times."""
    regularity: float
    """That autocorrelation, at most 1."""
    slip: Mapping[str, float]
    """Mean speed along the floor of each foot while it is loaded, in m/s."""
    slip_share: float | None
    """Way that what carries the load slid along the floor, over the robot's way: 0 if all steps are
    firm, 1 if it glides, more if its feet slide further than it gets. The way through the air is
    not slid. None if the robot goes less than its height: the way is then too short to divide by.
    """
    deepest: float
    """Largest penetration in m."""
    peak: float
    """Largest force of the floor over the robot's weight."""


def floor_forces(trajectory: Trajectory) -> Contacts:
    """The contacts with the world alone: not those of the robot with itself or with objects."""
    contacts = trajectory.contacts
    rows = contacts.other == 0
    return Contacts(*(column[rows] for column in contacts))


def of_the_robot(trajectory: Trajectory, anatomy: Anatomy) -> Trajectory:
    """Leave out contacts of all that is not the robot, such as a ball that lies on the floor."""
    contacts = trajectory.contacts
    rows = np.isin(contacts.body, list(anatomy.parts))
    columns: Any = (column[rows] for column in contacts)
    return trajectory._replace(contacts=Contacts(*columns))


def at_the_feet(trajectory: Trajectory, anatomy: Anatomy) -> Trajectory:
    """Count contacts of a body welded to a foot as the foot's, where they lie within the foot.

    The shin of Unitree's Go1 ends inside its foot, for example, and touches the floor whenever that
    does. Doing it again changes nothing.
    """
    contacts = trajectory.contacts
    body, point, rise = contacts.body.copy(), contacts.point.copy(), contacts.rise.copy()
    for foot in anatomy.feet:
        for other, matrix in foot.welded.items():
            rows = np.flatnonzero(contacts.body == other)
            inside = contacts.point[rows] @ matrix[:, :3].T + matrix[:, 3]
            is_near = _distance(inside, foot) <= foot.radius
            body[rows[is_near]], point[rows[is_near]] = foot.body, inside[is_near]
            rise[rows[is_near]] = np.nan  # of the foot's origin: not known
    contacts = contacts._replace(body=body, point=point, rise=rise)
    return trajectory._replace(contacts=contacts)


def _distance(points: Floats, foot: Foot) -> Floats:
    """Of points in the foot's axes from the line between heel and toe, in m."""
    line = foot.toe - foot.heel
    along = (points - foot.heel) @ line / max(float(line @ line), 1e-12)
    nearest = foot.heel + np.clip(along, 0, 1)[:, None] * line
    distances: Floats = np.linalg.norm(points - nearest, axis=1)
    return distances


def floor_force(trajectory: Trajectory) -> Floats:
    """Normal force of the floor on the whole robot at each physics step, in N, shape [n]."""
    floor = floor_forces(trajectory)
    total: Floats = np.bincount(floor.step, floor.normal, trajectory.n).astype(np.float64)
    return total


def slipping(trajectory: Trajectory, anatomy: Anatomy) -> Floats:
    """Speed along the floor of what carries the load at each physics step, in m/s, shape [n].

    A mean over the contacts of loaded bodies, weighted by their forces; 0 where there is none.
    """
    floor = floor_forces(trajectory)
    weights = np.where(is_loaded(floor, anatomy), floor.normal, 0.0)
    moved = np.bincount(floor.step, weights * floor.velocity, trajectory.n)
    load = np.bincount(floor.step, weights, trajectory.n)
    return np.where(load > 0, moved / np.where(load > 0, load, 1.0), 0.0)


def is_loaded(floor: Contacts, anatomy: Anatomy) -> Bools:
    """Whether the body of each contact carries load in that step, through all its contacts."""
    key = floor.step.astype(np.int64) * len(anatomy.bodies) + floor.body
    _, which = np.unique(key, return_inverse=True)
    load = np.bincount(which, floor.normal)
    return np.asarray(load[which] > LOADED_SHARE * anatomy.weight)


def normal_forces(trajectory: Trajectory, body: int) -> Floats:
    """Normal force of the floor on a body at each physics step, in N, shape [n]."""
    floor = floor_forces(trajectory)
    rows = floor.body == body
    total: Floats = np.bincount(
        floor.step[rows], floor.normal[rows], minlength=trajectory.n
    ).astype(np.float64)
    return total


def bodies_on_floor(trajectory: Trajectory, anatomy: Anatomy) -> list[int]:
    """The feet, and then all other bodies that the floor ever pushes."""
    feet = [foot.body for foot in anatomy.feet]
    return [*feet, *sorted(set(floor_forces(trajectory).body.tolist()) - set(feet))]


def intervals(touching: Bools, dt: float) -> list[tuple[float, float]]:
    """Start and end, in seconds, of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], touching, [False]]).astype(int)))
    return [(round(float(a * dt), 6), round(float(b * dt), 6)) for a, b in edges.reshape(-1, 2)]


def in_contact(forces: Floats, anatomy: Anatomy) -> Bools:
    """Whether each force is more than a touch."""
    return np.asarray(forces > LEAST_SHARE * anatomy.weight)


def label(anatomy: Anatomy, body: int) -> str:
    """Part and name of a body."""
    part, name = anatomy.parts.get(body, "world"), anatomy.bodies[body]
    return name if part in (name, "world") else f"{part} {name}"


def contact(trajectory: Trajectory, anatomy: Anatomy) -> Contact:
    """Measure contacts and gait."""
    floor = floor_forces(trajectory)
    bodies = sorted(set(floor.body.tolist()))
    forces = {body: normal_forces(trajectory, body) for body in bodies}
    touching = {body: in_contact(each, anatomy) for body, each in forces.items()}
    total = floor_force(trajectory)
    nothing = ~np.logical_or.reduce([*touching.values(), np.zeros(trajectory.n, bool)])
    impulse = float(total.sum()) or 1.0
    loads = np.array([normal_forces(trajectory, foot.body) for foot in anatomy.feet])
    on_floor = np.array([in_contact(load, anatomy) for load in loads])
    held = np.array([without_bounces(each, trajectory.dt) for each in on_floor])
    steps = list(zip(anatomy.feet, on_floor, strict=True))
    period, regularity = stride(loads, trajectory.dt, LEAST_VARIATION * anatomy.weight)
    slip = {foot.name: _slip(floor, foot, anatomy) for foot in anatomy.feet}
    slid = float(slipping(trajectory, anatomy).sum()) * trajectory.dt
    travelled = way(trajectory, anatomy)
    return Contact(
        time_share={label(anatomy, body): float(touching[body].mean()) for body in bodies},
        impulse_share={
            label(anatomy, body): float(forces[body].sum()) / impulse for body in bodies
        },
        flight=float(nothing.mean()) if len(nothing) else 0.0,
        longest_flight=_longest(nothing) * trajectory.dt,
        duty_factor={foot.name: float(each.mean()) for foot, each in steps},
        touchdowns={
            foot.name: len(landings(each)) for foot, each in zip(anatomy.feet, held, strict=True)
        },
        order=_order(anatomy.feet, held),
        stride=period,
        stride_spread=None if period is None else _spread(held, period, trajectory.dt),
        regularity=regularity,
        slip=slip,
        slip_share=slid / travelled if travelled > anatomy.height else None,
        deepest=float(floor.depth.max(initial=0.0)),
        peak=float(total.max(initial=0.0)) / anatomy.weight,
    )


def without_bounces(touching: Bools, dt: float) -> Bools:
    """Fill the gaps that are too short to be a swing of the foot."""
    edges = np.flatnonzero(np.diff(touching.astype(int)))
    filled = touching.copy()
    for up, down in itertools.pairwise(edges.tolist()):
        if touching[up] and (down - up) * dt < SHORTEST_SWING - dt / 2:
            filled[up + 1 : down + 1] = True
    return filled


def landings(touching: Bools) -> NDArray[np.int64]:
    """Indices at which contact begins, not counting one that is there at the start."""
    return np.flatnonzero(touching[1:] & ~touching[:-1]) + 1


def stride(loads: Floats, dt: float, least: float = 0.0) -> tuple[float | None, float]:
    """Find the period of a gait.

    Args:
        loads: force on each foot at each physics step, shape [feet, n].
        dt: seconds per physics step.
        least: standard deviation that the load of at least one foot has in a gait, in N.

    Returns:
        Seconds, or None without a period; and the autocorrelation there. It is the first maximum
        within 10 % of the largest: twice a stride is a period, too.
    """
    if not loads.size:
        return None, 0.0
    shortest, longest = round(SHORTEST_STRIDE / dt), round(LONGEST_STRIDE / dt)
    n = loads.shape[1]
    longest = min(longest, n // 2)
    window = np.full(max(1, min(n, round(STRIDE_WINDOW / dt))), 1.0)
    smooth = np.array([np.convolve(load, window, "same") for load in loads])
    centred = smooth - smooth.mean(axis=1, keepdims=True)
    power = float((centred**2).sum())
    is_still = float(loads.std(axis=1).max()) <= least
    if longest <= shortest or power == 0 or is_still:
        return None, 0.0
    spectrum = np.fft.rfft(centred, 2 * n, axis=1)
    products = np.fft.irfft(spectrum * spectrum.conj(), axis=1)[:, : longest + 1].sum(axis=0)
    overlap = n / (n - np.arange(longest + 1))  # fewer products at larger shifts
    correlation = products / power * overlap
    inner = correlation[1:-1]
    is_peak = (inner >= correlation[:-2]) & (inner >= correlation[2:])
    peaks = np.flatnonzero(is_peak) + 1
    peaks = peaks[peaks >= shortest]
    if not len(peaks):
        return None, 0.0
    best = float(correlation[peaks].max())
    first = int(peaks[correlation[peaks] >= best - 0.1 * abs(best)][0])
    strength = min(1.0, float(correlation[first]))
    return (first * dt if strength >= LEAST_CORRELATION else None), strength


def _spread(touching: Bools, period: float, dt: float) -> float | None:
    """Standard deviation of the intervals between touchdowns that are about a stride apart, in s.

    Args:
        touching: whether each foot is on the floor at each physics step, shape [feet, n].
        period: of a stride, in s.
        dt: seconds per physics step.
    """
    intervals = np.concatenate([np.diff(landings(foot)) * dt for foot in touching])
    strides = intervals[np.abs(intervals - period) < period / 2]
    return float(strides.std()) if len(strides) > 1 else None


def _slip(floor: Contacts, foot: Foot, anatomy: Anatomy) -> float:
    rows = (floor.body == foot.body) & is_loaded(floor, anatomy)
    return (
        float(np.average(floor.velocity[rows], weights=floor.normal[rows])) if rows.any() else 0.0
    )


def _longest(values: Bools) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], values, [False]]).astype(int)))
    return int(np.diff(edges)[::2].max(initial=0))


def _order(feet: tuple[Foot, ...], touching: Bools) -> tuple[str, ...]:
    """The most frequent order of touchdowns in a cycle that begins with the first foot."""
    events = sorted(
        (int(index), number) for number, each in enumerate(touching) for index in landings(each)
    )
    cycles: dict[tuple[int, ...], int] = {}
    current: list[int] = []
    for _, number in events:
        if number == 0 and current:
            cycles[tuple(current)] = cycles.get(tuple(current), 0) + 1
            current = []
        if current or number == 0:
            current.append(number)
    best = max(cycles, key=lambda cycle: cycles[cycle], default=())
    return tuple(feet[number].name for number in best)

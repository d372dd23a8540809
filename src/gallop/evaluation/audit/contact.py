"""Contact: what touches the floor, for how long and how hard; steps and strides.

A body is in contact when the floor pushes it with more than `LEAST_SHARE` of the robot's weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.evaluation.audit.anatomy import Anatomy, Foot
from gallop.evaluation.audit.trajectory import Contacts, Trajectory

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
LOADED_SHARE = 0.1
"""Of the weight, above which a foot that moves along the floor slips."""


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
    """Feet in the order in which they land, from the one that lands first after the longest flight;
    the most frequent order of all cycles."""
    stride: float | None
    """Seconds per stride, by the autocorrelation of the feet's loads; None: no period."""
    stride_spread: float | None
    """Standard deviation of the times between touchdowns of one foot that are a stride apart, in s;
    None: no period."""
    regularity: float
    """That autocorrelation, at most 1."""
    slip: Mapping[str, float]
    """Mean speed along the floor of each foot while it is loaded, in m/s."""
    slip_share: float
    """Slip over the speed of the robot: 1 means that the feet are dragged along."""
    deepest: float
    """Largest penetration in m."""
    peak: float
    """Largest force of the floor over the robot's weight."""


def floor_forces(trajectory: Trajectory) -> Contacts:
    """The contacts with the world alone: not those of the robot with itself."""
    contacts = trajectory.contacts
    rows = contacts.other == 0
    return Contacts(*(column[rows] for column in contacts))


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
    total = sum(forces.values(), start=np.zeros(trajectory.n))
    nothing = ~np.logical_or.reduce([*touching.values(), np.zeros(trajectory.n, bool)])
    impulse = float(total.sum()) or 1.0
    loads = np.array([normal_forces(trajectory, foot.body) for foot in anatomy.feet])
    on_floor = np.array([in_contact(load, anatomy) for load in loads])
    steps = list(zip(anatomy.feet, on_floor, strict=True))
    period, regularity = stride(loads, trajectory.dt)
    slip = {foot.name: _slip(floor, foot, anatomy) for foot in anatomy.feet}
    speed = float(np.mean(np.abs(np.diff(trajectory.qpos[:, anatomy.forward])))) / trajectory.dt
    return Contact(
        time_share={label(anatomy, body): float(touching[body].mean()) for body in bodies},
        impulse_share={
            label(anatomy, body): float(forces[body].sum()) / impulse for body in bodies
        },
        flight=float(nothing.mean()) if len(nothing) else 0.0,
        longest_flight=_longest(nothing) * trajectory.dt,
        duty_factor={foot.name: float(each.mean()) for foot, each in steps},
        touchdowns={foot.name: len(landings(each)) for foot, each in steps},
        order=_order(anatomy.feet, on_floor),
        stride=period,
        stride_spread=None if period is None else _spread(on_floor, period, trajectory.dt),
        regularity=regularity,
        slip=slip,
        slip_share=max(slip.values(), default=0.0) / speed if speed > 1e-9 else 0.0,
        deepest=float(floor.depth.max(initial=0.0)),
        peak=float(total.max(initial=0.0)) / anatomy.weight,
    )


def landings(touching: Bools) -> NDArray[np.int64]:
    """Indices at which contact begins, not counting one that is there at the start."""
    return np.flatnonzero(touching[1:] & ~touching[:-1]) + 1


def stride(loads: Floats, dt: float) -> tuple[float | None, float]:
    """Find the period of a gait.

    Args:
        loads: force on each foot at each physics step, shape [feet, n].
        dt: seconds per physics step.

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
    if longest <= shortest or power < 1e-9:
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


def _spread(touching: Bools, period: float, dt: float) -> float:
    """Standard deviation of the intervals between touchdowns that are about a stride apart, in s.

    Args:
        touching: whether each foot is on the floor at each physics step, shape [feet, n].
        period: of a stride, in s.
        dt: seconds per physics step.
    """
    intervals = np.concatenate([np.diff(landings(foot)) * dt for foot in touching])
    strides = intervals[np.abs(intervals - period) < period / 2]
    return float(strides.std()) if len(strides) else 0.0


def _slip(floor: Contacts, foot: Foot, anatomy: Anatomy) -> float:
    rows = (floor.body == foot.body) & (floor.normal > LOADED_SHARE * anatomy.weight)
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

"""audit.json, as others may have written it: what is not as it should be is left out.

A run folder may come from anyone. Every value is checked, texts and lists have limits, and a record
that is not one raises a `ValueError`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from gallop.errors import shortened
from gallop.reading import read_json

FORMAT = 1
MAX_BYTES = 1 << 25
MAX_TEXT, MAX_NAME = 400, 60  # characters
MAX_ROWS = 1_000  # findings, episodes, changes
MAX_NAMES = 40  # bodies, reward terms
MAX_SPANS = 20_000  # of one body on the floor
MAX_ANGLES = 200_000

Span: TypeAlias = tuple[float, float]
"""Start and end, in seconds."""


class Found(NamedTuple):
    """A finding, over all episodes or of one."""

    name: str
    kind: str
    """warning: the return may not mean what one thinks; trait: a way of moving."""
    rule: str
    measured: str
    evidence: str
    seconds: tuple[Span, ...]
    """Of the episode of `seed`."""
    seed: int | None
    episodes: int
    """Number of episodes that show it."""
    of: int


class Measure(NamedTuple):
    """A measure of all episodes."""

    label: str
    unit: str
    """As for `shown`."""
    meaning: str
    values: tuple[float, ...]
    """One per episode that has it."""

    @property
    def mean(self) -> float:
        """Mean over the finite values; NaN without any."""
        finite = [value for value in self.values if math.isfinite(value)]
        return sum(finite) / len(finite) if finite else math.nan


class ChangedSimulator(NamedTuple):
    """The return of the same policy on a changed simulator."""

    change: str
    returns: tuple[float, ...]
    why_not: str


class Filmed(NamedTuple):
    """The episode that the film shows."""

    seed: int
    dt: float
    """Seconds between two angles."""
    contacts: Mapping[str, tuple[Span, ...]]
    """Body -> when it carries load."""
    pitch: tuple[float, ...]
    """In degrees."""
    findings: tuple[Found, ...]
    """Of this episode."""

    @property
    def seconds(self) -> float:
        """Length of the episode."""
        ends = [end for spans in self.contacts.values() for _, end in spans]
        return max([self.dt * max(0, len(self.pitch) - 1), *ends])


class AuditRecord(NamedTuple):
    """The audit of a policy."""

    why_not: str
    """Why there is none; empty if there is."""
    findings: tuple[Found, ...] = ()
    measures: Mapping[str, Measure] = {}
    """Label -> measure."""
    returns: tuple[float, ...] = ()
    changes: tuple[ChangedSimulator, ...] = ()
    filmed: Filmed | None = None


_MEASURES = (
    ("speed", "rewards.speed", "m/s", "way over the ground in a second"),
    ("standing still", "rewards.standing", "share", "share of time in which it hardly moves"),
    ("upside down", "posture.upside_down", "share", "share of time turned by more than 90 degrees"),
    ("net turns", "posture.net_turns", "", "whole turns from start to end; forward is positive"),
    ("somersaults", "posture.somersaults", "count", "full turns, forward or backward"),
    ("in the air", "contact.flight", "share", "share of time in which nothing touches the floor"),
    ("longest flight", "contact.longest_flight", "s", "longest time in the air at once"),
    ("stride", "contact.stride", "s", "time after which the steps repeat"),
    ("spread of strides", "contact.stride_spread", "s", "standard deviation of their times"),
    ("regularity of strides", "contact.regularity", "", "1: each stride is like the one before"),
    ("largest force", "contact.peak", "× weight", "largest push of the floor"),
    (
        "slip",
        "contact.slip_share",
        "share",
        "share of the way on which what carries the load slides",
    ),
    ("deepest penetration", "contact.deepest", "mm", "how far something sinks into the floor"),
    (
        "controls at a limit",
        "actuation.saturated",
        "share",
        "share of controls driven to their limit",
    ),
    ("change between controls", "actuation.change", "share", "from one timestep to the next"),
    ("reversed controls", "actuation.reversals", "share", "from one limit to the other at once"),
    ("actuators at both limits", "actuation.both_limits", "share", "often at one and the other"),
    ("dominant frequency", "actuation.frequency", "Hz", "strongest rhythm in the controls"),
    ("mechanical power", "energy.power", "W", "what the actuators spend"),
    ("cost of transport", "energy.transport", "", "work over weight and distance"),
    ("energy from no force", "energy.residual_share", "share", "what the simulator adds or loses"),
)
_MAPPINGS = (
    ("floor's push on {}", "contact.impulse_share", "share", "share of the whole push"),
    ("{} on the floor", "contact.duty_factor", "share", "share of time in contact (duty factor)"),
    ("load on the toe of {}", "toes.toe_share", "share", "share on the front half of the foot"),
    ("steepness of {}", "toes.steepness", "degrees", "angle of foot and floor; 90 on tiptoe"),
    ("reward from {}", "rewards.shares", "share", "size of the term over that of all terms"),
)


_SIGNS = {"share": "%", "count": ""}


def read_audit(path: Path) -> AuditRecord:
    """Read audit.json.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not the record of an audit.
    """
    record = read_json(path, MAX_BYTES)
    if record.get("format") != FORMAT:
        raise ValueError(f"it has format {_text(str(record.get('format')))}, expected {FORMAT}")
    if why_not := _text(record.get("why_not")):
        return AuditRecord(why_not)
    episodes = _records(record.get("episodes"))
    if not episodes:
        raise ValueError("it has no episodes")
    returns = tuple(_number(episode.get("return")) for episode in episodes)
    return AuditRecord(
        "",
        tuple(_found(each, len(episodes)) for each in _records(record.get("findings"))),
        _measures(episodes),
        returns,
        tuple(
            ChangedSimulator(
                _text(each.get("change"), MAX_NAME),
                tuple(map(_number, _items(each.get("returns")))),
                _text(each.get("why_not")),
            )
            for each in _records(record.get("sensitivity"))
        ),
        _filmed(record.get("filmed"), episodes),
    )


def shown(value: float, unit: str) -> str:
    """Return the value of a measure as text.

    >>> shown(0.4567, "share"), shown(0.01234, "mm"), shown(2.5, "s"), shown(12345.0, "W")
    ('46 %', '12.3 mm', '2.50 s', '12,345 W')
    >>> shown(float("nan"), "s"), shown(1.0, "count"), shown(-0.25, ""), shown(0.0002, "share")
    ('–', '1', '−0.25', '0 %')
    """
    text, sign = bare(value, unit), _SIGNS.get(unit, unit)
    return f"{text} {sign}" if sign and text != "–" else text


def bare(value: float, unit: str) -> str:
    """Return `shown` without the unit; a dash if the value is not finite."""
    if not math.isfinite(value):
        return "–"
    value *= {"share": 100, "mm": 1_000}.get(unit, 1)
    size = abs(value)
    if unit == "count":
        text = f"{value:g}"
    elif unit == "share":
        text = f"{value:,.{1 if 0.05 <= size < 9.95 else 0}f}"
    else:
        text = f"{value:,.{0 if size >= 99.95 else 1 if size >= 9.995 else 2}f}"
    return "0" if float(text.replace(",", "")) == 0 else text.replace("-", "−")


def _measures(episodes: list[dict[str, Any]]) -> dict[str, Measure]:
    found = {}
    for label, path, unit, meaning in _MEASURES:
        values = [_inside(episode, path) for episode in episodes]
        if unit == "count":
            values = [len(value) if isinstance(value, list) else None for value in values]
        numbers = tuple(_number(value) for value in values if value is not None)
        if numbers:
            found[label] = Measure(label, unit, meaning, numbers)
    for pattern, path, unit, meaning in _MAPPINGS:
        rows = [_inside(episode, path) for episode in episodes]
        mappings = [row for row in rows if isinstance(row, Mapping)]
        names = list(dict.fromkeys(name for row in mappings for name in row))[:MAX_NAMES]
        for name in names:
            label = pattern.format(_text(name, MAX_NAME).removeprefix("reward_"))
            numbers = tuple(_number(row.get(name, 0.0)) for row in mappings)
            found[label] = Measure(label, unit, meaning, numbers)
    return found


def _filmed(record: object, episodes: list[dict[str, Any]]) -> Filmed | None:
    if not isinstance(record, Mapping):
        return None
    seed, dt = _whole(record.get("seed")), _number(record.get("dt"))
    contacts = record.get("contacts")
    if seed is None or not 0 < dt < 1e6 or not isinstance(contacts, Mapping):
        return None
    shown_there = [each for each in episodes if _whole(each.get("seed")) == seed][:1]
    return Filmed(
        seed,
        dt,
        {
            _text(body, MAX_NAME): _spans(spans, MAX_SPANS)
            for body, spans in list(contacts.items())[:MAX_NAMES]
        },
        tuple(_number(angle) for angle in _items(record.get("pitch"), MAX_ANGLES)),
        tuple(
            _found(finding, 1, seed)
            for episode in shown_there
            for finding in _records(episode.get("findings"))
        ),
    )


def _found(record: Mapping[str, Any], of: int, seed: int | None = None) -> Found:
    return Found(
        name=_text(record.get("name"), MAX_NAME) or "unnamed",
        kind="trait" if record.get("kind") == "trait" else "warning",
        rule=_text(record.get("rule")),
        measured=_text(record.get("measured")),
        evidence=_text(record.get("evidence"), MAX_NAME),
        seconds=_spans(record.get("seconds"), 3),
        seed=_whole(record.get("seed")) if seed is None else seed,
        episodes=_whole(record.get("episodes")) or 1,
        of=_whole(record.get("of")) or of,
    )


# --- plain values ---


def _inside(record: Mapping[str, Any], path: str) -> object:
    family, _, name = path.partition(".")
    inner = record.get(family)
    return inner.get(name) if isinstance(inner, Mapping) else None


def _items(value: object, limit: int = MAX_ROWS) -> list[Any]:
    return value[:limit] if isinstance(value, list) else []


def _records(value: object) -> list[dict[str, Any]]:
    return [each for each in _items(value) if isinstance(each, dict)]


def _text(value: object, limit: int = MAX_TEXT) -> str:
    return shortened(value, limit) if isinstance(value, str) else ""


def _number(value: object) -> float:
    """NaN for anything but a number, or "Infinity" (strict_json.py)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value) if not isinstance(value, str) or len(value) < 30 else math.nan
    except (ValueError, OverflowError):
        return math.nan


def _whole(value: object) -> int | None:
    is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 62
    return value if is_whole and isinstance(value, int) else None


def _spans(value: object, limit: int) -> tuple[Span, ...]:
    found = []
    for each in _items(value, limit):
        if isinstance(each, list) and len(each) == 2:
            start, end = map(_number, each)
            if 0 <= start <= end < 1e7:
                found.append((start, end))
    return tuple(found)

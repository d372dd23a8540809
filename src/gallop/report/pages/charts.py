"""Charts of pages, as SVG: they scale with the page, print, and need no library.

Colours come from the style's classes, so that they follow light and dark. What a chart shows is
also given as text: the script puts a cursor on it and reads the text of the point out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.report.figures import short
from gallop.report.pages.audit_record import Filmed, Span
from gallop.report.pages.html import Html, data, each, element, joined

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 960.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 112.0, 16.0, 14.0, 46.0
MAX_POINTS = 1_000
"""Of a curve. More are thinned out."""
MAX_ANGLES = 1_500
PIXELS_A_SECOND, LANE = 150, 22
MAX_GAIT_SECONDS = 120.0
"""Of an episode, that the gait diagram shows."""
N_COLOURS = 6
HUGE = 1e15  # returns are drawn up to here


class Curve(NamedTuple):
    """A line with a band; all arrays have shape [k]."""

    name: str
    x: NDArray[np.int64] | Floats
    y: Floats
    low: Floats
    high: Floats
    colour: int
    """Number of a colour class of the style."""
    texts: Sequence[str]
    """What is read out at each point, shape [k]."""


class Axis(NamedTuple):
    """What the horizontal axis of curves means."""

    number: Callable[[float], str]
    """The text at a value of the axis."""
    reading: str
    """How a point is read out, such as "{:,.0f} timesteps"."""
    start: float = 0.0


TIMESTEPS = Axis(short, "{:,.0f} timesteps")


class Band(NamedTuple):
    """A level across the whole chart."""

    name: str
    mean: float
    low: float
    high: float


class Point(NamedTuple):
    """What the script needs of a timestep."""

    x: float
    y: list[tuple[int, float]]
    """Number of each curve that has a value there, and its place."""
    text: str


class _Scale:
    """From values to places in the chart, linear."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = low, high if high > low else low + 1.0
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def curves(
    label: str, lines: Sequence[Curve], band: Band | None, x_end: float, axis: Axis = TIMESTEPS
) -> Html:
    """Draw curves, to hover over or to walk along with the arrow keys.

    Args:
        label: what the chart shows, for screen readers.
        lines: the curves, each with finite values only.
        band: the random policy's returns.
        x_end: where the axis ends.
        axis: what it means.
    """
    lines = [_thinned(_clipped(line)) for line in lines if line.x.size]
    if not lines:
        return element("p", "There is no evaluation to plot yet.", class_="note")
    low, high = _limits([*(a for c in lines for a in (c.y, c.low, c.high)), *_of(band)])
    x = _Scale(
        axis.start, max(x_end, *(float(line.x.max()) for line in lines)), LEFT, WIDTH - RIGHT
    )
    y = _Scale(low, high, HEIGHT - BOTTOM, TOP)
    parts = [_axes(x, y, axis)]
    if band is not None:
        places = np.clip([band.mean, band.low, band.high], -HUGE, HUGE).tolist()
        band = band._replace(mean=places[0], low=places[1], high=places[2])
        across = {"x": LEFT, "width": WIDTH - RIGHT - LEFT}
        top, bottom = y(band.high), y(band.low)
        parts += [
            element("rect", y=top, height=max(bottom - top, 0.5), class_="band base", **across),
            _line(LEFT, y(band.mean), WIDTH - RIGHT, y(band.mean), "curve base dashed"),
        ]
    for line in lines:
        colour = f"c{line.colour % N_COLOURS}"
        there = [(x(float(t)), v) for t, v in zip(line.x, line.high, strict=True)]
        back = [(x(float(t)), v) for t, v in zip(line.x, line.low, strict=True)][::-1]
        outline = [(place, y(float(value))) for place, value in (*there, *back)]
        places = [(x(float(t)), y(float(v))) for t, v in zip(line.x, line.y, strict=True)]
        parts.append(element("path", d=f"{_path(outline)}Z", class_=f"band {colour}"))
        parts.append(element("path", d=_path(places), class_=f"curve {colour}"))
        if len(places) <= 60:
            dots = (element("circle", cx=a, cy=b, r=2.6, class_=f"dot {colour}") for a, b in places)
            parts.append(each(dots))
    points = _points(lines, x, y, axis)
    cursor = element("g", *_cursor(len(lines)), class_="cursor", hidden=True)
    svg = element(
        "svg", *parts, cursor, viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", aria_hidden="true",
        focusable="false",
    )  # fmt: skip
    return element(
        "div",
        element(
            "div", svg, class_="plot", role="slider", tabindex=0, aria_label=label,
            aria_valuemin=1, aria_valuemax=len(points), aria_valuenow=len(points),
            aria_valuetext=points[-1].text, aria_orientation="horizontal",
        ),
        element("p", f"Last: {points[-1].text}", class_="readout", aria_hidden="true"),
        data([point._asdict() for point in points]),
        class_="hover",
    )  # fmt: skip


def legend(lines: Sequence[Curve], band: Band | None, meaning: str) -> Html:
    """Explain the colours of `curves`."""
    items = [
        element("li", element("span", class_=f"key c{line.colour % N_COLOURS}"), line.name)
        for line in lines
    ]
    if band is not None:
        items.append(element("li", element("span", class_="key base"), band.name))
    return joined(element("ul", *items, class_="legend"), element("p", meaning, class_="note"))


def _points(lines: Sequence[Curve], x: _Scale, y: _Scale, axis: Axis) -> list[Point]:
    """Return what the script needs of each place at which any curve has a value."""
    at: dict[float, list[tuple[int, float, str]]] = {}
    for number, line in enumerate(lines):
        for t, value, text in zip(line.x.tolist(), line.y, line.texts, strict=True):
            at.setdefault(t, []).append((number, y(float(value)), text))
    points = []
    for value in sorted(at):
        texts = "; ".join(text for _, _, text in at[value])
        points.append(
            Point(
                x(float(value)),
                [(number, place) for number, place, _ in at[value]],
                f"{axis.reading.format(value)}: {texts}",
            )
        )
    return points


def _cursor(n: int) -> list[Html]:
    ends = {"y1": TOP, "y2": HEIGHT - BOTTOM}
    return [
        element("line", x1=LEFT, x2=LEFT, class_="rule", **ends),
        *(element("circle", cx=LEFT, cy=TOP, r=5, class_=f"ring c{i % N_COLOURS}")
          for i in range(n)),
    ]  # fmt: skip


def _axes(x: _Scale, y: _Scale, axis: Axis) -> Html:
    parts = []
    for number, value in enumerate(ticks(y.low, y.high, 5)):
        place = y(value)
        parts.append(_line(LEFT, place, WIDTH - RIGHT, place, "grid"))
        parts.append(_label(axis_number(value), LEFT - 10, place + 5, "end", number % 2))
    for number, value in enumerate(ticks(x.low, x.high, 6)):
        place = x(value)
        anchor = "end" if place > WIDTH - RIGHT - 20 else "middle"
        parts.append(_label(axis.number(value), place, HEIGHT - BOTTOM + 28, anchor, number % 2))
    parts.append(_line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis"))
    return element("g", *parts)


def _label(text: str, x: float, y: float, anchor: str, is_odd: int) -> Html:
    kind = "odd" if is_odd else None
    return element("text", text, x=x, y=y, text_anchor=anchor, class_=kind)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:g} {b:g}" for a, b in places)


def _thinned(line: Curve) -> Curve:
    step = math.ceil(line.x.size / MAX_POINTS)
    if step <= 1:
        return line
    kept = sorted({*range(0, line.x.size, step), line.x.size - 1})
    return line._replace(
        x=line.x[kept],
        y=line.y[kept],
        low=line.low[kept],
        high=line.high[kept],
        texts=[line.texts[i] for i in kept],
    )


def _of(band: Band | None) -> list[Floats]:
    return [] if band is None else [np.array([band.mean, band.low, band.high])]


def _clipped(line: Curve) -> Curve:
    """A curve whose values have places in a picture: spreads of huge returns are infinite."""
    y, low, high = (np.clip(values, -HUGE, HUGE) for values in (line.y, line.low, line.high))
    return line._replace(y=y, low=low, high=high)


def _limits(arrays: Sequence[Floats]) -> tuple[float, float]:
    """Return where the y axis begins and ends: around all values, with some room."""
    values = np.concatenate([np.clip(array, -HUGE, HUGE) for array in arrays])
    low, high = float(values.min()), float(values.max())
    room = 0.05 * (high - low) or max(1.0, 0.1 * abs(high))
    return low - room, high + room


def ticks(low: float, high: float, n: int) -> list[float]:
    """Return about n round numbers from low to high.

    >>> ticks(-300.0, 12_600.0, 5)
    [0.0, 2500.0, 5000.0, 7500.0, 10000.0, 12500.0]
    """
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return []
    size = 10.0 ** math.floor(math.log10(span / n))
    step = next((m * size for m in (1, 2, 2.5, 5, 10) if m * size * (n + 0.5) >= span), 10 * size)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def axis_number(value: float) -> str:
    """Return a number at an axis.

    >>> axis_number(12_500.0), axis_number(-0.25), axis_number(2e9)
    ('12,500', '−0.25', '2e+09')
    """
    text = f"{value:,.0f}" if value == round(value) and abs(value) < 1e7 else f"{value:.4g}"
    return text.replace("-", "−") if value < 0 else text


# --- the motion of an episode --------------------------------------------------------------------


def gait(filmed: Filmed) -> Html:
    """Draw a lane per body, with a bar where it carries load, over the whole episode.

    Bodies are called "foot" and their name if they are feet, whose lanes have another colour.
    """
    seconds = min(filmed.seconds, MAX_GAIT_SECONDS)
    if not filmed.contacts or seconds <= 0:
        return element("p", "Nothing touched the floor.", class_="note")
    width, n = max(1, round(seconds * PIXELS_A_SECOND)), len(filmed.contacts)
    height = n * LANE + 26
    parts = [
        element("line", x1=s * PIXELS_A_SECOND, x2=s * PIXELS_A_SECOND, y1=0, y2=n * LANE,
                class_="grid")
        for s in range(math.floor(seconds) + 1)
    ]  # fmt: skip
    parts += [
        element("text", f"{s} s", x=s * PIXELS_A_SECOND + 4, y=height - 8)
        for s in range(math.floor(seconds) + 1)
    ]
    for lane, (body, spans) in enumerate(filmed.contacts.items()):
        kind = "foot" if body.startswith("foot") else "other"
        middle = lane * LANE + LANE / 2
        bars = "".join(
            f"M{start * PIXELS_A_SECOND:.1f} {middle:g}"
            f"H{max(min(end, seconds), start + 0.004) * PIXELS_A_SECOND:.1f}"
            for start, end in spans
            if start < seconds
        )
        if bars:
            parts.append(element("path", d=bars, class_=f"bar {kind}"))
    parts.append(element("line", x1=0, x2=0, y1=0, y2=n * LANE, class_="rule now"))
    svg = element(
        "svg", *parts, width=width, height=height, viewBox=f"0 0 {width} {height}",
        data_pixels=PIXELS_A_SECOND, aria_hidden="true", focusable="false",
    )  # fmt: skip
    names = (element("li", body) for body in filmed.contacts)
    return element(
        "div",
        element("ul", *names, class_="lanes"),
        element("div", svg, class_="scroll track", role="region", tabindex=0,
                aria_label="Gait diagram: scrolls along the episode"),
        class_="gait",
    )  # fmt: skip


def gait_in_words(filmed: Filmed) -> str:
    """Return what the gait diagram shows, for those who do not see it."""
    seconds = filmed.seconds or 1.0
    shares = {
        body: sum(end - start for start, end in spans) / seconds
        for body, spans in filmed.contacts.items()
    }
    told = (f"{body} {100 * share:.0f} % of the time" for body, share in shares.items())
    return "On the floor: " + (", ".join(told) or "nothing") + "."


def pitch(filmed: Filmed, shaded: Mapping[str, Sequence[Span]]) -> Html:
    """Draw the pitch over the episode, with the seconds of findings shaded."""
    angles = np.array(filmed.pitch, dtype=np.float64)
    step = max(1, math.ceil(angles.size / MAX_ANGLES))
    times = np.arange(angles.size)[::step] * filmed.dt
    angles = np.clip(angles[::step], -1e6, 1e6)
    there = np.isfinite(angles)
    if there.sum() < 2:
        return element("p", "The pitch was not recorded.", class_="note")
    times, angles = times[there], angles[there]
    low, high = min(-100.0, float(angles.min())), max(100.0, float(angles.max()))
    height = 230.0
    x = _Scale(0, max(filmed.seconds, float(times[-1])), LEFT, WIDTH - RIGHT)
    y = _Scale(low, high, height - BOTTOM, TOP)
    parts = []
    for spans in shaded.values():
        for start, end in spans:
            left, right = x(min(start, x.high)), x(min(end, x.high))
            parts.append(element("rect", x=left, y=TOP, width=max(1.5, right - left),
                                 height=height - BOTTOM - TOP, class_="shade"))  # fmt: skip
    for number, value in enumerate(_angles(low, high)):
        parts.append(_line(LEFT, y(value), WIDTH - RIGHT, y(value), "grid"))
        parts.append(_label(f"{value:.0f}°".replace("-", "−"), LEFT - 10, y(value) + 5, "end",
                            number % 2))  # fmt: skip
    for number, value in enumerate(ticks(0, x.high, 6)):
        place, anchor = x(value), "end" if x(value) > WIDTH - RIGHT - 20 else "middle"
        parts.append(_label(f"{value:g} s", place, height - BOTTOM + 28, anchor, number % 2))
    places = [(x(float(t)), y(float(a))) for t, a in zip(times, angles, strict=True)]
    parts.append(element("path", d=_path(places), class_="curve thin c0"))
    parts.append(_line(LEFT, TOP, LEFT, height - BOTTOM, "rule now"))
    return element(
        "svg", *parts, viewBox=f"0 0 {WIDTH:g} {height:g}", class_="track wide", role="img",
        aria_label=pitch_in_words(filmed), data_start=LEFT,
        data_pixels=(WIDTH - RIGHT - LEFT) / x.high,
    )  # fmt: skip


def _angles(low: float, high: float) -> list[float]:
    """Multiples of a right angle, or of whole turns where there are many."""
    step = next(s for s in (90, 180, 360, 720, 3_600, 36_000, 1e9) if (high - low) / s <= 8)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def pitch_in_words(filmed: Filmed) -> str:
    """Return what the pitch trace shows."""
    angles = np.array(filmed.pitch, dtype=np.float64)
    angles = angles[np.isfinite(angles)]
    if not angles.size:
        return "The pitch was not recorded."
    beyond = 100 * float(np.mean(np.cos(np.radians(angles)) < 0))
    return (
        f"From {_degrees(angles.min())} to {_degrees(angles.max())} degrees; positive: front down. "
        f"{beyond:.0f} % of the time upside down."
    )


def _degrees(angle: float) -> str:
    return f"{angle:,.0f}".replace("-", "−")


# --- small charts in tables ----------------------------------------------------------------------


def dots(values: Floats, low: float, high: float) -> Html:
    """Draw a dot per episode between two returns."""
    finite = values[np.isfinite(values)]
    x = _Scale(low, high, 6, 154)
    marks = [element("circle", cx=x(float(v)), cy=10, r=3.2, class_="dot c0") for v in finite[:100]]
    if finite.size:
        mean = x(float(np.clip(finite.mean(), low, high)))
        marks.append(_line(mean, 2, mean, 18, "mean"))
    return element(
        "svg", _line(6, 10, 154, 10, "grid"), *marks, viewBox="0 0 160 20", class_="dots",
        aria_hidden="true", focusable="false",
    )  # fmt: skip


def bar(share: float) -> Html:
    """Draw a bar of a length between 0 and 1; longer ones end at the edge, and NaN has none."""
    if not math.isfinite(share):
        return Html("")
    length = min(max(share, 0.0), 1.25) / 1.25 * 100
    whole = 100 / 1.25
    return element(
        "svg",
        element("rect", x=0, y=2, width=length, height=8, class_="fill c0"),
        _line(whole, 0, whole, 12, "mean"),
        viewBox="0 0 100 12", class_="bars", preserveAspectRatio="none", aria_hidden="true",
        focusable="false",
    )  # fmt: skip

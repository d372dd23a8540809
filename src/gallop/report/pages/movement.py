"""The sections of pages about movement: films, findings, gait and pitch, measures, sensitivity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gallop.errors import counted
from gallop.evaluation.statistics import finite
from gallop.reading import read_bytes
from gallop.report.pages import charts
from gallop.report.pages.audit_record import AuditRecord, Found, Measure, bare, shown
from gallop.report.pages.comparing import findings_of, measures_of
from gallop.report.pages.facts import RunFacts, Side
from gallop.report.pages.films import MOST_BYTES, PageFilm
from gallop.report.pages.html import Html, data_uri, element, joined
from gallop.report.pages.parts import (
    Head,
    alert,
    facts,
    hidden,
    note,
    signed,
    table,
    whole_percent,
    words,
)

_EVIDENCE = {
    "measured": "it says no more than what was measured",
    "implied": "what was measured leaves hardly another explanation",
    "consistent with": "it would look like this, but there are other explanations",
}
_SINGLE = [Head("mean return"), Head("of the usual return"), Head("in a picture", "word")]
MAX_LABEL = 40  # characters of a column's heading


def films(chosen: Sequence[PageFilm]) -> Html:
    """Return the films side by side."""
    if not chosen:
        return note("No milestone has been reached yet, so there is no film.")
    shown_ones = [_film(each) for each in chosen]
    alone = sum(each.is_embedded and each.milestone is not None for each in chosen)
    together = element(
        "p",
        element("button", "Play all from the start", type="button", data_together=True,
                hidden=True),
        class_="controls",
    )  # fmt: skip
    return joined(together if alone > 1 else None, element("div", *shown_ones, class_="films"))


def _film(each: PageFilm) -> Html:
    content, why_not = None, each.note or "no film"
    if each.is_embedded and each.film.path is not None:
        try:
            content = read_bytes(each.film.path, MOST_BYTES)
        except (OSError, ValueError) as error:
            why_not = f"{each.film.path.name} cannot be read: {error}"
    kind = "film across" if each.milestone is None else "film"
    shown_there = _shown_in(each)
    lines = [element("strong", each.label), joined(shown_there)]
    if content is None:
        picture = element("p", why_not[:1].upper() + why_not[1:], class_="none")
    else:
        picture = element(
            "video", id=each.id, src=data_uri("video/mp4", content), controls=True, muted=True,
            playsinline=True, loop=True, preload="auto", tabindex=0,
            data_alone=each.milestone is not None,
            aria_label=f"Film of {each.label}, no sound; {shown_there}",
        )  # fmt: skip
        lines.append(note(each.note) if each.note else Html(""))
    if each.milestone is None:  # too small on a phone: it scrolls there
        picture = element("div", picture, class_="scroll")
    return element("figure", picture, element("figcaption", *lines), class_=kind)


def _shown_in(each: PageFilm) -> str:
    """Return which policies a film shows, from which start."""
    if each.milestone is None:
        return each.film.label
    told = [counted(each.milestone.timestep, "timestep")]
    if each.film.seed is not None:
        told.append(f"start {each.film.seed}")
    if math.isfinite(each.film.episode_return):
        told.append(f"return {signed(each.film.episode_return)}")
    return ", ".join(told)


# --- the audit of a run, or of the runs of a group -----------------------------------------------


def audit(runs: Sequence[RunFacts], chosen: Sequence[PageFilm]) -> Html:
    """Return what the audits found, with the measures of all milestones, or of all runs."""
    single = len(runs) == 1
    audited = [
        (run, milestone, milestone.audit)
        for run in runs
        for milestone in (run.milestones if single else filter(None, [run.audited]))
        if milestone.audit is not None and not milestone.audit.why_not
    ]
    unread = [
        f"{run.name}, {each.percent} %: {each.audit_note}"
        for run in runs
        for each in run.milestones
        if each.audit_note and (audited or "cannot" in each.audit_note)
    ]
    if not audited:
        why = next(filter(None, (run.why_no_audit for run in runs)), "")
        return joined(
            element("p", f"There is no audit: {why or 'no milestone has been reached yet'}."),
            note(
                "An audit measures how a policy moves: posture, contacts, gait, actuators and "
                "energy, at every step of the simulator. It needs a MuJoCo task."
            ),
        )
    ids = {
        (id(each.run), each.milestone.percent): each.id
        for each in chosen
        if each.is_embedded and each.milestone is not None
    }
    parts = []
    for run, milestone, record in reversed(audited):
        title = f"{milestone.percent} % ({milestone.timestep:,} timesteps)"
        title = title if single else f"{run.name}, {title}"
        parts.append((title, _movement(record, ids.get((id(run), milestone.percent), ""))))
    (first_title, first), *others = parts
    columns = [
        (f"{milestone.percent} %" if single else run.name, record.measures)
        for run, milestone, record in audited
    ]
    changed = [
        (f"{milestone.percent} %" if single else run.name, record)
        for run, milestone, record in audited
        if record.changes
    ]
    return joined(
        _introduction(),
        words(unread),
        element("div", element("h3", first_title), first, class_="card"),
        *(hidden(title, element("div", part, class_="card")) for title, part in others),
        _measures(columns),
        _sensitivity(changed[-1:] if single else changed),
    )


def _introduction() -> Html:
    return element(
        "p",
        "The audit reads the simulator at every physics step and measures how the policy moves. A "
        "finding is a rule that applies; it never changes a return. A warning says that the return "
        "may not mean what one thinks. A trait describes a way of moving that is neither good nor "
        "bad.",
    )


def _movement(record: AuditRecord, film: str) -> Html:
    """Return findings, gait and pitch of one policy."""
    parts: list[Html] = [_findings(record, film)]
    filmed = record.filmed
    if filmed is not None:
        shaded = {each.name: each.seconds for each in filmed.findings}
        follow = " They follow the film, and a click on them moves it." if film else ""
        tracks = element(
            "div",
            element("h4", f"Gait, start {filmed.seed}"),
            note("A bar where a body carries load. Feet are in the first colour.", follow),
            charts.gait(filmed),
            note(charts.gait_in_words(filmed)),
            element("h4", f"Pitch, start {filmed.seed}"),
            note(charts.pitch_in_words(filmed), " Shaded: the seconds of findings."),
            charts.pitch(filmed, shaded),
            data_tracks=film or None,
        )
        parts.append(tracks)
    return joined(*parts)


def _findings(record: AuditRecord, film: str) -> Html:
    if not record.findings:
        n = counted(len(record.returns), "episode")
        return element("p", f"No findings: none of the rules applies to any of {n}.")
    filmed = {each.name: each for each in record.filmed.findings} if record.filmed else {}
    seed = record.filmed.seed if record.filmed else None
    items = []
    for each in record.findings:
        # The film shows one episode: its own seconds, if it has this finding.
        there = filmed.get(each.name) or (each if each.seed == seed else None)
        items.append(_finding(each, there, film))
    return element("ul", *items, class_="findings")


def _finding(found: Found, there: Found | None, film: str) -> Html:
    evidence = _EVIDENCE.get(found.evidence, "")
    jumps = None
    if there is not None and there.seconds:
        spans = sorted(there.seconds)
        jumps = [_jump(found.name, start, end, film) for start, end in spans]
    elif found.seconds:
        when = "; ".join(f"{start:.2f} to {end:.2f} s" for start, end in found.seconds)
        jumps = [note(f"In the episode from start {found.seed}: {when}")]
    return element(
        "li",
        element("h4", found.name, " ", element("span", found.kind, class_=f"kind {found.kind}")),
        element("p", element("strong", f"{found.episodes} of {counted(found.of, 'episode')}"),
                f": {found.measured}" if found.measured else ""),
        note(f"Rule: {found.rule}. ", f"Evidence: {found.evidence}" if found.evidence else "",
             f" ({evidence})." if evidence else ""),
        element("div", *jumps, class_="jumps") if jumps else None,
        class_=found.kind,
    )  # fmt: skip


def _jump(name: str, start: float, end: float, film: str) -> Html:
    text = f"{start:.2f} to {end:.2f} s"
    if not film:
        return note(text)
    return element(
        "button", element("span", "▶ ", aria_hidden="true"), text, type="button", data_film=film,
        data_second=_up(start), aria_label=f"Show {name} in the film, from {text}",
    )  # fmt: skip


def _up(second: float) -> float:
    """Return a second rounded up to ms: rounded down, it could belong to the frame before.

    >>> _up(1 / 30), _up(0.5)
    (0.034, 0.5)
    """
    return math.ceil(1_000 * second) / 1_000


# --- tables --------------------------------------------------------------------------------------


def _measures(columns: Sequence[tuple[str, Mapping[str, Measure]]]) -> Html:
    labels = _labels(measures for _, measures in columns)
    if not labels:
        return Html("")
    rows = []
    for label in labels:
        having = [measures.get(label) for _, measures in columns]
        meaning = next(each.meaning for each in having if each is not None)
        name = joined(label, element("span", meaning, class_="under"))
        rows.append([name, *(_cell(each) for each in having)])
    heads = [Head("measure", "word"), *(Head(_short(name)) for name, _ in columns)]
    return element(
        "div",
        element("h3", "Measures"),
        table("Measures of the audit", heads, rows,
              "Mean over the episodes; below it, the least and the most"),
        class_="card",
    )  # fmt: skip


def _cell(measure: Measure | None) -> Html:
    if measure is None:
        return Html("–")
    values = finite(np.array(measure.values))
    mean = joined(shown(measure.mean, measure.unit))
    if values.size < 2:
        return mean
    low, high = (bare(float(v), measure.unit) for v in (values.min(), values.max()))
    if low == high:
        return mean
    return joined(mean, element("span", f"{low} … {high}", class_="under"))


def _labels(measures: Iterable[Mapping[str, Measure]]) -> list[str]:
    return list(dict.fromkeys(label for each in measures for label in each))


def _short(name: str) -> str:
    return name if len(name) <= MAX_LABEL else f"{name[:MAX_LABEL]}…"


def _sensitivity(columns: Sequence[tuple[str, AuditRecord]]) -> Html:
    """Return the returns on changed simulators, as shares of the usual one."""
    if not columns:
        return Html("")
    names = list(dict.fromkeys(each.change for _, record in columns for each in record.changes))
    single = len(columns) == 1 and _mean(columns[0][1].returns) > 0  # else there are no shares
    rows = [["unchanged", *(cell for _, r in columns
                            for cell in _changed(_mean(r.returns), r, "", single))]]  # fmt: skip
    for name in names:
        row: list[str] = [name]
        for _, record in columns:
            change = next((each for each in record.changes if each.change == name), None)
            value = math.nan if change is None else _mean(change.returns)
            row += _changed(value, record, change.why_not if change else "", single)
        rows.append(row)
    heads = [Head("change of the simulator", "word")]
    for name, _ in columns:
        heads += _SINGLE if single else [Head("mean return" if len(columns) == 1 else _short(name))]
    return element(
        "div",
        element("h3", "The same policy on changed simulators"),
        note(
            "A return that vanishes when the physics step is halved belongs to the simulator, not "
            "to the robot. One that falls a little with another weight is what a robot would show."
        ),
        table("Sensitivity", heads, rows),
        class_="card",
    )


def _changed(value: float, record: AuditRecord, why_not: str, single: bool) -> list[str]:
    usual = _mean(record.returns)
    share = value / usual if usual > 0 and math.isfinite(value) else math.nan
    percent = whole_percent(share) if math.isfinite(share) else why_not or "–"
    if single:
        return [signed(value), percent, charts.bar(share)]
    if not math.isfinite(value):
        return [why_not or "–"]
    return [f"{signed(value)} ({percent})" if math.isfinite(share) else signed(value)]


def _mean(values: Sequence[float]) -> float:
    there = finite(np.array(values, dtype=np.float64))
    return float(there.mean()) if there.size else math.nan


# --- several sides -------------------------------------------------------------------------------


def compared_audits(sides: Sequence[Side], chosen: Sequence[PageFilm]) -> Html:
    """Return findings, measures and sensitivity of several sides next to each other."""
    having = [side for side in sides if measures_of(side)]
    missing = [
        alert(f"{side.label} has no audit: {side.runs[0].why_no_audit or 'no milestone yet'}.")
        for side in sides
        if side not in having
    ]
    if not having:
        return joined(*missing)
    ids = {
        (id(each.run), each.milestone.percent): each.id
        for each in chosen
        if each.is_embedded and each.milestone is not None
    }
    details = []
    for side in having:
        for run in side.runs:
            milestone = run.audited
            if milestone is not None and milestone.audit is not None:
                name = f"{side.label}, seed {run.seed}" if side.is_group else side.label
                film = ids.get((id(run), milestone.percent), "")
                details.append(
                    hidden(
                        f"{name}: findings, gait and pitch at {milestone.percent} %",
                        element("div", _movement(milestone.audit, film), class_="card"),
                    )
                )
    found = {side.label: "; ".join(findings_of(side)) or "no findings" for side in having}
    changed = [
        (side.label if not side.is_group else f"{side.label}, seed {run.seed}", run.audited.audit)
        for side in having
        for run in side.runs
        if run.audited and run.audited.audit and run.audited.audit.changes
    ]
    return joined(
        _introduction(),
        *missing,
        element("div", element("h3", "Findings"), facts(dict(found)), class_="card"),
        _measures([(side.label, measures_of(side)) for side in having]),
        _sensitivity(changed),
        *details,
    )

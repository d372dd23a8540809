"""Settings, cost and provenance: what was run, on which machine, and for how long."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from gallop.errors import counted, shortened
from gallop.experiments.yaml_file import settings_of
from gallop.fields import flat
from gallop.report.pages.facts import RunFacts
from gallop.report.pages.html import Html, element, joined
from gallop.report.pages.parts import (
    Head,
    code,
    duration,
    facts,
    hidden,
    moment,
    note,
    parsed,
    table,
)


def settings(runs: Sequence[RunFacts], names: Sequence[str]) -> Html:
    """Return all settings; of several runs, first those that differ.

    Args:
        runs: the runs.
        names: what the page calls them.
    """
    flats = [
        {name: _setting(value) for name, value in flat(settings_of(run.experiment))} for run in runs
    ]
    every = list(dict.fromkeys(name for each in flats for name in each))
    differing = [n for n in every if len({each.get(n, "–") for each in flats}) > 1]
    same = {n: flats[0].get(n, "–") for n in every if n not in differing}
    rows = {name: code(text) for name, text in same.items() if text not in ("", "–")}
    shown = None
    if differing:
        heads = [Head("setting", "word"), *(Head(name, "word") for name in names)]
        cells = [[n, *(shortened(each.get(n, "–"), 80) for each in flats)] for n in differing]
        shown = joined(element("h3", "Different"), table("Settings that differ", heads, cells))
    main_ones = ("algo", "env", "env_kwargs", "total_timesteps", "n_envs",
                 "hyperparameters.learning_rate", "hyperparameters.gamma")  # fmt: skip
    first = {name: rows[name] for name in rows if name.split(".{")[0].startswith(main_ones)}
    others = {name: rows[name] for name in rows if name not in first}
    return element(
        "div",
        shown,
        element("h3", "The same") if differing else None,
        facts(first),
        hidden(f"All {len(rows)} settings", facts(others)),
        class_="card",
    )


def _setting(value: object) -> str:
    if value is None or value == [] or value == {}:
        return ""
    return shortened(str(value), 300)


def cost(runs: Sequence[RunFacts], names: Sequence[str]) -> Html:
    """Return time, speed and machine of each run."""
    heads = [Head("run", "word"), Head("training seed"), Head("timesteps"), Head("training"),
             Head("timesteps a second"), Head("start to end"), Head("learner", "word"),
             Head("threads"), Head("processor", "word"), Head("resumed")]  # fmt: skip
    rows = []
    for run, name in zip(runs, names, strict=True):
        record = run.provenance
        rows.append([
            name, str(run.seed), f"{run.timestep:,}", duration(run.seconds), _speed(run),
            duration(_from_start_to_end(record)), _text(record.get("learner")),
            _text(record.get("n_threads")),
            f"{_text(record.get('cpu'))} {_text(record.get('instruction_set'))}".strip(),
            counted(len(_resumes(run)), "time") if _resumes(run) else "never",
        ])  # fmt: skip
    return element(
        "div",
        table("Time and machine", heads, rows),
        note(
            "“training” is the time in which the learner trained, without evaluations and films; "
            "“start to end” is the wall clock, and includes pauses of a run that was resumed."
        ),
        class_="card",
    )


def _speed(run: RunFacts) -> str:
    speed = run.timesteps_a_second
    return f"{speed:,.0f}" if math.isfinite(speed) else "–"


def _from_start_to_end(record: Mapping[str, Any]) -> float:
    start, end = (parsed(record.get(name)) for name in ("start", "end"))
    try:
        return (end - start).total_seconds() if start and end else math.nan
    except TypeError:  # one has a time zone and the other has none
        return math.nan


def provenance(runs: Sequence[RunFacts], names: Sequence[str]) -> Html:
    """Return commands, versions and resumes of each run."""
    titles = [f"{name}, training seed {run.seed}" for run, name in zip(runs, names, strict=True)]
    titles = titles if len(runs) > 1 else [""]
    return element("div", *map(_provenance, runs, titles), class_="card")


def _provenance(run: RunFacts, title: str) -> Html:
    record = run.provenance
    command = record.get("command")
    typed = _typed(command) if isinstance(command, list) else ""
    versions = record.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    resumes = [
        " on ".join(filter(None, (moment(each.get("at")), _text(each.get("platform")))))
        for each in _resumes(run)
    ]
    shown = facts(
        {
            "command": code(shortened(typed, 600)) if typed else None,
            "started": moment(record.get("start")),
            "ended": moment(record.get("end")) or "not yet",
            "resumed": "; ".join(resumes) or "never",
            "learner": ", ".join(
                filter(None, (_text(record.get("learner")), _text(record.get("learner_reason"))))
            ),
            "machine": ", ".join(
                filter(None, (_text(record.get("cpu")), _text(record.get("platform")),
                              f"{cores} cores" if (cores := _text(record.get("cores"))) else ""))
            ),
            "Python": _text(record.get("python")),
            "commit": code(commit) if (commit := _text(record.get("commit"))) else None,
        }
    )  # fmt: skip
    packages = [
        f"{shortened(str(name), 60)} {_text(version)}"
        for name, version in list(versions.items())[:100]
    ]
    return joined(
        element("h3", title) if title else None,
        shown,
        hidden("Versions of all packages", element("p", ", ".join(packages))) if packages else None,
    )


def _typed(command: Sequence[object]) -> str:
    """Return what was typed, with the program's name instead of its path.

    >>> _typed(["/opt/gallop/bin/gallop", "run", "a b.yaml"])
    "gallop run 'a b.yaml'"
    >>> _typed(["/opt/gallop/__main__.py", "run"]), _typed([])
    ('gallop run', '')
    """
    if not command:
        return ""
    program, *arguments = map(str, command)
    name = re.split(r"[/\\\\]", program)[-1]
    return shlex.join(["gallop" if name == "__main__.py" else name, *arguments])


def _resumes(run: RunFacts) -> list[Mapping[str, Any]]:
    """Return the resumes, without the start of a run whose group made its folder before."""
    resumes = run.provenance.get("resumes")
    found = (
        [each for each in resumes if isinstance(each, Mapping)][:1_000]
        if isinstance(resumes, list)
        else []
    )
    return found[1:] if run.folder.group is not None else found


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return shortened(str(value), 100)

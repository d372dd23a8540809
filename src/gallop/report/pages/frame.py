"""The frame of a page: title, links to its sections, footer; and what must be known first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gallop import __version__
from gallop.errors import counted
from gallop.report.pages.facts import RunFacts
from gallop.report.pages.html import Html, element
from gallop.report.pages.parts import alert, code, moment
from gallop.run_folder.provenance import now


def header(title: str, head: Sequence[str], status: Html, names: Sequence[str]) -> Html:
    """Return title, status and links to the sections."""
    links = [
        element("li", element("a", name, href=f"#{_id(name)}"))
        for name in names
        if name != "Summary"
    ]
    return element(
        "header",
        element("h1", title),
        element("p", *(element("span", part) for part in head), status, class_="sub"),
        element("nav", element("ul", *links), aria_label="Sections"),
    )


def main(parts: Mapping[str, Html]) -> Html:
    """Return all sections."""
    return element(
        "main",
        *(
            element("section", element("h2", name, id=f"{_id(name)}-title"), part, id=_id(name),
                    aria_labelledby=f"{_id(name)}-title")
            for name, part in parts.items()
        ),
    )  # fmt: skip


def footer() -> Html:
    """Return who wrote the page, and when."""
    return element("footer", f"Written by Gallop {__version__} on {moment(now())}.")


def _id(name: str) -> str:
    return name.lower().replace(" ", "-")


def status_of(runs: Sequence[RunFacts]) -> Html:
    """Return whether the runs are finished."""
    states = {run.status for run in runs}
    if states == {"finished"}:
        return element("span", "finished", class_="pill")
    if len(runs) == 1:
        return element("span", runs[0].status, class_="pill warn")
    n = sum(run.status == "finished" for run in runs)
    return element("span", f"{n} of {len(runs)} finished", class_="pill warn")


def warnings(run: RunFacts, label: str = "") -> list[Html]:
    """Say what a reader must know before any number."""
    before = f"{label}: " if label else ""
    resume = code(f"gallop run --resume {run.folder.group or run.folder.path}")
    # A page stays as it is when its run goes on or is killed: it speaks of when it was written.
    if run.status == "running" and run.is_trained:
        told = ["when this page was written, the training was over, and films, audits or the last "
                "evaluations were still being made."]  # fmt: skip
    elif run.status == "running":
        told = [f"when this page was written, training was going on, at {_so_far(run)}. All "
                "numbers are those so far."]  # fmt: skip
    elif run.status == "stopped" and run.is_trained:
        told = [f"the training is over, after {counted(run.horizon, 'timestep')}, but the run was "
                "stopped before its films, audits and last evaluations were complete. ", resume,
                " completes them."]  # fmt: skip
    elif run.status == "stopped":
        told = [f"training was stopped at {_so_far(run)}, and is not finished. All numbers are "
                "those up to there. ", resume, " goes on."]  # fmt: skip
    elif run.status == "diverged":
        told = [f"training diverged at about {_so_far(run)}: {run.reason}. The numbers are those "
                "from before."]  # fmt: skip
    else:
        told = []
    if told and not before:
        told[0] = told[0][:1].upper() + told[0][1:]
    found = [alert(before, *told)] if told else []
    if run.probed.note:
        found.append(alert(f"{before}{run.probed.note}."))
    return found


def _so_far(run: RunFacts) -> str:
    share = f" ({100 * run.timestep / run.horizon:.0f} %)" if run.horizon else ""
    return f"{run.timestep:,} of {run.horizon:,} timesteps{share}"

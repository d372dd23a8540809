"""Pages of runs, groups of training seeds and comparisons: one file, no network, opens from disk.

Order of reading, which is that of a page: `facts.py` reads the files; `frame.py`, `summary.py`,
`learning_curves.py`, `returns.py`, `movement.py` (films and audit) and `settings.py` write the
sections. Here they are put together and written: report.html in the folder of a run or a group, or
a page of several anywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from gallop.errors import RunError
from gallop.report.pages import frame, learning_curves, movement, returns, settings, summary
from gallop.report.pages.comparing import compare_sides, read_sides
from gallop.report.pages.facts import RunFacts, Side, read_side
from gallop.report.pages.films import choose_films
from gallop.report.pages.html import Html, page
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import write_bytes
from gallop.run_folder.full_disk import is_full
from gallop.run_folder.manifest import write_result
from gallop.run_folder.seed_group import SeedGroup

log = logging.getLogger(__name__)


def write_report(folder: RunDirectory | SeedGroup, *, running: bool = False) -> Path:
    """Write report.html into the folder of a run or a group, which the caller has locked.

    Args:
        folder: the run or group.
        running: whether this process is training the run, whose lock it holds.

    Raises:
        RunError: if the folder cannot be read, or is a group without a run that can.
    """
    side = read_side(folder.path, running=running)
    if not side.runs:
        raise RunError(f"{folder.path}: none of its runs can be read, so there is no page")
    write_result(folder.report, content([side]))
    return folder.report


def keep_report(folder: RunDirectory | SeedGroup, *, running: bool = False) -> None:
    """Like `write_report`, but a page that cannot be written ends no training."""
    try:
        write_report(folder, running=running)
    except Exception as error:  # whatever it is, days of training are worth more
        if is_full(error):
            raise
        known = isinstance(error, RunError | OSError)
        log.warning("%s was not written: %s", folder.report, error, exc_info=not known)


def write_page(paths: Sequence[Path], output: Path) -> None:
    """Write the page of one or several runs and groups to a file.

    Raises:
        ExperimentError: if they cannot be read, or compared.
    """
    write_bytes(output, content(read_sides(paths)))


def content(sides: Sequence[Side]) -> bytes:
    """Return the page of one or several sides."""
    if len(sides) > 1:
        return _of_several(sides)
    return _of_group(sides[0]) if sides[0].is_group else _of_run(sides[0].runs[0])


def _of_run(run: RunFacts) -> bytes:
    films = choose_films([run])
    parts = {
        "Summary": summary.run_summary(run),
        "Learning curve": learning_curves.run_curve(run),
        "Milestones": returns.milestones(run),
        "Films": movement.films(films),
        "Audit": movement.audit([run], films),
        "Settings": settings.settings([run], [run.name]),
        "Cost": settings.cost([run], [run.name]),
        "Provenance": settings.provenance([run], [run.name]),
    }
    head = [run.name, f"training seed {run.seed}"]
    return _page(run.title, head, frame.status_of([run]), parts)


def _of_group(side: Side) -> bytes:
    films, names = choose_films(side.runs), [run.name for run in side.runs]
    parts = {
        "Summary": summary.group_summary(side),
        "Learning curve": learning_curves.group_curve(side),
        "Training seeds": returns.seeds_table(side),
        "Films": movement.films(films),
        "Audit": movement.audit(side.runs, films),
        "Settings": settings.settings(side.runs, names),
        "Cost": settings.cost(side.runs, names),
        "Provenance": settings.provenance(side.runs, names),
    }
    n = len(side.runs) + len(side.unusable)
    head = [side.name, f"{n} training seed{'' if n == 1 else 's'}"]
    return _page(side.title, head, frame.status_of(side.runs), parts)


def _of_several(sides: Sequence[Side]) -> bytes:
    runs = [run for side in sides for run in side.runs]
    names = [
        f"{side.label}, {run.name}" if side.is_group else side.label
        for side in sides
        for run in side.runs
    ]
    films = choose_films(runs, {id(run): side.label for side in sides for run in side.runs})
    found = compare_sides(sides)
    parts = {
        "Summary": summary.comparison_summary(found),
        "Learning curves": learning_curves.compared_curves(sides),
        "Returns": returns.compared_returns(found),
        "Films": movement.films(films),
        "Audit": movement.compared_audits(sides, films),
        "Settings": settings.settings(runs, names),
        "Cost": settings.cost(runs, names),
        "Provenance": settings.provenance(runs, names),
    }
    title = " against ".join(dict.fromkeys(side.title for side in sides))
    head = [side.label for side in sides]
    return _page(title, head, frame.status_of(runs), parts)


def _page(title: str, head: Sequence[str], status: Html, parts: Mapping[str, Html]) -> bytes:
    return page(
        f"{title}: {head[0]}",
        frame.header(title, head, status, list(parts)),
        frame.main(parts),
        frame.footer(),
    )

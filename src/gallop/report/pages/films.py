"""Which films a page contains: the most telling ones, as far as the page stays small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gallop.report.pages.facts import FilmFile, MilestoneFacts, RunFacts

MOST_BYTES = 14_600_000
"""Of all films of a page, in base64: with everything else a page stays below 15 MB."""


class PageFilm(NamedTuple):
    """A film on a page, or the place of one that is not there."""

    id: str
    """Of its element."""
    run: RunFacts
    milestone: MilestoneFacts | None
    """None for the film of all milestones."""
    film: FilmFile
    label: str
    is_embedded: bool
    note: str


def choose_films(
    runs: Sequence[RunFacts], labels: Mapping[int, str] | None = None
) -> list[PageFilm]:
    """Choose the films of runs, and say of the others why they are left out.

    Of one run: all milestones, and the film of all milestones; of several: the latest milestone of
    each. If there is not enough room, late milestones go before early ones.

    Args:
        runs: the runs.
        labels: id of a run -> what a comparison calls its side.
    """
    labels, single = labels or {}, len(runs) == 1
    found: list[PageFilm] = []
    for number, run in enumerate(runs):
        chosen = run.milestones if single else run.milestones[-1:]
        before = "" if single else f"{labels.get(id(run)) or run.name}"
        if before and not before.endswith(run.name):
            before = f"{before}, {run.name}"
        found += [
            PageFilm(
                f"film-{number}-{each.percent}", run, each, each.film,
                ", ".join(filter(None, (before, f"{each.percent} %"))), False, each.film.note,
            )
            for each in chosen
        ]  # fmt: skip
        if single and run.progress_film is not None:
            film = run.progress_film
            found.append(
                PageFilm(f"film-{number}-all", run, None, film, "All milestones", False, film.note)
            )
    return _fitting(found)


def _fitting(found: list[PageFilm]) -> list[PageFilm]:
    room, kept = MOST_BYTES, {}
    # The latest milestone first, then the film of all, then the others.
    order = sorted(found, key=_rank)
    for film in order:
        size = _size(film.film.path)
        if film.film.path is None or size is None:
            continue
        if size <= room:
            room -= size
            kept[film.id] = film._replace(is_embedded=True)
        else:
            kept[film.id] = film._replace(
                note="left out, so that the page stays below 15 MB: it is "
                f"{film.film.path.relative_to(film.run.folder.path)} in the run's folder"
            )
    return [kept.get(film.id, film) for film in found]


def _rank(film: PageFilm) -> tuple[int, int]:
    if film.milestone is None:
        return 1, 0
    latest = film.run.milestones[-1].percent == film.milestone.percent
    return (0, 0) if latest else (2, -film.milestone.percent)


def _size(path: Path | None) -> int | None:
    """Return the bytes that a film takes in base64; None without a film."""
    try:
        return None if path is None else (path.stat().st_size + 2) // 3 * 4
    except OSError:
        return None

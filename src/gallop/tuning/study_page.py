"""A study → study.html: facts, tables and four interactive figures in one file, without network.

Whatever comes from outside (titles, facts, names and choices of parameters) is text, in the HTML
and in the figures. A content security policy lets only the page's own scripts run, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gallop.report.figures import BASELINE, TRAINED
from gallop.run_folder.files import write_bytes
from gallop.tuning.study_summary import (
    NO_IMPORTANCES,
    NOTHING_YET,
    finished_trials,
    importances,
    parameter_names,
    quiet,
    why_nothing,
)

if TYPE_CHECKING:
    import optuna
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]


class PageTable(NamedTuple):
    """A table of formatted texts, whose first column identifies the rows."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""  # text below the table


class _Drawing(NamedTuple):
    """A figure of the page, or the text in its place."""

    name: str
    heading: str
    figure: Figure | str


# 12, -1,234.5, 1e-4, 85 %, 12.3 ± 4.5, [1.2, 3.4], and dashes for missing numbers.
_NUMBER = re.compile(r"[-+−±~≈<>≤≥\s\d.,%e×()\[\]–—]*", re.IGNORECASE)

_STYLE = """
:root { color-scheme: light dark;
  --ink: #22292d; --paper: #fff; --line: #d3d9dc; --faint: #59656b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ec; --paper: #15191c; --line: #3a4349; --faint: #a3afb5; }
}
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 1100px; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .6rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.5rem; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  font-weight: normal; white-space: nowrap; }
thead th { color: var(--faint); }
.number { text-align: right; }
.note { color: var(--faint); max-width: 75ch; }
.figure { background: #fff; color: #333; border-radius: 6px; min-height: 460px; }
@media (max-width: 600px) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
"""

# The buttons are listed because one of Plotly's default buttons uploads the data to a server.
# Saving as an image would require blob: addresses; the PNG files serve that purpose.
_CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "plotlyServerURL": "",
    "modeBarButtons": [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
}


def write(
    path: Path,
    study: optuna.Study,
    title: str,
    facts: Sequence[tuple[str, str]],
    tables: Sequence[PageTable],
) -> None:
    """Write the page of a study with one objective; the same study gives the same bytes.

    Where a figure cannot be plotted, for example without finished trials, there is a sentence.

    Args:
        path: of the page.
        study: the study.
        title: of the page.
        facts: names and values, shown at the top.
        tables: shown above the figures.

    Raises:
        ValueError: if a row of a table does not have as many cells as there are headings.
        OSError: if the file cannot be written.
    """
    drawings = _drawings(study)
    scripts = _scripts(drawings)
    body = "\n".join(
        [
            f"<h1>{html.escape(title)}</h1>",
            _facts(facts),
            *map(_table, tables),
            *map(_section, drawings),
            *(f"<script>{script}</script>" for script in scripts),
        ]
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )
    # Bytes, so that no system changes the line ends, which the hashes cover. A name may contain
    # half a surrogate pair, which UTF-8 cannot encode.
    write_bytes(path, page.encode("utf-8", "replace"))


# --- HTML ---


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    pairs = [f"<dt>{html.escape(name)}</dt><dd>{html.escape(what)}</dd>" for name, what in facts]
    return "\n".join(["<dl>", *pairs, "</dl>"]) if pairs else ""


def _table(table: PageTable) -> str:
    columns = list(zip(*table.rows, strict=True))
    if columns and len(columns) != len(table.headings):
        raise ValueError(f"{table.title}: {len(columns)} columns, {len(table.headings)} headings")
    classes = [' class="number"' if _is_numeric(column) else "" for column in columns]
    classes = classes or [""] * len(table.headings)
    headings = [
        f'<th scope="col"{kind}>{html.escape(heading)}</th>'
        for heading, kind in zip(table.headings, classes, strict=True)
    ]
    title = html.escape(table.title)
    return "\n".join(
        [
            f"<section>\n<h2>{title}</h2>",
            # A scrolling region must be reachable by keyboard.
            f'<div class="wide" role="region" aria-label="{title}" tabindex="0">\n<table>',
            f"<thead><tr>{''.join(headings)}</tr></thead>\n<tbody>",
            *(_row(row, classes) for row in table.rows),
            "</tbody>\n</table>\n</div>",
            f'<p class="note">{html.escape(table.note)}</p>' if table.note else "",
            "</section>",
        ]
    )


def _row(row: tuple[str, ...], classes: Sequence[str]) -> str:
    cells = [
        f'<th scope="row"{kind}>{html.escape(text)}</th>'
        if place == 0
        else f"<td{kind}>{html.escape(text)}</td>"
        for place, (text, kind) in enumerate(zip(row, classes, strict=True))
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _is_numeric(column: Sequence[str]) -> bool:
    texts = [text for text in column if text]
    return any(re.search(r"\d", text) for text in texts) and all(map(_NUMBER.fullmatch, texts))


def _section(drawing: _Drawing) -> str:
    heading = f"<section>\n<h2>{drawing.heading}</h2>\n"
    if isinstance(drawing.figure, str):
        return f"{heading}<p>{drawing.figure}</p>\n</section>"
    return (
        f'{heading}<div class="wide" role="region" aria-label="{drawing.heading}" tabindex="0">'
        f'<div class="figure" id="{drawing.name}"></div></div>\n'
        f"<noscript><p>This figure needs JavaScript; see {drawing.name}.png instead.</p>"
        "</noscript>\n</section>"
    )


def _policy(scripts: Sequence[str]) -> str:
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    allowed = " ".join(hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


# --- figures ---


def _drawings(study: optuna.Study) -> list[_Drawing]:
    kinds: list[tuple[str, str, str | None, Callable[[optuna.Study], Figure]]] = [
        (
            "history",
            "Returns of the trials",
            None if finished_trials(study) else NOTHING_YET,
            _history,
        ),
        (
            "importances",
            "Importance of the hyper-parameters",
            why_nothing(study) or (None if importances(study) else NO_IMPORTANCES),
            _importances,
        ),
        ("parallel", "Hyper-parameters and return of every trial", why_nothing(study), _parallel),
        ("slice", "Return against each hyper-parameter", why_nothing(study), _slice),
    ]
    with quiet():
        return [
            _Drawing(name, heading, draw(study) if nothing is None else nothing)
            for name, heading, nothing, draw in kinds
        ]


def _history(study: optuna.Study) -> Figure:
    from optuna.visualization import plot_optimization_history

    figure = plot_optimization_history(study, target_name="return")
    best = {"name": "best so far", "line_shape": "hv"}
    figure.update_traces(best, selector={"name": "Best Value"})
    figure.update_xaxes(title_text="trial")
    return figure


def _importances(study: optuna.Study) -> Figure:
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.visualization import plot_param_importances

    # Optuna's default order of the names varies between processes.
    figure = plot_param_importances(
        study,
        evaluator=PedAnovaImportanceEvaluator(),
        params=parameter_names(study),
        target_name="return",
    )
    figure.update_xaxes(title_text="share in distinguishing the best 10 % of trials (PED-ANOVA)")
    figure.update_yaxes(title_text="")
    return figure


def _parallel(study: optuna.Study) -> Figure:
    from optuna.visualization import plot_parallel_coordinate

    figure = plot_parallel_coordinate(study, target_name="return")
    n_axes = 1 + len(parameter_names(study))
    if n_axes > 8:
        figure.update_layout(width=130 * n_axes)
    return figure


def _slice(study: optuna.Study) -> Figure:
    from optuna.visualization import plot_slice

    finished = finished_trials(study)
    figure = plot_slice(study, target_name="return")
    # Without limits each panel has its own colour scale, and the bar shows only the first one's.
    figure.update_traces(marker_cmin=finished[0].number, marker_cmax=max(finished[-1].number, 1))
    figure.update_traces(marker_colorbar_title_text="trial", selector=0)
    return figure


def _scripts(drawings: Sequence[_Drawing]) -> list[str]:
    """Return Plotly and one script per figure; nothing if there are no figures."""
    scripts = [_script(d.name, d.figure) for d in drawings if not isinstance(d.figure, str)]
    if not scripts:
        return []
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    # Browsers hash scripts after parsing, which turns every line end into \n.
    return [get_plotlyjs().replace("\r\n", "\n").replace("\r", "\n"), *scripts]


def _script(name: str, figure: Figure) -> str:
    # Not plotly.io.to_html: it embeds its scripts in HTML, where they cannot be hashed for the
    # content security policy, and texts must be escaped before they become JSON.
    figure.update_layout(
        title=None,
        template="plotly_white",
        colorway=[TRAINED, BASELINE],
        paper_bgcolor="white",
        height=460,
        margin={"t": 40, "b": 60},
    )
    figure.update_xaxes(exponentformat="e")  # not 10μ for 1e-5
    content = _as_text(json.loads(figure.to_json(engine="json")))
    data, layout, config = map(_json, (content["data"], content["layout"], _CONFIG))
    return f"Plotly.newPlot({_json(name)}, {data}, {layout}, {config});"


def _as_text(value: Any, key: str = "") -> Any:
    """Return the figure with its texts escaped: Plotly interprets links and markup in them."""
    if isinstance(value, dict):
        return {name: _as_text(part, name) for name, part in value.items()}
    if isinstance(value, list):
        return [_as_text(part, key) for part in value]
    if not isinstance(value, str):
        return value
    text = html.escape(value, quote=False)
    if key == "hovertemplate":  # the tags that Optuna writes, and no others
        text = text.replace("&lt;extra&gt;&lt;/extra&gt;", "<extra></extra>")
        text = text.replace("&lt;br&gt;", "<br>")
    return text


def _json(value: Any) -> str:
    """Return JSON that cannot end a script element, whatever its strings contain."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


__all__: Sequence[str] = ("PageTable", "write")

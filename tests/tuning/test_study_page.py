"""One file without network: every number in it, and nothing from outside that could run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from gallop.tuning.study_page import PageTable, write

HOSTILE = "</script><script>alert(1)</script>"
FIGURES = ["history", "importances", "parallel", "slice"]
TABLE = PageTable(
    "Best trials",
    ("trial", "return", "policy"),
    (("3", "1,234.5 ± 6", "relu"), ("12", "−99.0", "tanh")),
    "Means of 5 episodes.",
)


def make_study(n=12, name="a study", parameter="rate", choice="relu"):
    kinds = {
        parameter: FloatDistribution(1e-5, 1e-2, log=True),
        "network": CategoricalDistribution((choice, "tanh")),
    }
    study = optuna.create_study(study_name=name, direction="maximize")
    for k in range(n):
        values = {parameter: 10 ** (-5 + k / 4), "network": (choice, "tanh")[k % 2]}
        study.add_trial(
            optuna.trial.create_trial(params=values, distributions=kinds, value=k + 0.125)
        )
    return study


class Page(HTMLParser):
    """The elements of a page, in order, and the texts of those that hold text only."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.scripts = [], [], []
        self.raw = path.read_bytes()
        self.feed(self.raw.decode())
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.texts.append(data.strip())

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def policy(self):
        [meta] = [m for m in self.all("meta") if "http-equiv" in m]
        assert meta["http-equiv"] == "Content-Security-Policy"
        return dict(part.strip().split(" ", 1) for part in meta["content"].split(";"))

    def figure(self, name):
        """data and layout, read from the script as JSON."""
        [script] = [s for s in self.scripts if s.startswith(f'Plotly.newPlot("{name}", ')]
        return json.loads(f"[{script.removeprefix('Plotly.newPlot(').removesuffix(');')}]")[1:3]


def page_of(folder, study, title="SAC on Hopper", facts=(("algorithm", "SAC"),), tables=(TABLE,)):
    write(folder / "study.html", study, title, facts, tables)
    return Page(folder / "study.html")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("page"), make_study())


def test_the_page_holds_the_title_the_facts_and_every_cell(page):
    for text in ("SAC on Hopper", "algorithm", "SAC", TABLE.title, TABLE.note, *TABLE.headings):
        assert text in page.texts
    for row in TABLE.rows:
        assert set(row) <= set(page.texts)
    assert page.all("html") == [{"lang": "en"}]
    headings = [tag for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert headings == ["h1"] + 5 * ["h2"]


def test_numbers_are_on_the_right_and_headings_have_a_scope(tmp_path):
    page = page_of(tmp_path, make_study(0))
    cells = page.all("th") + page.all("td")
    assert [th["scope"] for th in page.all("th")] == ["col"] * 3 + ["row"] * 2
    # trial (its heading and two rows) and return (likewise); the policy is no number.
    assert sum(cell.get("class") == "number" for cell in cells) == 6
    assert [td.get("class") for td in page.all("td")] == ["number", None] * 2


def test_a_row_of_the_wrong_length_is_refused(tmp_path):
    with pytest.raises(ValueError):
        page_of(tmp_path, make_study(0), tables=[PageTable("t", ("a", "b"), (("1",),))])
    with pytest.raises(ValueError):
        page_of(tmp_path, make_study(0), tables=[PageTable("t", ("a",), (("1",), ("1", "2")))])


def test_every_script_is_allowed_by_its_hash_and_nothing_else_is(page):
    digests = [hashlib.sha256(script.encode()).digest() for script in page.scripts]
    assert page.policy == {
        "default-src": "'none'",
        "script-src": " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests),
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert len(page.scripts) == 1 + len(FIGURES)
    # What follows would change the bytes before the browser hashes them.
    assert b"\r" not in page.raw
    assert not any({"src", "href", "srcset"} & set(attrs) for _, attrs in page.elements)


def test_the_figures_hold_the_returns_and_parameters_of_the_trials(page):
    assert [d["id"] for d in page.all("div") if d.get("class") == "figure"] == FIGURES
    returns = [k + 0.125 for k in range(12)]
    data, layout = page.figure("history")
    assert data[0]["y"] == returns and data[1]["name"] == "best so far"
    assert layout["yaxis"]["title"]["text"] == "return"
    slices, _ = page.figure("slice")
    assert slices[1]["x"] == [10 ** (-5 + k / 4) for k in range(12)]
    shares = page.figure("importances")[0][0]
    assert sorted(shares["y"]) == ["network", "rate"] and sum(shares["x"]) == pytest.approx(1)


def test_no_button_sends_the_data_anywhere(page):
    for script in page.scripts[1:]:
        config = json.loads(f"[{script.removeprefix('Plotly.newPlot(').removesuffix(');')}]")[3]
        assert config["plotlyServerURL"] == ""
        assert set(config["modeBarButtons"][0]) == {
            "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"
        }  # fmt: skip


def test_hostile_texts_are_texts(tmp_path):
    study = make_study(name=HOSTILE, parameter=HOSTILE, choice=HOSTILE)
    table = PageTable(HOSTILE, (HOSTILE,), ((HOSTILE,),), HOSTILE)
    page = page_of(tmp_path, study, HOSTILE, [(HOSTILE, '"><img src=x>')], [table])
    assert len(page.scripts) == 5
    assert all("<" not in script for script in page.scripts[1:])
    assert page.all("img") == []
    assert page.texts.count(HOSTILE) == 7  # title, h1, fact, table title, heading, cell, note
    data, _ = page.figure("importances")
    # Plotly shows &lt; as <, and makes nothing of it.
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in data[0]["y"]
    # The only markup is Optuna's own, in what shows on hovering.
    markup = {m for s in page.scripts[1:] for m in re.findall(r"\\u003c[^>]*>", s)}
    assert markup <= {"\\u003cextra>", "\\u003c/extra>", "\\u003cbr>"}


def test_half_a_surrogate_pair_does_not_stop_the_page(tmp_path):
    assert "a?b" in page_of(tmp_path, make_study(0), title="a\ud800b").texts


@pytest.mark.parametrize(
    ("n", "sentences"),
    [(0, ["No trial has finished yet"] * 4), (2, ["Importances are not available yet"])],
)
def test_what_cannot_be_drawn_is_a_sentence(n, sentences, tmp_path):
    page = page_of(tmp_path, make_study(n))
    found = [t for t in page.texts if t.startswith(("No trial has", "Importances are"))]
    assert len(found) == len(sentences)
    assert all(text.startswith(s) for text, s in zip(found, sentences, strict=True))
    if n == 0:
        assert page.scripts == [] and page.policy["script-src"] == "'none'"
        assert len(page.raw) < 10_000


def test_the_same_study_gives_the_same_bytes(page, tmp_path):
    assert page_of(tmp_path, make_study()).raw == page.raw


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_a_browser_draws_the_four_figures_of_a_hostile_study(tmp_path):
    page_of(tmp_path, make_study(parameter=HOSTILE, choice=HOSTILE), HOSTILE)
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000",
         "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
         "--enable-logging=stderr", "--dump-dom", (tmp_path / "study.html").as_uri()],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr  # neither errors nor a breach of the policy
    parts = done.stdout.split('class="figure')[1:]
    assert ["main-svg" in part for part in parts] == [True] * 4
    assert done.stdout.count("<script") == 5
    assert ">&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;</text>" in done.stdout

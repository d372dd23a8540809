"""report.html: true numbers, everything escaped, and nothing but its own script may run."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import json
import math
import re
import shutil
import signal
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny
from page_files import HOSTILE, audit, write_audit, write_film

from gallop.commands.cli import main
from gallop.evaluation.intervals import interval_generator
from gallop.evaluation.statistics import compare
from gallop.experiments.yaml_file import from_dict, settings_of
from gallop.report.display import Display
from gallop.report.films.captions import Overlay
from gallop.report.pages import films as films_of_page
from gallop.report.pages.audit_record import read_audit
from gallop.report.pages.html import element
from gallop.report.pages.page import keep_report
from gallop.run_folder import manifest
from gallop.run_folder.directory import Diverged, RunDirectory
from gallop.run_folder.seed_group import SeedGroup
from gallop.runs import workflow
from gallop.runs.stopping import Stopped


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.raw = path.read_text("utf-8")
        self.elements, self.texts, self.code = [], [], {"script": [], "style": []}
        self.feed(self.raw)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in self.code:
            self.code[tag].append("")

    def handle_data(self, data):
        tag = self.elements[-1][0] if self.elements else ""
        if self.cdata_elem in self.code:
            self.code[tag][-1] += data
        else:
            self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def text(self):
        return " ".join("".join(self.texts).split())

    @property
    def policy(self):
        [found] = [m["content"] for m in self.all("meta") if "http-equiv" in m]
        return dict(part.strip().split(" ", 1) for part in found.split(";"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of two milestones on a task without MuJoCo, as it writes its page itself."""
    experiment = tiny("sac", total_timesteps=480, milestones=[50, 100], audit=True)
    return workflow.run(experiment, tmp_path_factory.mktemp("page"), "run", Display(quiet=True))


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it with an audit and a film, as if its task had them."""
    shutil.copytree(trained.path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    write_film(run.milestone(100).film)
    write_audit(run.milestone(100), audit())
    return run


def page_of(capsys, *paths, output=None):
    output = output or paths[0].parent / "page.html"
    assert main(["report", *map(str, paths), "-o", str(output)]) == 0, capsys.readouterr().err
    return Page(output)


def changed(run, **settings):
    """Change the settings of a finished run."""
    experiment = from_dict(settings_of(run.look_at_experiment()) | settings)
    run.write_experiment(experiment)
    manifest.settle(run.path)


# --- a run ---------------------------------------------------------------------------------------


def test_a_run_writes_its_page_and_vouches_for_it(trained):
    page = Page(trained.report)
    assert "finished" in page.text and "SAC on Pendulum-v1" in page.text
    assert [trained.report.name] == [n for n in manifest.read(trained.path) if n[-5:] == ".html"]
    assert manifest.damages(trained.path) == []
    assert "Pendulum-v1 is not a MuJoCo task, so there is nothing to audit" in page.text


def test_the_page_has_the_numbers_of_the_run(run, capsys):
    page = page_of(capsys, run.path)
    final = run.numbers.read_episodes("final")
    baseline, half = run.numbers.read_baseline(), run.numbers.read_episodes("050")
    shown = f"{final.returns.mean():,.0f}".replace("-", "−")
    assert shown in page.text
    found = compare(half.returns, baseline, interval_generator())
    for value in found.difference.interval:
        assert f"{value:+,.{0 if abs(value) >= 100 else 1}f}".replace("-", "−") in page.text
    assert "This is one training seed. It says nothing about the next one" in page.text
    assert "How to read these numbers" in page.text
    points = json.loads(next(s for s in page.code["script"] if s.startswith("[{")))
    timesteps = run.numbers.read_evaluations().timesteps
    assert [int(p["text"].split()[0].replace(",", "")) for p in points] == timesteps.tolist()


def test_the_audit_is_there_with_its_seconds(run, capsys):
    page = page_of(capsys, run.path)
    [button] = [b for b in page.all("button") if "data-film" in b]
    assert (button["data-film"], button["data-second"]) == ("film-0-100", "0.5")
    [video] = page.all("video")
    assert video["id"] == "film-0-100"
    content = base64.b64decode(video["src"].removeprefix("data:video/mp4;base64,"))
    assert content == run.milestone(100).film.read_bytes()
    # 2.5 and 3.5 m/s, 12.3 mm, half the return at half the physics step
    for text in ("3.00 m/s", "2.50 … 3.50", "12.3 mm", "50 %", "1 of 2 episodes"):
        assert text in page.text, text
    assert "From 0 to 360 degrees" in page.text and "torso 5 % of the time" in page.text


@pytest.mark.parametrize("rate", [30, 125, Fraction(100, 7), Fraction(200, 3)])
@pytest.mark.parametrize("frame", [1, 2_399])
def test_a_finding_jumps_to_the_frame_that_shows_its_first_second(run, capsys, rate, frame):
    second = float(frame / rate)
    found = audit()["findings"][0] | {"seconds": [[second, second + 1.005]]}
    record = audit(findings=[found])
    record["episodes"][0]["findings"] = [found]
    write_audit(run.milestone(100), record)
    page = page_of(capsys, run.path)
    [button] = [b for b in page.all("button") if "data-film" in b]
    assert math.floor(float(button["data-second"]) * rate) == frame
    overlay = Overlay(float(1 / rate))
    for _ in range(frame + 1):
        overlay.note(0.0, None)
    told = overlay.text.split(" s")[0]  # what the film says there
    assert f" from {told} to " in button["aria-label"] and f"{told} to " in page.text


def test_a_change_that_failed_has_its_reason_and_no_bar(run, capsys):
    failed = {"change": "integrator rk4", "returns": ["NaN"], "why_not": "physics diverged"}
    half = {"change": "half the physics step", "returns": [40, 60], "why_not": ""}
    write_audit(run.milestone(100), audit(sensitivity=[failed, half]))
    page = page_of(capsys, run.path)
    row = page.raw[page.raw.index("integrator rk4") :].split("</tr>")[0]
    assert "physics diverged" in row and "<svg" not in row
    row = page.raw[page.raw.index("half the physics step</th>") :].split("</tr>")[0]
    assert "50 %" in row and "<svg" in row


def test_of_a_negative_return_there_are_no_shares(run, capsys):
    record = audit()
    for episode in record["episodes"]:
        episode["return"] = -100.0
    write_audit(run.milestone(100), record)
    page = page_of(capsys, run.path)
    assert "of the usual return" not in page.text and "in a picture" not in page.text
    row = page.raw[page.raw.index("half the physics step</th>") :].split("</tr>")[0]
    assert row.count("<td") == 1 and "50" in row


def test_a_film_of_another_start_has_no_buttons(run, capsys):
    write_audit(run.milestone(100), audit(filmed=10_001))
    page = page_of(capsys, run.path)
    assert not [b for b in page.all("button") if "data-film" in b]
    assert "In the episode from start 10000: 0.50 to 1.25 s" in page.text


def test_the_text_of_a_film_tells_which_policies_it_shows_from_which_start(run, capsys):
    write_film(run.milestone(50).film)
    write_film(run.progress_film)
    page = page_of(capsys, run.path)
    half, final, across = (video["aria-label"] for video in page.all("video"))
    assert half.startswith("Film of 50 %, no sound; 240 timesteps, start 10000, return −")
    assert final.startswith("Film of 100 %, no sound; 480 timesteps, start 10000, return −")
    assert across == (
        "Film of All milestones, no sound; side by side: 50 % (240 timesteps), 100 % (480 "
        "timesteps); all from start 10000"
    )
    write_audit(run.milestone(100), audit(filmed=10_001))
    *_, across = (video["aria-label"] for video in page_of(capsys, run.path).all("video"))
    assert "100 % (480 timesteps, start 10001)" in across


def test_films_that_do_not_fit_are_left_out_the_earliest_first(run, capsys, monkeypatch):
    write_film(run.milestone(50).film)
    size = run.milestone(50).film.stat().st_size
    monkeypatch.setattr(films_of_page, "MOST_BYTES", 2 * size)
    page = page_of(capsys, run.path)
    assert [video["id"] for video in page.all("video")] == ["film-0-100"]
    assert "checkpoints/050/rollout.mp4 in the run's folder" in page.text


def test_a_run_that_is_not_finished_says_so(run, capsys):
    record = run.read_json("provenance.json")
    run.write_json("provenance.json", record | {"end": None})
    page = page_of(capsys, run.path)
    assert "The training is over, after 480 timesteps, but the run was stopped before" in page.text
    assert f"gallop run --resume {run.path} completes them." in page.text
    with run.locked():
        assert "the training was over, and films, audits" in page_of(capsys, run.path).text
    changed(run, total_timesteps=960)
    page = page_of(capsys, run.path)
    assert "Training was stopped at 480 of 960 timesteps (50 %), and is not finished." in page.text
    assert f"gallop run --resume {run.path} goes on." in page.text
    with run.locked():
        assert "training was going on, at 480 of 960" in page_of(capsys, run.path).text
    assert main(["report", str(run.path)]) == 0  # which holds the run's lock itself
    assert "Training was stopped at 480 of 960" in Page(run.report).text
    run.write_diverged(Diverged(480, "training", f"a loss is NaN {HOSTILE}", {}))
    page = page_of(capsys, run.path)
    assert "Training diverged at about 480 of 960 timesteps (50 %): a loss is NaN" in page.text
    assert HOSTILE not in page.raw


class Interrupts:
    """A tracker that presses Ctrl-C after an evaluation."""

    def __init__(self, timestep):
        self.timestep = timestep

    def log(self, row):
        if row.timestep == self.timestep and any(name.startswith("eval/") for name in row.values):
            signal.raise_signal(signal.SIGINT)

    def close(self):
        pass


def test_the_page_of_an_interrupted_run_does_not_say_that_training_goes_on(tmp_path):
    experiment = tiny("sac", total_timesteps=480, milestones=[50, 100])
    with pytest.raises(Stopped):
        workflow.run(experiment, tmp_path, "a", Display(quiet=True), [Interrupts(360)])
    [path] = tmp_path.glob("*/a/report.html")
    page = Page(path)
    assert "Training was stopped at 360 of 480 timesteps (75 %)" in page.text
    assert "stopped" in page.text and "going on" not in page.text
    assert manifest.damages(path.parent) == []
    workflow.resume(RunDirectory(path.parent), Display(quiet=True))
    assert "finished" in Page(path).text and "stopped" not in Page(path).text


@pytest.mark.parametrize("home", ["/home/mia", "/Users/mia", "/root", "C:\\Users\\mia", "HOME"])
def test_a_page_tells_no_home_folder(run, capsys, home):
    home = str(Path.home()) if home == "HOME" else home
    changed(run, env_kwargs={"max_episode_steps": 50, "xml_file": f"{home}/robots/dog.xml"})
    record = run.read_json("provenance.json")
    command = [f"{home}/venv/bin/gallop", "run", f"{home}/my.yaml"]
    run.write_json("provenance.json", record | {"command": command, "end": None})
    milestone = run.milestone(50)
    reason = {"rollout.mp4": f"{home}/ffmpeg failed"}
    milestone.write_meta(milestone.read_meta() | {"missing": reason})
    page = page_of(capsys, run.path)
    assert "~/robots/dog.xml" in page.text and "gallop run " in page.text
    assert "~/my.yaml" in page.text and "~/ffmpeg failed" in page.text
    assert home not in page.raw


def test_a_page_that_cannot_be_written_ends_no_training(run, caplog):
    run.report.unlink()
    run.report.mkdir()
    with run.locked():
        keep_report(run, running=True)
    assert f"{run.report} was not written" in caplog.text


# --- safety --------------------------------------------------------------------------------------


def test_only_the_pages_own_script_and_style_may_run(run, capsys):
    page = page_of(capsys, run.path)
    hashes = {
        tag: f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
        for tag, codes in page.code.items()
        for code in codes
        if not code.startswith("[{")  # data, which does not run
    }
    assert page.policy == {
        "default-src": "'none'",
        "script-src": hashes["script"],
        "style-src": hashes["style"],
        "img-src": "data:",
        "media-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    for _, attributes in page.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert "\r" not in page.raw


def test_texts_and_attributes_are_escaped():
    made = element("p", HOSTILE, "\x1b[31m\u202e", title=HOSTILE, class_=None)
    assert "<img" not in made and "\x1b" not in made and "\u202e" not in made
    assert made.count(html.escape(HOSTILE)) == 2


HOSTILE_AUDITS = {
    "names": audit(name=HOSTILE),
    "bodies": audit(filmed=10_000)
    | {"filmed": {"seed": 10_000, "dt": 0.05, "contacts": {HOSTILE: [[0, 1]]}, "pitch": [1, 2]}},
    "reasons": {"format": 1, "why_not": HOSTILE},
    "wrong types": audit(findings={"a": 1}, sensitivity="x", filmed=[1]),
    "wrong values": audit(
        findings=[1, None, {"name": 3, "seconds": [["a", 2], [5, 1], [1]], "episodes": "x"}],
        filmed={"seed": 1, "dt": 1e-300, "contacts": {"a": [[0, 1e6]]}, "pitch": ["NaN", 1e308]},
    ),
    "huge numbers": audit(
        filmed={"seed": 10_000, "dt": 1e5, "contacts": {"a": [[0, 1e6]]}, "pitch": [1e308, -1e308]},
        episodes=[{"seed": 1, "return": 10**400, "rewards": {"speed": 1e308}}],
    ),
    "no episodes": audit(episodes=[]),
    "another format": {"format": HOSTILE},
    "no object": "[1, 2]",
    "deep": "[" * 100_000,
    "truncated": json.dumps(audit())[:500],
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE_AUDITS)
def test_no_audit_breaks_the_page_or_adds_to_it(run, capsys, case):
    write_audit(run.milestone(100), HOSTILE_AUDITS[case])
    page = page_of(capsys, run.path)
    assert not page.all("img") and len(page.code["script"]) == 2
    assert "Learning curve" in page.text and len(page.raw) < 500_000


def test_hostile_records_and_names_are_text(run, capsys):
    record = run.read_json("provenance.json")
    run.write_json(
        "provenance.json",
        record | {"command": [HOSTILE, 3], "versions": {HOSTILE: [1]}, "cpu": HOSTILE,
                  "start": HOSTILE, "resumes": [{"at": {}}, 7, HOSTILE], "n_threads": 1e999},
    )  # fmt: skip
    meta = run.milestone(50).read_meta()
    run.milestone(50).write_meta(meta | {"missing": {"rollout.mp4": HOSTILE}, "film_note": 3})
    hostile = run.path.rename(run.path.with_name("a<script>b"))
    page = page_of(capsys, hostile)
    assert not page.all("img") and len(page.code["script"]) == 2


def test_damaged_numbers_are_refused_in_one_line(run, capsys):
    damaged = run.path / "episodes.csv"
    damaged.write_text(damaged.read_text().replace("1", "2"))
    for arguments in (["report", run.path, "-o", "x.html"], ["compare", run.path, run.path]):
        assert main(list(map(str, arguments))) == 2
        assert capsys.readouterr().err.count("\n") == 1
    (run.path / manifest.NAME).unlink()
    (run.path / "provenance.json").unlink()
    rows = damaged.read_text().splitlines()
    damaged.write_text("\n".join([rows[0], rows[1].replace(",evaluation,", ",evaluation,x")]))
    assert main(["report", str(run.path), "-o", "x.html"]) == 2
    message = capsys.readouterr().err
    assert "damaged" in message and message.count("\n") == 1


# --- several -------------------------------------------------------------------------------------


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def other(run, tmp_path):
    """The same run with other returns."""
    shutil.copytree(run.path, tmp_path / "other")
    other = RunDirectory(tmp_path / "other")
    path = other.path / "episodes.csv"
    rows = table(path)
    for row in rows:
        if row["policy"] == "final":
            row["return"] = repr(float(row["return"]) + 100 + int(row["seed"]) % 10)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    manifest.begin(other.path)
    write_audit(other.milestone(100), audit(name="sliding"))
    return other


@pytest.fixture
def group(run, other, tmp_path):
    """A group of both, as training seeds 0 and 1."""
    group = SeedGroup(tmp_path / "group")
    group.path.mkdir()
    group.write(run.look_at_experiment(), [0, 1])
    for seed, each in enumerate((run, other)):
        shutil.copytree(each.path, group.run(seed).path)
        changed(group.run(seed), training_seed=seed)
    return group


def test_two_runs_side_by_side(run, other, capsys, tmp_path):
    page = page_of(capsys, run.path, other.path, output=tmp_path / "both.html")
    assert "The final policy of B (other) returns more than that of A (run), by 104" in page.text
    assert "Which settings are better cannot be told from single seeds" in page.text
    assert "somersault start (1 of 2 episodes)" in page.text
    assert "sliding (1 of 2 episodes)" in page.text
    assert len(page.all("video")) == 2


def test_compare_says_the_same_and_writes_it_as_csv(run, other, capsys, tmp_path):
    output = tmp_path / "numbers.csv"
    assert main(["compare", str(run.path), str(other.path), "--csv", str(output)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "findings of A: somersault start (1 of 2 episodes)" in told
    rows = table(output)
    [final] = [r for r in rows if r["kind"] == "difference" and r["policy"] == "final"]
    ours, theirs = (r.numbers.read_episodes("final").returns for r in (other, run))
    found = compare(ours, theirs, interval_generator())
    assert float(final["value"]) == pytest.approx(104.5)
    assert float(final["low"]) == found.difference.interval.low
    assert float(final["p_sign_flip"]) == found.p_sign_flip == 2 / 1024
    [speed] = [r for r in rows if (r["name"], r["run"]) == ("speed", "A: run")]
    assert (speed["value"], speed["low"], speed["high"], speed["n"]) == ("3.0", "2.5", "3.5", "2")
    assert f"B − A final +104 [+{found.difference.interval.low:.0f}" in told


def test_two_runs_of_the_same_name_are_told_apart(run, other, capsys, tmp_path):
    (tmp_path / "more").mkdir()
    same = other.path.rename(tmp_path / "more" / "run")
    output = tmp_path / "numbers.csv"
    assert main(["compare", str(run.path), str(same), "--csv", str(output)]) == 0
    names = {row["run"] for row in table(output)}
    assert names == {"A: run", "B: run", "B: run − A: run"}
    page = page_of(capsys, run.path, same, output=tmp_path / "both.html")
    assert page.text.count("A: run, training seed 0") == 1  # provenance
    costs = page.raw[page.raw.index('id="cost-title"') :]
    assert costs.count('<th scope="row">A: run</th>') == 1
    assert costs.count('<th scope="row">B: run</th>') == 1


def test_on_a_narrow_terminal_names_are_whole_and_no_line_is_too_long(
    run, other, capsys, monkeypatch, tmp_path
):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "run", "other"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    told = " ".join(word for line in lines for word in line.split())
    heading = next(n for n, line in enumerate(lines) if line.split() == ["measure", "A", "B"])
    names = " ".join(" ".join(line[:16].split()) for line in lines[heading:])
    for name in ("deepest penetration", "mechanical power", "bfoot on the floor"):
        assert name in names, name
    assert "One training seed says nothing about the next." in told
    assert "findings of B: sliding (1 of 2 episodes)" in told


def test_a_group_has_an_interval_over_seeds(group, run, capsys):
    assert main(["report", str(group.path)]) == 0
    page = Page(group.report)
    means = [r.numbers.read_episodes("final").returns.mean() for r in group.runs().values()]
    assert f"{np.mean(means):,.0f}".replace("-", "−") in page.text  # the IQM of two
    assert "With 2 training seeds" in page.text and "2 seeds are few" in page.text
    assert "somersault start (1 of 2 training seeds)" in page.text
    assert main(["compare", str(group.path), str(run.path)]) == 0
    assert "one training seed against several: no interval" in capsys.readouterr().out


def test_two_groups_are_compared_over_seeds(group, tmp_path, capsys):
    shutil.copytree(group.path, tmp_path / "again")
    assert main(["compare", str(group.path), str(tmp_path / "again")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "2 training seeds, pair by pair" in told and "B − A final +0.0 [+0.0, +0.0]" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "RUN", "RUN"], "-o FILE.html is required"),
        (["report", "RUN", "RUN", "-o", "x.html"], "is given twice"),
        (["report", "RUN", "-o", "x.pdf"], "must end in .html"),
        (["report", "TMP"], "not a run folder"),
        (["compare", "RUN"], "at least two runs"),
        (["compare", "RUN", "TMP"], "not a run folder"),
        (["compare", "RUN", "RUN", "--csv", "x.txt"], "must end in .csv"),
    ],
)
def test_errors_are_one_line(run, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    places = {"RUN": str(run.path), "TMP": str(tmp_path / "empty")}
    assert main([places.get(part, part) for part in arguments]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


def test_runs_of_different_tasks_are_not_compared(run, tmp_path, capsys):
    shutil.copytree(run.path, tmp_path / "cart")
    file = tmp_path / "cart" / "experiment.yaml"
    file.write_text(file.read_text().replace("Pendulum-v1", "MountainCarContinuous-v0"))
    (tmp_path / "cart" / manifest.NAME).unlink()
    (tmp_path / "cart" / "provenance.json").unlink()
    assert main(["compare", str(run.path), str(tmp_path / "cart")]) == 2
    assert "only runs of one task can be compared" in capsys.readouterr().err


# --- reading -------------------------------------------------------------------------------------


def test_an_audit_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(audit()))
    found = read_audit(path)
    assert found.measures["speed"].values == (2.5, 3.5)
    assert found.measures["somersaults"].values == (1.0, 1.0)
    assert "cost of transport" not in found.measures
    assert found.filmed.seconds == 2.0 and found.filmed.contacts["torso"] == ((0.6, 0.7),)
    assert re.fullmatch("a full turn .*", found.findings[0].rule)

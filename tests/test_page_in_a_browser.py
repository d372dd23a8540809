"""The page in headless Chromium: it works, it asks for nothing, and everyone can use it."""

from __future__ import annotations

import shutil
import time

import pytest
from conftest import tiny
from page_files import HOSTILE, audit, write_audit, write_film

from gallop.commands.cli import main
from gallop.report.display import Display
from gallop.run_folder import manifest
from gallop.runs import workflow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium"),
]
ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
SIZES = {"desktop": (1200, 900), "phone": (390, 800)}
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def chromium():
    """Chromium, without a network."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(ARGUMENTS)
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with a film of two seconds and an audit, which is hostile where it can be."""
    experiment = tiny("sac", total_timesteps=480, milestones=[50, 100])
    run = workflow.run(experiment, tmp_path_factory.mktemp("browser"), "run", Display(quiet=True))
    for percent in (50, 100):
        write_film(run.milestone(percent).film)
        write_audit(run.milestone(percent), audit(name=f"flip {HOSTILE}"[:60]))
    manifest.begin(run.path)
    assert main(["report", str(run.path)]) == 0
    return run


@pytest.fixture
def opened(chromium, run):
    """Opens the page from disk; nothing is reported on its console, and nothing is requested."""
    told, requested, contexts = [], [], []

    def go(size="desktop", path=run.report, **options):
        width, height = SIZES[size]
        contexts.append(
            chromium.new_context(viewport={"width": width, "height": height}, **options)
        )
        page = contexts[-1].new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(path.as_uri())
        return page

    yield go
    for context in contexts:
        context.close()
    assert told == []
    assert {url for url in requested if not url.startswith(("data:", "file:"))} == set()
    assert sum(url.startswith("file:") for url in requested) == len(contexts)


def until(page, condition, seconds=10):
    """Wait for a condition. Playwright's own waiting would need `eval`, which the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.05)


def readout(page):
    return page.locator(".readout").first.inner_text()


def test_hovering_and_arrow_keys_read_the_curve(opened):
    page = opened()
    plot = page.locator(".plot").first
    assert readout(page).startswith("Last: 480 timesteps")
    box = plot.bounding_box()
    plot.scroll_into_view_if_needed()
    plot.hover(position={"x": box["width"] * 0.36, "y": box["height"] / 2})
    assert readout(page).startswith("120 timesteps: evaluation return")
    assert page.locator(".cursor").first.is_visible()
    plot.focus()
    page.keyboard.press("ArrowRight")
    assert readout(page).startswith("240 timesteps")
    assert plot.get_attribute("aria-valuetext") == readout(page)
    assert plot.get_attribute("aria-valuenow") == "2"
    page.keyboard.press("End")
    assert readout(page).startswith("480 timesteps")


def test_a_finding_jumps_the_film_to_its_second_and_the_film_plays(opened):
    page = opened()
    video = page.locator("#film-0-100")
    until(page, "document.getElementById('film-0-100').readyState >= 2")
    button = page.locator("button[data-film='film-0-100']").first
    video.evaluate("v => v.addEventListener('seeking', () => { v.sought ??= v.currentTime; })")
    button.focus()
    page.keyboard.press("Enter")
    until(page, "document.getElementById('film-0-100').currentTime > 0.6")
    assert video.evaluate("video => video.sought") == pytest.approx(0.5, abs=0.01)
    assert video.evaluate("video => !video.paused && video === document.activeElement")
    now = page.locator("[data-tracks='film-0-100'] .now").first
    until(page, "document.querySelector('[data-tracks] .now').getAttribute('x1') > 75")
    assert float(now.get_attribute("x1")) > 0.5 * 150  # pixels a second
    video.evaluate("video => video.pause()")


def test_all_films_play_together_and_a_click_on_the_pitch_moves_one(opened):
    page = opened()
    page.locator("button[data-together]").click()
    playing = "[...document.querySelectorAll('video')].every(v => !v.paused && v.currentTime > 0)"
    until(page, playing)
    page.evaluate("document.querySelectorAll('video').forEach(v => v.pause())")
    pitch = page.locator("[data-tracks='film-0-100'] svg.wide")
    box = pitch.bounding_box()
    pitch.click(position={"x": box["width"] * 0.55, "y": box["height"] / 2})
    until(page, "Math.abs(document.getElementById('film-0-100').currentTime - 1) < 0.15")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_no_serious_fault_and_nothing_is_cut_off(opened, size, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    # axe is a script, which the page's policy would refuse.
    page = opened(size, color_scheme=scheme, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    found = axe.Axe().run(page).response["violations"]
    assert [each["help"] for each in found if each["impact"] in SERIOUS] == []
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= SIZES[size][0]


def test_hostile_names_are_only_text(opened):
    page = opened()
    assert page.locator("img").count() == 0
    assert "<img" in page.locator(".findings h4").first.inner_text()


def test_it_prints_and_reads_without_a_script(opened, tmp_path):
    page = opened(java_script_enabled=False)
    assert "final" in page.locator("#milestones").inner_text()
    assert not page.locator("button[data-together]").is_visible()
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().count(b"/Type /Page\n") in range(2, 12)

"""Reports in a real browser: at two widths, light and dark; what is seen, what can be done, what axe-core finds.

It needs a browser (PREFDENSITY_BROWSER, or one of the usual names on the path), axe-core of npm in node_modules or by
PREFDENSITY_AXE. Without them these tests are skipped; `test_report.py` does what can be done without.
"""

import functools
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import Browser, found
from every_page import KINDS

import prefdensity
from prefdensity.data.comparisons import Comparisons

ROOT = Path(__file__).parents[1]
WIDTHS = {390: 844, 1280: 800}

pytestmark = pytest.mark.skipif(found() is None, reason="no browser: name one with PREFDENSITY_BROWSER")


def votes(size, seed=0):
    """Votes of twelve people about items whose names differ only far inside."""
    rng = np.random.default_rng(seed)
    skill, names = (
        rng.normal(size=size),
        [f"{'model trained at length ' * 2}step {k}{' with more' * 4}" for k in range(size)],
    )
    a = np.concatenate([np.arange(size), rng.integers(size, size=10 * size)])
    b = (a + rng.integers(1, size, size=len(a))) % size
    won = rng.random(len(a)) < 1 / (1 + np.exp(skill[b] - skill[a]))
    frame = pd.DataFrame(
        {"item_a": np.array(names)[a], "item_b": np.array(names)[b], "outcome": np.where(won, "a", "b")}
    )
    frame["annotator"] = [f"rater {k}" for k in rng.integers(12, size=len(a))]
    return Comparisons.from_frame(frame)


@functools.cache
def report(size):
    data = votes(size)
    return prefdensity.fit("bradley_terry", data, draws=200), data


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report of so many items, written once."""
    folder = tmp_path_factory.mktemp("pages")
    return functools.cache(lambda size: prefdensity.write_report(*report(size), folder / f"{size}.html"))


@pytest.fixture(scope="module")
def window():
    with Browser() as browser:
        yield browser


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [5, 60, pytest.param(500, marks=pytest.mark.slow)])
def test_the_answer_is_on_the_first_screen_and_nothing_is_cut_off(window, pages, size, width, dark):
    window.show(pages(size), width, WIDTHS[width], dark)
    assert window.run("document.documentElement.scrollWidth") <= width
    places = window.run("""[...document.querySelectorAll(".answer, .plot .bar")].slice(0, 2).map(each => {
        const box = each.getBoundingClientRect(); return [box.left, box.right, box.top, box.bottom]; })""")
    left, right, top, bottom = np.array(places).T
    assert (left >= 0).all()
    assert (right <= width).all()
    assert (bottom <= WIDTHS[width]).all()  # the leader and its bar without scrolling
    rows = window.run("""[...document.querySelectorAll("#s1 ~ .scroll tbody th")].map(each => each.textContent)""")
    assert len(rows) == len(set(rows)) == size
    smallest = window.run("""Math.min(...[...document.querySelectorAll("body *")]
        .filter(each => !each.children.length && each.textContent.trim() && each.offsetWidth && !each.closest("svg"))
        .map(each => parseFloat(getComputedStyle(each).fontSize)))""")
    assert smallest >= 11
    drawn = window.run(
        """[...document.querySelectorAll("svg text")].map(each => each.getBoundingClientRect().height)"""
    )
    assert min(drawn) >= 9
    paper = window.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(21, 23, 27)" if dark else "rgb(255, 255, 255)")


def test_tables_are_searched_sorted_and_filtered(window, pages):
    window.show(pages(60), 1280, 800)
    names = """[...document.querySelectorAll("#s1 ~ .scroll tbody tr:not([hidden]) th")].map(each => each.title)"""
    first = window.run(names)
    ranked = report(60)[0].summary()
    assert first == list(ranked["item"])
    window.run("""(() => { const find = document.querySelector("#s1 ~ .controls input"); find.value = "STEP 17 ";
        find.dispatchEvent(new Event("input")); })()""")
    left = window.run(names)
    assert any("step 17 " in name for name in left)
    shown = window.run(
        """[...document.querySelectorAll("#s1 ~ .scroll tbody tr:not([hidden])")].map(e => e.textContent)"""
    )
    assert all("17" in text for text in shown)
    assert 0 < len(left) < 60
    assert window.run("""document.querySelector("#s1 ~ .controls output").textContent""") == f"{len(left)} of 60 rows"
    window.run("""(() => { const find = document.querySelector("#s1 ~ .controls input"); find.value = "";
        find.dispatchEvent(new Event("input")); })()""")
    head = (
        """[...document.querySelectorAll("#s1 ~ .scroll thead th")].find(each => each.textContent.startsWith("{}"))"""
    )
    window.run(head.format("sd") + """.querySelector("button").click()""")
    assert window.run(names) == list(ranked.sort_values("sd", ascending=False)["item"])
    window.run(head.format("sd") + """.querySelector("button").click()""")
    assert window.run(names) == list(ranked.sort_values("sd")["item"])
    assert window.run(head.format("sd") + """.getAttribute("aria-sort")""") == "ascending"
    window.show(pages(5), 1280, 800)
    pairs = """[...document.querySelectorAll("#s3 ~ .scroll tbody tr")].length"""
    assert window.run(pairs) == 5


def test_the_heat_map_reads_out_its_cells_and_the_theme_is_chosen(window, pages):
    window.show(pages(5), 390, 844)
    said = window.run("""(() => { const cell = document.querySelector("table.heat tbody td:nth-child(3)");
        cell.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
        return [cell.textContent, document.querySelector("output.note").textContent]; })()""")
    assert said[1].endswith(f"with probability {said[0]}%.")
    paper, click = "getComputedStyle(document.body).backgroundColor", """document.querySelector(".theme").click()"""
    colours = [window.run(paper), window.run(f"{click}; {paper}"), window.run(f"{click}; {paper}")]
    assert colours[0] == colours[2] != colours[1]


def test_paper_shows_all_rows_in_dark_ink(window, pages):
    window.show(pages(60), 794, 1123, dark=True)
    window("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert window.run("getComputedStyle(document.body).color") == "rgb(34, 34, 34)"
    assert window.run("""getComputedStyle(document.querySelector(".tall")).maxHeight""") == "none"
    assert window.run("""getComputedStyle(document.querySelector("nav")).display""") == "none"
    window("Emulation.setEmulatedMedia", media="")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of a kind, written once."""
    return functools.cache(lambda kind: KINDS[kind](tmp_path_factory.mktemp(kind)))


@pytest.fixture(scope="module")
def axe():
    given = os.environ.get("PREFDENSITY_AXE")
    source = Path(given) if given else ROOT / "node_modules" / "axe-core" / "axe.min.js"
    if not source.exists():
        pytest.skip("no axe-core: npm install axe-core, or name axe.min.js with PREFDENSITY_AXE")
    return source.read_text(encoding="utf-8")


def violations(window, axe):
    """Return what axe-core finds on the page that is shown: rule, impact and the first place."""
    window.run(f"{axe}; 0")
    answer = json.loads(window.run("axe.run().then(found => JSON.stringify(found.violations))"))
    return [(each["id"], each["impact"], each["nodes"][0]["html"][:200]) for each in answer]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_pages_of_every_kind_fit_the_screen_and_can_be_read_by_all(window, page, axe, kind, width, dark):
    window.show(page(kind), width, WIDTHS[width], dark)
    assert window.run("document.documentElement.scrollWidth") <= width
    first = window.run("""[...document.querySelectorAll(".answer, .plot svg, .plot .bar")].slice(0, 2).map(each =>
        each.getBoundingClientRect().top)""")
    assert max(first) < WIDTHS[width]  # the answer, and where its plot starts
    captions = window.run("[...document.querySelectorAll('caption')].map(each => each.textContent)")
    assert len(set(captions)) == len(captions)
    if width == max(WIDTHS):
        hidden = """[...document.querySelectorAll(".scroll")].filter(each => each.scrollWidth > each.clientWidth + 1)
            .map(each => each.ariaLabel)"""
        assert window.run(hidden) == []  # no column is cut off
    assert violations(window, axe) == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing_on_a_long_page(window, pages, axe, width, dark):
    window.show(pages(60), width, WIDTHS[width], dark)
    assert violations(window, axe) == []

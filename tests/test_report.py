import functools
import html
import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import prefdensity
from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import DataError
from prefdensity.reporting.answer import leaders
from prefdensity.reporting.pages import unrooted
from prefdensity.reporting.report import write_report
from prefdensity.words import percent, share

VOID = {"meta", "br", "img", "input", "link", "hr"}
HEADINGS = ("Ranking", "Differences", "Who beats whom", "Check", "Other parameters", "Quality of the fit", "The data")


class Page(HTMLParser):
    """Text, tags and unbalanced tags of a page, as a browser would see them."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data


@functools.cache
def fitted(source="example:puddings", program="davidson", **settings):
    data = prefdensity.read(source)
    return prefdensity.fit(program, data, seed=0, **settings), data


def votes(names, wins=3):
    """A round robin in which each item mostly beats the next ones."""
    rows = [(a, b, "a", wins) for i, a in enumerate(names) for b in names[i + 1 : i + 4]]
    rows += [(a, b, "b", 1) for a, b in zip(names, names[1:], strict=False)]
    return Comparisons.from_frame(pd.DataFrame(rows, columns=["item_a", "item_b", "outcome", "count"]))


def written(post, data, folder, **options):
    return write_report(post, data, folder / "report.html", **options).read_text(encoding="utf-8")


def test_report_says_it_all_and_needs_nothing(tmp_path):
    post, data = fitted()
    text = written(post, data, tmp_path, command="prefdensity fit example:puddings --model davidson")
    page = Page(text)
    places = [text.index(f">{heading}</h2>") for heading in HEADINGS]
    assert places == sorted(places)  # what matters most first, facts about the data last
    for words in ("tie_strength", post.status.method, "prefdensity fit example:puddings", *post.quality()):
        assert words in page.text
    first = page.text[: page.text.index("Ranking")]
    for words in (
        "Item 6 has the highest utility of 6 items",
        "Nothing here speaks against davidson",
        "Let compare say",
    ):
        assert words in first
    assert page.tags.count("script") == 1
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#s")} == set(re.findall(r'<h2 id="(s\d+)"', text))
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text)
    assert not re.search(r"url\((?!#)", text)
    assert len(text) < 100_000
    assert len(text.split("<script>")[1].split("</script>")[0]) < 6_000


def rows(text, section):
    """The rows of the tables of a section, as lists of words."""
    body = text.split(f">{section}</h2>")[1].split("</section>")[0]
    found = re.findall(r"<tr>(.*?)</tr>", "".join(re.findall(r"<tbody>(.*?)</tbody>", body, re.S)), re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", each, re.S) for each in found]
    return [[html.unescape(re.sub("<[^>]+>", " ", cell)).strip() for cell in row] for row in cells]


def test_every_item_is_in_the_table_in_order(tmp_path):
    post, data = fitted()
    assert [row[0] for row in rows(written(post, data, tmp_path), "Ranking")] == list(post.summary()["item"])


def test_tables_say_what_was_counted_and_how_items_differ(tmp_path):
    post, data = fitted()
    text = written(post, data, tmp_path)
    counted = prefdensity.item_table(post, data)
    for row, (item, votes, rate) in zip(
        rows(text, "Ranking"), counted[["item", "judgements", "win_rate"]].itertuples(index=False), strict=True
    ):
        assert row[0] == item
        assert row[6:8] == [f"{votes:g}", share(rate)]
    checked = prefdensity.check(post, data).table
    said = [row[-1] for row in rows(text, "Check")]
    assert said == list(checked["meaning"][checked["verdict"] != "not available"])  # whole, however long
    table = prefdensity.differences(post)
    found, quasi = rows(text, "Differences")[: len(table)], rows(text, "Differences")[len(table) :]
    assert [row[0] for row in quasi] == prefdensity.quasi_variances(post)["item"].tolist()
    assert [row[:2] for row in found] == table[["item_a", "item_b"]].to_numpy().tolist()
    assert [row[5] for row in found] == [percent(p) for p in table["p_greater"]]


def drawn(text, section):
    """Left end, width and dot of the bars of a section, in percent of their cells."""
    body = text.split(f">{section}</h2>")[1].split("</section>")[0]
    return np.array(re.findall(r"--l:([\d.]+)%;--w:([\d.]+)%;--m:([\d.]+)%", body), float)


def test_differences_are_counted_from_a_reference_and_quasi_variances_stand_beside_them(tmp_path):
    post, data = fitted()
    page = Page(written(post, data, tmp_path, reference="4"))
    said = " ".join(page.text.split())
    assert "Differences in utility between each other item and 4:" in said
    for row in prefdensity.differences(post, reference="4").to_dict("records"):
        assert f"{row['lower_all']:.2f} to {row['upper_all']:.2f}".replace("-", "−") in said
    quasi = prefdensity.quasi_variances(post)
    assert f"within {quasi['worst_error'].max():.1%} of its standard deviation" in said
    for value in quasi["quasi_sd"]:
        assert f"{value:.3g}" in said
    with pytest.raises(DataError, match="reference: '9' is no item of the fit"):
        write_report(post, data, tmp_path / "report.html", reference="9")


def test_bars_are_drawn_to_scale(tmp_path):
    post, data = fitted()
    text, summary = written(post, data, tmp_path), post.summary()
    left, width, dot = drawn(text, "Ranking").T
    known = summary[["lower", "mean", "upper"]].to_numpy()
    seen = np.stack([left, dot, left + width], 1)
    slope, offset = np.polyfit(known.ravel(), seen.ravel(), 1)
    np.testing.assert_allclose(seen, offset + slope * known, atol=0.12)  # both ends are rounded to a tenth
    assert (seen >= 0).all()
    assert (seen <= 100).all()
    zero = float(re.search(r"--zero:([\d.]+)%", text.split(">Ranking</h2>")[1]).group(1))
    assert zero == pytest.approx(offset, abs=0.12)


@pytest.mark.parametrize("size", [5, 60, 500])
def test_long_names_are_told_apart_and_all_rows_are_there(size, tmp_path):
    names = [
        f"{'A model that was trained for long ' * 3}on {k} tokens{' and then on much more' * 4}" for k in range(size)
    ]
    data = votes(names)
    post = prefdensity.fit("bradley_terry", data, draws=100)
    text = written(post, data, tmp_path)
    labels = [row[0] for row in rows(text, "Ranking")]
    assert len(set(labels)) == size
    assert max(map(len, labels)) <= 60
    titles = re.findall(r'<th scope="row" class="words" title="([^"]*)"', text.split(">Ranking</h2>")[1])
    assert titles[:size] == list(post.summary()["item"])
    assert len(text) < 1_200_000


def test_no_path_of_the_machine_is_told(tmp_path):
    post, data = fitted()
    home = "/home/somebody/secret work/of mine/votes.csv"
    moved = replace(data, source=home, notes=(f"read from {home}",))
    known = replace(post, program_name="/home/somebody/own.py", data_fingerprint=moved.fingerprint())
    text = written(
        known, moved, tmp_path, command="prefdensity fit /srv/a/votes.csv --out '/tmp/b c/out' ~/x.csv C:\\d\\e.csv"
    )
    for word in ("/home", "somebody", "secret", "of mine", "/srv", "/tmp", "~/", "C:"):
        assert word not in text
    assert "votes.csv" in text
    assert "own.py" in text
    assert "a/b is tried" in unrooted("a/b is tried, not /a/b or 1/2").replace(" or 1/2", "")


def test_pictures_and_tables_say_what_is_seen(tmp_path):
    post, data = fitted("example:annotators", "davidson", method="map")
    text = written(post, data, tmp_path)
    alts = re.findall(r'role="img" aria-label="([^"]*)"', text)
    assert len(alts) == text.count("<svg") == 2
    assert "annotator40" in alts[1]  # who guesses
    assert re.search(r"\d+ dots along the diagonal", alts[0])
    assert text.count("<table") == text.count("<caption>")
    assert all(f'scope="{scope}"' in text for scope in ("row", "col"))
    assert not re.search(r"<th(?=[ >])(?![^>]*scope=)", text)
    levels = [int(level) for level in re.findall(r"<h(\d)", text)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}


def test_names_are_text_whatever_they_hold(tmp_path):
    names = ["<script>alert(1)</script>", "</svg><img src=x onerror=alert(2)>", "$x_1$ & {{ 7*7 }}", "日本 ☃"]
    data = votes(names)
    page = Page(written(prefdensity.fit("bradley_terry", data, draws=100), data, tmp_path, title="<b>t</b>"))
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert all(name in page.text for name in names)
    assert "<b>t</b>" in page.text


def test_report_is_the_same_twice(tmp_path):
    post, data = fitted()
    assert written(post, data, tmp_path) == written(post, data, tmp_path)


def test_annotators_have_a_panel_and_no_hundred_rows(tmp_path):
    post, data = fitted("example:annotators", "davidson+reliability", method="map")
    page = Page(written(post, data, tmp_path))
    assert "coin-flipper" in page.text
    assert "in parameters.csv" in page.text
    assert page.text.count("reliability [") == 0


def test_types_are_told_apart(tmp_path):
    post, data = fitted("example:annotators", "annotator_types(k=2)+davidson", method="map")
    page = Page(written(post, data, tmp_path))
    assert re.search(r"Annotators of type 1 \(\d+%\):.*Annotators of type 2 \(\d+%\):", page.text, re.S)


def test_point_fits_claim_no_certainty(tmp_path):
    post, data = fitted(method="map")
    assert "a point fit does not say how sure" in leaders(post)[0]
    page = Page(written(post, data, tmp_path))
    assert "100%" not in page.text
    assert ">99%" not in page.text
    assert "nan" not in page.text.lower()


def test_headline_counts_the_rivals_of_the_leader():
    post, _ = fitted()
    rng = np.random.default_rng(0)
    clear = rng.normal([9, 0, 0, 0, 0, 0], 0.1, (500, 6))
    close = rng.normal([1, 0.95, 0.9, -9, -9, -9], 0.1, (500, 6))
    said = [leaders(replace(post, draws={**post.draws, "utility": draws}))[0] for draws in (clear, close)]
    assert "with probability >99%. Every other item is worse with probability 95% or more." in said[0]
    assert "2 items cannot be told apart from it" in said[1]
    assert said[1].endswith(f"{post.items[1]}, {post.items[2]}.")


def test_another_table_is_refused_and_nothing_written(tmp_path):
    post, data = fitted()
    with pytest.raises(DataError, match="is not the table of this fit"):
        write_report(post, data.without_ties(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_report_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    post, data = fitted()
    target = tmp_path / "report.html"
    target.write_text("before")

    def refuse(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_report(post, data, target)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert target.read_text() == "before"

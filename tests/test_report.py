import functools
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
from prefdensity.reporting.report import leaders, write_report

VOID = {"meta", "br", "img", "input", "link", "hr"}


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
        if self.open[-1:] != ["style"]:
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
    for heading in ("The data", "Ranking", "Who beats whom", "Other parameters", "What the data say", "How good"):
        assert heading in page.text
    for words in ("tie_strength", post.status.method, "prefdensity fit example:puddings", *post.quality()):
        assert words in page.text
    assert page.text.index("Item 6 has the highest utility of 6 items") < page.text.index("The data")
    assert page.tags.count("svg") == 5
    assert "script" not in page.tags
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text)
    assert not re.search(r"url\((?!#)", text)
    assert len(text) < 300_000


def test_every_item_is_in_the_table_in_order(tmp_path):
    post, data = fitted()
    rows = re.findall(r'<tr>\s*<td class="words">(\d)</td>', written(post, data, tmp_path))
    assert rows == list(post.summary()["item"])


def test_names_are_text_whatever_they_hold(tmp_path):
    names = ["<script>alert(1)</script>", "</svg><img src=x onerror=alert(2)>", "$x_1$ & {{ 7*7 }}", "日本 ☃"]
    data = votes(names)
    page = Page(written(prefdensity.fit("bradley_terry", data, draws=100), data, tmp_path, title="<b>t</b>"))
    assert not {"script", "img"} & set(page.tags)
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


def test_long_tables_are_trimmed_with_a_note(tmp_path):
    data = votes([f"item {i:03d}" for i in range(230)])
    text = written(prefdensity.fit("bradley_terry", data, draws=100), data, tmp_path)
    assert "30 more rows are in" in text
    assert "item 000" in text
    assert len(text) < 500_000


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

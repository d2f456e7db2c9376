"""How results look in a console and in a notebook, and pictures in figures of the user's own."""

import pytest
from matplotlib.figure import Figure

import prefdensity
from prefdensity import plots
from prefdensity.errors import DataError


@pytest.fixture(scope="module")
def fitted():
    data = prefdensity.read("example:citations")
    return prefdensity.fit("bradley_terry", data, draws=200, seed=0), data


def test_results_tell_their_words_and_show_their_tables(fitted):
    post, data = fitted
    for found in (prefdensity.describe(data), prefdensity.check(post, data, replicates=20)):
        assert repr(found) == str(found)
        page = found._repr_html_()
        assert "<table" in page
        assert page.startswith("<pre")
    assert repr(post).startswith("Posterior(")
    assert "JRSS-B" in post._repr_html_()
    assert data._repr_html_().count("<tr") == 6  # a header and five rows
    assert list(post.summary())[:4] == ["item", "mean", "lower", "upper"]


def test_names_are_text_in_a_notebook():
    import pandas as pd

    frame = pd.DataFrame({"item_a": ["<b>x</b>"], "item_b": ["y & z"], "outcome": ["a"]})
    page = prefdensity.Comparisons.from_frame(frame)._repr_html_()
    assert "<b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page


def test_pictures_are_drawn_in_the_place_of_axes(fitted):
    post, _ = fitted
    alone = plots.ranking(post, title="All votes")
    assert alone.get_suptitle() == "All votes"
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    place = plots.ranking(post, ax=left, title="Ranking")
    plots.win_heatmap(post, ax=right)
    assert place.get_figure() is figure
    assert len(figure.subfigs) == 2
    ticks = [text.get_text() for text in figure.subfigs[0].axes[0].get_yticklabels()]
    assert ticks == [text.get_text() for text in alone.axes[0].get_yticklabels()]
    figure.canvas.draw()
    again = plots.ranking(post)  # the next one is a figure of its own again
    assert again is not figure
    assert not again.subfigs
    with pytest.raises(DataError, match="ax=... must be axes of a grid"):
        plots.ranking(post, ax=Figure().add_axes((0, 0, 1, 1)))


def test_progress_is_shown_in_a_notebook_and_goes_away(monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.delenv("PREFDENSITY_QUIET", raising=False)
    code = """
from prefdensity import progress as module
with module.progress() as report:
    report("rows <i>", 1, 4)
print(module.in_notebook())
with module.progress(False) as report:
    report("silent", 1, 4)
"""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(book, timeout=120).execute()
    outputs = book.cells[0].outputs
    assert [each.output_type for each in outputs] == ["display_data", "stream"]
    assert outputs[0].data["text/html"] == ""  # it was there and is gone
    assert outputs[1].text == "True\n"

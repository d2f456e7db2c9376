import functools
import io
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import prefdensity
from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import PrefDensityError
from prefdensity.reporting import labels, plots


@functools.cache
def puddings():
    data = prefdensity.read("example:puddings")
    return prefdensity.fit("davidson", data, seed=0, draws=200), data


@functools.cache
def judged(program):
    data = prefdensity.read("example:annotators")
    return prefdensity.fit(program, data, method="map", seed=0), data


def words(figure):
    """All text of a figure, as drawn."""
    assert isinstance(figure, Figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return [text.get_text() for text in figure.findobj(Text)]


def test_the_heat_map_claims_no_certainty():
    post, _ = puddings()
    far = replace(post, draws=post.draws | {"utility": np.tile(np.arange(6) * 40.0, (post.n_draws, 1))})
    drawn = [text.get_text() for text in plots.win_heatmap(far).axes[0].texts]
    assert set(drawn) == {">99", "<1"}


def test_ranking_lists_items_best_first():
    post, _ = puddings()
    figure = plots.ranking(post)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == list(post.summary()["item"])
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1]  # the first row is on top
    assert any("90% intervals" in word for word in words(figure))


def test_ranking_says_what_it_leaves_out():
    post, _ = puddings()
    figure = plots.ranking(post, level=0.5, most=4)
    assert len(figure.axes[0].get_yticks()) == 4
    assert any("50% intervals" in word and "first 4 of 6 items" in word for word in words(figure))


def test_rank_intervals_span_the_ranks_of_the_summary():
    post, _ = puddings()
    figure = plots.rank_intervals(post)
    summary = post.summary()
    bars = figure.axes[0].patches
    assert [round(bar.get_x() + 0.4) for bar in bars] == list(summary["rank_lower"])
    assert [round(bar.get_x() + bar.get_width() - 0.4) for bar in bars] == list(summary["rank_upper"])


def test_types_are_panels_over_one_order_of_items():
    post, _ = judged("annotator_types(k=2)+davidson")
    figure = plots.ranking(post)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["type 1", "type 2"]
    assert len(figure.axes[0].get_yticklabels()) == len(post.items)
    words(figure)


def test_heatmap_is_a_table_of_chances_around_one_half():
    post, _ = puddings()
    figure = plots.win_heatmap(post)
    image = figure.axes[0].images[0]
    share = np.asarray(image.get_array().filled(np.nan))
    off = ~np.eye(len(share), dtype=bool)
    assert image.get_clim() == (0, 1)
    assert np.isnan(share[~off]).all()
    np.testing.assert_allclose((share + share.T)[off], 1, atol=1e-9)
    table = post.win_probabilities()
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert share[0, 1] == pytest.approx(table.loc[labels[0], labels[1]])
    assert labels[0] == post.summary()["item"][0]


def test_heatmap_keeps_the_leading_items():
    post, _ = puddings()
    assert plots.win_heatmap(post, most=3).axes[0].images[0].get_array().shape == (3, 3)


def test_annotators_by_reliability():
    post, data = judged("davidson+reliability")
    figure = plots.annotators(post, data, most=10)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    mean = dict(zip(post.annotators, post.draws["annotator_reliability"].mean(axis=0), strict=True))
    assert len(labels) == 10
    assert labels == sorted(labels, key=lambda name: -mean[name])
    assert labels[-1] == min(mean, key=mean.get)
    assert any("5 highest and lowest of 40" in word for word in words(figure))


def test_annotators_by_every_number_of_theirs():
    """A panel for each site by annotator that means something, whatever it is called."""
    post, data = judged("davidson+reliability+ties")
    figure = plots.annotators(post, data)
    assert [ax.get_xlabel().split(",")[0] for ax in figure.axes] == ["annotator reliability", "annotator ties"]
    renamed = {"annotator_reliability": "heed"}
    own = replace(
        post,
        draws={renamed.get(name, name): values for name, values in post.draws.items()},
        dims={renamed.get(name, name): dims for name, dims in post.dims.items()},
        meanings={renamed.get(name, name): text for name, text in post.meanings.items()},
    )
    assert [ax.get_xlabel().split(",")[0] for ax in plots.annotators(own, data).axes] == ["heed", "annotator ties"]
    assert plots.annotator_caption(own).startswith("heed: of this annotator: weight of utilities in a judgement")
    words(figure)


def test_annotators_by_type():
    post, data = judged("annotator_types(k=2)+davidson")
    figure = plots.annotators(post, data)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["type 1", "type 2"]
    words(figure)


def test_annotators_by_habit_where_the_program_takes_them_as_alike():
    post, data = judged("davidson")
    figure = plots.annotators(post, data)
    assert [ax.get_ylabel() for ax in figure.axes] == ["share of ties", "share for the side shown first"]
    words(figure)


def test_annotators_need_annotators():
    post, data = puddings()
    with pytest.raises(PrefDensityError, match="does not say who judged"):
        plots.annotators(post, data)


def test_elbo_trace():
    data = prefdensity.read("example:citations")
    figure = plots.elbo_trace(prefdensity.fit("bradley_terry", data, method="svi", seed=0, draws=100))
    assert "ELBO" in figure.axes[0].get_ylabel()
    words(figure)
    with pytest.raises(PrefDensityError, match="records no ELBO"):
        plots.elbo_trace(prefdensity.fit("bradley_terry", data, method="laplace", draws=100))


def test_labels_are_text_and_not_formulas():
    import pandas as pd

    names = ["$5 wine", "$10_wine", r"\alpha^2", "<b>"]
    frame = pd.DataFrame({"item_a": names, "item_b": names[1:] + names[:1], "outcome": ["a", "b", "a", "a"]})
    post = prefdensity.fit("bradley_terry", Comparisons.from_frame(frame), draws=100)
    for figure in (plots.ranking(post), plots.win_heatmap(post), plots.rank_intervals(post)):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        assert re.search(r"<!-- \$5 wine -->", buffer.getvalue())


def test_long_labels_keep_both_ends():
    label = "an assistant with a remarkably long name, version 2 (70B)"
    assert len(labels.shorten(label, 30)) == 30
    assert labels.shorten(label, 30).startswith("an assistant")
    assert labels.shorten(label, 30).endswith("(70B)")
    assert labels.shorten("two\nlines") == "two lines"


def test_plots_leave_no_global_state():
    code = "import sys, prefdensity.reporting.plots; assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

import numpy as np
import pytest
from contract import table

import prefdensity
from prefdensity.words import counted, percent, share


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.5, "50%"), (1.0, ">99%"), (0.0, "<1%"), (0.994, "99%"), (0.995, ">99%"), (0.005, "<1%"), (np.nan, "–")],
)
def test_percent_never_claims_certainty(probability, words):
    assert percent(probability) == words


@pytest.mark.parametrize(
    ("part", "words"),
    [(0, "0%"), (1, "100%"), (1e-9, "<0.1%"), (1 - 1e-9, ">99.9%"), (0.0005, "<0.1%"), (0.389, "38.9%")],
)
def test_a_share_is_none_or_all_only_if_it_is(part, words):
    assert share(part) == words


@pytest.mark.parametrize("words", [percent, share])
def test_words_are_in_the_order_of_the_numbers(words):
    """Of every share of 1,000 draws, and of shares beside the borders of rounding."""
    values = np.sort(np.r_[np.arange(1001) / 1000, np.linspace(0, 0.012, 997), np.linspace(0.988, 1, 997)])
    said = list(dict.fromkeys(map(words, values)))
    assert len(said) == len({words(value) for value in values})  # no wording comes back after another

    def place(text):
        return float(text.strip("<>%")) + {"<": -0.01, ">": 0.01}.get(text[0], 0)

    assert [place(text) for text in said] == sorted(map(place, said))


def test_only_what_the_library_names_has_a_plural():
    assert counted(1, "item") == "1 item"
    assert counted(3727.0, "comparison") == "3,727 comparisons"
    assert counted(39, "category") == "39 values of 'category'"
    assert counted(1, "wave") == "1 value of 'wave'"


def test_what_is_left_out_is_counted_in_words():
    data = table(("a", "b"), rows=60)
    frame = data.to_frame().assign(category=np.arange(len(data)) % 4)
    data = prefdensity.read(frame, groups=["category"])
    post = prefdensity.fit("bradley_terry", data, method="laplace", draws=100)
    said = {unit: str(prefdensity.loo(post, unit=unit, data=data)) for unit in ("category", "annotator", "comparison")}
    assert "over 4 values of 'category'" in said["category"]
    assert f"over {len(data.annotators)} annotators" in said["annotator"]
    assert f"over {len(data)} comparisons" in said["comparison"]

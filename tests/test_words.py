import numpy as np
import pytest

from prefdensity.words import percent, share


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

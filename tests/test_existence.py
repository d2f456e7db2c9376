"""Where no estimate exists the reason is named; where only the prior decides, the fit says so and is exact about it."""

import numpy as np
import pytest
from contract import table
from test_closed_forms import counts

import prefdensity
from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import FitError, PrefDensityError

CYCLE = [(0, 1, 3, 1), (1, 2, 3, 1), (2, 0, 3, 1)]
REFUSED = [
    ("bradley_terry", [*CYCLE, (3, 0, 4, 0), (3, 1, 2, 0)], "'i3' never lost to any item outside itself"),
    ("bradley_terry", [*CYCLE, (3, 0, 0, 4), (3, 1, 0, 2)], "'i3' never beat any item outside itself"),
    ("thurstone", [*CYCLE, (3, 0, 4, 0), (3, 1, 2, 0)], "'i3' never lost to any item outside itself"),
    (
        "bradley_terry",
        [(0, 1, 2, 2), (2, 3, 2, 2), (0, 2, 4, 0), (1, 3, 4, 0)],
        "'i0', 'i1' never lost to any item outside their group",
    ),
    ("bradley_terry", [(0, 1, 2, 2), (2, 3, 2, 2)], "the comparison graph has 2 components"),
    ("davidson", CYCLE, "there are no ties, so the tie parameter"),
    ("rao_kupper", CYCLE, "there are no ties, so the tie parameter"),
    ("davidson", [(0, 1, 0, 0, 5), (1, 2, 0, 0, 3)], "there are only ties"),
]


@pytest.mark.parametrize(("program", "rows", "message"), REFUSED)
def test_maximum_likelihood_is_refused_with_the_reason(program, rows, message):
    data = counts(rows, 1 + max(max(row[:2]) for row in rows))
    with pytest.raises(FitError, match=message):
        prefdensity.fit(program, data, method="mle")
    if "component" not in message:  # with a prior there is always an answer, and it is finite
        post = prefdensity.fit(program, data, method="laplace")
        # a single draw may lie far out: the scale is learned, so tails are heavy (of 1,000 exact draws one passes 12)
        assert np.quantile(np.abs(post.utilities()).max(1), 0.99) < 12


def ordered(wins_of_first):
    """Items 0 and 1 in both orders; `wins_of_first` [order, outcome]."""
    (a, b), (c, d) = wins_of_first
    wins = np.array([a, b, c, d], float)
    keep = wins > 0
    return Comparisons(
        items=("x", "y"),
        item_a=np.array([0, 0, 1, 1])[keep],
        item_b=np.array([1, 1, 0, 0])[keep],
        outcome=np.array([0, 1, 0, 1], np.int8)[keep],
        count=wins[keep],
        first=np.ones(keep.sum(), np.int8),
    )


def test_a_separated_order_effect_is_refused():
    with pytest.raises(FitError, match="no finite maximum-likelihood estimate exists.*position_bias"):
        prefdensity.fit("position_bias", ordered([(5, 0), (4, 0)]), method="mle")
    # an estimate in closed form: logits of the first shown are 2 +- margin... halves of their sum and difference
    post = prefdensity.fit("position_bias", ordered([(6, 2), (3, 5)]), method="mle")
    one, two = np.log(6 / 2), np.log(3 / 5)
    assert float(post.point["position_bias"]) == pytest.approx((one + two) / 2, abs=1e-7)
    u = post.point["utility"]
    assert u[0] - u[1] == pytest.approx((one - two) / 2, abs=1e-7)


def test_ties_alone_connect_enough_for_davidson():
    # an undefeated item that has tied has a finite estimate (Davidson 1970)
    data = counts([*[(*row, 1) for row in CYCLE], (3, 0, 4, 0, 1), (3, 1, 2, 0, 2)], 4)
    u = prefdensity.fit("davidson", data, method="mle").point["utility"]
    assert np.argmax(u) == 3
    assert np.isfinite(u).all()


HIERARCHICAL = ["reliability", "lapse", "annotator_types", "davidson+lapse", "annotator_types+position_bias"]


@pytest.mark.parametrize("program", HIERARCHICAL)
def test_hierarchies_and_types_have_no_maximum_likelihood(program):
    outcomes = ("a", "b", "tie") if "davidson" in program else ("a", "b")
    with pytest.raises(FitError, match="needs a program without hierarchy or several modes"):
        prefdensity.fit(program, table(outcomes), method="mle")


def test_linear_weights_that_nothing_informs_are_refused():
    from dataclasses import replace

    data = table(rows=80)
    flat = replace(data, item_features=np.column_stack([data.item_features[:, 0]] * 2))
    with pytest.raises(FitError, match="or is flat, in a direction of weight"):
        prefdensity.fit("linear", flat, method="mle")
    assert prefdensity.fit("linear", data, method="mle").point["weight"].shape == (2,)
    # features relate items that never met, and place an undefeated one
    apart = counts([(0, 1, 4, 0), (2, 3, 3, 2)], 4)
    apart = replace(apart, item_features=np.array([[0.0], [1.0], [2.0], [4.0]]), feature_names=("f",))
    related = prefdensity.fit("linear", apart, method="mle")
    assert related.status.warnings == ()
    assert any("feature directions" in line for line in prefdensity.fit("linear", flat).status.warnings)


def test_an_undefeated_item_is_flagged_and_the_prior_decides():
    data = counts([*CYCLE, (3, 0, 4, 0), (3, 1, 2, 0)], 4)
    post = prefdensity.fit("bradley_terry", data, method="laplace")
    assert any("never lost to or tied with the rest (i3)" in line for line in post.status.warnings)
    assert post.summary()["item"][0] == "i3"
    wider = prefdensity.fit("utility_scale(fixed=5.0)", data, method="laplace")
    assert wider.summary()["mean"][0] > post.summary()["mean"][0] + 0.5


@pytest.mark.parametrize("method", ["laplace", "svi"])
def test_components_are_related_by_the_prior_alone(method):
    # items 0-2 and 3-4: the difference of the two means has the prior's sd 1.5 sqrt(1/3 + 1/2), and mean 0;
    # five standard errors of 4,000 draws are 8 % of an sd for a mean, 5.6 % for an sd
    data = counts([*((a, b, 10 * n, 10 * m) for a, b, n, m in CYCLE), (3, 4, 30, 10)], 5)
    post = prefdensity.fit("utility_scale(fixed=1.5)", data, method=method, draws=4000)
    assert any("set by the prior alone" in line and "i3 + i4" in line for line in post.status.warnings)
    u = post.draws["utility"]
    across = u[:, :3].mean(1) - u[:, 3:].mean(1)
    prior = 1.5 * np.sqrt(1 / 3 + 1 / 2)
    assert abs(across.mean()) < 0.08 * prior
    assert across.std() == pytest.approx(prior, rel=0.056)
    assert (u[:, 3] - u[:, 4]).std() < 0.4 < across.std()


def test_every_refusal_is_an_error_that_a_user_can_catch():
    assert issubclass(FitError, PrefDensityError)
    assert issubclass(PrefDensityError, ValueError)

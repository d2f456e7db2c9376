"""Maximum likelihood against published tables and the output of established packages.

Estimates agree to 1e-6, log likelihoods to 1e-4, standard errors to .01 % (from the information matrix) and 3 %
(from 20,000 draws: five times the Monte-Carlo error .5 %).
"""

import numpy as np
import pandas as pd
import pytest
from scipy.special import gammaln

import prefdensity
from prefdensity.data.simulate import population
from prefdensity.inference.maximum import maximum_likelihood
from prefdensity.inference.view import View
from prefdensity.programs.loading import load_program
from prefdensity.programs.tabulate import cells_of

DRAWS = 20_000
# parameter of reference.csv -> our site, and the scale of the reference
SCALARS = {"at.home": "position_bias", "first": "position_bias", "tie2": "tie_strength"}
STATISTICS = {"residual_deviance", "loglik"}

# data set, start of the model's name in reference.csv, program, how the table is read
CASES = [
    ("citations", "BT, logit scale", "bradley_terry", {}),
    ("baseball", "BT, Baltimore", "bradley_terry", {}),
    ("baseball", "BT + home", "bradley_terry+position_bias", {"ordered": True}),
    ("pudding", "Davidson", "davidson", {}),
    ("cems", "Davidson", "davidson", {}),
    ("cems", "BT, tie = half", "bradley_terry", {"half": True}),
    ("first_names", "BT, Julius", "bradley_terry", {}),
    ("first_names", "BT + first", "bradley_terry+position_bias", {"ordered": True}),
    ("llmfao", "Davidson", "davidson", {}),
    ("pandalm", "Davidson", "davidson", {}),
    ("beaches", "BT", "bradley_terry", {}),
    ("sounds", "BT", "bradley_terry", {}),
    ("sound_quality", "BT", "bradley_terry", {}),
    ("physical_strength", "BT", "bradley_terry", {}),
]
IDS = [f"{name}-{program}{'-half' if how.get('half') else ''}" for name, _, program, how in CASES]

# Residual deviance of BradleyTerry2 is against one probability per row of its input, which was: an unordered
# pair (citations), a home and away pair (baseball), a single judgement (all others; a tie is half and half).
GROUPS = {"citations": "pair", "baseball": "ordered pair"}


def table(folder, name, half=False, **how):
    data = prefdensity.read(folder / f"{name}.csv", annotator=None, **how)
    return data.ties_as_half_wins() if half else data


def published(folder, name, model):
    frame = pd.read_csv(folder / "reference.csv")
    return frame[(frame.dataset == name) & frame.model.str.startswith(model)].set_index("parameter")


def contrasts(post, base):
    """Estimates relative to item `base`, and their standard errors from draws."""
    k = post.items.index(base)
    values = post.point["utility"] - post.point["utility"][k]
    spread = (post.draws["utility"] - post.draws["utility"][:, [k]]).std(0)
    return dict(zip(post.items, values, strict=True)), dict(zip(post.items, spread, strict=True))


def exact_errors(program, data, base):
    """Standard errors from the inverse information: of items relative to `base`, and of the other sites."""
    program = load_program(program)
    view = View(program, cells_of(data, program.outcomes, program.needs))
    _, information = maximum_likelihood(view, data)
    covariance = np.linalg.inv(information.numpy())
    at = view.sites["utility"].at
    out = {}
    for k, item in enumerate(data.items):
        e = np.zeros(view.dimension)
        e[at.start + k] += 1
        e[at.start + data.items.index(base)] -= 1
        out[item] = np.sqrt(e @ covariance @ e)
    told = [name for name in view.sites if name not in ("utility", "utility_scale")]  # the scale is the prior's alone
    scalars = {n: np.sqrt(covariance[view.sites[n].at.start, view.sites[n].at.start]) for n in told}
    return out, scalars  # scalars on the unconstrained scale: the log, for tie_strength


def saturated(data, grouping):
    """Log likelihood with a free probability for every group of rows."""
    low, high = np.minimum(data.item_a, data.item_b), np.maximum(data.item_a, data.item_b)
    rows = {
        "pair": np.stack([low, high], 1),
        "ordered pair": np.stack([data.item_a, data.item_b], 1),
    }[grouping]
    won_by_low = np.where(data.outcome == 0, data.item_a == low, data.item_b == low)
    side = won_by_low if grouping == "pair" else data.outcome == 0
    _, group = np.unique(rows, axis=0, return_inverse=True)
    wins = np.bincount(group, data.count * side)
    total = np.bincount(group, data.count)
    share = wins / total
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.nan_to_num(wins * np.log(share)) + np.nan_to_num((total - wins) * np.log1p(-share))
    return parts.sum()


def check_log_likelihood(post, data, reference, name, n_ties):
    if "loglik" in reference.index:
        assert post.status.log_likelihood == pytest.approx(reference.value["loglik"], abs=1e-4)
    if "residual_deviance" in reference.index:
        full = saturated(data, GROUPS[name]) if name in GROUPS else n_ties * np.log(0.5)
        deviance = 2 * (full - post.status.log_likelihood)
        assert deviance == pytest.approx(reference.value["residual_deviance"], abs=2e-4)


def check_scalars(post, errors, reference, items):
    others = set(reference.index) - set(items) - STATISTICS
    assert {SCALARS[name] for name in others} == set(errors) == set(post.point) - {"utility"}
    for name in others:
        value = float(post.point[SCALARS[name]])
        on_scale = np.log(value) if name == "tie2" else value
        assert on_scale == pytest.approx(reference.value[name], abs=1e-6)
        assert errors[SCALARS[name]] == pytest.approx(reference.std_error[name], rel=1e-4)


@pytest.mark.parametrize(("name", "model", "program", "how"), CASES, ids=IDS)
def test_published_fits_are_reproduced(shared_data, name, model, program, how):
    data = table(shared_data, name, **how)
    reference = published(shared_data, name, model)
    post = prefdensity.fit(program, data, method="mle", draws=DRAWS)
    base = next(item for item in data.items if item not in reference.index or reference.value[item] == 0)
    estimate, sampled = contrasts(post, base)
    errors, scalar_errors = exact_errors(program, data, base)
    for item in set(data.items) - {base}:
        value, error = reference.value[item], reference.std_error[item]
        assert estimate[item] == pytest.approx(value, abs=1e-6)
        assert errors[item] == pytest.approx(error, rel=1e-4)
        assert sampled[item] == pytest.approx(error, rel=1e-3)  # divided by draws
    check_scalars(post, scalar_errors, reference, data.items)
    if model == "Davidson":
        reference = published(shared_data, name, "same Davidson")
    n_ties = data.count[data.count == 0.5].sum()  # two halves each
    check_log_likelihood(post, data, reference, name, n_ties)


def test_heaviness_of_weights_with_an_order_effect(shared_data):
    # P(first) = u1 / (u1 + order u2), so order = exp(-position_bias); eba leaves the scale of u free
    data = table(shared_data, "heaviness", ordered=True)
    reference = published(shared_data, "heaviness", "BTL")
    view = View(load_program("bradley_terry+position_bias"), cells_of(data, ("a", "b"), ("first",)))
    mode, information = maximum_likelihood(view, data)
    z = mode.z[view.sites["utility"].at.start :]  # behind the scale, which is the prior's
    u, bias = z[:5].numpy(), float(z[5])
    value, error = reference.value[list(data.items)].to_numpy(), reference.std_error[list(data.items)].to_numpy()
    scale = value.sum() / np.exp(u).sum()
    np.testing.assert_allclose(scale * np.exp(u), value, atol=1e-5)
    assert np.exp(-bias) == pytest.approx(reference.value["order"], abs=1e-4)
    covariance = np.linalg.inv(information.numpy())[1:, 1:]
    assert np.exp(-bias) * np.sqrt(covariance[5, 5]) == pytest.approx(reference.std_error["order"], rel=1e-3)
    # eba holds the sum of u; its Hessian is a finite difference with a step of 1e-4, .7 % of the smallest u,
    # which moves the standard errors by up to 1.3 % (recomputed by hand from both sides)
    worth = scale * np.exp(u)
    jacobian = (np.eye(5) - np.outer(worth, np.ones(5)) / worth.sum()) * worth
    ours = np.sqrt(np.diag(jacobian @ covariance[:5, :5] @ jacobian.T))
    np.testing.assert_allclose(ours, error, rtol=0.013)


def test_heaviness_fit_statistics(shared_data):
    data = table(shared_data, "heaviness", ordered=True)
    reference = published(shared_data, "heaviness", "same").value
    post = prefdensity.fit("bradley_terry+position_bias", data, method="mle")
    wins = data.to_frame().pivot(index=["item_a", "item_b"], columns="outcome", values="count").to_numpy()
    coefficient = (gammaln(wins.sum(1) + 1) - gammaln(wins + 1).sum(1)).sum()
    binomial = post.status.log_likelihood + coefficient
    assert binomial == pytest.approx(reference["loglik_binomial_counts"], abs=1e-3)
    full = saturated(data, "ordered pair")
    assert 2 * (full - post.status.log_likelihood) == pytest.approx(reference["G2_vs_saturated"], abs=1e-3)
    assert len(wins) - (len(data.items) - 1) - 1 == reference["df"]


def test_llmfao_strengths_of_the_evalica_leaderboard(shared_data):
    data = table(shared_data, "llmfao", half=True)
    reference = published(shared_data, "llmfao", "BT strengths").value
    post = prefdensity.fit("bradley_terry", data, method="mle")
    strength = np.exp(post.point["utility"])
    np.testing.assert_allclose(strength / strength.sum(), reference[list(data.items)], atol=1e-8)
    assert any("half wins" in line for line in post.status.warnings)


# Shipped examples need no shared folder. Turner and Firth (2012), Journal of Statistical Software 48(9), from
# Agresti (2002), Categorical Data Analysis, 2nd ed., tables 10.10 and 10.11; Davidson (1970), JASA 65, 317-328,
# as fitted by Turner, van Etten, Firth and Kosmidis (2020), Computational Statistics 35, 1027-1057.
BASEBALL = {"Boston": 1.1077, "Cleveland": 0.6839, "Detroit": 1.4364, "Milwaukee": 1.5814, "New York": 1.2476,
            "Toronto": 1.2945}  # fmt: skip
AT_HOME = {"Boston": 1.1438, "Cleveland": 0.7047, "Detroit": 1.4754, "Milwaukee": 1.6196, "New York": 1.2813,
           "Toronto": 1.3271}  # fmt: skip
EXAMPLES = [
    ("citations", "bradley_terry", "Biometrika",
     {"Comm Statist": -2.9491, "JASA": -0.4796, "JRSS-B": 0.2690}, {}),
    ("baseball", "bradley_terry", "Baltimore", BASEBALL, {}),
    ("baseball", "bradley_terry+position_bias", "Baltimore", AT_HOME, {"position_bias": 0.3023}),
    ("puddings", "davidson", "1",
     {"2": 0.2202, "3": 0.1530, "4": 0.1751, "5": 0.1339, "6": 0.3771}, {"tie_strength": np.exp(-0.2919)}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "program", "base", "items", "scalars"), EXAMPLES)
def test_shipped_examples_reproduce_published_estimates(name, program, base, items, scalars):
    post = prefdensity.fit(program, prefdensity.read(f"example:{name}"), method="mle")
    estimate, _ = contrasts(post, base)
    assert set(items) == set(post.items) - {base}
    for item, value in items.items():
        assert estimate[item] == pytest.approx(value, abs=1e-4)  # published with four decimals
    assert set(scalars) == set(post.point) - {"utility"}
    for site, value in scalars.items():
        assert float(post.point[site]) == pytest.approx(value, abs=1e-4)


def test_shipped_examples_reproduce_published_deviances():
    for name, program, grouping, deviance in (
        ("citations", "bradley_terry", "pair", 4.2934),
        ("baseball", "bradley_terry", "ordered pair", 44.053),
        ("baseball", "bradley_terry+position_bias", "ordered pair", 38.643),
    ):
        data = prefdensity.read(f"example:{name}")
        post = prefdensity.fit(program, data, method="mle")
        assert 2 * (saturated(data, grouping) - post.status.log_likelihood) == pytest.approx(deviance, abs=1e-3)
        assert post.status.deviance == pytest.approx(deviance, abs=1e-3)
        assert post.status.n_parameters == len(data.items) - 1 + ("position_bias" in program)
        assert post.status.aic == 2 * post.status.n_parameters - 2 * post.status.log_likelihood


@pytest.mark.parametrize("draws", [100, 1000])
def test_standard_errors_are_those_of_the_information_matrix(draws):
    data = prefdensity.read("example:baseball")
    post = prefdensity.fit("bradley_terry+position_bias", data, method="mle", draws=draws, seed=draws)
    errors, scalars = exact_errors("bradley_terry+position_bias", data, "Baltimore")
    _, sampled = contrasts(post, "Baltimore")
    for item in set(data.items) - {"Baltimore"}:
        assert sampled[item] * np.sqrt(draws / (draws - 1)) == pytest.approx(errors[item], rel=1e-9)
    row = post.parameters().iloc[0]
    assert row["sd"] == pytest.approx(scalars["position_bias"], rel=1e-9)
    table = post.summary(level=0.95)
    np.testing.assert_allclose(table["upper"] - table["mean"], 1.959964 * table["sd"], rtol=1e-6)
    np.testing.assert_allclose(table["mean"] - table["lower"], 1.959964 * table["sd"], rtol=1e-6)


def test_a_table_wider_than_the_draws_has_its_standard_errors_too():
    data = population(130, 1, 60_000, seed=1, utility_sd=0.5)[0]
    post = prefdensity.fit("bradley_terry", data, method="mle", draws=100)
    errors, _ = exact_errors("bradley_terry", data, data.items[0])
    _, sampled = contrasts(post, data.items[0])
    ours = np.array([sampled[item] for item in data.items[1:]]) * np.sqrt(post.n_draws / (post.n_draws - 1))
    np.testing.assert_allclose(ours, [errors[item] for item in data.items[1:]], rtol=1e-8)


def test_estimates_are_the_same_whatever_the_order_of_rows_and_sides():
    data = prefdensity.read("example:baseball")
    program = "bradley_terry+position_bias"
    point = prefdensity.fit(program, data, method="mle").point
    shuffled = data.swapped().take(np.random.default_rng(0).permutation(len(data)))
    other = prefdensity.fit(program, shuffled, method="mle").point
    for site in point:
        np.testing.assert_allclose(other[site], point[site], atol=1e-10)

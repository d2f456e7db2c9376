"""Graded strength of preference: reading, the layer `graded` against closed forms, and what is done with its fits."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize, special, stats
from typer.testing import CliRunner

import prefdensity
from prefdensity.checking.check import check
from prefdensity.checking.sbc import sbc
from prefdensity.cli import main
from prefdensity.comparison.compare import compare, kfold
from prefdensity.comparison.elpd import loo
from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import DataError, ProgramError
from prefdensity.inference.view import View
from prefdensity.programs.loading import load_program
from prefdensity.programs.outcomes import cumulative_logit
from prefdensity.programs.tabulate import cells_of

CUTS = (0.4, 1.3, 2.5)


def frame(ties=True, n=800, items=6, seed=0, bias=0.0, cuts=CUTS):
    """Judgements by the cumulative logit: signed score, positive for side a; and the true utilities."""
    rng = np.random.default_rng(seed)
    utility = rng.normal(0, 1.2, items)
    a = rng.integers(items, size=n)
    b = (a + rng.integers(1, items, size=n)) % items
    heard = utility[a] - utility[b] + bias + rng.logistic(size=n)
    strength = np.searchsorted(cuts if ties else (0.0, *cuts[1:]), np.abs(heard))
    table = pd.DataFrame(
        {
            "item_a": [f"i{k}" for k in a],
            "item_b": [f"i{k}" for k in b],
            "score": (np.sign(heard) * strength).astype(int),
            "annotator": [f"p{k}" for k in rng.integers(4, size=n)],
        }
    )
    return table, utility - utility.mean()


def graded_table(**options):
    return Comparisons.from_frame(frame(**options)[0], outcome=None, strength="score")


def two_columns(table):
    words = np.array(["b", "tie", "a"])[np.sign(table["score"]) + 1]
    return table.drop(columns="score").assign(outcome=words, strength=table["score"].abs())


# Reading


def test_a_signed_column_says_what_winner_and_strength_say():
    table, _ = frame()
    signed = Comparisons.from_frame(table, outcome=None, strength="score")
    apart = Comparisons.from_frame(two_columns(table), strength="strength")
    assert signed.grades == apart.grades == ("a3", "a2", "a1", "tie", "b1", "b2", "b3")
    assert signed.fingerprint() == apart.fingerprint()
    spelled = [{0: "tie"}.get(s, f"{'a' if s > 0 else 'b'}{abs(s)}") for s in table["score"]]
    assert [signed.grades[k] for k in signed.grade] == spelled
    again = Comparisons.from_frame(signed.to_frame(), strength="strength")
    assert again.fingerprint() == signed.fingerprint()
    assert signed.fingerprint() != signed.without_strength().fingerprint()


def test_strengths_nobody_used_and_ties_nobody_gave_are_no_grades():
    table, _ = frame(ties=False)
    table = table[table["score"].abs() != 2]
    data = Comparisons.from_frame(table, outcome=None, strength="score")
    assert data.grades == ("a3", "a1", "b1", "b3")
    assert data.n_ties == 0


def test_dropping_ties_keeps_the_strengths():
    data = graded_table()
    decided = data.without_ties()
    assert decided.grades == ("a3", "a2", "a1", "b1", "b2", "b3")
    kept = data.outcome != 2
    assert [decided.grades[k] for k in decided.grade] == [data.grades[k] for k in data.grade[kept]]
    assert decided.without_ties().grades == decided.grades


def test_collapsing_is_asked_for_and_says_how_much():
    data = graded_table()
    plain = data.without_strength()
    n = int(data.n_judgements - data.n_ties)
    assert plain.notes == (f"{n} judgements of 3 strengths of preference collapsed to a and b on request",)
    np.testing.assert_array_equal(plain.outcome, data.outcome)
    with pytest.raises(ProgramError, match=r"knows no strength of preference.*record 3 strengths; fit graded"):
        prefdensity.fit("davidson", data)
    with pytest.raises(DataError, match="half a win has no strength"):
        data.ties_as_half_wins()
    with pytest.raises(DataError, match="records no strengths"):
        plain.without_strength()
    with pytest.raises(ProgramError, match="needs strengths of preference"):
        prefdensity.fit("graded", plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strength": 0}, r"'strength'.* holds 0 in row 2; where a side won it is 1, 2"),
        ({"strength": -2}, r"holds -2 in row 2; .*takes the place of the outcome column: outcome=None"),
        ({"strength": None}, "in row 2; where a side won"),
        ({"strength": 1.5}, "strengths of preference, whole numbers .*holds 1.5 in row 2"),
        ({"strength": "much"}, "whole numbers .*holds 'much' in row 2"),
        ({"outcome": "tie"}, "holds 3 in row 2; a tie has none"),
    ],
)
def test_bad_strengths_are_refused(change, message):
    table = pd.DataFrame(
        {"item_a": list("xyx"), "item_b": list("yzz"), "outcome": list("abb"), "strength": [1, 3, 2]}, dtype=object
    )
    for column, value in change.items():
        table.loc[1, column] = value
    with pytest.raises(DataError, match=message):
        Comparisons.from_frame(table, strength="strength")


def test_what_is_missing_is_named():
    table, _ = frame(n=20)
    with pytest.raises(DataError, match="no column 'force' "):
        Comparisons.from_frame(table, outcome=None, strength="force")
    with pytest.raises(DataError, match=r"name its column with strength="):
        Comparisons.from_frame(table, outcome=None)
    with pytest.raises(DataError, match="every row is a tie"):
        Comparisons.from_frame(table.assign(score=0), outcome=None, strength="score")
    table.loc[3, "score"] = np.nan
    with pytest.raises(DataError, match=r"\(outcome\) is empty in 1 rows, first in row 4"):
        Comparisons.from_frame(table, outcome=None, strength="score")
    assert len(Comparisons.from_frame(table, outcome=None, strength="score", missing="drop")) == 19


# The program


def density(name, data, z):
    program = load_program(name)
    view = View(program, cells_of(data, program.outcomes, program.needs))
    return view.log_joint(z[:, : view.dimension]), view


@pytest.mark.parametrize(
    ("name", "ties", "twin"),
    [
        ("graded", True, "rao_kupper"),
        ("graded", False, "bradley_terry"),
        ("adjacent_categories", True, "davidson"),
        ("adjacent_categories", False, "bradley_terry"),
    ],
)
def test_one_strength_is_a_known_rule(name, ties, twin):
    data = graded_table(ties=ties, cuts=(0.7, 900.0))
    data = data.without_ties() if not ties else data
    assert data.grades == (("a1", "tie", "b1") if ties else ("a1", "b1"))
    z = torch.randn(5, len(data.items) + 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, view = density(name, data, z)
    expected, other = density(twin, data.without_strength(), z)
    assert list(view.sites) == list(other.sites)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)
    table = [v.run(v.values(z[:, : v.dimension])[0], 5).met["outcome"]["fn"].outcome_log_prob for v in (view, other)]
    torch.testing.assert_close(table[0], table[1][..., [0, 2, 1] if ties else [0, 1]], rtol=0, atol=1e-12)


def test_probabilities_add_up_to_those_of_at_least_this_strength():
    margin = torch.linspace(-30, 30, 121, dtype=torch.float64)
    cut = torch.tensor([[-2.5, -1.3, -0.4, 0.4, 1.3, 2.5]], dtype=torch.float64)
    p, margin = cumulative_logit(cut, -margin).exp().numpy(), margin.numpy()
    for k, c in enumerate((2.5, 1.3, 0.4), 1):
        np.testing.assert_allclose(p[:, :k].sum(-1), special.expit(margin - c), rtol=1e-12)
        np.testing.assert_allclose(p[:, -k:].sum(-1), special.expit(-margin - c), rtol=1e-12)
    far = cumulative_logit(cut, torch.tensor([800.0], dtype=torch.float64))
    exact = np.array([-802.5, -801.3, -800.4, -799.6, -798.7, -797.5])  # log P(level <= k) far in the tail
    steps = exact + np.log1p(-np.exp(np.r_[-np.inf, -np.diff(exact)]))
    np.testing.assert_allclose(far[0, :-1].numpy(), steps, rtol=1e-12)


@pytest.mark.parametrize("ties", [True, False])
def test_log_odds_of_adjacent_categories_are_linear(ties):
    data = graded_table(ties=ties)
    z = torch.randn(3, len(data.items) + 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    view = density("adjacent_categories", data, z)[1]
    values = view.values(z[:, : view.dimension])[0]
    table = view.run(values, 3).met["outcome"]["fn"].outcome_log_prob
    margin = view.cells.contrast(values["utility"])
    slope = (table[..., :-1] - table[..., 1:] - margin[..., None] * (0.5 if ties else 1)).squeeze(1)
    torch.testing.assert_close(slope, slope[:, :1].expand_as(slope), rtol=0, atol=1e-12)


def test_maximum_likelihood_is_that_of_a_plain_optimiser():
    table, _ = frame(n=600)
    data = Comparisons.from_frame(table, outcome=None, strength="score")
    post = prefdensity.fit("graded", data, method="mle")
    score = table["score"].to_numpy()
    a, b = data.item_a, data.item_b

    def loss(theta):
        u, cut = np.r_[theta[:5], -theta[:5].sum()], np.exp(theta[5:]).cumsum()
        upper, lower = np.r_[np.inf, cut[::-1], -cut], np.r_[cut[::-1], -cut, -np.inf]
        place = 3 - score
        margin = u[a] - u[b]
        return -np.log(special.expit(margin - lower[place]) - special.expit(margin - upper[place])).sum()

    found = optimize.minimize(loss, np.zeros(8), method="BFGS", options={"gtol": 1e-8})
    assert post.status.log_likelihood == pytest.approx(-found.fun, abs=1e-6)
    np.testing.assert_allclose(post.point["strength_cut"], np.exp(found.x[5:]).cumsum(), atol=1e-4)
    utility = post.point["utility"] - post.point["utility"].mean()
    np.testing.assert_allclose(utility, np.r_[found.x[:5], -found.x[:5].sum()], atol=1e-4)


def test_strengths_sharpen_utilities_and_pool_to_a_b_tie():
    data = graded_table()
    fine = prefdensity.fit("graded", data, seed=0)
    coarse = prefdensity.fit("rao_kupper", data.without_strength(), seed=0)
    assert (fine.utilities().std(0) < coarse.utilities().std(0)).all()
    # pooled over strengths it is Rao-Kupper's rule at the first cut
    u, theta = fine.draws["utility"], 1 + fine.draws["tie_excess"]
    p_a = special.expit(u[:, 0] - u[:, 1] - np.log(theta))
    p_b = special.expit(u[:, 1] - u[:, 0] - np.log(theta))
    found = fine.predict([("i0", "i1")]).iloc[0]
    assert found[["p_a1", "p_a2", "p_a3"]].sum() == pytest.approx(p_a.mean(), abs=1e-12)
    assert found["p_tie"] == pytest.approx((1 - p_a - p_b).mean(), abs=1e-12)
    wins = fine.win_probabilities()
    thin = slice(None, None, fine.n_draws // 200)
    assert wins.loc["i0", "i1"] == pytest.approx((0.5 + (p_a - p_b) / 2)[thin].mean(), abs=1e-12)
    names = list(found.index)
    assert [n for n in names if n.startswith("p_") and "er" not in n] == [f"p_{g}" for g in data.grades]


def test_a_posterior_survives_its_file(tmp_path):
    data = graded_table(ties=False)
    post = prefdensity.fit("graded", data, seed=0, draws=100)
    again = prefdensity.load_posterior(post.save(tmp_path / "fit.nc"))
    assert again.outcomes == ("a3", "a2", "a1", "b1", "b2", "b3")
    assert again.predict([("i0", "i1")]).equals(post.predict([("i0", "i1")]))
    # without ties the first cut is 0 and no parameter
    assert set(post.draws) == {"utility", "utility_scale", "strength_step", "strength_cut"}
    np.testing.assert_allclose(post.draws["strength_cut"], post.draws["strength_step"].cumsum(1), rtol=1e-12)


def test_elpd_is_of_grades():
    data = graded_table(n=60)
    post = prefdensity.fit("graded", data, seed=0)
    result = loo(post, data)
    margin = post.draws["utility"][:, data.item_a] - post.draws["utility"][:, data.item_b]
    cut = post.draws["strength_cut"]
    edges = np.concatenate([np.full((len(cut), 1), -np.inf), -cut[:, ::-1], cut, np.full((len(cut), 1), np.inf)], 1)
    rows = zip(margin.T, data.grade, strict=True)
    p = [special.expit(edges[:, k + 1] + m) - special.expit(edges[:, k] + m) for m, k in rows]
    np.testing.assert_allclose(result.lpd_i, np.log(np.mean(p, 1)), rtol=1e-9)


def test_programs_of_grades_are_checked_and_compared():
    data = graded_table(bias=0.8)
    data = replace(data, first=np.ones(len(data), np.int8))
    post = prefdensity.fit("graded", data, seed=0)
    table = check(post, data).table.set_index("check")
    assert table.loc["order", "z"] > 4  # judgements pooled to a, b and tie show the bias
    other = prefdensity.fit("graded+position_bias", data, seed=0)
    assert other.draws["position_bias"].mean() == pytest.approx(0.8, abs=4 * other.draws["position_bias"].std())
    ranked = compare({"without": post, "with": other}, data).table
    assert ranked["program"].iloc[0] == "with"


def test_layers_about_strengths_come_with_a_rule_of_grades():
    assert "graded" in [each.name for each in load_program("strengths").layers]
    with pytest.raises(ProgramError, match="strengths is about strengths of preference, and davidson knows none"):
        load_program("strengths+davidson")


def test_tie_layers_are_refused_without_ties():
    with pytest.raises(ProgramError, match="ties is about ties"):
        prefdensity.fit("graded+ties", graded_table(ties=False))


def test_the_command_line_reads_strengths(tmp_path):
    table, _ = frame(n=80)
    table.to_csv(tmp_path / "signed.csv", index=False)
    two_columns(table).to_csv(tmp_path / "apart.csv", index=False)

    def run(name, *options):
        out = ["--out", str(tmp_path / "out"), "--method", "map"]
        return CliRunner().invoke(main.app, ["fit", str(tmp_path / name), *options, *out])

    fits = []
    for name, option in (("signed.csv", ["--signed-strength", "score"]), ("apart.csv", ["--strength", "strength"])):
        result = run(name, "--model", "graded", *option)
        assert result.exit_code == 0, result.output
        fits.append(prefdensity.load_posterior(tmp_path / "out" / "fit.nc"))
    assert fits[0].data_fingerprint == fits[1].data_fingerprint
    refused = run("signed.csv", "--model", "davidson", "--signed-strength", "score")
    assert refused.exit_code == 2
    assert "--strength-dropped" in refused.stderr
    assert run("signed.csv", "--model", "davidson", "--signed-strength", "score", "--strength-dropped").exit_code == 0
    both = run("signed.csv", "--model", "graded", "--signed-strength", "score", "--outcome", "score")
    assert "leave out --outcome and --strength" in both.stderr


@pytest.mark.slow
def test_intervals_cover_the_truth_over_40_tables():
    # 90 % intervals of each of 6 utilities and 3 cuts; false alarm 1e-3 over the nine
    inside = np.zeros(9)
    for seed in range(40):
        table, utility = frame(n=300, seed=seed)
        post = prefdensity.fit("graded", Comparisons.from_frame(table, outcome=None, strength="score"), seed=seed)
        draws = np.column_stack([post.utilities(), post.draws["strength_cut"]])
        lower, upper = np.quantile(draws, [0.05, 0.95], axis=0)
        truth = np.r_[utility, CUTS]
        inside += (lower < truth) & (truth < upper)
    assert inside.min() >= stats.binom.ppf(1e-3 / 9, 40, 0.9), inside


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ties"), [("graded", True), ("graded", False), ("adjacent_categories", True)])
def test_ranks_are_uniform(name, ties):
    design = graded_table(ties=ties, n=120, items=4)
    report = sbc(name, design, replicates=100, seed=1)
    assert report.table["p_value"].min() > 1e-3 / len(report.table)


@pytest.mark.slow
def test_strengths_of_typing_preferences_agree_with_who_won(shared_data):
    table = pd.read_csv(shared_data / "bigram_typing.csv", keep_default_na=False)
    table["strength"] = np.ceil(table["strength"].clip(lower=1) / 25).astype(int)
    data = Comparisons.from_frame(table, strength="strength")
    assert len(data.grades) == 8
    fine = prefdensity.fit("graded", data, seed=0)
    coarse = prefdensity.fit("bradley_terry", data.without_strength(), seed=0)
    means = [post.utilities().mean(0) for post in (fine, coarse)]
    z = [mean / post.utilities().std(0) for mean, post in zip(means, (fine, coarse), strict=True)]
    assert np.corrcoef(*means)[0, 1] > 0.95  # 0.967
    assert z[0].std() > 1.2 * z[1].std()  # 1.26: worth 57 % more judgements of who won alone
    fits = {"graded": fine, "adjacent": prefdensity.fit("adjacent_categories", data, seed=0)}
    table = compare(fits, data).table.set_index("program")
    difference, se = table.loc["graded", ["elpd_diff", "se_diff"]]  # -32.6, 7.7
    assert difference < -2 * se
    refitted = [kfold(program, data, unit="comparison").elpd for program in ("graded", "adjacent_categories")]
    assert difference == pytest.approx(refitted[0] - refitted[1], abs=se / 2)  # -31.2: folds leave out a tenth
    fits = {"graded": fine, "habits": prefdensity.fit("strengths", data, seed=0)}
    table = compare(fits, data, refit=False).table.set_index("program")
    assert table.loc["graded", "elpd_diff"] == pytest.approx(-1481, abs=10)  # standard error 42

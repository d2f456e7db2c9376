"""Types whose shares depend on what is known of annotators: the density by hand, the null, truths that come back."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special, stats
from scipy.special import expit

import prefdensity
from prefdensity import Comparisons
from prefdensity.errors import ProgramError
from prefdensity.inference.view import View
from prefdensity.programs.cells import contrasts
from prefdensity.programs.loading import load_program
from prefdensity.programs.tabulate import cells_of

ON = "annotator_types(on=['age', 'land'])"
U = np.array([[-1.5, -0.9, -0.3, 0.3, 0.9, 1.5], [1.2, -0.4, 0.9, -1.2, 0.3, -0.8]])


def camps(seed, people=60, each=15):
    """People of two camps, the old and those of land x more often of the second; and who is of which."""
    rng = np.random.default_rng(seed)
    age, land = rng.integers(18, 80, people), np.array(list("xyz"), object)[rng.integers(3, size=people)]
    x = (age - age.mean()) / age.std()
    camp = (rng.random(people) < expit(1.5 * x + (land == "x") - 0.3)).astype(int)
    who = np.repeat(np.arange(people), each)
    a = rng.integers(6, size=len(who))
    b = (a + rng.integers(1, 6, len(who))) % 6
    won = rng.random(len(who)) < expit(U[camp[who], a] - U[camp[who], b])
    names = np.array([f"p{k:03d}" for k in range(people)], object)
    frame = pd.DataFrame({"item_a": a, "item_b": b, "outcome": np.where(won, "a", "b"), "annotator": names[who]})
    frame["category"] = rng.choice(["k", "l"], len(frame))
    known = pd.DataFrame({"age": age, "land": land}, index=names)
    data = Comparisons.from_frame(frame, annotator="annotator", groups=["category"], attributes={"annotator": known})
    return data, x, land, camp


def test_the_density_is_that_of_a_logistic_regression_by_hand():
    data, x, land, _ = camps(1, people=5, each=4)
    program = load_program(ON)
    view = View(program, cells_of(data, program.outcomes, program.needs))
    z = torch.randn(3, view.dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn, jacobian = view.values(z)
    words = sorted(set(land))
    codes = contrasts(len(words)).numpy()[[words.index(each) for each in land]]
    for k in range(3):
        s = {name: value[k].numpy() for name, value in drawn.items()}
        w, u, scale = s["type_weight"].ravel(), s["utility"].reshape(2, 6), s["utility_scale"].item()
        slopes = {name: s[f"{name}_membership_offset"].reshape(2, -1) for name in ("age", "land")}
        weight = special.softmax(np.log(w) + x[:, None] @ slopes["age"].T + codes @ slopes["land"].T, axis=1)
        total = 0.0
        for j in range(len(data.annotators)):
            rows = np.flatnonzero(data.annotator == j)
            margin = u[:, data.item_a[rows]] - u[:, data.item_b[rows]]
            told = np.where(data.outcome[rows] == 0, expit(margin), expit(-margin)).prod(1)
            total += np.log(weight[j] @ told)
        assert float(view.log_likelihood(z)[k]) == pytest.approx(total, abs=1e-9)
        prior = (
            stats.lognorm.logpdf(scale, 1) + stats.norm.logpdf(u, 0, scale).sum() + stats.dirichlet.logpdf(w, [2, 2])
        )
        for name, slope in slopes.items():
            tau = s[f"{name}_membership_spread"].item()
            prior += stats.halfnorm.logpdf(tau) + stats.norm.logpdf(slope, 0, tau).sum()
        assert float(view.log_joint(z)[k] - jacobian[k]) == pytest.approx(total + prior, abs=1e-9)


def test_without_a_spread_it_is_the_program_without_attributes():
    data, *_ = camps(2, people=12, each=6)
    with_, without = (
        View(program, cells_of(data, program.outcomes, program.needs))
        for program in (load_program(ON), load_program("annotator_types"))
    )
    z = torch.randn(2, with_.dimension, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn, _ = with_.values(z)
    silent = {name: 0 * value if "membership_offset" in name else value for name, value in drawn.items()}
    met = with_.run(silent, 2).met["outcome"]
    plain = without.run({name: drawn[name] for name in without.sites}, 2).met["outcome"]
    torch.testing.assert_close(met["fn"].log_prob(met["value"]), plain["fn"].log_prob(plain["value"]))


def test_what_decides_of_camps_comes_back_and_newcomers_are_placed_by_it(tmp_path):
    data, x, _, camp = camps(3, people=100, each=20)
    plain, post = (
        prefdensity.fit(name, data, method="laplace", draws=300, progress=False)
        for name in ("annotator_types", "annotator_types(on='age')")
    )
    assert post.status.log_evidence > plain.status.log_evidence + 3
    probability = post.draws["type_probability"].mean(0)
    second = int(probability[camp == 1].sum(0).argmax())
    assert ((probability.argmax(1) == second) == (camp == 1)).mean() > 0.95
    slope = post.draws["age_membership"]
    apart = slope[:, second] - slope[:, 1 - second]
    assert np.quantile(apart, 0.005) < 1.5 < np.quantile(apart, 0.995)
    post = prefdensity.load_posterior(post.save(tmp_path / "fit.nc"))
    young, old = (post.predict([("0", "5")], at={"annotator.age": years})["p_a"][0] for years in (20, 80))
    assert young < 0.3 < old
    known = prefdensity.loo(post, data, unit="annotator").elpd - prefdensity.loo(plain, data, unit="annotator").elpd
    assert known > 0


def test_the_density_of_all_is_the_average_over_the_people_there_are():
    """Shares of types among people of average attributes are those of nobody."""
    data, x, *_ = camps(3, people=20, each=15)
    post = prefdensity.fit("annotator_types(on='age')", data, method="map", progress=False)
    slopes = post.draws["age_membership_offset"][..., 0]
    share = special.softmax(np.log(post.draws["type_weight"])[:, None] + x[:, None] * slopes[:, None], axis=-1).mean(1)
    assert np.abs(share - post.draws["type_weight"]).max() > 0.005
    kinds = prefdensity.density.of(post, by="type").p
    expected = np.einsum("dk,dkp->dp", share, kinds)
    for by in (None, "new"):
        np.testing.assert_allclose(prefdensity.density.of(post, by=by).p, expected, atol=1e-9)


def test_camps_depend_on_what_is_known_of_annotators_alone():
    data, *_ = camps(4, people=12, each=6)
    with pytest.raises(ProgramError, match="what is known of every annotator, and 'category' is not known of them"):
        prefdensity.fit("annotator_types(on='category')", data, progress=False)


@pytest.mark.slow
def test_calibration_of_membership(capsys):
    """With the scale of utilities known (`test_sbc` learns it), which takes a minute; a false alarm in 1,000 runs."""
    data, *_ = camps(5, people=30, each=12)
    report = prefdensity.sbc("annotator_types(on='age')+utility_scale(fixed=1.5)", data, replicates=24, seed=1)
    with capsys.disabled():
        p = report.table.set_index("quantity")["p_value"].round(3).to_dict()
        print(f"\nk-hat below .7 in {report.usable:.0%} of 24 fits, p {p}")
    assert "age_membership_spread" in set(report.table["quantity"])
    assert report.usable > 0.5
    assert report.table["p_value"].min() > 1e-3 / len(report.table)

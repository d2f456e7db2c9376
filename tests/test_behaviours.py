"""Programs of preference behaviours against their closed forms in `prefdensity.misspecified`, and their fits."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special
from typer.testing import CliRunner

import prefdensity
from prefdensity.checking.sbc import sbc
from prefdensity.cli import main
from prefdensity.comparison.compare import compare
from prefdensity.data.comparisons import Comparisons
from prefdensity.density import implicit
from prefdensity.density.densities import normalise
from prefdensity.density.domains import Domain
from prefdensity.density.misspecified import PBDE, target
from prefdensity.errors import DataError, ProgramError
from prefdensity.inference.view import View
from prefdensity.programs.loading import load_program
from prefdensity.programs.tabulate import cells_of

ITEMS = tuple("abcde")
P = np.array([0.1, 0.35, 0.25, 0.2, 0.1])
REFERENCE = np.array([0.3, 0.05, 0.1, 0.15, 0.4])
LENGTH = np.array([4.0, 12.0, 30.0, 7.0, 18.0])
TRUTH, POLICY = (normalise(np.log(p), Domain.items(ITEMS)) for p in (P, REFERENCE))
BEHAVIOURS = {
    "tempered(beta=2.5)": PBDE.tempered(2.5),
    "length_normalised": PBDE.length_normalised(LENGTH, 30.0),
    "length_normalised(longest=10.0)": PBDE.length_normalised(LENGTH, 10.0),
    "dpo(beta=0.4)": PBDE.dpo(0.4, POLICY),
    "geometric(alpha=0.25)": PBDE.geometric(0.25, POLICY),
}
every_behaviour = pytest.mark.parametrize("name", BEHAVIOURS)


def measured(data):
    table = np.stack([LENGTH, np.log(REFERENCE)], 1)
    return replace(data, measure_names=("length", "log_reference"), item_measures=table)


def expected_counts(score, total=1e6):
    """A table of all pairs whose shares of wins are exactly those of scores [item]."""
    a, b = np.triu_indices(len(score), 1)
    p = special.expit(score[a] - score[b])
    return measured(
        Comparisons(
            items=ITEMS,
            item_a=np.r_[a, a],
            item_b=np.r_[b, b],
            outcome=np.repeat([0, 1], len(a)).astype(np.int8),
            count=total * np.r_[p, 1 - p],
        )
    )


def drawn(score, n, seed):
    rng = np.random.default_rng(seed)
    a = rng.integers(len(score), size=n)
    b = (a + rng.integers(1, len(score), size=n)) % len(score)
    won = rng.random(n) < special.expit(score[a] - score[b])
    return measured(Comparisons(ITEMS, a, b, np.where(won, 0, 1).astype(np.int8), np.ones(n)))


# Programs


def view_of(name, data):
    program = load_program(name)
    return View(program, cells_of(data, program.outcomes, program.needs))


@every_behaviour
def test_a_behaviour_is_bradley_terry_of_its_scores(name):
    data = drawn(np.log(P), 60, seed=0)
    u = torch.randn(4, len(ITEMS), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    score = torch.tensor(BEHAVIOURS[name].score(normalise(u.numpy(), TRUTH.domain)))
    found = view_of(f"{name}+utility_scale(fixed=1.0)", data).log_likelihood(u)
    expected = view_of("utility_scale(fixed=1.0)", data).log_likelihood(score)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


def test_tempered_is_bradley_terry_of_another_prior_scale():
    data = drawn(np.log(P), 60, seed=0)
    u = torch.randn(4, len(ITEMS), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = view_of("tempered(beta=2.5)+utility_scale(fixed=0.6)", data).log_joint(u)
    expected = view_of("utility_scale(fixed=1.5)", data).log_joint(2.5 * u)
    torch.testing.assert_close(found, expected + len(ITEMS) * np.log(2.5), rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", ["tempered(beta=2.5)", "dpo(beta=0.4)", "geometric(alpha=0.25)"])
def test_with_unlimited_data_a_fit_finds_the_implied_density(name):
    model = BEHAVIOURS[name]
    for annotators in (PBDE.luce(), model):
        post = prefdensity.fit(name, expected_counts(annotators.score(TRUTH)), method="mle")
        found = normalise(post.point["utility"], TRUTH.domain).log_p
        np.testing.assert_allclose(found, target(annotators, model, TRUTH).log_p, atol=1e-6)


@pytest.mark.parametrize("annotators", [PBDE.luce(), BEHAVIOURS["length_normalised"]])
def test_with_unlimited_data_lengths_tilt_the_density(annotators):
    data = expected_counts(annotators.score(TRUTH), total=1e9)
    post = prefdensity.fit("length_normalised+utility_scale(fixed=30.0)", data, method="map", seed=0)
    aim = target(annotators, BEHAVIOURS["length_normalised"], TRUTH)
    np.testing.assert_allclose(implicit.of(post).log_p[0], aim.log_p, atol=1e-5)


def test_free_utilities_cannot_tell_behaviours_apart():
    data = drawn(np.log(P), 500, seed=2)
    names = ["bradley_terry", "tempered(beta=2.5)", "dpo(beta=0.4)", "geometric(alpha=0.25)"]
    likelihoods = [prefdensity.fit(name, data, method="mle").status.log_likelihood for name in names]
    np.testing.assert_allclose(likelihoods, likelihoods[0], rtol=1e-9)


def test_a_density_of_few_parameters_can():
    rng = np.random.default_rng(3)
    x, reference = rng.normal(size=(40, 1)), -2 * rng.exponential(size=40)
    score = 1.5 * x[:, 0] - reference  # dpo of beta 1 with log p = 1.5 x
    a = rng.integers(40, size=2000)
    b = (a + rng.integers(1, 40, size=2000)) % 40
    won = rng.random(2000) < special.expit(score[a] - score[b])
    data = Comparisons(
        tuple(f"i{k:02}" for k in range(40)),
        a,
        b,
        np.where(won, 0, 1).astype(np.int8),
        np.ones(2000),
        feature_names=("x",),
        item_features=x,
        measure_names=("log_reference",),
        item_measures=reference[:, None],
    )
    names = ("linear+dpo", "linear", "linear+geometric(alpha=2.0)")
    fits = {name: prefdensity.fit(name, data, seed=0) for name in names}
    table = compare(fits, data).table
    assert table["program"].iloc[0] == "linear+dpo"
    assert table["elpd_diff"].iloc[1] < -4 * table["se_diff"].iloc[1]
    weight = fits["linear+dpo"].draws["weight"][:, 0] / x.std()
    assert abs(weight.mean() - 1.5) < 4 * weight.std()


def test_what_is_missing_or_senseless_is_said():
    data = drawn(np.log(P), 40, seed=0)
    bare = replace(data, measure_names=(), item_measures=None)
    with pytest.raises(ProgramError, match="dpo needs item measures such as lengths"):
        prefdensity.fit("dpo", bare)
    with pytest.raises(DataError, match="no item measure 'words'; the data have length, log_reference"):
        prefdensity.fit("length_normalised(length='words')", data)
    with pytest.raises(DataError, match="'log_reference' must be positive for every item"):
        prefdensity.fit("length_normalised(length='log_reference')", data)
    for name in ("dpo(beta=0)", "geometric(alpha=-1)", "tempered(beta=0)", "length_normalised(longest=0)"):
        with pytest.raises((DataError, ProgramError), match=r"must be (a )?positive"):
            prefdensity.fit(name, data)
    with pytest.raises(ProgramError, match="two behaviour layers"):
        load_program("dpo+geometric")
    people = replace(data, annotators=("x", "y"), annotator=np.arange(len(data)) % 2)
    post = prefdensity.fit("dpo+tastes", people, method="map")
    with pytest.raises(ProgramError, match="tastes acts on what dpo makes of the density"):
        implicit.of(post)
    post = prefdensity.fit("length_normalised", data, method="map")
    grid = replace(Domain.items(ITEMS), log_volume=np.linspace(0, 1, 5))
    with pytest.raises(DataError, match="normalised over the items; leave out the domain"):
        implicit.of(post, grid)
    table = pd.DataFrame({"item_a": ["x"], "item_b": ["y"], "outcome": ["a"]})
    with pytest.raises(DataError, match="item_measures lacks 1 of 2 items, first 'y'"):
        Comparisons.from_frame(table, item_measures=pd.DataFrame({"length": [3]}, index=["x"]))


def test_predictions_are_of_scores_and_ranks_of_the_density():
    score = BEHAVIOURS["length_normalised"].score(TRUTH)  # a is short, so that its low density weighs heavily
    post = prefdensity.fit("length_normalised", drawn(score, 4000, seed=5), seed=0)
    assert any("log densities under length_normalised" in each for each in post.status.warnings)
    found = post.predict([("a", "b")])["p_a"].iloc[0]
    assert found == pytest.approx(special.expit(score[0] - score[1]), abs=0.05)
    mean = implicit.of(post).mean().p
    assert mean.argmax() == P.argmax()
    np.testing.assert_allclose(mean, P, atol=0.05)


def test_the_command_line_reads_item_measures(tmp_path):
    data = drawn(np.log(P), 80, seed=0)
    data.to_frame().to_csv(tmp_path / "votes.csv", index=False)
    frame = pd.DataFrame({"item": ITEMS, "length": LENGTH, "log_reference": np.log(REFERENCE)})
    frame.to_csv(tmp_path / "items.csv", index=False)
    command = ["fit", tmp_path / "votes.csv", "--model", "dpo(beta=0.4)", "--out", tmp_path / "out"]
    result = CliRunner().invoke(main.app, [str(each) for each in (*command, "--item-measures", tmp_path / "items.csv")])
    assert result.exit_code == 0, result.output
    post = prefdensity.load_posterior(tmp_path / "out" / "fit.nc")
    np.testing.assert_allclose(post.measures["log_reference"], np.log(REFERENCE))
    again = prefdensity.fit("dpo(beta=0.4)", data)
    assert post.data_fingerprint == again.data_fingerprint
    assert post.predict([("a", "b")]).equals(again.predict([("a", "b")]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tempered(beta=2.5)", "length_normalised", "dpo(beta=0.4)", "geometric(alpha=0.25)"])
def test_ranks_are_uniform(name):
    # utilities, their contrast and a chance over 100 tables drawn from the prior; false alarm 1e-3 a program
    report = sbc(name, drawn(np.log(P), 60, seed=0), replicates=100, seed=1)
    assert report.table["p_value"].min() > 1e-3 / len(report.table)

"""Likelihood-ratio tests against published numbers and a closed form, and refused where there is no such test."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, contingency
from typer.testing import CliRunner

import prefdensity
from prefdensity.cli import main
from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import DataError
from prefdensity.reporting.ratio_report import write_ratio_report

BASEBALL = prefdensity.read("example:baseball")
HOME = "bradley_terry+position_bias"


def mle(*names, data=BASEBALL, **settings):
    return {name: prefdensity.fit(name, data, method="mle", draws=100, **settings) for name in names}


def test_home_advantage_in_baseball():
    """Agresti (2002, Categorical Data Analysis, 10.6): deviance 44.05 without a home advantage and 38.64 with one."""
    table = prefdensity.likelihood_ratios(mle(HOME, "bradley_terry"), BASEBALL)
    assert list(table["program"]) == ["bradley_terry", HOME]
    assert list(table["parameters"]) == [6, 7]
    assert table["deviance"].to_numpy() == pytest.approx([44.05, 38.64], abs=0.005)
    assert table["chi2"][1] == pytest.approx(44.05 - 38.64, abs=0.01)
    assert table["df"][1] == 1
    assert table["p"][1] == pytest.approx(chi2.sf(table["chi2"][1], 1))
    assert table["aic"].to_numpy() == pytest.approx(2 * (table["parameters"] - table["log_likelihood"]))
    assert table.loc[0, ["chi2", "p"]].isna().all()


def test_the_report_says_which_program_is_large_enough(tmp_path):
    table = prefdensity.likelihood_ratios(mle(HOME, "bradley_terry"), BASEBALL)
    page = write_ratio_report(table, tmp_path / "report.html", "baseball").read_text(encoding="utf-8")
    said = " ".join(re.sub("<[^>]+>", " ", page.split("</style>")[1]).split())
    assert f"bradley_terry is too small beside {HOME}: likelihood ratio 5.41 on 1 df, p 0.020." in said
    assert f"Fit {HOME}" in said
    for number in ("44.05", "38.64", "353.09", "−172.25"):
        assert number in said
    same = write_ratio_report(table.assign(p=0.5), tmp_path / "report.html", "baseball").read_text(encoding="utf-8")
    assert "bradley_terry is enough beside" in same
    assert "Fit bradley_terry, and" in same


def test_two_items_are_a_two_by_two_table():
    """With two items the order is tested by the G statistic of order against winner."""
    counts = np.array([[37, 12], [21, 30]])  # who was shown first, who won
    rows = [("x", "y", "ab"[won], 1 - 2 * first, counts[first, won]) for first in (0, 1) for won in (0, 1)]
    frame = pd.DataFrame(rows, columns=["item_a", "item_b", "outcome", "first", "count"])
    frame.loc[frame["first"] < 0, ["item_a", "item_b"]] = ["y", "x"]
    frame.loc[frame["first"] < 0, "outcome"] = frame["outcome"].map({"a": "b", "b": "a"})
    data = Comparisons.from_frame(frame.drop(columns="first"), ordered=True)
    table = prefdensity.likelihood_ratios(mle("bradley_terry", HOME, data=data), data)
    exact = contingency.chi2_contingency(counts, correction=False, lambda_="log-likelihood")
    assert table["chi2"][1] == pytest.approx(exact.statistic, abs=1e-6)
    assert table["p"][1] == pytest.approx(exact.pvalue, abs=1e-6)


def test_features_are_a_case_of_free_items_and_curves_of_no_other_curve():
    rng = np.random.default_rng(0)
    features = pd.DataFrame(rng.normal(size=(8, 2)), index=[f"i{k}" for k in range(8)], columns=["size", "age"])
    a = rng.integers(8, size=900)
    b = (a + rng.integers(1, 8, size=900)) % 8
    gap = (features.to_numpy()[a] - features.to_numpy()[b]) @ [0.8, -0.5]
    frame = pd.DataFrame({"item_a": features.index[a], "item_b": features.index[b]})
    frame["outcome"] = np.where(rng.random(900) < 1 / (1 + np.exp(-gap)), "a", "b")
    data = Comparisons.from_frame(frame, item_features=features, ordered=True)
    fits = mle("linear", "bradley_terry", HOME, "thurstone", data=data)
    chosen = {name: fits[name] for name in (HOME, "linear", "bradley_terry")}
    table = prefdensity.likelihood_ratios(chosen, data)
    assert list(table["parameters"]) == [2, 7, 8]
    assert list(table["df"][1:]) == [5, 1]
    assert (table["chi2"][1:] >= 0).all()
    assert (table["p"][1:] > 0.001).all()  # both hold: features tell all, and there is no order effect
    for names, words in (
        (("thurstone", HOME), "thurstone is not a case of"),
        (("thurstone", "bradley_terry"), "7 parameters each"),
    ):
        with pytest.raises(DataError, match=words):
            prefdensity.likelihood_ratios({name: fits[name] for name in names}, data)


def test_what_has_no_likelihood_ratio_is_refused():
    fits = mle("bradley_terry", HOME)
    with pytest.raises(DataError, match="two or more"):
        prefdensity.likelihood_ratios({"x": fits[HOME]}, BASEBALL)
    laplace = {"bradley_terry": prefdensity.fit("bradley_terry", BASEBALL, draws=100)}
    with pytest.raises(DataError, match="by laplace.*method='mle'"):
        prefdensity.likelihood_ratios(fits | laplace, BASEBALL)
    with pytest.raises(DataError, match="not the table of this fit"):
        prefdensity.likelihood_ratios(fits, BASEBALL.take(np.arange(len(BASEBALL) - 1)))


def test_the_command_prints_and_writes_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["likelihood-ratio", "example:baseball", "--models", "bradley_terry", HOME, "--out", "found"]
    result = CliRunner().invoke(main.app, words)
    assert result.exit_code == 0, result.output
    table = pd.read_csv("found/likelihood_ratio.csv")
    assert table["chi2"][1] == pytest.approx(5.41, abs=0.005)
    assert "0.02" in result.stdout
    assert "<NA>" not in result.stdout
    refused = CliRunner().invoke(main.app, ["likelihood-ratio", "example:baseball", "--models", "thurstone", HOME])
    assert refused.exit_code == 2
    assert "thurstone is not a case of" in refused.stderr

"""Checks of tables that people made: what they are known to hold is seen."""

import numpy as np
import pytest
from truths import RELIABILITY, TASTES

import prefdensity


def test_heaviness_shows_its_order_effect(shared_data):
    data = prefdensity.read(shared_data / "heaviness.csv", ordered=True)
    report = prefdensity.check(prefdensity.fit("bradley_terry", data), data)
    assert report.causes[0].name == "an effect of the order"
    post = prefdensity.fit(report.causes[0].next_programs[0], data)
    # P(first) = u1 / (u1 + order u2): the bias for the first shown, in logits, is -log(order)
    assert post.draws["position_bias"].mean() == pytest.approx(-np.log(1.33734119), abs=0.02)
    assert prefdensity.check(post, data).causes == ()


def test_first_names_show_tastes_and_no_order_effect(shared_data):
    data = prefdensity.read(shared_data / "first_names.csv", ordered=True)
    report = prefdensity.check(prefdensity.fit("bradley_terry", data), data)
    assert abs(report.table.set_index("check").loc["order", "z"]) < 2
    assert report.causes[0].name == TASTES


def test_circles_of_single_listeners_are_reported(shared_data):
    reports = {}
    for name in ("sounds", "beaches"):
        data = prefdensity.read(shared_data / f"{name}.csv")
        reports[name] = prefdensity.check(prefdensity.fit("bradley_terry", data), data)
    table = {name: report.table.set_index("check").loc["own cycles"] for name, report in reports.items()}
    assert table["sounds"]["statistic"] == pytest.approx(118 / 890)  # as in the reference
    assert table["beaches"]["statistic"] == 0
    circular = "Intransitive: 13.3% of the triads that one annotator judged go round in a circle, at 35 of 46"
    assert circular in str(reports["sounds"])
    assert "Intransitive" not in str(reports["beaches"])


def test_llmfao_shows_annotators_who_differ(shared_data):
    data = prefdensity.read(shared_data / "llmfao.csv", ordered=True)
    report = prefdensity.check(prefdensity.fit("davidson", data), data)
    names = [cause.name for cause in report.causes[:4]]  # by what they would gain: 470, 340, 190 and 91 nats
    leaning = "annotators lean to a side unequally"
    assert names == ["annotators call ties unequally often", TASTES, RELIABILITY, leaning]
    # position_bias and reliability together gain 233 (27) by leave-one-out
    gain = report.steps.set_index("layer")["gain"]
    assert gain["position_bias"] + gain["reliability"] == pytest.approx(233, abs=2 * 27)

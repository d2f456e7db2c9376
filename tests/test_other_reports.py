"""Pages about batches, studies and ladders: what they say is what the tables hold."""

import re
from dataclasses import replace

import numpy as np
import pytest

import prefdensity
from prefdensity.pcal.study import judge_study
from prefdensity.reporting.selection_report import write_batch_report, write_selection_study_report
from prefdensity.reporting.study_report import write_study_report
from prefdensity.selection import study


def words(path):
    text = path.read_text(encoding="utf-8").split("<script>")[0].split("</style>")[1]
    return " ".join(re.sub("<[^>]+>", " ", text).split())


def test_a_batch_says_which_pairs_and_what_they_tell(tmp_path):
    post = prefdensity.fit("bradley_terry", prefdensity.read("example:baseball"), draws=200)
    batch = prefdensity.select(post, n=5, annotators=["ann", "bo"])
    said = words(write_batch_report(batch, tmp_path / "batch.html", "Next <pairs>"))
    assert "Ask these 5 of 21 pairs" in said
    assert f"{batch.attrs['gain']:.3g} nats" in said
    assert f"{batch.attrs['gain_random']:.3g} by random" in said
    assert "Next &lt;pairs&gt;" in said
    for row in batch.to_dict("records"):
        assert f"{row['item_a']} against {row['item_b']}" in said
        assert row["reason"] in said
    noted = batch.copy()
    noted.attrs = batch.attrs | {"notes": ["The batch is the best of a shortlist."]}
    said = words(write_batch_report(noted, tmp_path / "batch.html", "x"))
    assert "The batch is the best of a shortlist." in said
    assert "Nothing speaks against" not in said


def test_a_study_of_rules_recommends_only_a_clear_lead(tmp_path):
    found = study.selection_study(
        "linear", ("d_optimal",), budgets=(30, 60), seeds=3, items_per_round=20, progress=False
    )
    ends = found.table[found.table["labels"] == 60].set_index("rule")
    said = words(write_selection_study_report(found, tmp_path / "study.html", "linear"))
    assert f"After 60 labels {found.winner} is wrong by" in said
    assert found.verdict() in said
    assert ("Choose pairs by" in said) == (ends.loc[found.winner, "t"] > 2)
    last = found.curves["labels"] == 60
    level = found.curves["correlation"].where(~last, 0.5 + found.curves["seed"] % 7 / 100)
    same = replace(found, curves=found.curves.assign(correlation=level))  # no rule leads at the end
    said = words(write_selection_study_report(same, tmp_path / "study.html", "linear"))
    assert "Random pairs are as good here" in said


@pytest.fixture(scope="module")
def judges():
    return judge_study(truths=("noise_free",), replicates=20, pilots=1, units=500, nuisances=("oracle", "useless"),
                       progress=False)  # fmt: skip


def test_a_study_of_judges_tells_lengths_against_labels_alone(judges, tmp_path):
    said = words(write_study_report(judges.table, judges.settings, tmp_path / "judges.html", "judges"))
    table = judges.table[judges.table["design"] == "knows"].set_index(["nuisance", "calibration"])["length"]
    ratio = [table[name, "split"] / table[:, "label_only"].mean() for name in ("oracle", "useless")]
    assert f"intervals are {min(ratio):.0%} to {max(ratio):.0%} as long" in said
    poor = judges.table.assign(coverage=np.where(judges.table.index == 0, 0.1, 0.9))
    said = words(write_study_report(poor, judges.settings, tmp_path / "judges.html", "judges"))
    assert f"1 of {len(poor)} settings cover less than 90%" in said
    assert "the least 0.100" in said

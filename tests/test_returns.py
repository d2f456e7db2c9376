"""What was asked for on a ladder and never came back: read, counted, tested, weighed for."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from typer.testing import CliRunner

from prefdensity.cli.main import app
from prefdensity.errors import DataError
from prefdensity.judged.measured import Measured
from prefdensity.pcal import ladder, weigh_returns
from prefdensity.pcal.allocation import draw
from prefdensity.pcal.nonresponse import losses

P = np.array([0.3, 0.7])  # of a label, of a judge


def collected(n, seed, lost):
    """Return a frame of what was bought and came back, with mean 0: labels are lost by a free score, or their value."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    label = 0.8 * score + 0.6 * rng.normal(size=n)
    judge = label + 0.7 * rng.normal(size=n)
    reached = 2 - draw(np.tile(P, (n, 1)), rng)
    frame = pd.DataFrame({"score": score, "judge": np.where(reached > 0, judge, np.nan), "label": label})
    frame["buy"] = np.array(["nothing", "judge", "label"])[reached]
    back = {"by score": expit(1 + 1.5 * score), "by value": expit(1 + 1.5 * label), "none": np.ones(n)}[lost]
    frame.loc[(reached < 2) | (rng.random(n) > back), "label"] = np.nan
    return frame.assign(judge_probability=P[1], label_probability=P[0], back=back)


def table(frame, buy="buy"):
    chances = {"judge": "judge_probability", "label": "label_probability"}
    return Measured.from_frame(frame, ladder={"judge": "judge"}, free=["score"], probabilities=chances, buy=buy)


def test_the_chance_of_coming_back_is_learned_from_what_was_asked_for():
    frame = collected(6000, 1, "by score")
    weighed = weigh_returns(table(frame))
    np.testing.assert_allclose(weighed.label_probability / P[0], frame["back"], atol=0.06)
    np.testing.assert_allclose(weighed.probabilities[:, 0], P[1])
    found = losses(table(frame)).set_index("rung")
    assert (found.loc["label", "asked"], found.loc["judge", "asked"]) == (1800, 4200)
    assert found.loc["label", "came"] == frame["label"].notna().sum()
    assert found.loc["label", "p_value"] < 1e-6
    lost = 1 - found.loc["label", "came"] / 1800
    assert found.loc["label", "off"] == pytest.approx(lost * frame["label"].std(ddof=0))
    naive, right = (ladder(each, calibration="none").summary().iloc[0] for each in (table(frame), weighed))
    assert naive["lower"] > 0  # the mean is 0
    assert right["lower"] < 0 < right["upper"]


def test_nothing_lost_is_nothing_weighed():
    whole = table(collected(400, 2, "none"))
    np.testing.assert_array_equal(weigh_returns(whole).probabilities, whole.probabilities)
    assert not any("never came back" in each for each in ladder(whole).warnings)
    np.testing.assert_array_equal(whole.without("judge").asked, whole.asked[:, 1:])
    assert whole.take(slice(0, 7)).asked.shape == (7, 2)


@pytest.mark.parametrize("lost", ["by score", "by value"])
def test_what_is_lost_is_always_said_and_what_weights_cannot_repair(lost):
    found = table(collected(900, 3, lost))
    plain = [each for each in ladder(found).warnings if "never came back" in each]
    assert len(plain) == 1
    assert "labels asked for never came back and it goes with what was seen of them: weigh by the chance" in plain[0]
    weighed = [each for each in ladder(weigh_returns(found)).warnings if "never came back" in each]
    assert "weights hold for losses by what was seen" in weighed[0]
    assert "they would move a mean of labels by" in weighed[0]


def test_what_does_not_fit_is_refused():
    frame = collected(200, 4, "by score")
    with pytest.raises(DataError, match="column 'buy' holds 'panel' in row 1; nothing, judge, label are known"):
        table(frame.assign(buy="panel"))
    with pytest.raises(DataError, match="what was not bought by the plan has no known probability"):
        table(frame.assign(buy="nothing"))
    with pytest.raises(DataError, match="name the column with the dearest rung, or nothing"):
        weigh_returns(table(frame, buy=None))
    with pytest.raises(DataError, match="weighted by the chances of coming back already"):
        weigh_returns(weigh_returns(table(frame)))


def test_the_command_line_counts_and_weighs_what_never_came_back(tmp_path):
    collected(1500, 5, "by score").to_csv(tmp_path / "collected.csv", index=False)
    words = ["pcal", "measure", str(tmp_path / "collected.csv"), "--rung", "judge=judge", "--free", "score"]
    for more, said in (([], "weigh by the chance of coming back (--weigh-returns)"), (["--weigh-returns"], "weights")):
        done = CliRunner().invoke(app, [*words, *more, "--out", str(tmp_path / "found")])
        assert done.exit_code == 0, done.output
        assert said in " ".join(done.output.split())
        assert pd.read_csv(tmp_path / "found" / "losses.csv")["rung"].tolist() == ["judge", "label"]
    row = pd.read_csv(tmp_path / "found" / "estimate.csv").iloc[0]
    assert row["lower"] < 0 < row["upper"]


@pytest.mark.slow
def test_losses_by_what_was_seen_are_weighed_away():
    """400 replicates of 800 units, 240 labels asked for: standard error .015."""
    inside = []
    for seed in range(400):
        row = ladder(weigh_returns(table(collected(800, 100 + seed, "by score")))).summary().iloc[0]
        inside.append(row["lower"] <= 0 <= row["upper"])
    print(np.mean(inside))
    assert abs(np.mean(inside) - 0.9) <= 0.04

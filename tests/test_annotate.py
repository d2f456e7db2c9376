"""Annotated rows: against integrals worked out here, leave-one-out of the library, and planted flips."""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import beta, norm
from typer.testing import CliRunner

import prefdensity
from prefdensity.cli.main import app
from prefdensity.errors import DataError, ProgramError
from prefdensity.programs.layers import layer
from prefdensity.programs.tabulate import cells_of
from prefdensity.reward.meant import as_meant, channel, table_of

NEW = ["p_flipped", "p_recorded", "soft_label", "soft_label_sd", "margin", "disagreement", "weight", "out_of_sample"]


def votes(n=300, seed=0, rate=0.1, annotators=6):
    """Return rows of a Thurstone-like world with heavy-tailed utilities, which is no shipped program's, and flips."""
    rng = np.random.default_rng(seed)
    utility = 2.0 * rng.standard_t(4, 9)
    a, b = rng.integers(9, size=n), rng.integers(8, size=n)
    b = b + (b >= a)
    meant = rng.normal(utility[a] - utility[b], 1.0) > 0
    flipped = rng.random(n) < rate
    return pd.DataFrame({
        "left": [f"i{k}" for k in a], "right": [f"i{k}" for k in b],
        "won": np.where(meant ^ flipped, "l", "r"), "who": [f"p{k}" for k in rng.integers(annotators, size=n)],
        "comment": [f"text, {k}" for k in range(n)], "flipped": flipped,
    })  # fmt: skip


READING = {"item_a": "left", "item_b": "right", "outcome": "won", "labels": {"l": "a", "r": "b"}, "annotator": "who"}


def two_items(wins, losses):
    return pd.DataFrame({"item_a": "x", "item_b": "y", "outcome": ["a"] * wins + ["b"] * losses})


def integral(wins, losses, rate, value):
    """Return the posterior mean of value(d), d = u_x - u_y ~ N(0, 2), on a grid."""
    d = np.linspace(-12, 12, 20001)
    p = (1 - rate) * expit(d) + rate * expit(-d)
    weight = norm.pdf(d, scale=2**0.5) * p**wins * (1 - p) ** losses
    return float((weight * value(d, p)).sum() / weight.sum())


@pytest.mark.parametrize(("wins", "losses", "rate"), [(7, 1, 0.1), (5, 3, 0.3), (2, 1, 0.2)])
def test_two_items_against_integrals(wins, losses, rate):
    frame = two_items(wins, losses)
    program = f"items+utility_scale(fixed=1)+flips(rate={rate})"
    post = prefdensity.fit(program, prefdensity.read(frame), method="laplace", draws=10_000, seed=1, progress=False)
    found = prefdensity.annotate(frame, post)
    _compare(found.iloc[0], wins - 1, losses, rate)
    if losses:
        turned = found.iloc[wins].copy()
        turned["soft_label"], turned["margin"] = 1 - turned["soft_label"], -turned["margin"]
        _compare(turned, losses - 1, wins, rate)


def test_where_votes_say_nothing_of_the_rate_it_is_that_of_labels_that_were_checked():
    data = prefdensity.read(two_items(1, 0))  # one vote, as likely at any rate
    program = "items+utility_scale(fixed=1)+flips(wrong=3, checked=40)"
    post = prefdensity.fit(program, data, method="laplace", draws=10_000, seed=0, progress=False)
    rate = post.draws["flip_rate"]
    sd = beta.std(4, 46)
    assert rate.mean() == pytest.approx(beta.mean(4, 46), abs=0.1 * sd)  # 3 errors of a thousand
    assert rate.std() == pytest.approx(sd, rel=0.1)


def _compare(said, wins, losses, rate):
    """Compare what is said of a win with integrals over the other votes: `wins` for the same side, and `losses`."""
    flip = integral(wins + 1, losses, rate, lambda d, p: rate * expit(-d) / p)
    soft = integral(wins, losses, rate, lambda d, p: expit(d))
    exact = {
        "p_flipped": flip,
        "p_recorded": integral(wins, losses, rate, lambda d, p: p),
        "soft_label": soft,
        "soft_label_sd": (integral(wins, losses, rate, lambda d, p: expit(d) ** 2) - soft**2) ** 0.5,
        "margin": integral(wins, losses, rate, lambda d, p: d),
        "disagreement": integral(wins, losses, rate, lambda d, p: 2 * expit(d) * expit(-d)),
        "weight": 1 - flip,
    }
    for name, value in exact.items():
        assert said[name] == pytest.approx(value, abs=0.05 if name == "margin" else 0.015), name


@pytest.mark.parametrize(
    "program",
    ["bradley_terry+flips", "crowd_bt", "annotator_types(k=2)+flips(rate=0.1)", "tastes+flips(rate=0.1)"],
)
def test_the_label_is_left_out_as_loo_does(program):
    frame = votes(60, seed=3)
    data = prefdensity.read(frame, **READING)
    post = prefdensity.fit(program, data, method="laplace", restarts=2, draws=400, seed=0, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # unreliable or not, the weights are those of loo
        found = prefdensity.annotate(frame, post, refits=0, **READING)
    exact = np.exp(prefdensity.loo(post, data).elpd_i)
    assert np.allclose(found["p_recorded"], exact, atol=1e-10)
    assert found["p_flipped"].between(0, 1).all()
    assert found["soft_label_sd"].gt(0).all()
    assert ("annotator_type" in found) == ("types" in program)


def test_p_flipped_is_that_of_a_posterior_that_has_not_seen_the_label():
    frame = votes(40, seed=5)
    data = prefdensity.read(frame, **READING)
    program = "items+utility_scale(fixed=2)+flips(rate=0.15)"
    post = prefdensity.fit(program, data, method="laplace", draws=8000, seed=0, progress=False)
    found = prefdensity.annotate(frame, post, **READING)
    for row in (0, 17):
        rest = prefdensity.fit(program, data.take(np.setdiff1d(np.arange(40), [row])), method="laplace", draws=8000,
                               seed=0, progress=False)  # fmt: skip
        cells = cells_of(data.take(np.array([row])), rest.outcomes, rest.program.needs)
        outcome = int(cells.term[0])
        meant = float(table_of(as_meant(rest), cells)[0].exp()[:, 0, 0, outcome].mean())
        exact = 0.15 * (1 - meant) / (0.15 * (1 - meant) + 0.85 * meant)
        assert found["p_flipped"][row] == pytest.approx(exact, abs=0.01)
        side = meant if outcome == 0 else 1 - meant
        turned = frame["left"][row] > frame["right"][row]
        assert found["soft_label"][row] == pytest.approx(1 - side if turned else side, abs=0.015)


def test_a_channel_is_found_by_running():
    data, _ = prefdensity.simulate.population(3, 4, 60, seed=1, tie_strength=0.5)
    post = prefdensity.fit("davidson+lapse+crowd_bt", data, method="map", restarts=1, progress=False)
    cells = cells_of(data, post.outcomes, post.program.needs).head(5)
    through = channel(post, cells)[0]
    assert np.allclose(through.sum(-1), 1)
    eps, eta = post.point["lapse"], post.point["accuracy"][cells.annotator[0]]
    tie = post.outcomes.index("tie")
    one, other = (k for k in range(3) if k != tie)
    guess = eps / 3
    # meant a: kept or guessed by lapse, then told as it is or as its opposite by crowd_bt
    assert through[0, one, one] == pytest.approx(eta * (1 - eps + guess) + (1 - eta) * guess)
    assert through[0, one, other] == pytest.approx(eta * guess + (1 - eta) * (1 - eps + guess))
    assert through[0, tie, tie] == pytest.approx(1 - eps + guess)


def test_planted_flips_are_found_and_their_number_is_right():
    frame = votes(3000, seed=2, rate=0.12)
    data = prefdensity.read(frame, **READING)
    post = prefdensity.fit("thurstone+flips", data, seed=0, progress=False)
    found = prefdensity.annotate(frame, post, **READING)
    chance, flipped = found["p_flipped"].to_numpy(), frame["flipped"].to_numpy()
    # 5 standard errors of a count of Bernoulli trials with these probabilities: false alarm below 1e-6
    for low, high in ((0, 0.05), (0.05, 0.5), (0.5, 1)):
        rows = (chance > low) & (chance <= high)
        sd = np.sqrt((chance[rows] * (1 - chance[rows])).sum())
        assert abs(flipped[rows].sum() - chance[rows].sum()) < 5 * sd + 0.02 * rows.sum()
    assert flipped[chance > 0.9].mean() > 0.8
    said = re.search(
        r"flipped labels: ([\d.]+) expected, 90 % interval ([\d.]+) to ([\d.]+)", str(found.attrs["notes"])
    )
    mean, low, high = (float(said[k]) for k in (1, 2, 3))
    assert mean == pytest.approx(chance.sum(), abs=0.06)
    assert low < flipped.sum() < high  # with this seed; the interval is as wide as what is known of the rate
    rate = post.draws["flip_rate"]
    assert (high - low) / 3000 == pytest.approx(np.subtract(*np.quantile(rate, [0.95, 0.05])), rel=0.35)


def test_rows_stay_and_dropped_ones_are_empty(tmp_path):
    frame = votes(90, seed=7)
    frame.loc[3, "won"] = "skip"
    frame.loc[11, "who"] = ""
    path = tmp_path / "votes.csv"
    frame.to_csv(path, index=False)
    reading = READING | {"labels": READING["labels"] | {"skip": "drop"}, "missing": "drop"}
    post = prefdensity.fit("bradley_terry+flips(rate=0.1)", prefdensity.read(path, **reading), seed=0, progress=False)
    found = prefdensity.annotate(path, post, **reading)
    assert list(found.columns) == [*frame.columns, *NEW]
    assert list(found["comment"]) == list(frame["comment"])
    assert found.loc[[3, 11], NEW].isna().all(axis=None)
    assert found.drop(index=[3, 11])[NEW].notna().all(axis=None)
    assert "2 of 90 rows are no comparison of the fit: empty cells" in found.attrs["notes"]
    # the same rows in another order, and from a frame with an index of its own, say the same
    again = frame.iloc[::-1].set_axis([f"r{k}" for k in range(90)], axis=0)
    data = prefdensity.read(again, **reading)
    other = prefdensity.annotate(
        again, prefdensity.fit("bradley_terry+flips(rate=0.1)", data, seed=0, progress=False), **reading
    )
    assert list(other.index) == list(again.index)
    assert np.allclose(other["soft_label"][::-1], found["soft_label"], equal_nan=True, atol=0.02)


def test_sides_exchanged_turn_soft_labels_round():
    frame = votes(80, seed=4)
    turned = frame.rename(columns={"left": "right", "right": "left"}).assign(won=frame["won"].map({"l": "r", "r": "l"}))
    one, other = (
        prefdensity.annotate(
            each,
            prefdensity.fit("bradley_terry+flips(rate=0.1)", prefdensity.read(each, **READING), seed=0, progress=False),
            **READING,
        )
        for each in (frame, turned)
    )
    assert np.allclose(one["soft_label"], 1 - other["soft_label"])
    assert np.allclose(one["margin"], -other["margin"])
    assert np.allclose(one["p_flipped"], other["p_flipped"])


def test_counts_ties_and_repeats():
    frame = pd.DataFrame({
        "item_a": ["x", "x", "y", "z", "x", "x"], "item_b": ["y", "z", "z", "x", "y", "y"],
        "outcome": ["a", "tie", "b", "a", "b", "a"], "count": [4, 2, 3, 1, 1, 2],
    })  # fmt: skip
    post = prefdensity.fit("davidson+lapse", prefdensity.read(frame), seed=0, progress=False)
    found = prefdensity.annotate(frame, post)
    assert np.allclose(found["weight"], frame["count"] * (1 - found["p_flipped"]))
    assert found["soft_label"].between(0, 1).all()
    halves = prefdensity.read(frame).ties_as_half_wins()
    with pytest.raises(DataError, match="row 2 became 2 comparisons.*half a win"):
        prefdensity.annotate(frame, prefdensity.fit("bradley_terry", halves, seed=0, progress=False), ties="half")
    dropped = prefdensity.fit("bradley_terry+lapse", prefdensity.read(frame).without_ties(), seed=0, progress=False)
    assert prefdensity.annotate(frame, dropped, ties="drop")["p_flipped"].isna().tolist() == [0, 1, 0, 0, 0, 0]
    asked = votes(60, seed=1, annotators=2)
    once = prefdensity.read(asked, **READING).repeats_once()
    found = prefdensity.annotate(
        asked, prefdensity.fit("bradley_terry+flips", once, seed=0, progress=False), repeats="once", **READING
    )
    assert found["p_flipped"].notna().sum() == len(once) < 60


def test_a_program_without_noise_says_so():
    frame = votes(60)
    post = prefdensity.fit("bradley_terry", prefdensity.read(frame, **READING), seed=0, progress=False)
    found = prefdensity.annotate(frame, post, **READING)
    assert found["p_flipped"].isna().all()
    assert found["weight"].eq(1).all()
    assert "bradley_terry takes every label as meant" in found.attrs["notes"][-1]


@pytest.mark.slow
def test_unreliable_weights_are_refitted():
    frame = votes(120, seed=3)
    data = prefdensity.read(frame, **READING)
    post = prefdensity.fit("crowd_bt", data, method="laplace", seed=0, progress=False)
    with pytest.warns(UserWarning, match="rows have a k-hat above 0.7.*set refits=5"):
        rough = prefdensity.annotate(frame, post, refits=0, **READING)
    bad = np.flatnonzero(rough["out_of_sample"] == "rough")
    assert np.array_equal(bad, np.flatnonzero(prefdensity.loo(post, data).k_hat > 0.7))
    found = prefdensity.annotate(frame, post, refits=len(bad), **READING)
    assert np.array_equal(np.flatnonzero(found["out_of_sample"] == "cross-fitted"), bad)
    assert f"{len(bad)} labels left out: cross-fitted" in found.attrs["notes"]
    others = found["out_of_sample"] == "leave-one-out"
    assert found[others].equals(rough[others])
    row = int(bad[0])
    rest = prefdensity.fit("crowd_bt", data.take(np.setdiff1d(np.arange(120), [row])), seed=0,
                           method="laplace", progress=False)  # fmt: skip
    won = "p_a" if frame["won"][row] == "l" else "p_b"
    exact = rest.predict([(frame["left"][row], frame["right"][row])], annotator=frame["who"][row])[won][0]
    assert found["p_recorded"][row] == pytest.approx(exact)


def test_what_cannot_be_annotated_is_refused():
    frame = votes(60)
    data = prefdensity.read(frame, **READING)
    post = prefdensity.fit("bradley_terry+flips", data, seed=0, progress=False)
    with pytest.raises(DataError, match="has a column 'margin' already.*prefix='my_'"):
        prefdensity.annotate(frame.assign(margin=1), post, **READING)
    assert "fit_margin" in prefdensity.annotate(frame.assign(margin=1), post, prefix="fit_", **READING)
    with pytest.raises(DataError, match="not the table of this fit"):
        prefdensity.annotate(frame.iloc[1:], post, **READING)
    with pytest.raises(DataError, match="ties='Half' is unknown"):
        prefdensity.annotate(frame, post, ties="Half", **READING)
    with pytest.raises(DataError, match="refits=-1 must be a whole number"):
        prefdensity.annotate(frame, post, refits=-1, **READING)
    with pytest.raises(DataError, match="map gives no posterior"):
        prefdensity.annotate(frame, prefdensity.fit("bradley_terry", data, method="map", progress=False), **READING)
    with pytest.raises(DataError, match="comparisons are read already"):
        prefdensity.annotate(data, post, item_a="left")
    with pytest.raises(ProgramError, match="below 1/2"):
        prefdensity.fit("bradley_terry+flips(rate=0.6)", data, progress=False)
    for said in ("wrong=5", "wrong=5, checked=4", "wrong=-1, checked=4", "rate=0.1, checked=4"):
        with pytest.raises(ProgramError, match="give rate= alone"):
            prefdensity.fit(f"bradley_terry+flips({said})", data, progress=False)


def test_noise_that_is_no_channel_is_refused():
    @layer("noise")
    def sharper(log_prob, data):
        return (2 * log_prob).log_softmax(-1)

    data = prefdensity.read(votes(60), **READING)
    post = prefdensity.fit(prefdensity.compose("items", sharper), data, seed=0, progress=False)
    with pytest.raises(ProgramError, match="sharper: what is recorded depends on more than what was meant"):
        prefdensity.annotate(data, post)


def test_a_dataset_comes_back_as_one():
    datasets = pytest.importorskip("datasets")
    frame = votes(50)
    rows = datasets.Dataset.from_pandas(frame)
    post = prefdensity.fit("bradley_terry+flips", prefdensity.read(rows, **READING), seed=0, progress=False)
    found = prefdensity.annotate(rows, post, **READING)
    assert isinstance(found, datasets.Dataset)
    assert found.column_names == [*frame.columns, *NEW]
    assert np.allclose(found["p_flipped"], prefdensity.annotate(frame, post, **READING)["p_flipped"])


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_command_line(tmp_path, ending):
    frame = votes(80, seed=9)
    path, out = tmp_path / "votes.csv", tmp_path / f"labels.{ending}"
    frame.to_csv(path, index=False)
    post = prefdensity.fit("bradley_terry+flips", prefdensity.read(path, **READING), seed=0, progress=False)
    post.save(tmp_path / "fit.nc")
    options = "--item-a left --item-b right --outcome won --annotator who --label l=a --label r=b".split()
    asked = ["annotate", str(tmp_path / "fit.nc"), str(path), *options, "--out", str(out)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert "flipped labels:" in result.output
    assert "expected among 80 rows" in result.output
    ways = re.findall(r"note: (\d+) labels? left out: (leave-one-out|cross-fitted)", result.output)
    assert ways[0][1] == "leave-one-out"
    assert sum(int(count) for count, _ in ways) == 80
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet}.get(ending)
    rows = read(out) if read else pd.DataFrame(map(json.loads, out.read_text().splitlines()))
    assert list(rows.columns) == [*frame.columns, *NEW]
    expected = prefdensity.annotate(path, post, **READING)
    assert np.allclose(rows["p_flipped"].astype(float), expected["p_flipped"])
    # a later run that fails leaves what was there
    before = out.read_bytes()
    broken = CliRunner().invoke(app, [*asked[:2], str(tmp_path / "other.csv"), *options, "--out", str(out)])
    assert broken.exit_code == 2
    assert "there is no file" in broken.output
    assert out.read_bytes() == before


@pytest.mark.parametrize("out", ["labels.xlsx", "missing/labels.csv"])
def test_command_line_refuses_where_nothing_can_be_written(tmp_path, out):
    asked = ["annotate", str(tmp_path / "fit.nc"), "example:annotators", "--out", str(tmp_path / out)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 2
    assert "cannot be written" in result.output or "ends in none of" in result.output


def test_answers_about_more_than_two_are_refused():
    rows = pd.DataFrame({"annotator": ["p"] * 3 + ["q"] * 3, "item": list("xyz") * 2, "rank": [1, 2, 3, 2, 1, 3]})
    reading = {"answer": "annotator", "item": "item", "rank": "rank"}
    choices = prefdensity.read(rows, **reading)
    post = prefdensity.fit("plackett_luce", choices, draws=100, progress=False)
    for source, arguments in ((choices, {}), (rows, reading)):
        with pytest.raises(DataError, match="comparisons of two"):
            prefdensity.annotate(source, post, **arguments)


def test_errors_name_the_columns_of_the_table_alone():
    frame = pd.DataFrame({"left": ["x", "y"], "right": ["y", "x"], "won": ["a", "b"]})
    post = prefdensity.fit("bradley_terry", prefdensity.read("example:citations"), method="map")
    with pytest.raises(DataError, match="its columns are left, right, won. Name"):
        prefdensity.annotate(frame, post)

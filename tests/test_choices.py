"""Choices from sets: Plackett-Luce and best-worst against brute force, pairs, published estimates and known truth."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

import prefdensity
from prefdensity import Choices, Comparisons, DataError, FitError, ProgramError
from prefdensity.cli import main
from prefdensity.inference.view import View
from prefdensity.programs.loading import load_program
from prefdensity.programs.running import run
from prefdensity.programs.tabulate import cells_of

DATA = Path(__file__).parents[2] / "shared" / "data"
ITEMS = tuple("abcde")


def rankings(orders, left=(), who=None):
    """A long frame of rankings; `left` items of each answer come after all ranked ones."""
    rows = []
    for k, order in enumerate(orders):
        rows += [(f"r{k:03}", item, place + 1) for place, item in enumerate(order)]
        rows += [(f"r{k:03}", item, None) for item in (left[k] if len(left) else ())]
    frame = pd.DataFrame(rows, columns=["answer", "item", "rank"])
    if who is not None:
        frame["judge"] = [who[int(name[1:])] for name in frame["answer"]]
    return frame


def log_likelihood(program, data, **sites):
    """Log likelihood of a program at given values of its sites."""
    program = load_program(program)
    view = View(program, cells_of(data, program.outcomes, program.needs))
    sites |= {"utility_scale": 1.0}  # which choices do not feel
    values = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in sites.items()}
    padded = {
        name: value.reshape(1, *(1,) * (2 - len(view.sites[name].batch)), *value.shape)
        for name, value in values.items()
    }
    met = view.run(padded, 1).met["outcome"]
    return float(met["fn"].log_prob(met["value"]).sum())


def plackett_luce(order, left, utility):
    """One ranking by the definition: products of shares of what is left."""
    rest = [*order, *left]
    total = 0.0
    for item in order:
        total += utility[item] - np.log(sum(np.exp(utility[s]) for s in rest))
        rest.remove(item)
    return total


@pytest.fixture(scope="module")
def some():
    """Thirty rankings of 2 to 5 of 5 items, some cut off, by three judges."""
    rng = np.random.default_rng(1)
    orders, left = [], []
    for _ in range(30):
        members = list(rng.permutation(ITEMS)[: rng.integers(2, 6)])
        kept = int(rng.integers(1, len(members) + 1))
        orders.append(members[:kept])
        left.append(members[kept:])
    return orders, left, rng.integers(3, size=30)


def test_rankings_have_the_plackett_luce_likelihood(some):
    orders, left, _ = some
    data = Choices.from_rankings(rankings(orders, left), answer="answer")
    utility = np.random.default_rng(2).normal(size=5)
    by_name = dict(zip(ITEMS, utility, strict=True))
    expected = sum(plackett_luce(o, rest, by_name) for o, rest in zip(orders, left, strict=True))
    assert log_likelihood("plackett_luce", data, utility=utility) == pytest.approx(expected, rel=1e-12)


def test_layers_compose_with_rankings(some):
    orders, left, who = some
    data = Choices.from_rankings(rankings(orders, left, who), answer="answer", annotator="judge")
    rng = np.random.default_rng(3)
    utility = rng.normal(size=(2, 5))
    weight = np.array([0.3, 0.7])

    def of(judge, table):
        by_name = dict(zip(ITEMS, table, strict=True))
        return sum(plackett_luce(o, rest, by_name) for o, rest, w in zip(orders, left, who, strict=True) if w == judge)

    each = [np.log(sum(weight[k] * np.exp(of(j, utility[k])) for k in range(2))) for j in range(3)]
    found = log_likelihood("annotator_types(k=2)+luce_choice", data, utility=utility, type_weight=weight)
    assert found == pytest.approx(sum(each), rel=1e-12)
    spread, offset = 0.4, rng.normal(size=3)
    expected = sum(of(j, (1 + spread * offset[j]) * utility[0]) for j in range(3))
    sites = {"utility": utility[0], "annotator_reliability_spread": spread, "annotator_reliability_offset": offset}
    assert log_likelihood("luce_choice+reliability", data, **sites) == pytest.approx(expected, rel=1e-12)


def test_best_worst_answers_have_the_maxdiff_likelihood():
    rng = np.random.default_rng(4)
    utility = rng.normal(size=5)
    rows, expected = [], 0.0
    for k in range(20):
        members = rng.permutation(5)[: rng.integers(2, 6)]
        best, worst = rng.choice(members, 2, replace=False)
        rows += [(k, ITEMS[m], "best" if m == best else "worst" if m == worst else None) for m in members]
        total = sum(np.exp(utility[i] - utility[j]) for i, j in permutations(members, 2))
        expected += utility[best] - utility[worst] - np.log(total)
    frame = pd.DataFrame(rows, columns=["answer", "item", "pick"])
    data = Choices.from_best_worst(frame, answer="answer")
    assert log_likelihood("best_worst", data, utility=utility) == pytest.approx(expected, rel=1e-12)


def test_choices_from_two_are_comparisons():
    rng = np.random.default_rng(5)
    pairs = [tuple(rng.choice(ITEMS, 2, replace=False)) for _ in range(60)]
    choices = Choices.from_rankings(rankings(pairs), answer="answer")
    frame = pd.DataFrame(pairs, columns=["item_a", "item_b"]).assign(outcome="a")
    a = prefdensity.fit("plackett_luce", choices, method="map")
    b = prefdensity.fit("bradley_terry", Comparisons.from_frame(frame), method="map")
    assert a.items == b.items
    np.testing.assert_allclose(a.point["utility"], b.point["utility"], atol=1e-5)  # L-BFGS stops at slopes of 1e-5
    on_pairs = prefdensity.fit("plackett_luce", Comparisons.from_frame(frame), method="map")
    np.testing.assert_allclose(on_pairs.point["utility"], b.point["utility"], atol=1e-6)


def nascar():
    path = DATA / "rank_nascar.csv"
    if not path.is_file():
        pytest.skip("the NASCAR rankings are not here")
    return pd.read_csv(path)


def test_published_nascar_estimates():
    frame = nascar()
    last = ["Andy Hillenburg", "Gary Bradberry", "Jason Hedlesky", "Randy Renfrow"]
    kept = frame[~frame["item"].isin(last)].copy()
    kept["rank"] = kept.groupby("race")["rank"].rank().astype(int)
    post = prefdensity.fit("plackett_luce", Choices.from_rankings(kept, answer="race"), method="mle")
    published = pd.read_csv(DATA / "reference.csv").query("dataset == 'rank_nascar'")
    worths = published[published["parameter"] != "loglik"].set_index("parameter")["value"]
    found = pd.Series(post.point["utility"], index=list(post.items))
    found -= found["Austin Cameron"]
    assert len(worths) == 83
    np.testing.assert_allclose(found[worths.index], worths, atol=2e-5)  # they stopped within 1e-5
    assert post.status.log_likelihood == pytest.approx(-4191.09728, abs=1e-4)


def test_mle_is_refused_where_an_item_is_always_last():
    with pytest.raises(FitError, match="'Andy Hillenburg' never beat any item"):
        prefdensity.fit("plackett_luce", Choices.from_rankings(nascar(), answer="race"), method="mle")


def simulated(rng, utility, answers, size, top):
    """Top-`top` lists of `size` random items, by Gumbel noise: exactly Plackett-Luce."""
    orders, left = [], []
    for _ in range(answers):
        members = rng.permutation(len(utility))[:size]
        order = members[np.argsort(-(utility[members] + rng.gumbel(size=size)))]
        orders.append([f"i{m:02}" for m in order[:top]])
        left.append([f"i{m:02}" for m in order[top:]])
    return Choices.from_rankings(rankings(orders, left), answer="answer")


def test_truth_is_recovered_with_honest_intervals():
    """Squared standardised errors of all contrasts, 10 tables of 12 items: chi-square, two-sided level 1e-3."""
    rng = np.random.default_rng(6)
    total = 0.0
    for _ in range(10):
        utility = rng.normal(0, 1.5, 12)
        post = prefdensity.fit("plackett_luce", simulated(rng, utility, 150, 5, 3), method="laplace")
        error = post.draws["utility"] - utility
        contrast = error[:, :-1] - error[:, -1:]  # the shift is the prior's
        mean = contrast.mean(0)
        total += mean @ np.linalg.solve(np.cov(contrast.T), mean)
    low, high = stats.chi2.ppf([5e-4, 1 - 5e-4], 110)
    assert low < total < high


def test_sampled_choices_have_the_stated_probabilities():
    """Chi-square over sets of 2, 3 and 5 alternatives, false-alarm rate 1e-3 in all."""
    rng = np.random.default_rng(7)
    orders = [list(ITEMS), list("abc"), list("de")]
    data = Choices.from_rankings(rankings(orders, who=[0, 1, 2]).query("rank >= 1"), answer="answer")
    program = load_program("plackett_luce")
    cells = cells_of(data, program.outcomes)
    view = View(program, cells)
    utility = torch.tensor(rng.normal(size=5))[None, None]
    silent = replace(cells, outcome=None, total=cells.total * 2000)
    met = run(program, silent, {"utility": utility}, 1, seed=3).met["outcome"]
    counts = met["value"][0, 0, :, 0].numpy()
    expected = met["fn"].outcome_log_prob[0, 0, :, 0].exp().numpy() * silent.total.numpy()
    sets = cells.choice.numpy()
    assert view.dimension == 6
    for k in range(sets.max() + 1):
        assert counts[sets == k].sum() == silent.total[sets == k][0]
    free = len(counts) - (sets.max() + 1)
    assert ((counts - expected) ** 2 / expected).sum() < stats.chi2.ppf(1 - 1e-3, free)


def test_a_fit_goes_on_like_any_other(tmp_path):
    data = simulated(np.random.default_rng(8), np.linspace(-1, 1, 6), 60, 4, 4)
    post = prefdensity.fit("plackett_luce", data)
    post.save(tmp_path / "fit.nc")
    again = prefdensity.load_posterior(tmp_path / "fit.nc")
    assert again.summary()["item"].iloc[0] == post.summary()["item"].iloc[0]
    assert prefdensity.density.of(post).to_frame()["density"].sum() == pytest.approx(1)
    table = post.predict([("i05", "i00")])["p_a"]
    u = post.draws["utility"]
    assert table.iloc[0] == pytest.approx((1 / (1 + np.exp(u[:, 0] - u[:, 5]))).mean(), abs=1e-6)


BAD = [
    (lambda f: f.drop(columns="rank"), "has no column 'rank'; it has answer, item"),
    (lambda f: f.iloc[:0], "has no rows"),
    (lambda f: f.assign(rank=[1, 1, 2]), "answer 'r000' has two items of one rank in 'rank'"),
    (lambda f: f.assign(rank=[1, 2, 4]), "answer 'r000' has a gap in 'rank'"),
    (lambda f: f.assign(rank=[1, 2, 2.5]), "'rank' must hold ranks, whole numbers .* holds 2.5 in row 3"),
    (lambda f: f.assign(rank=["1", "2", "last"]), "'rank' must hold ranks, .* holds 'last' in row 3"),
    (lambda f: f.assign(rank=None), "answer 'r000' ranks nothing in 'rank'"),
    (lambda f: f.assign(item=["a", "b", "a"]), "answer 'r000' has item 'a' 2 times"),
    (lambda f: f.iloc[:1], "answer 'r000' has one item only"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD)
def test_bad_rankings_are_refused_in_words(spoil, message):
    frame = spoil(rankings([list("abc")]))
    with pytest.raises(DataError, match=message):
        Choices.from_rankings(frame, answer="answer")


def test_bad_answers_are_refused_in_words():
    frame = pd.DataFrame({"answer": [1, 1, 1], "item": list("abc"), "pick": ["best", "best", "worst"]})
    with pytest.raises(DataError, match="answer '1' names 2 items 'best' in 'pick', not one"):
        Choices.from_best_worst(frame, answer="answer")
    with pytest.raises(DataError, match="'pick' holds 'good'; it takes 'best', 'worst' or nothing"):
        Choices.from_best_worst(frame.assign(pick=["good", "best", "worst"]), answer="answer")
    with pytest.raises(DataError, match="answer 'r000' has more than one annotator"):
        Choices.from_rankings(rankings([list("ab")]).assign(judge=["x", "y"]), answer="answer", annotator="judge")


@pytest.mark.parametrize("program", ["davidson", "luce_choice+lapse", "luce_choice+intransitive", "crowd_bt"])
def test_programs_of_pairs_are_refused(program, some):
    orders, left, who = some
    data = Choices.from_rankings(rankings(orders, left, who), answer="answer", annotator="judge")
    with pytest.raises(ProgramError, match="is about pairs, and these data are choices from sets"):
        prefdensity.fit(program, data)


def test_the_command_line_fits_rankings(tmp_path):
    rng = np.random.default_rng(0)
    utility = np.array([1.5, 0.5, 0.0, -2.0])
    rows = []
    for race in range(40):
        order = np.argsort(-(utility + rng.gumbel(size=4)))
        rows += [(f"r{race}", f"i{k}", place + 1) for place, k in enumerate(order)]
    table = pd.DataFrame(rows, columns=["race", "item", "place"])
    table["pick"] = table["place"].map({1: "best", 4: "worst"})
    table.to_csv(tmp_path / "races.csv", index=False)

    def shell(command, *options):
        return CliRunner().invoke(main.app, [command, str(tmp_path / "races.csv"), "--answer", "race", *options])

    out = ["--out", str(tmp_path / "out")]
    result = shell("fit", "--rank", "place", "--model", "plackett_luce", *out)
    assert result.exit_code == 0, result.output
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["fit.nc", "parameters.csv", "report.html", "summary.csv"]
    post = prefdensity.load_posterior(tmp_path / "out" / "fit.nc")
    assert post.data_fingerprint == Choices.from_rankings(table, answer="race", rank="place").fingerprint()
    assert pd.read_csv(tmp_path / "out" / "summary.csv")["item"].tolist()[::3] == ["i0", "i3"]
    assert shell("fit", "--pick", "pick", "--model", "best_worst", *out).exit_code == 0
    assert "name one of them" in shell("fit", "--pick", "pick", "--rank", "place", "--model", "best_worst").stderr
    assert "has no column 'x' (asked for as item_a)" in shell("fit", "--item-a", "x", "--model", "plackett_luce").stderr
    described = shell("describe", "--rank", "place")
    assert described.exit_code == 0
    assert described.stdout.startswith("40 answers about 4 items, read as 120 choices (")
    fitted = [str(tmp_path / "out" / "fit.nc"), str(tmp_path / "races.csv"), "--answer", "race", "--pick", "pick"]
    boarded = CliRunner().invoke(main.app, ["leaderboard", *fitted])
    assert boarded.exit_code == 0, boarded.output
    assert [line.split("|")[2].strip() for line in boarded.stdout.splitlines()][2::3] == ["i0", "i3"]
    assert all("| 40 |" in line for line in boarded.stdout.splitlines()[2:])
    studied = shell("select", "--rank", "place", "--model", "plackett_luce")
    assert "select is for comparisons of two and knows nothing of rankings yet" in studied.stderr
    alone = CliRunner().invoke(main.app, ["describe", str(tmp_path / "races.csv"), "--rank", "place"])
    assert "say which answer a row belongs to with --answer" in alone.stderr

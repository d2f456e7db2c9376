"""How often each pair of an arena should meet: what a battle tells, the best weights, whole numbers, the outlook."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from typer.testing import CliRunner

import prefdensity
from benchmarks.arena import RULES, Replay
from prefdensity import DataError, battle_design
from prefdensity.cli import main
from prefdensity.selection.battles import _Belief, _of_pairs, outlook
from prefdensity.selection.candidates import with_items
from prefdensity.selection.pair_sets import ListedPairs


def arena(utility, votes, seed, ties=0.0):
    rng, count = np.random.default_rng(seed), len(utility)
    a = rng.integers(0, count, votes)
    b = (a + rng.integers(1, count, votes)) % count
    half = (utility[a] - utility[b]) / 2
    share = np.stack([np.exp(half), np.exp(-half), np.full(votes, ties)], 1)
    outcome = (rng.random(votes)[:, None] > (share / share.sum(1, keepdims=True)).cumsum(1)[:, :2]).sum(1)
    return prefdensity.Comparisons(
        items=tuple(f"m{k:02}" for k in range(count)), item_a=a, item_b=b, outcome=outcome.astype(np.int8),
        count=np.ones(votes),
    )  # fmt: skip


@pytest.fixture(scope="module")
def post():
    utility = np.linspace(-1.5, 1.5, 8)
    return prefdensity.fit("bradley_terry", arena(utility, 300, 1), seed=0)


def test_a_battle_tells_fishers_information():
    post = prefdensity.fit("bradley_terry", arena(np.linspace(-1.5, 1.5, 8), 6000, 1), seed=0)
    table = battle_design(post, 100)
    u = post.utilities()
    place = {item: k for k, item in enumerate(post.items)}
    p = expit(u[:, table["item_a"].map(place)] - u[:, table["item_b"].map(place)])
    # a regression over draws averages slopes, Fisher's information their squares: the same where draws lie close
    np.testing.assert_allclose(table["information"], (p * (1 - p)).mean(0), rtol=0.03)
    np.testing.assert_allclose(table["p_a"], p.mean(0), atol=0.01)


def test_a_battle_that_may_be_a_draw_tells_what_davidson_says():
    tied = prefdensity.fit("davidson", arena(np.linspace(-1, 1, 6), 6000, 2, ties=0.8), seed=0, draws=4000)
    table = battle_design(tied, 100)
    u, nu = tied.utilities(), tied.draws["tie_strength"]
    place = {item: k for k, item in enumerate(tied.items)}
    half = (u[:, table["item_a"].map(place)] - u[:, table["item_b"].map(place)]) / 2
    weight = np.stack([np.exp(half), np.exp(-half), np.broadcast_to(nu[:, None], half.shape)])
    p = weight / weight.sum(0)
    score = np.array([0.5, -0.5, 0.0])[:, None, None]  # of log weights; minus its mean it is the score
    known = (p * score**2).sum(0) - (p * score).sum(0) ** 2
    known = known.mean(0)
    # of far pairs tie strength and margin are not independent in the posterior, and a regression takes both together
    np.testing.assert_allclose(table["information"], known, rtol=0.15)
    near = known > 0.15
    assert near.sum() > 8
    np.testing.assert_allclose(table["information"][near], known[near], rtol=0.04)


@pytest.mark.parametrize("top", [None, 3])
def test_weights_are_those_of_least_variance(post, top):
    table = battle_design(post, 200, top=top, floor=0.0).sort_values(["item_a", "item_b"], ignore_index=True)
    place = {item: k for k, item in enumerate(post.items)}
    pairs = ListedPairs(table["item_a"].map(place).to_numpy(), table["item_b"].map(place).to_numpy(), len(place))
    u = post.utilities()
    belief = _Belief(u - u.mean(1, keepdims=True), top)

    def variance(free):
        share = np.exp(free - free.max())
        share /= share.sum()
        return np.trace(belief.laplacian @ belief.left(pairs, 200 * share * table["information"].to_numpy()))

    best = min(
        minimize(variance, start, method="L-BFGS-B", options={"maxiter": 500}).fun
        for start in np.random.default_rng(3).normal(size=(3, len(table)))
    )
    found = variance(np.log(table["probability"].to_numpy() + 1e-12))
    assert found <= 1.01 * best
    even = variance(np.zeros(len(table)))
    assert found < even
    # judgements only shrink variances, and their sum is what contrasts add up to
    left = belief.left(pairs, np.ones(pairs.n_rows))
    assert (_of_pairs(left, pairs) < _of_pairs(belief.covariance, pairs)).all()


def test_whole_battles_add_up_and_lie_next_to_what_is_expected(post):
    for n, floor in ((1, 0.1), (37, 0.1), (1000, 0.5), (10_000, 1.0)):
        table = battle_design(post, n, floor=floor, seed=n)
        assert table["battles"].sum() == n
        assert (np.abs(table["battles"] - n * table["probability"]) < 1).all()
        assert table["probability"].sum() == pytest.approx(1)
        assert table["probability"].min() >= floor / len(table) - 1e-12
    assert table["probability"].std() == pytest.approx(0, abs=1e-12)  # all of it dealt evenly


def test_a_pair_is_drawn_as_often_as_it_should_be(post):
    found = np.mean([battle_design(post, 5, seed=k)["battles"].to_numpy() for k in range(60)], 0)
    expected = 5 * battle_design(post, 5)["probability"].to_numpy()
    assert (np.abs(found - expected) < 4.5 * np.sqrt(0.25 / 60)).all()  # 28 pairs, by chance in 2 of 10,000


def test_costs_are_spent_and_not_exceeded(post):
    cost = {item: 1.0 + 9.0 * (k % 2) for k, item in enumerate(post.items)}
    table = battle_design(post, 500, cost=cost)
    spent = float((table["battles"] * table["cost"]).sum())
    assert 500 - 2 * max(cost.values()) <= spent <= 500
    cheap = battle_design(post, 500, cost=dict.fromkeys(post.items, 0.5))
    same = battle_design(post, 500)
    np.testing.assert_allclose(cheap["probability"], same["probability"])
    dear = table["cost"] > 15
    assert table["probability"][dear].mean() < same["probability"].mean()


def test_the_top_gets_the_battles_that_decide_it(post):
    table = battle_design(post, 1000, top=2)
    leading = set(post.summary()["item"][:4])
    held = table.head(3)[["item_a", "item_b"]].to_numpy().ravel()
    assert set(held) <= leading
    assert table.attrs["now"] < table.attrs["after"]
    assert table.attrs["after_uniform"] < table.attrs["after"]
    assert "the chance that the 2 leading are the best is" in outlook(table)


def test_a_new_item_meets_the_others_first():
    data = with_items(arena(np.linspace(-1, 1, 6), 600, 4), ["new"])
    table = battle_design(prefdensity.fit("bradley_terry", data, seed=0), 60)
    assert table.head(4)[["item_a", "item_b"]].isin(["new"]).any(axis=1).all()


def test_a_top_that_is_settled_is_called_so():
    clear = prefdensity.fit("bradley_terry", arena(np.array([3.0, 0, 0, 0, 0]), 2000, 5), seed=0)
    table = battle_design(clear, 100, top=1)
    assert table.attrs["settled"]
    assert any("battles can stop" in note for note in table.attrs["notes"])
    assert not battle_design(clear, 100, top=2).attrs["settled"]


def test_the_outlook_comes_true(post):
    """Truths from the posterior, battles as dealt, and the top by what a Gaussian belief then makes of them."""
    table, rng = battle_design(post, 400, top=3, seed=1), np.random.default_rng(6)
    place = {item: k for k, item in enumerate(post.items)}
    a, b = (table[side].map(place).to_numpy() for side in ("item_a", "item_b"))
    held = np.repeat(np.arange(len(table)), table["battles"])
    right = []
    for truth in rng.permutation(post.utilities())[:60]:
        won = rng.random(len(held)) < expit(truth[a[held]] - truth[b[held]])
        votes = prefdensity.Comparisons(
            items=post.items, item_a=a[held], item_b=b[held], outcome=(~won).astype(np.int8), count=np.ones(len(held))
        )
        draws = post.utilities()
        log_lik = np.zeros(len(draws))
        for k in np.unique(held):
            margin = draws[:, a[k]] - draws[:, b[k]]
            wins, total = won[held == k].sum(), (held == k).sum()
            log_lik -= wins * np.logaddexp(0, -margin) + (total - wins) * np.logaddexp(0, margin)
        assert len(votes) == 400
        weight = np.exp(log_lik - log_lik.max())
        guess = weight @ draws / weight.sum()
        right.append(set(np.argsort(-guess)[:3]) == set(np.argsort(-truth)[:3]))
    error = np.sqrt(0.25 / len(right))
    assert abs(np.mean(right) - table.attrs["after"]) < 3.5 * error


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n": 0}, "n=0 must be at least 1"), ({"n": "many"}, "n='many' must"), ({"n": np.inf}, "n=inf must"),
        ({"n": np.nan}, "n=nan must"), ({"top": 8}, "top=8 must be a whole number between 1 and 7"),
        ({"top": 2.5}, "top=2.5 must be a whole"), ({"top": True}, "top=True must"), ({"floor": "x"}, "floor='x' must"),
        ({"floor": 1.5}, "floor=1.5 must lie between 0 and 1"),
        ({"candidates": "within"}, "needs the group of every item"),
        ({"candidates": [("m00", "m01")], "exclude": [("m01", "m00")]}, "no candidate pair is left"),
        ({"draws": 3}, "needs draws of what is uncertain"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(post, given, words):
    with pytest.raises(DataError, match=words):
        battle_design(post, **given)


def test_the_command_writes_the_battles(tmp_path):
    votes = tmp_path / "votes.csv"
    data = arena(np.linspace(-1, 1, 5), 200, 7)
    names = [np.array(data.items)[code] for code in (data.item_a, data.item_b)]
    pd.DataFrame({"item_a": names[0], "item_b": names[1], "outcome": np.array(["a", "b"])[data.outcome]}).to_csv(
        votes, index=False
    )
    out = tmp_path / "battles.csv"
    asked = ["battles", str(votes), "--model", "bradley_terry", "--n", "50", "--top", "2", "--out", str(out), "--quiet"]
    said = CliRunner().invoke(main.app, asked)
    assert said.exit_code == 0, said.output
    assert "50 battles of" in said.output
    assert pd.read_csv(out)["battles"].sum() == 50
    wrong = CliRunner().invoke(main.app, [*asked, "--top", "5"])
    assert wrong.exit_code == 2
    assert "top=5" in wrong.output or "--top" in wrong.output


@pytest.mark.parametrize("rule", RULES)
def test_a_replay_asks_recorded_votes_until_the_order_is_that_of_all(rule):
    data = arena(np.linspace(-1, 1, 5), 150, 8)
    replay = Replay(data, "bradley_terry")
    asked = np.full(len(replay.pairs), 3)
    _, post = replay.means(np.arange(20))
    picked = RULES[rule](post, replay.pairs, asked, 12, np.random.default_rng(0))
    assert len(picked) == 12
    assert ((picked >= 0) & (picked < len(replay.pairs))).all()
    needed = replay.votes_needed(RULES[rule], seed=1)
    assert 0 < needed <= 150

"""Purchases against the plan: verdicts made otherwise where a label is bought, labels that never come back, and what
intervals are worth then. The worlds are not symmetric about the truth, and no nuisance is right about their labels.
"""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from prefdensity.errors import DataError
from prefdensity.judged.units import Judged
from prefdensity.pcal import GaussianNuisance, LinearNuisance, Mean, Purchases, pcal, weigh_returns

Array = NDArray[Any]

TRUTH = {"x1": 0.8, "x2": -0.5, "intercept": 1.0}


def labels(n: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return covariates, one of them skewed, two outputs of which one is 1 too high, and skewed labels."""
    x = np.column_stack([rng.normal(size=n), rng.exponential(size=n) - 1])
    error = rng.gamma(4, 0.5, size=n) - 2
    y = 1 + x @ [0.8, -0.5] + 1.3 * error
    first = 1 + x @ [0.6, -0.2] + 0.4 * error + rng.normal(size=n)
    second = 2 + x @ [0.9, -0.6] + 0.2 * error + 1.3 * rng.normal(size=n)
    return x, np.column_stack([first, second]), y


def verdicts(y: Array, outputs: Array, rng: np.random.Generator, sharpness: Array | float = np.inf, flip: float = 0.0):
    """Return 0 (output 1 is called closer) or 1 [unit]."""
    closer = np.abs(outputs[:, 1] - y) - np.abs(outputs[:, 0] - y)
    with np.errstate(over="ignore"):
        p = 1 / (1 + np.exp(-np.minimum(sharpness, 1e6) * closer))
    return np.where(rng.random(len(y)) < flip + (1 - 2 * flip) * p, 0, 1)


def world(kind: str, n: int, seed: Any, *, exact: bool = False, lost: str = "none", share: float = 0.25) -> Judged:
    """Return a table of what came back, bought with probabilities that depend on a covariate.

    Parameters
    ----------
    kind
        Who compares: "one" judge; "uneven" (sharper where x1 is larger), "drifting", "anti-informative", a "panel" of
        many people who take turns; "correlated": two who often err together; "second": another one only where a label
        is bought; "labeller": whoever labels compares, exactly, and a crowd that flips 30 % compares the rest;
        "unnamed": the same under one name.
    exact
        Numbers of purchases are those planned, as the sampler draws them; otherwise independent draws.
    lost
        Labels that never come back: "none", at "random", or by their "value" or "covariate".
    """
    rng = np.random.default_rng(seed)
    x, outputs, y = labels(n, rng)
    p1 = np.clip(0.2 * np.exp(0.3 * x[:, 0]), 0.08, 0.5)
    p2 = np.clip(0.6 + 0.1 * x[:, 0], 0.5, 0.8)
    u = (rng.permutation(n) + rng.random()) / n if exact else rng.random(n)
    pattern = np.where(u < p1, 1, np.where(u < p2, 2, 3))
    votes = np.full((n, 2), -1)
    plain = verdicts(y, outputs, rng, sharpness=1.0)
    if kind == "uneven":
        plain = verdicts(y, outputs, rng, sharpness=np.exp(x[:, 0]))
    elif kind == "drifting":
        plain = verdicts(y, outputs, rng, sharpness=3 * np.exp(-4 * np.linspace(0, 1, n)))
    elif kind == "anti-informative":
        plain = verdicts(y, outputs, rng, flip=0.85)
    elif kind in ("labeller", "unnamed"):
        plain = verdicts(y, outputs, rng, flip=0.3)
    votes[:, 0] = np.where(pattern <= 2, plain, -1)
    judges = ("one", "two")
    if kind == "second":
        votes[:, 1] = np.where(pattern == 1, verdicts(y, outputs, rng, sharpness=3.0), -1)
    elif kind == "correlated":
        again = np.where(rng.random(n) < 0.6, plain, verdicts(y, outputs, rng, sharpness=1.0))
        votes[:, 1] = np.where((pattern <= 2) & (rng.random(n) < 0.7), again, -1)
    elif kind == "labeller":
        votes = np.column_stack(
            [np.where(pattern == 2, plain, -1), np.where(pattern == 1, verdicts(y, outputs, rng), -1)]
        )
    elif kind == "unnamed":
        votes[:, 0] = np.where(pattern == 1, verdicts(y, outputs, rng), votes[:, 0])
    if kind == "panel":
        people = rng.integers(12, size=n)
        said = np.where(people < 3, 1 - plain, plain)  # three of them say the contrary
        votes = np.where((people[:, None] == np.arange(12)) & (pattern <= 2)[:, None], said[:, None], -1)
        judges = tuple(f"person {k}" for k in range(12))
    elif (votes[:, 1] < 0).all():
        votes, judges = votes[:, :1], ("one",)
    came = pattern == 1
    if lost == "random":
        came &= rng.random(n) >= share
    elif lost == "value":  # the larger, the sooner
        came &= rng.random(n) >= np.clip(share * (1 + (y - 1) / 2), 0, 1)
    elif lost == "covariate":
        came &= rng.random(n) >= 1 / (1 + np.exp(-(np.log(share / (1 - share)) + 0.5 * (x[:, 0] - x[:, 1]))))
    unit, judge = np.nonzero(votes >= 0)
    return Judged(
        covariates=x, outputs=outputs, label=np.where(came, y, np.nan), judged=unit, judge=judge,
        verdict=votes[unit, judge], features=("x1", "x2", "w1", "w2"), label_probability=p1, preference_probability=p2,
        judges=judges, cost=8.0, bought=pattern if lost != "none" else None,
    )  # fmt: skip


def without_plan(judged: Judged) -> Judged:
    return Judged(**{**vars(judged), "bought": None})


# --- verdicts made otherwise where a label is bought --------------------------------------------------------------


@pytest.mark.parametrize(("kind", "named"), [("second", "two"), ("labeller", "one")])
@pytest.mark.parametrize("n", [300, 2000])
def test_a_judge_who_depends_on_the_purchase_is_refused(kind: str, named: str, n: int) -> None:
    for seed in range(10):
        with pytest.raises(DataError, match=f"{named}' judged .* of the compared units with a label"):
            pcal(world(kind, n, [1, seed]), Mean())


def test_masked_judges_are_counted_and_the_rest_is_used() -> None:
    judged = world("second", 2000, 3)
    found = pcal(judged, Mean(), dependent_judges="mask")
    assert found.judged.aside == (("two", int(judged.labelled.sum())),)
    assert found.judged.judges == ("one",)
    alone = judged.set_aside(["two"])
    assert found.theta == pytest.approx(pcal(alone, Mean()).theta)
    values = found.diagnostics().set_index("quantity")["value"]
    assert values["verdicts of two set aside"] == judged.labelled.sum()


def test_without_the_labeller_the_crowd_never_meets_a_label_and_tells_nothing() -> None:
    judged = world("labeller", 2000, 4).set_aside(["two"])
    with pytest.raises(DataError, match="'one' judged 0% of the compared units with a label and 100%"):
        pcal(judged, Mean())
    masked = pcal(judged, Mean(), dependent_judges="mask")
    assert len(masked.judged.verdict) == 0
    np.testing.assert_allclose(masked.expected[0][0], masked.expected[1][0])
    table = masked.comparison().set_index("method")
    assert table["se"]["PCAL"] < table["se"]["labels only"]  # unlabelled units still help


def test_kept_judges_are_a_warning() -> None:
    found = pcal(world("second", 1000, 5), Mean(), dependent_judges="keep")
    assert any("intervals are not valid: verdicts must be made the same way" in each for each in found.warnings)
    with pytest.raises(DataError, match="dependent_judges='trust' must be one of refuse, mask, keep"):
        pcal(world("one", 300, 5), Mean(), dependent_judges="trust")


def test_one_name_for_two_kinds_of_verdicts_is_seen_by_what_they_say() -> None:
    """Nobody says who judged; the judges are told apart in most tables of 4,000, at 1 false refusal in 10,000."""
    found = [Purchases(world("unnamed", 4000, [6, seed])) for seed in range(20)]
    assert sum(bool(each.dependent) for each in found) >= 12
    seen = next(each for each in found if each.dependent)
    assert "several people, or one who knows more, under one name" in str(seen.breach)
    doubts = [Purchases(world("unnamed", 1000, [6, seed])) for seed in range(20)]
    unsure = next(each for each in doubts if each.doubtful and not each.dependent)
    assert any("may judge units with a label otherwise" in said for said in unsure.warnings)


VALID = ("one", "uneven", "drifting", "anti-informative", "correlated", "panel")


@pytest.mark.parametrize("kind", VALID)
@pytest.mark.parametrize("exact", [False, True])
def test_valid_tables_are_neither_refused_nor_warned_of(kind: str, exact: bool) -> None:
    """At 3 false alarms in 100, six of 40 come once in 1,000."""
    said = [Purchases(world(kind, 1000, [7, seed], exact=exact)).warnings for seed in range(40)]
    assert sum(bool(each) for each in said) < 6, said


def test_whole_clusters_may_be_bought() -> None:
    """Units of a cluster are bought together: draws are dependent, and no alarm (3 in 100; six of 40 once in 1,000)."""
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng([8, seed])
        n, size = 2000, 20
        cluster = np.arange(n) // size
        x, outputs, y = labels(n, rng)
        x[:, 0] = rng.normal(size=n // size)[cluster]
        pattern = np.where(u := rng.random(n // size)[cluster] < 0.3, 1, np.where(rng.random(n) < 0.5, 2, 3))
        assert u.any()
        p1, p2 = np.full(n, 0.3), np.full(n, 0.3 + 0.7 * 0.5)
        seen = np.flatnonzero(pattern <= 2)
        table = Judged(
            covariates=x, outputs=outputs, label=np.where(pattern == 1, y, np.nan), judged=seen,
            judge=np.zeros(len(seen), int), verdict=verdicts(y, outputs, rng, 1.0)[seen],
            features=("x1", "x2", "w1", "w2"), label_probability=p1, preference_probability=p2, cluster=cluster,
        )  # fmt: skip
        alarms += bool(Purchases(table).warnings)
    assert alarms < 6


# --- labels that never come back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["random", "value", "covariate"])
@pytest.mark.parametrize("exact", [False, True])
def test_lost_labels_are_reported(lost: str, exact: bool) -> None:
    """A quarter of about 430 labels; from the plan alone, at least 36 of 40 where 39 are expected."""
    unknown = 0
    for seed in range(40):
        judged = world("one", 2000, [9, seed], exact=exact, lost=lost)
        known = Purchases(judged)
        (said,) = (each for each in known.warnings if "that were asked for never came back" in each)
        assert "by the label's own value" in said
        count = (judged.bought == 1).sum() - judged.labelled.sum()
        assert known.lost == {"label": count, "preference": 0}
        unknown += bool(Purchases(without_plan(judged)).warnings)
    assert unknown >= 36


def test_what_the_lost_have_in_common_is_tested() -> None:
    by_covariate = Purchases(world("one", 3000, 1, lost="covariate")).tests.set_index("test")["p_value"]
    assert by_covariate["what was seen of units whose label came back"] < 1e-6
    at_random = [
        Purchases(world("one", 1000, [2, seed], lost="random")).tests.set_index("test")["p_value"] for seed in range(40)
    ]
    away = sum(each["what was seen of units whose label came back"] < 0.05 for each in at_random)
    assert away <= 7  # 2 are expected; 8 come once in 1,000


def test_weights_of_returns_are_a_logistic_regression() -> None:
    judged = world("one", 3000, 5, lost="covariate")
    weighed = weigh_returns(judged)
    side = np.sign(judged.outputs[:, 0] - judged.outputs[:, 1])
    toward = np.where(judged.votes[:, 0] == 0, side, -side)
    asked = judged.bought == 1
    x = np.column_stack([np.ones(len(judged)), judged.covariates, judged.outputs, toward])[asked]
    assert weighed.returned is not None
    score = x.T @ (judged.labelled[asked] - weighed.returned[asked, 0])
    # the score of a logistic regression is 0, but for a weak prior
    np.testing.assert_allclose(score / asked.sum(), 0, atol=2e-3)
    np.testing.assert_allclose(weighed.label_probability, judged.label_probability * weighed.returned[:, 0])
    np.testing.assert_allclose(weighed.preference_probability, judged.preference_probability)
    assert any("the weights repair loss" in each for each in Purchases(weighed).warnings)


def test_weights_need_to_know_what_was_asked_for() -> None:
    judged = world("one", 500, 5, lost="random")
    with pytest.raises(DataError, match="does not say what was asked for"):
        weigh_returns(without_plan(judged))
    with pytest.raises(DataError, match="weighted by the chances of coming back already"):
        weigh_returns(weigh_returns(judged))
    nothing = Judged(**{**vars(judged), "label": np.full(len(judged), np.nan)})
    with pytest.raises(DataError, match="nothing that was asked for came back"):
        weigh_returns(nothing)


def test_lost_preferences_are_weighed_by_what_was_asked_for() -> None:
    """Preferences come back less often where a label is asked for with them: each request has its own chance."""
    judged = world("one", 20_000, 6, lost="random", share=0.0)
    rng = np.random.default_rng(0)
    gone = rng.random(len(judged)) < np.where(judged.bought == 1, 0.4, 0.1)
    kept = ~gone[judged.judged]
    some = Judged(**{
        **vars(judged), "label": np.where(gone, np.nan, judged.label), "judged": judged.judged[kept],
        "judge": judged.judge[kept], "verdict": judged.verdict[kept],
    })  # fmt: skip
    weighed = weigh_returns(some)
    assert weighed.returned is not None
    assert weighed.returned[:, 0].mean() == pytest.approx(0.6, abs=0.03)  # 4 standard errors
    shown = judged.label_probability / judged.preference_probability
    assert weighed.returned[:, 1] == pytest.approx(shown * 0.6 + (1 - shown) * 0.9, abs=0.06)
    assert Purchases(some).lost["preference"] == (gone & (judged.bought <= 2)).sum()


# --- what preferences are worth -----------------------------------------------------------------------------------


def test_equal_cost_is_what_the_same_money_gives() -> None:
    """The standard errors foretold beside those of tables whose money all went to labels; each has an error of 5 %."""
    ratio = []
    for seed in range(4):
        rng = np.random.default_rng([11, seed])
        x, outputs, y = labels(20_000, rng)
        said = verdicts(y, outputs, rng, 2.0)

        def bought(p1: float, p2: float, x=x, outputs=outputs, y=y, said=said, rng=rng) -> Judged:
            n, u = len(y), rng.permutation(len(y)) / len(y)
            seen = np.flatnonzero(u < p2)
            return Judged(
                covariates=x, outputs=outputs, label=np.where(u < p1, y, np.nan), judged=seen,
                judge=np.zeros(len(seen), int), verdict=said[seen], features=("x1", "x2", "w1", "w2"),
                label_probability=np.full(n, p1), preference_probability=np.full(n, p2), cost=8.0,
            )  # fmt: skip

        worth = pcal(bought(0.15, 0.75)).equal_cost()
        all_on_labels = pcal(bought((7 * 0.15 + 0.75) / 8, (7 * 0.15 + 0.75) / 8))
        ratio.append(worth["se_without"] / all_on_labels.standard_error)
        np.testing.assert_allclose(all_on_labels.equal_cost()["ratio"], 1, rtol=1e-6)
        assert worth["ratio"].mean() > 1.02  # of such outputs preferences tell less than they cost, and it is said
    assert np.mean(ratio) == pytest.approx(1, abs=0.05)


def test_equal_cost_of_labels_alone_goes_with_the_root_of_their_number() -> None:
    """Without a nuisance the variance is E[psi^2 / p1]: at 1.4 times the probability 1.4 times less."""
    judged = world("one", 2000, 5)
    same = {"label_probability": np.full(2000, 0.1), "preference_probability": np.full(2000, 0.5), "cost": 10.0}
    found = pcal(Judged(**{**vars(judged), **same}), Mean(), calibration="none")
    worth, alone = found.equal_cost().iloc[0], found.standard_error[0]
    assert worth["se_without"] == pytest.approx(alone / np.sqrt((9 * 0.1 + 0.5) / 10 / 0.1), rel=1e-9)


def test_equal_cost_needs_a_price() -> None:
    with pytest.raises(DataError, match="price of a label"):
        pcal(Judged(**{**vars(world("one", 500, 1)), "cost": None}), Mean()).equal_cost()


# --- coverage -----------------------------------------------------------------------------------------------------


def coverage(kind: str, replicates: int, n: int = 2000, lost: str = "none", **options: Any) -> dict[str, float]:
    """Return the coverage of 90 % intervals of three coefficients, by nuisance; labels that are lost are weighed."""
    truth, out = np.array(list(TRUTH.values())), {}
    inside: dict[str, list[Array]] = {"gaussian": [], "linear": []}
    for replicate in range(replicates):
        table = world(kind, n, [10, replicate], lost=lost)
        if lost != "none":
            table = weigh_returns(table)
        for name, nuisance in (("gaussian", GaussianNuisance()), ("linear", LinearNuisance())):
            row = pcal(table, None, nuisance, seed=replicate, **options).summary()
            inside[name].append(((row["lower"] <= truth) & (truth <= row["upper"])).to_numpy())
    for name, each in inside.items():
        out |= {f"{name} {parameter}": float(share) for parameter, share in zip(TRUTH, np.mean(each, 0), strict=True)}
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [(kind, {"dependent_judges": "keep"}) for kind in VALID]  # what chance would refuse is kept
    + [(kind, {"dependent_judges": "mask"}) for kind in ("second", "labeller")]
    + [("one", {"lost": "covariate", "dependent_judges": "keep"})],
)
def test_intervals_cover(kind: str, options: dict[str, Any]) -> None:
    """1,000 replicates, standard error .0095; all six coverages share replicates, their mean has one of about .005."""
    found = coverage(kind, 1000, **options)
    print(kind, options, found)
    assert abs(np.mean(list(found.values())) - 0.9) <= 0.02
    assert all(abs(each - 0.9) <= 0.02 + 2 * 0.0095 for each in found.values())


@pytest.mark.slow
def test_kept_judges_cost_validity() -> None:
    """What the refusal is for: the intercept of the workflow with a second judge, 200 replicates."""
    assert coverage("second", 200, dependent_judges="keep")["linear intercept"] < 0.6

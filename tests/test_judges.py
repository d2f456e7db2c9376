"""What a verdict tells, against adaptive quadrature and brute-force sums."""

import numpy as np
import pytest
from scipy import integrate
from scipy.stats import norm

from prefdensity.errors import DataError
from prefdensity.judged.units import Judged
from prefdensity.pcal.functionals import LABEL, LabelFunction
from prefdensity.pcal.judges import ConfusionJudge, LogisticJudge, ProbitJudge, learn_judges, levels_law, tell, truth
from prefdensity.pcal.nuisances import GaussianNuisance

BLURRED = ConfusionJudge(np.array([[0.8, 0.1, 0.1], [0.25, 0.7, 0.05], [0.2, 0.3, 0.5]]))
JUDGES = {
    "noise-free": ConfusionJudge(),
    "confusion": BLURRED,
    "probit": ProbitJudge(0.02, bias=0.3, lapse=0.1, guess=0.7),
    "sharp probit": ProbitJudge(1.0),
    "logistic": LogisticJudge(0.3, bias=0.4, lapse=0.1, guess=0.3),
    "sharp logistic": LogisticJudge(40.0),
    "contrarian logistic": LogisticJudge(-0.5),
}
# mean of the label, two outputs: near, wide, far off, equal, far apart
UNITS = [(0.3, 1.0, -2.0), (0.0, -9.0, 12.0), (2.0, 9.0, 8.0), (1.0, 0.5, 0.5), (-1.0, 300.0, -250.0)]
SD = 2.5


def integrals(judge, mean, outputs, verdict, g=lambda y: y):
    """E[g(Y)^k 1(verdict)] for k = 0 and 1 by adaptive quadrature split wherever anything turns."""
    outputs = np.array([outputs])
    low, high = mean - 14 * SD, mean + 14 * SD
    breaks = np.unique(
        np.clip([*judge.breaks(outputs)[0], *outputs[0], outputs.mean(), mean, *np.linspace(low, high, 15)], low, high)
    )

    def f(y, k):
        p = judge.probability(np.array([[y]]), outputs)[0, 0, verdict]
        return p * norm.pdf(y, mean, SD) * g(y) ** k

    return [
        sum(
            integrate.quad(f, a, b, args=(k,), epsabs=1e-13, epsrel=1e-12)[0]
            for a, b in zip(breaks[:-1], breaks[1:], strict=True)
        )
        for k in (0, 1)
    ]


@pytest.mark.parametrize("name", JUDGES)
@pytest.mark.parametrize("unit", UNITS)
def test_gaussian_forms_equal_quadrature(name, unit):
    judge, (mean, w1, w2) = JUDGES[name], unit
    told = judge.gaussian(np.array([mean]), SD, np.array([[w1, w2]]))
    explained = 0.0
    for verdict in range(3):
        mass, moment = integrals(judge, mean, (w1, w2), verdict)
        assert told.probability[0, verdict] == pytest.approx(mass, abs=1e-8)
        assert told.probability[0, verdict] * told.mean[0, verdict] == pytest.approx(moment, abs=1e-8)
        if mass > 1e-10:
            explained += (moment - mean * mass) ** 2 / mass
    assert told.explained[0] == pytest.approx(explained, abs=1e-8)
    assert told.left[0] == pytest.approx(SD**2 - explained, abs=1e-8)


def test_a_free_comparison_at_the_middle_explains_two_over_pi():
    told = ConfusionJudge().gaussian(np.zeros(1), SD, np.array([[1.0, -1.0]]))
    assert told.explained[0] == pytest.approx(2 / np.pi * SD**2, rel=1e-12)


def test_a_far_tail_keeps_its_precision():
    told = ConfusionJudge().gaussian(np.zeros(1), 1.0, np.array([[21.0, 19.0]]))
    # E[Y | Y > 20] for a standard normal: 20.0497530685...
    assert told.mean[0, 0] == pytest.approx(20.04975306852785, rel=1e-10)


def test_limits_meet():
    mean, outputs = np.array([0.3, -1.0]), np.array([[1.0, -2.0], [4.0, 5.0]])
    exact = ConfusionJudge().gaussian(mean, SD, outputs)
    for judge in (LogisticJudge(1e7), ProbitJudge(1e7)):
        np.testing.assert_allclose(judge.gaussian(mean, SD, outputs).mean[:, :2], exact.mean[:, :2], atol=1e-5)
    for judge in (LogisticJudge(0.0), ProbitJudge(0.0), ConfusionJudge.flipping(0.5)):
        np.testing.assert_allclose(judge.gaussian(mean, SD, outputs).explained, 0, atol=1e-12)


@pytest.mark.parametrize("name", JUDGES)
def test_sums_over_levels_are_bayes_rule(name):
    judge, outputs, mean = JUDGES[name], np.array([[2.0, 4.0], [3.0, 3.0]]), np.array([2.2, 3.5])
    levels = np.arange(1.0, 6.0)
    label, weight = levels_law(mean, 1.3, levels)
    told = tell(judge, label, weight, outputs)
    for unit in range(2):
        p = norm.pdf(levels, mean[unit], 1.3)
        p /= p.sum()
        for verdict in range(3):
            likelihood = [judge.probability(np.array([[y]]), outputs[unit : unit + 1])[0, 0, verdict] for y in levels]
            mass = p @ likelihood
            assert told.probability[unit, verdict] == pytest.approx(mass, abs=1e-12)
            assert told.probability[unit, verdict] * told.mean[unit, verdict] == pytest.approx(
                (p * likelihood) @ levels, abs=1e-12
            )


def test_binary_labels_follow_the_closed_form():
    # mu(a) = pi p(a|1) / (pi p(a|1) + (1 - pi) p(a|0)); output 1 is closer to 1
    pi, hit, alarm = 0.3, 0.8, 0.25
    told = tell(BLURRED, np.array([[0.0, 1.0]]), np.array([[1 - pi, pi]]), np.array([[0.9, 0.2]]))
    assert told.mean[0, 0] == pytest.approx(pi * hit / (pi * hit + (1 - pi) * alarm), rel=1e-12)


def judged_units(judges, n=40, seed=0):
    rng = np.random.default_rng(seed)
    x, outputs = rng.normal(size=(n, 1)), 3 * rng.normal(size=(n, 2))
    label = x[:, 0] + 2 * rng.normal(size=n)
    votes = rng.integers(-1, 2, size=(n, judges))
    votes[0] = -1
    judged, judge = np.nonzero(votes >= 0)
    return Judged(x, outputs, label, judged, judge, votes[judged, judge], ("x", "w1", "w2"), np.ones(n), np.ones(n),
                  tuple(f"judge{j}" for j in range(judges)))  # fmt: skip


@pytest.mark.parametrize("judges", [[BLURRED], [BLURRED, ConfusionJudge.flipping(0.2)],
                                    [LogisticJudge(0.7, 0.2), ProbitJudge(0.05, lapse=0.1)]])  # fmt: skip
def test_several_verdicts_multiply(judges):
    units = judged_units(len(judges))
    fit = GaussianNuisance(judges).fit(units)
    after, before = fit.expect(units, LABEL)
    cube = LabelFunction(lambda judged, label: np.stack([label, label**3, (label <= 0.4) * 1.0], -1), jumps=(0.4,))
    found, prior = fit.expect(units, cube)
    np.testing.assert_allclose(found[:, :1], after, atol=1e-8)
    np.testing.assert_allclose(prior[:, :1], before, atol=1e-8)
    np.testing.assert_allclose(prior[:, 2], norm.cdf((0.4 - before[:, 0]) / fit.sd), atol=1e-8)
    assert found[0, 1] == pytest.approx(prior[0, 1])  # nobody judged the first unit
    y = np.linspace(-25, 25, 400_001)
    for unit in range(1, 6):
        density = norm.pdf(y, before[unit, 0], fit.sd)
        for column, judge in zip(units.votes[unit], judges, strict=True):
            if column >= 0:
                density = density * judge.probability(y[None], units.outputs[unit : unit + 1])[0, :, column]
        density /= density.sum()
        assert found[unit, 0] == pytest.approx(density @ y, abs=2e-4)
        assert found[unit, 1] == pytest.approx(density @ y**3, abs=2e-2)


def test_what_several_judges_explain_is_the_variance_of_the_mean():
    judges = [BLURRED, ConfusionJudge.flipping(0.2)]
    units = panelled(judged_units(2), [[0, 1]])
    fit = GaussianNuisance(judges).fit(units)
    drop = fit.variance_drop(units)
    mean = fit.expect(units, LABEL)[1][:, 0]
    label, weight = np.linspace(-30, 30, 60_001), None
    for unit in range(3):
        weight = norm.pdf(label, mean[unit], fit.sd)
        weight /= weight.sum()
        p = [judge.probability(label[None], units.outputs[unit : unit + 1])[0] for judge in judges]
        explained = 0.0
        for u in range(3):
            for v in range(3):
                joint = weight * p[0][:, u] * p[1][:, v]
                if joint.sum() > 0:
                    explained += (joint @ (label - mean[unit])) ** 2 / joint.sum()
        assert drop.explained[0, unit] == pytest.approx(explained, abs=1e-3)
    alone = [GaussianNuisance(judges).fit(panelled(units, [[k]])).variance_drop(units).explained for k in (0, 1)]
    assert (drop.explained >= np.maximum(*alone) - 1e-9).all()
    # one judge each, by turns: what a preference tells is the average
    turns = GaussianNuisance(judges).fit(panelled(units, [[0], [1]])).variance_drop(units).explained
    np.testing.assert_allclose(turns, (alone[0] + alone[1]) / 2, rtol=1e-9)


def panelled(units, panels):
    """Return units whose preferences come from the panels by turns; a is said by everybody."""
    who = [(row, judge) for row in range(len(units)) for judge in panels[row % len(panels)]]
    judged, judge = np.array(who).T
    return Judged(**{**vars(units), "judged": judged, "judge": judge, "verdict": np.zeros(len(who), int)})


def test_judges_with_few_verdicts_are_like_all_and_those_with_many_are_their_own():
    rng = np.random.default_rng(5)
    n = 6000
    label = rng.normal(size=n)
    outputs = label[:, None] * 0.3 + rng.normal(size=(n, 2))
    judge = np.where(rng.random(n) < 0.5, 0, 1)
    judge[:4] = 2
    flip = np.array([0.1, 0.7, 0.1])[judge]  # the second says the contrary more often than not
    said = np.where(
        rng.random(n) < flip, 1 - truth(label[:, None], outputs)[:, 0], truth(label[:, None], outputs)[:, 0]
    )
    table = Judged(
        covariates=np.zeros((n, 0)), outputs=outputs, label=label, judged=np.arange(n), judge=judge, verdict=said,
        features=("w1", "w2"), label_probability=np.ones(n), preference_probability=np.ones(n),
        judges=("sharp", "contrary", "new"),
    )  # fmt: skip
    sharp, contrary, new = (each.matrix for each in learn_judges(table))
    # about 1,500 verdicts for each truth: 4 standard errors, and what ten borrowed verdicts move
    assert sharp[0, 0] == pytest.approx(0.9, abs=4 * 0.008 + 0.004)
    assert contrary[0, 0] == pytest.approx(0.3, abs=4 * 0.012 + 0.004)
    assert new[:2, :2] == pytest.approx((sharp + contrary)[:2, :2] / 2, abs=0.2)


def test_confusion_is_learned_by_counting():
    rng = np.random.default_rng(5)
    n = 40_000
    label, outputs = rng.normal(size=n), rng.integers(-1, 2, size=(n, 2)).astype(float)
    p = BLURRED.probability(label[:, None], outputs)[:, 0]
    verdict = (rng.random(n)[:, None] > np.cumsum(p, 1)).sum(1)
    learned = ConfusionJudge.learn(label, outputs, verdict)
    assert np.abs(learned.matrix - BLURRED.matrix).max() < 4 * 0.5 / np.sqrt(n / 4)


def test_bad_judges_are_refused():
    with pytest.raises(DataError, match="3 by 3"):
        ConfusionJudge(np.eye(2))
    with pytest.raises(DataError, match="3 by 3"):
        ConfusionJudge(np.full((3, 3), 0.5))
    with pytest.raises(DataError, match="2 judges are given for the 1"):
        GaussianNuisance([BLURRED, BLURRED]).fit(judged_units(1))
    with pytest.raises(DataError, match="'learned'"):
        GaussianNuisance("best").fit(judged_units(1))

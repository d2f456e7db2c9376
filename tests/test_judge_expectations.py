"""What judges tell of a label: expectations against closed forms and simulation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from test_judge_programs import Twin, units_of

from prefdensity.judged.fit import fit_judge


def fixed(name, units, **site):
    """Return a fit of one draw at given values, labels in standard units of the table."""
    fit = fit_judge(name, units, method="map", progress=False)
    draws = {key: np.asarray(site.get(key, value[0]))[None] for key, value in fit.posterior.draws.items()}
    return replace(fit, posterior=replace(fit.posterior, draws=draws))


def gaussian_moments(fit, units):
    site = {key: value[0] for key, value in fit.posterior.draws.items()}
    mean = site["intercept"] + fit.scale.design(units) @ site["coefficient"]
    w = (units.outputs - fit.scale.label_mean) / fit.scale.label_sd
    return mean, float(site["label_sd"]), *w.T


@pytest.mark.parametrize("sharpness", [0.3, 2.0, 20.0])
def test_probit_expectations_equal_the_closed_form(sharpness):
    units = units_of(200)
    fit = fixed("gaussian+squared_distance+probit+lapse", units, sharpness=sharpness, lapse=0.1)
    m, s, w1, w2 = gaussian_moments(fit, units)
    k, a = np.sqrt(2) * sharpness * (w1 - w2), -sharpness * (w1**2 - w2**2) / np.sqrt(2)
    z = (a + k * m) / np.sqrt(1 + (k * s) ** 2)
    p = 0.05 + 0.9 * stats.norm.cdf(z)
    d = 0.9 * k * s**2 * stats.norm.pdf(z) / np.sqrt(1 + (k * s) ** 2)
    drop = fit.variance_drop(units, nodes=24)
    assert drop.probability[0, :, 0] == pytest.approx(p, abs=1e-8)
    back = (drop.mean[0] - fit.scale.label_mean) / fit.scale.label_sd
    assert back[:, 0] == pytest.approx(m + d / p, abs=1e-8)
    assert back[:, 1] == pytest.approx(m - d / (1 - p), abs=1e-8)
    assert drop.explained[0] / fit.scale.label_sd**2 == pytest.approx(d**2 / (p * (1 - p)), abs=1e-8)
    after, before = fit.expect(units, lambda y: y, nodes=24)
    chosen = np.where(units.verdict == 0, drop.mean[0, :, 0], drop.mean[0, :, 1])
    assert after == pytest.approx(chosen, abs=1e-9)
    assert before == pytest.approx(fit.scale.label_mean + fit.scale.label_sd * m, abs=1e-8)


def test_the_noise_free_judge_cuts_the_normal_law():
    units = units_of(200, sharpness=1e4)
    fit = fixed("gaussian+noise_free", units)
    m, s, w1, w2 = gaussian_moments(fit, units)
    t = ((w1 + w2) / 2 - m) / s
    upper = m + s * np.exp(stats.norm.logpdf(t) - stats.norm.logsf(t))
    lower = m - s * np.exp(stats.norm.logpdf(t) - stats.norm.logcdf(t))
    after, _ = fit.expect(units, lambda y: y, nodes=24)
    expected = np.where((units.verdict == 0) == (w1 > w2), upper, lower)
    assert (after - fit.scale.label_mean) / fit.scale.label_sd == pytest.approx(expected, abs=1e-8)


def test_a_very_sharp_judge_is_noise_free():
    units = units_of(200, sharpness=1e4)
    free = fixed("gaussian+noise_free", units)
    parts = {key: value[0] for key, value in free.posterior.draws.items()}
    clear = np.abs(np.diff(units.outputs)[:, 0]) > free.scale.label_sd / 2
    errors = []
    for sharpness in (30.0, 300.0):
        sharp = fixed("gaussian+distance", units, sharpness=sharpness, **parts)
        laws = [each.variance_drop(units.take(clear), nodes=24).probability for each in (sharp, free)]
        errors.append(np.abs(laws[0] - laws[1]).max())
    assert errors[0] < 1e-3
    # the transition is symmetric, so that errors are of second order in its width 1 / sharpness
    assert errors[1] == pytest.approx(errors[0] / 100, rel=0.05)


def test_expectations_of_any_function_and_of_several_judges():
    units = units_of(14, labelled=0.0, judges=3)
    fit = fixed("gaussian+distance+reliability", units)
    site = {key: value[0] for key, value in fit.posterior.draws.items()}
    twin = Twin("gaussian+distance+reliability", fit.scale, units, site)
    low = fit.scale.label_mean
    after, before = fit.expect(units, np.sin, nodes=24)
    for i in (0, 5, 13):

        def raised(y):
            return np.sin(low + fit.scale.label_sd * y)

        above = twin.integral(i, lambda y, i=i: raised(y) * twin.told(i, y))
        assert after[i] == pytest.approx(above / twin.integral(i, lambda y, i=i: twin.told(i, y)), rel=1e-8)
        assert before[i] == pytest.approx(twin.integral(i, raised), rel=1e-8)


def test_numerator_and_denominator_are_averaged_apart():
    units = units_of(40)
    fit = fit_judge("gaussian+distance", units, method="laplace", draws=100, progress=False)
    ones = [replace(fit, posterior=replace(fit.posterior, draws={k: v[[d]] for k, v in fit.posterior.draws.items()}))
            for d in (0, 99)]  # fmt: skip
    both = replace(fit, posterior=replace(fit.posterior, draws={k: v[[0, 99]] for k, v in fit.posterior.draws.items()}))
    p = [np.exp(next(one.laws(units, 24))[1].log_evidence) for one in ones]
    m = [one.expect(units, lambda y: y, nodes=24)[0] for one in ones]
    expected = (p[0] * m[0] + p[1] * m[1]) / (p[0] + p[1])
    assert both.expect(units, lambda y: y, nodes=24)[0] == pytest.approx(expected, rel=1e-8)

"""Likelihood-ratio tests of maximum-likelihood fits, for programs of which one contains the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from prefdensity.comparison.elpd import unit_log_lik
from prefdensity.data.comparisons import TIE, A, B, Comparisons, of_two
from prefdensity.errors import DataError
from prefdensity.inference.fitting import fit
from prefdensity.posterior.posterior import Posterior, require_same_table

_APART = 1e-7  # nats for each judgement by which a program may miss what it contains: rounding, and no curve of choice
_CODES = {"a": A, "b": B, "tie": TIE}


def likelihood_ratios(posteriors: Mapping[str, Posterior], data: Comparisons) -> pd.DataFrame:
    """Test each program against the next larger one, as R's ``anova`` does for fits of one family.

    Whether a program contains another is asked, not known: the larger one is fitted to the probabilities that the
    smaller one gives, at a place near its estimate, and must reproduce them.

    Parameters
    ----------
    posteriors
        name -> fit of `data` by ``method="mle"``.
    data
        The comparisons.

    Returns
    -------
    Frame with one row for each program, the fewest parameters first: program, parameters (free ones), log_likelihood,
    aic, deviance (from a program that gives each distinct comparison its observed shares), and against the program of
    the row above df, chi2 and p (Wilks 1938, Annals of Mathematical Statistics 9, 60-62: for many judgements).

    Raises
    ------
    DataError
        For fits by another method or of another table, of other outcomes, and for programs neither of which contains
        the other.

    Examples
    --------
    >>> import prefdensity
    >>> games = prefdensity.read("example:baseball")  # the first team plays at home
    >>> fits = {n: prefdensity.fit(n, games, method="mle") for n in ("bradley_terry", "bradley_terry+position_bias")}
    >>> likelihood_ratios(fits, games).round(3)[["parameters", "aic", "chi2", "p"]].tail(1)
       parameters      aic   chi2     p
    1           7  353.086  5.411  0.02
    """
    data = of_two(data, "likelihood_ratios")
    _require_fits(posteriors, data)
    names = sorted(posteriors, key=lambda name: (posteriors[name].status.n_parameters, name))
    for small, large in zip(names, names[1:], strict=False):
        _require_nested(small, posteriors[small], large, posteriors[large], data)
    facts = [posteriors[name].status for name in names]
    table = pd.DataFrame(
        {
            "program": names,
            "parameters": [each.n_parameters for each in facts],
            "log_likelihood": [each.log_likelihood for each in facts],
            "aic": [each.aic for each in facts],
            "deviance": [each.deviance for each in facts],
        }
    )
    table["df"] = table["parameters"].diff().astype("Int64")
    table["chi2"] = (2 * table["log_likelihood"].diff()).clip(lower=0)
    table["p"] = chdtrc(table["df"].astype(float), table["chi2"])
    return table


def _require_fits(posteriors: Mapping[str, Posterior], data: Comparisons) -> None:
    """Raise `DataError` unless these are maximum-likelihood fits of the table, two or more."""
    if not isinstance(posteriors, Mapping) or len(posteriors) < 2:
        raise DataError("a likelihood ratio is between two programs; give two or more, as in {'name': fit, ...}")
    for name, post in posteriors.items():
        require_same_table(post, data)
        if post.status.n_parameters is None:
            raise DataError(
                f"the fit of {name} is by {post.status.method}, and likelihood ratios are of maximum-likelihood fits: "
                "method='mle'"
            )


def _require_nested(name: str, small: Posterior, larger: str, large: Posterior, data: Comparisons) -> None:
    """Raise `DataError` unless the larger program gives whatever probabilities the smaller one can give."""
    instead = "compare them by aic, or by prefdensity.compare"
    if small.outcomes != large.outcomes:
        raise DataError(f"{name} and {larger} have other outcomes, so their likelihoods do not compare")
    if small.status.n_parameters == large.status.n_parameters:
        raise DataError(f"{name} and {larger} have {small.status.n_parameters} parameters each, so {instead}")
    expected, most = _expected(small, data)
    nearest = fit(large.program, expected, method="mle", draws=100, device=large.device, progress=False)
    gap = most - nearest.status.log_likelihood
    if gap > _APART * data.n_judgements + 1e-6:
        raise DataError(
            f"{name} is not a case of {larger}: the nearest that it comes is {gap:.2g} nats away. A likelihood ratio "
            f"has no chi-squared distribution then; {instead}"
        )


def _expected(post: Posterior, data: Comparisons) -> tuple[Comparisons, float]:
    """Return the table with the counts that one draw of a fit expects, and their log likelihood under it."""
    if any(outcome not in _CODES for outcome in post.outcomes):
        raise DataError(f"{post.program_name} has strengths of preference; likelihood ratios are of plain outcomes")
    size, kinds = len(data), len(post.outcomes)
    codes = np.repeat([_CODES[outcome] for outcome in post.outcomes], size).astype(np.int8)
    rows = np.tile(np.arange(size), kinds)
    asked = replace(data.take(rows), outcome=codes)
    near = replace(post, draws={name: values[:1] for name, values in post.draws.items()})
    log_p, _, _, term = unit_log_lik(near, asked)
    each = log_p[0].cpu().numpy()[term]
    count = asked.count * np.exp(each)
    return replace(asked, count=count), float(count @ each)

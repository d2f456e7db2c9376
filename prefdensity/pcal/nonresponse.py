"""Weights for labels and preferences that were asked for and never came back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.errors import DataError
from prefdensity.judged.units import COMPARED, LABELLED, Judged
from prefdensity.pcal.purchase_checks import seen_features, seen_votes

Array = NDArray[Any]

_STEPS = 100
_RIDGE = 0.04  # Normal(0, 5) on logits for one sd: keeps a separated feature finite, and says nothing otherwise


def weigh_returns(judged: Judged) -> Judged:
    """Return the table with probabilities times the estimated chance that what is asked for comes back.

    A preference comes back with a chance that is logistic in covariates, outputs and whether a label was asked for
    with it; a label, once its preference is back, with one that is logistic in covariates, outputs and verdicts.
    Valid where loss depends on these only and has this form, and so does not depend on the label itself beyond them,
    which no data can tell. Standard errors take the chances as known. Where some chances are small (a tail of a
    covariate from which hardly anything comes back) few labels carry the weight, and intervals are too short.

    Parameters
    ----------
    judged
        With `bought`, what was asked for.

    Raises
    ------
    DataError
        If the table does not say what was asked for, or nothing at all came back.

    References
    ----------
    Robins, Rotnitzky and Zhao (1994), JASA 89, 846-866.
    """
    if judged.bought is None:
        raise DataError(
            f"{judged.source} does not say what was asked for, so what never came back is not known; name the column "
            "with label, preference or nothing (--buy, in Python buy=)"
        )
    if judged.returned is not None:
        raise DataError(f"{judged.source} is weighted by the chances of coming back already")
    asked = judged.bought <= COMPARED
    whole = (judged.bought == LABELLED).astype(float)
    before = np.column_stack([np.ones(len(judged)), seen_features(judged)])
    with_label, alone = (
        _chance(judged.compared, asked, np.column_stack([before, whole]), np.column_stack([before, value]))
        for value in (np.ones(len(judged)), np.zeros(len(judged)))
    )
    after = np.hstack([before, *map(np.column_stack, seen_votes(judged))])
    label = _chance(judged.labelled, judged.compared & (whole == 1), after, after)
    p1, p2 = judged.label_probability, judged.preference_probability
    back = np.column_stack([with_label * label, (p1 * with_label + (p2 - p1) * alone) / p2])
    return replace(judged, label_probability=p1 * back[:, 0], preference_probability=p2 * back[:, 1], returned=back)


def _chance(came: Array, asked: Array, features: Array, of: Array) -> Array:
    """Return the chance of coming back at features `of` [unit], learned from the units asked; 1 where all came."""
    if came[asked].all():
        return np.ones(len(of))
    if not came[asked].any():
        raise DataError("nothing that was asked for came back; there is nothing to estimate from")
    x, y = features[asked], came[asked].astype(float)
    ridge = _RIDGE * np.eye(x.shape[1])
    ridge[0, 0] = 0.0
    b = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-(x @ b)))
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + ridge, x.T @ (y - p) - ridge @ b)
        b = b + step / max(np.abs(step).max() / 2, 1.0)
        if np.abs(step).max() < 1e-10:
            break
    return np.asarray(1 / (1 + np.exp(-(of @ b))))

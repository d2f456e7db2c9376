"""Weights for labels and preferences that were asked for and never came back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.errors import DataError
from prefdensity.judged.measured import Measured
from prefdensity.judged.units import COMPARED, LABELLED, Judged
from prefdensity.pcal.purchase_checks import score_test, seen_features, seen_votes

Array = NDArray[Any]

_STEPS = 100
_RIDGE = 0.04  # Normal(0, 5) on logits for one sd: keeps a separated feature finite, and says nothing otherwise


@overload
def weigh_returns(judged: Judged) -> Judged: ...
@overload
def weigh_returns(judged: Measured) -> Measured: ...
def weigh_returns(judged: Judged | Measured) -> Judged | Measured:
    """Return the table with probabilities times the estimated chance that what is asked for comes back.

    On a ladder, a rung comes back, once those below it are back, with a chance that is logistic in covariates, free
    measures and these rungs. Of labels and preferences, a preference comes back with a chance that is logistic in
    covariates, outputs and whether a label was asked for with it; a label, once its preference is back, with one that
    is logistic in covariates, outputs and verdicts.
    Valid where loss depends on these only and has this form, and so does not depend on the label itself beyond them,
    which no data can tell. Standard errors take the chances as known. Where some chances are small (a tail of a
    covariate from which hardly anything comes back) few labels carry the weight, and intervals are too short.

    Parameters
    ----------
    judged
        With what was asked for: `bought` of labels and preferences, `asked` of a ladder.

    Raises
    ------
    DataError
        If the table does not say what was asked for, or nothing at all came back.

    References
    ----------
    Robins, Rotnitzky and Zhao (1994), JASA 89, 846-866.
    """
    measured = isinstance(judged, Measured)
    if (judged.asked if isinstance(judged, Measured) else judged.bought) is None:
        words = "the dearest rung, or nothing" if measured else "label, preference or nothing"
        raise DataError(
            f"{judged.source} does not say what was asked for, so what never came back is not known; name the column "
            f"with {words} (--buy, in Python buy=)"
        )
    if judged.returned is not None:
        raise DataError(f"{judged.source} is weighted by the chances of coming back already")
    return _ladder_weighed(judged) if isinstance(judged, Measured) else _weighed(judged)


def losses(table: Measured) -> pd.DataFrame:
    """Return for each rung what was asked for and came back: rung, asked, came, p_value, off.

    p_value: of the test that what was seen below, covariates and free measures among it, does not tell what comes back.
    off: by how much the mean of labels is off if those that are lost lie one standard deviation above what is expected
    of them; no data tell whether they do. NaN for rungs below the label.
    """
    assert table.asked is not None  # asked for before
    rows = []
    for index, rung in enumerate(table.rungs[::-1]):
        among = _among(table, index)
        came, share = rung.bought[among], float(rung.bought[among].mean()) if among.any() else 1.0
        seen = table.known(index)[among, 1:]
        spread = seen.std(0)
        seen = (seen - seen.mean(0))[:, spread > 0] / spread[spread > 0]
        p_value = np.nan
        if 0 < share < 1 and seen.shape[1]:
            cluster = None if table.cluster is None else table.cluster[among]
            one = np.ones((len(came), 1))
            p_value = score_test(came, np.full(len(came), share), one, seen, cluster)[2]
        off = (1 - share) * float(np.nanstd(table.label)) if index == len(table.ladder) - 1 else np.nan
        rows.append((rung.name, int(among.sum()), int(came.sum()), p_value, off))
    return pd.DataFrame(rows, columns=["rung", "asked", "came", "p_value", "off"])


def _among(table: Measured, index: int) -> Array:
    """Return the units of which a rung was asked for, and those below came back [unit]."""
    assert table.asked is not None
    below = table.rungs[::-1][index - 1].bought if index else np.ones(len(table), bool)
    return np.asarray(table.asked[:, index] & below)


def _ladder_weighed(table: Measured) -> Measured:
    chances, back = [], np.ones(len(table))
    for index, rung in enumerate(table.rungs[::-1]):
        known = table.known(index)
        spread = known.std(0)
        spread[spread == 0] = 1.0
        known = np.hstack([known[:, :1], (known - known.mean(0))[:, 1:] / spread[1:]])
        back = back * _chance(rung.bought, _among(table, index), known, known)
        chances.append(back)
    returned = np.column_stack(chances)
    return replace(table, probabilities=table.probabilities * returned, returned=returned)


def _weighed(judged: Judged) -> Judged:
    """Return the same of labels and preferences."""
    assert judged.bought is not None
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

"""What the same money would have bought without preferences: every preference alone turned into labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq

from prefdensity.errors import DataError
from prefdensity.pcal.calibration import residuals
from prefdensity.pcal.diagnostics import without_preferences
from prefdensity.pcal.purchase_checks import planned
from prefdensity.pcal.solved import Solved

Array = NDArray[Any]


def equal_cost(estimate: Solved) -> pd.DataFrame:
    """Return one row per parameter: parameter, se, se_without, ratio.

    se_without is what the standard error of labels and unlabelled units would have been, had the planned cost been
    spent on labels alone, each with its preference but none without label: probabilities of a label grow by one factor,
    up to 1. By the variance E[psi1^2 + (1/p1 - 1)(psi1 - psi3)^2] at p1 and at the larger probabilities.

    Raises
    ------
    DataError
        If the table does not know what a label costs.
    """
    cost = estimate.judged.cost
    if cost is None:
        raise DataError("a comparison at equal cost depends on the price of a label; give cost= to Judged.from_frame")
    bare = without_preferences(estimate)["labels and unlabelled"]
    p1, p2 = planned(estimate.judged)
    money = float(((cost - 1) * p1 + p2).mean())
    factor = _factor(p1, money / cost)
    variances = []
    for grown in (1.0, factor):
        total = np.zeros(len(estimate.names))
        for stage in bare.stages:
            back = 1.0 if estimate.judged.returned is None else estimate.judged.returned[stage.rows, 0]
            p = np.minimum(grown * p1[stage.rows], 1.0) * back
            rest = stage.psi
            for part, each in zip(stage.parts, stage.matrices, strict=True):
                rest = residuals(rest, part, each)
            values = stage.psi**2 + (1 / p - 1)[:, None] * rest**2
            total += stage.share**2 * (stage.weight[:, None] * values).mean(0) / len(p)
        variances.append(total)
    now, more = variances
    without = bare.standard_error * np.sqrt(more / np.where(now > 0, now, 1.0))
    columns = {"parameter": estimate.names, "se": estimate.standard_error, "se_without": without}
    ratio = np.divide(estimate.standard_error, without, out=np.ones_like(without), where=without > 0)
    return pd.DataFrame(columns).assign(ratio=ratio)


def _factor(p1: Array, share: float) -> float:
    """Return what probabilities are multiplied by, up to 1 each, for their mean to be `share`."""
    if share >= 1:
        return float(1 / p1.min())

    def missing(factor: float) -> float:
        return float(np.minimum(factor * p1, 1.0).mean() - share)

    return float(brentq(missing, 1.0, 1 / p1.min())) if missing(1.0) < 0 else 1.0

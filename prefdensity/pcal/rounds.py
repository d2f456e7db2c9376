"""Rounds of buying: earlier rounds kept, intervals that hold at every look, drift between rounds.

Every round is a stage with its own known probabilities, which may depend on all rounds before it: designs learn. The
average of stages by what they were to tell is, in units of information, a sum of martingale increments, so that the
normal-mixture boundary (Robbins 1970; Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, asymptotic confidence
sequences) holds for all looks at once: look as often as you like, stop when it is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc

from prefdensity.errors import DataError
from prefdensity.judged.measured import Measured
from prefdensity.pcal.intervals import spread
from prefdensity.pcal.solved import Solved

Array = NDArray[Any]


def together(rounds: Sequence[Measured]) -> Measured:
    """Return the tables of several rounds as one, each a stage.

    Raises
    ------
    DataError
        If there are none, or they differ in ladder, covariates, free measures or columns of a rung.
    """
    if not rounds:
        raise DataError("there is no round; at least one table is needed")
    first = rounds[0]
    for number, table in enumerate(rounds[1:], 2):
        for what, of in (
            ("ladder", lambda each: each.ladder),
            ("covariates", lambda each: each.covariate_names),
            ("number of free measures", lambda each: each.outputs.shape[1]),
            ("columns of the rungs", lambda each: [part.shape[1] for part in each.measures]),
        ):
            if of(table) != of(first):
                raise DataError(f"round {number} has another {what} than round 1: {of(table)}, not {of(first)}")
        if (table.cluster is None) != (first.cluster is None):
            raise DataError(f"round {number} and round 1 must both have clusters, or neither")
    stage = np.repeat(np.arange(len(rounds)), [len(table) for table in rounds])
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(table, name) for table in rounds])
        for name in ("covariates", "outputs", "label", "probabilities")
    }
    for name, whole in (("asked", _came), ("returned", lambda table: np.ones_like(table.probabilities))):
        held = [getattr(table, name) for table in rounds]
        if any(each is not None for each in held):  # of rounds that do not say, everything came
            joined[name] = np.concatenate(
                [whole(table) if each is None else each for table, each in zip(rounds, held, strict=True)]
            )
    measures = tuple(np.concatenate(parts) for parts in zip(*(table.measures for table in rounds), strict=True))
    cluster = None if first.cluster is None else np.concatenate([table.cluster for table in rounds])  # type: ignore[misc]
    return replace(first, measures=measures, cluster=cluster, stage=stage, **joined)


def _came(table: Measured) -> Array:
    """Return what came back [unit, rung]."""
    return np.column_stack([rung.bought for rung in table.rungs[::-1]])


def apart(table: Measured) -> list[Measured]:
    """Return the rounds of a table with stages, in their order; one without stages is one round."""
    if table.stage is None:
        return [table]
    return [replace(table.take(table.stage == each), stage=None) for each in np.unique(table.stage)]


def pooled(rounds: Sequence[Measured]) -> Measured:
    """Return the tables of several rounds as if bought at once: for units and judges that are alike in all of them.

    A unit counts by how often its rungs were bought in all rounds together, so that labels of a pilot are compared with
    measures bought later. Intervals are shorter than those of `together`, which needs none of this, but wrong where a
    judge changes between rounds (see `drift`), and for one look.

    Raises
    ------
    DataError
        As `together`, or if probabilities differ within a round.
    """
    table = together(rounds)
    for number, each in enumerate(rounds, 1):
        if (np.ptp(each.probabilities, axis=0) > 1e-9).any():
            raise DataError(
                f"round {number} was bought with probabilities that differ between units; rounds put together as one "
                "need the same for all units of a round: use together()"
            )
    return replace(
        table, stage=None, probabilities=np.broadcast_to(table.probabilities.mean(0), table.probabilities.shape)
    )


def anytime(found: Solved, level: float | None = None, first_error: float | None = None) -> pd.DataFrame:
    """Return intervals that hold at every look: parameter, estimate, lower, upper, price.

    With information V = 1 / se^2, and V0 that of the first look, the half length is
    sqrt((V + V0) (log(1 + V / V0) + 2 log(1 / alpha))) / V; few labels widen it as they widen Student's t. Valid
    asymptotically, from the first look on.

    Parameters
    ----------
    found
        The estimate from all rounds so far, with stages in the order of rounds.
    level
        That all looks together hold the truth; None: that of the estimate.
    first_error
        Standard error at the first look, the same at every look; None: that of the first stage alone. The boundary is
        tightest when information is some times that of the first look.

    Returns
    -------
    DataFrame
        One row per parameter; price is the length over that of an interval for one look.
    """
    alpha = 1 - found.mass(level)
    if first_error is not None and not (np.isfinite(first_error) and first_error > 0):
        raise DataError(f"first_error={first_error!r} must be positive: the standard error at the first look")
    start = _first_error(found) if first_error is None else np.full(len(found.names), first_error)
    times = np.divide(start**2, found.standard_error**2, out=np.ones_like(start), where=found.standard_error > 0)
    z = np.sqrt((1 + 1 / times) * (np.log1p(times) + 2 * np.log(1 / alpha)))
    half = found.as_normal(z) * found.standard_error
    fixed = found.critical(level) * found.standard_error
    columns = {"estimate": found.theta, "lower": found.theta - half, "upper": found.theta + half}
    price = np.divide(half, fixed, out=np.ones_like(half), where=fixed > 0)
    return pd.DataFrame({"parameter": found.names, **columns, "price": price})


def decided(
    found: Solved, against: float = 0.0, level: float | None = None, first_error: float | None = None
) -> pd.Series:
    """Return for each parameter "above", "below" or "open": whether it differs from a value, at any look.

    Stop when it is not "open": over all looks the verdict is wrong at most as often as the level allows.
    """
    table = anytime(found, level, first_error)
    said = np.where(table["lower"] > against, "above", np.where(table["upper"] < against, "below", "open"))
    return pd.Series(said, index=list(found.names), name="decided")


def drift(found: Solved) -> pd.DataFrame:
    """Return tests of drift between rounds: what, statistic, df, p_value.

    For each rung, and for what is free, whether labels lie above what is expected given it by the same amount in all
    rounds: a judge who changes, or other units, shows here. Estimates stay valid for the rounds
    together, for every round is weighed by its own probabilities; what they speak of is then an average.
    """
    if len(found.stages) < 2:
        raise DataError("drift is between rounds; the table has one stage")
    table, weight = found.judged, found.judged.labelled / found.judged.label_probability
    label = found.functional.label_function(found.start).at_labels(table)[:, 0]
    names = [rung.name for rung in table.rungs[1:]] + ["what is free"]
    rows = []
    for name, guesses in zip(names, found.expected, strict=True):
        rest = label - guesses[0][:, 0]
        means, errors = [], []
        for stage in found.stages:
            seen = stage.rows & table.labelled
            share = weight[seen] / weight[seen].sum()
            means.append(share @ rest[seen])
            errors.append(np.sqrt(share**2 @ (rest[seen] - means[-1]) ** 2))
        precision = 1 / np.maximum(errors, 1e-300) ** 2
        common = precision @ means / precision.sum()
        statistic, df = float(precision @ (np.array(means) - common) ** 2), len(means) - 1
        rows.append((name, statistic, df, float(chdtrc(df, statistic))))
    return pd.DataFrame(rows, columns=["what", "statistic", "df", "p_value"])


def _first_error(found: Solved) -> Array:
    """Return the standard error of the first stage alone [parameter]."""
    stage = found.stages[0]
    cluster = found.judged.cluster
    values = spread(stage.corrected, None if cluster is None else cluster[stage.rows])
    return np.asarray(np.sqrt(np.diag(values)))

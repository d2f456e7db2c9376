"""What to look at beside a preference-calibrated estimate: multipliers, residuals, weights, spending."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.judged.units import VERDICTS, A, B, Judged
from prefdensity.pcal.calibration import learned, multipliers
from prefdensity.pcal.intervals import effective
from prefdensity.pcal.purchase_checks import planned
from prefdensity.pcal.solved import Solved, assemble

Array = NDArray[Any]

_FEW = 30  # effective labels beyond the parameters, below which intervals are rough
_FEW_CLUSTERS = 7  # clusters beyond the parameters
_LABELS_A_MULTIPLIER = 5
_HEAVY = 0.15  # share of all label weight on one unit: with enough effective labels, intervals cover below it
_WEAK = 0.5  # a multiplier this small: the nuisance promised twice what was found


def without_preferences(estimate: Solved) -> dict[str, Solved]:
    """Return the estimates of "labels only" and "labels and unlabelled" from the same purchases."""
    # preferences at the price of labels: the bracket of preferences vanishes, psi3 takes all
    judged = estimate.judged
    bare = replace(judged, preference_probability=judged.label_probability, asked=judged.labelled)
    rule, expected = estimate.rule, (estimate.expected[-1],) * 2
    return {
        name: assemble(
            bare, estimate.functional, estimate.start, expected, each, estimate.level, estimate.population, None
        )
        for name, each in (
            ("labels only", replace(rule, calibration="none")),
            ("labels and unlabelled", rule),
        )
    }


def diagnose(estimate: Solved) -> pd.DataFrame:
    """Return one row per quantity: quantity, value, meaning."""
    judged = estimate.judged
    weight = judged.labelled / judged.label_probability
    rows: list[tuple[str, float, str]] = [
        ("labelled", float(judged.labelled.sum()), "units with a label"),
        ("preferences only", float((judged.compared & ~judged.labelled).sum()), "units with a preference and no label"),
        ("neither", float((~judged.compared).sum()), "units with neither"),
        ("effective labels", effective(weight), "(sum of weights)^2 / sum of squared weights"),
        ("largest weight", float(weight.max() / weight.sum()), "share of all label weight on one unit"),
    ]
    if judged.cost is not None:
        rows.append(("spent", judged.spent, "mean cost of a unit, in preferences"))
        rows.append(("planned", _planned_cost(judged)[0], "what the probabilities cost on average"))
    rows += [(f"verdicts of {name} set aside", float(count), "not used as preferences") for name, count in judged.aside]
    for name, number, _, claimed in _shrinkage(estimate):
        rows.append((f"multiplier of {name}", number, "1: the nuisance is right; 0: useless"))
        rows.append((f"norm of {name} matrix from 1", claimed, "largest singular value of M - I as used"))
    for parameter, ratio, promised in zip(estimate.names, _gain(estimate), _promise(estimate), strict=True):
        rows.append((f"length against labels only: {parameter}", ratio, "standard error over that of the labels alone"))
        rows.append(
            (f"variance against promise: {parameter}", promised, "realised variance over that of exact nuisances")
        )
    return pd.DataFrame(rows, columns=["quantity", "value", "meaning"])


def residuals_by_group(estimate: Solved) -> pd.DataFrame:
    """Return group, labelled, residual, se, z of h less its expectation after the preferences."""
    judged = estimate.judged
    h = estimate.functional.label_function(estimate.stages[0].theta if len(estimate.stages) == 1 else estimate.theta)
    gap = (h.at_labels(judged) - estimate.expected[0][0])[:, 0]
    weight = judged.labelled / judged.label_probability
    groups: dict[str, Array] = {"all": judged.labelled}
    gap_of_outputs = judged.outputs[:, 0] - judged.outputs[:, 1]
    for index, name in enumerate(judged.judges):
        vote = judged.votes[:, index]
        for code, verdict in enumerate(VERDICTS):
            groups[f"{name}: {verdict}"] = judged.labelled & (vote == code)
        # which side of the middle the verdict puts the label on: errors of a and b cancel, these do not
        toward = np.where(vote == A, gap_of_outputs, np.where(vote == B, -gap_of_outputs, 0.0))
        groups[f"{name}: the higher output"] = judged.labelled & (toward > 0)
        groups[f"{name}: the lower output"] = judged.labelled & (toward < 0)
    p1 = judged.label_probability
    middle = float(np.median(p1[judged.labelled]))
    if np.ptp(p1) > 0:
        groups[f"label probability up to {middle:.3g}"] = judged.labelled & (p1 <= middle)
        groups[f"label probability above {middle:.3g}"] = judged.labelled & (p1 > middle)
    rows = []
    for name, rows_of in groups.items():
        if rows_of.sum() < 2:
            continue
        w, g = weight[rows_of], gap[rows_of]
        mean = float(w @ g / w.sum())
        se = float(np.sqrt((w**2) @ (g - mean) ** 2) / w.sum())
        rows.append((name, int(rows_of.sum()), mean, se, mean / se if se > 0 else 0.0))
    return pd.DataFrame(rows, columns=["group", "labelled", "residual", "se", "z"])


def warn(estimate: Solved) -> tuple[str, ...]:
    """Return sentences on what should be known before the intervals are used."""
    judged = estimate.judged
    out = few(estimate)
    if estimate.calibration == "identity":  # the others shrink what claims too much, and lose nothing
        for name, number, se, _ in _shrinkage(estimate):
            if number + 2 * se < _WEAK:
                out.append(
                    f"{name} explain less than the nuisance claims (best multiplier {number:.2f}); this calibration "
                    "does not shrink it"
                )
    if estimate.calibration == "identity" and (worst := float(_gain(estimate).max())) > 1.02:
        out.append(
            f"with calibration='identity' an interval is {worst:.2f} times as long as from labels only; use 'scalar'"
        )
    if estimate.budget is not None and judged.cost is not None:
        planned, error = _planned_cost(judged)
        # independent draws miss their plan by chance, to either side
        if max(planned, judged.spent - 3 * error) > estimate.budget * (1 + 1e-9):
            out.append(f"{judged.spent:.4g} a unit was spent, over the budget of {estimate.budget:.4g}")
    return tuple(out)


def _planned_cost(judged: Judged) -> tuple[float, float]:
    """Return the mean cost of a unit by the probabilities, and its standard error under independent draws."""
    p1, p2 = planned(judged)
    more = 0.0 if judged.cost is None else judged.cost - 1
    variance = more**2 * p1 * (1 - p1) + p2 * (1 - p2) + 2 * more * p1 * (1 - p2)
    return float((more * p1 + p2).mean()), float(np.sqrt(variance.sum()) / len(judged))


def few(estimate: Solved) -> list[str]:
    """Return what is too few for the number of parameters: labels, clusters, labels for multipliers."""
    judged, size = estimate.judged, len(estimate.names)
    weight = judged.labelled / judged.label_probability
    parameters = f"{size} parameter{'s' if size > 1 else ''}"
    out = []
    if (labels := effective(weight)) < size + _FEW:
        out.append(f"only {labels:.0f} effective labels for {parameters}: intervals are rough below {size + _FEW}")
    if judged.cluster is not None:
        clusters = len(np.unique(judged.cluster[judged.labelled]))
        if clusters < size + _FEW_CLUSTERS:
            out.append(
                f"only {clusters} clusters with labels for {parameters}: intervals are rough below "
                f"{size + _FEW_CLUSTERS}"
            )
    most = max(learned(stage.psi, stage.parts, stage.weight > 0, estimate.calibration) for stage in estimate.stages)
    if most > labels / _LABELS_A_MULTIPLIER:
        out.append(
            f"calibration={estimate.calibration!r} learns {most} multipliers for each parameter from {labels:.0f} "
            "effective labels; use 'scalar'"
        )
    if (share := float(weight.max() / weight.sum())) > _HEAVY:
        out.append(f"one unit carries {share:.0%} of the label weight: raise the floor of the design")
    return out


def _shrinkage(estimate: Solved) -> list[tuple[str, float, float, float]]:
    """Return name, best multiplier, its se and |M - I| of each bracket of the last stage with nuisances."""
    if estimate.calibration == "none":
        return []
    stage = next((each for each in reversed(estimate.stages) if each.parts), None)
    if stage is None:
        return []
    seen = stage.weight > 0
    psi, weight = stage.psi[seen], stage.weight[seen]
    metric = np.linalg.pinv((psi * weight[:, None]).T @ psi, hermitian=True)
    out = []
    best = multipliers(stage.psi, stage.weight, stage.parts, "scalar")
    for part, numbers, used in zip(stage.parts, best, stage.matrices, strict=True):
        guess = np.asarray(sum(g[seen] @ m.T for g, m in zip(part.guesses, numbers, strict=True)))
        pull = (guess @ metric) * (weight * part.variance[seen])[:, None]
        # the regression of psi1 on the guess as calibrated has slope 1; its se is that of the multiplier in proportion
        error = np.sqrt(((pull * (psi - guess)).sum(1) ** 2).sum()) / max((pull * guess).sum(), 1e-300)
        number = float(sum(each[0, 0] for each in numbers))
        away = float(np.linalg.norm(sum(used) - np.eye(len(stage.theta)), 2))
        out.append((part.name, number, abs(number) * float(error), away))
    return out


def _gain(estimate: Solved) -> Array:
    """Return the standard error over that of labels only [parameter]."""
    return np.asarray(estimate.standard_error / without_preferences(estimate)["labels only"].standard_error)


def _promise(estimate: Solved) -> Array:
    """Return the realised variance over what the first nuisance promises if it is exact [parameter].

    That is E[psi3^2] + E[(psi2^2 - psi3^2) / p2] + E[(psi1^2 - psi2^2) / p1], in the largest stage.
    """
    stage = max(estimate.stages, key=lambda each: len(each.influence))
    judged = estimate.judged.take(stage.rows)
    p1, p2 = judged.label_probability[:, None], judged.preference_probability[:, None]
    guess = {part.name: part.guesses[0] ** 2 for part in stage.parts}
    untold = guess.get("unlabelled", np.zeros_like(stage.psi))
    told = guess.get("preferences", untold)
    asked, seen = judged.compared[:, None] / p2, stage.weight[:, None]
    promised = (untold + asked * (told - untold) / p2 + seen * (stage.psi**2 - told) / p1).mean(0)
    return np.asarray((stage.influence**2).mean(0) / np.where(promised > 0, promised, np.nan))

"""Which annotator model predicts better: elpd by unit with paired differences, stacking, evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.comparisons import Comparisons
from prefdensity.elpd import UNITS, Elpd, loo, standard_error, unit_log_lik
from prefdensity.errors import DataError
from prefdensity.inference import fit
from prefdensity.posterior import Posterior
from prefdensity.programs import Program, load_program
from prefdensity.progress import progress as show_progress
from prefdensity.psis import USABLE

if TYPE_CHECKING:
    Array = NDArray[np.float64]

_REFITS = 10  # folds into which units with a bad k-hat are put


@dataclass(frozen=True, eq=False)
class Comparison:
    """Programs ranked by predictive density.

    Attributes
    ----------
    table
        One row per program, best first: program, elpd, se, elpd_diff (to the best, never positive), se_diff
        (paired), p_loo, stacking, pseudo_bma, bad_k (units still unreliable), refitted (units refitted),
        log_evidence, elbo, k_hat (of the fit).
    unit
        What was left out; elpd of different units must not be compared.
    elpds
        The pointwise values behind the table.
    warnings
        Sentences to read before choosing.
    """

    table: pd.DataFrame
    unit: str
    elpds: dict[str, Elpd] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"Left out: one {self.unit} at a time. Higher elpd predicts better.", self._text(), self._verdict()]
        return "\n".join([*lines, *(f"- {warning}" for warning in self.warnings)])

    def _text(self) -> str:
        return self.table.to_string(index=False, float_format=lambda x: f"{x:.2f}", na_rep="")

    def _verdict(self) -> str:
        if len(self.table) < 2:
            return ""
        best, second = self.table.iloc[0], self.table.iloc[1]
        gap, se = -second["elpd_diff"], second["se_diff"]
        clear = "clearly better than" if gap > 4 and gap > 2 * se else "not clearly better than"
        return f"{best['program']} is {clear} {second['program']}: elpd difference {gap:.1f} (se {se:.1f})."


def compare(
    posteriors: Mapping[str, Posterior],
    data: Comparisons,
    *,
    unit: str = "comparison",
    refit: bool = True,
    programs: Mapping[str, Program] | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Comparison:
    """Compare fitted programs by leave-one-out predictive density.

    Parameters
    ----------
    posteriors
        name -> posterior, all fitted to `data`.
    data
        The comparisons.
    unit
        "comparison": one more judgement by a known annotator; "pair": all judgements of a pair; "annotator":
        everything an unknown annotator says.
    refit
        Refit without the units whose importance weights fail (k-hat above .7), in at most ten folds, and
        use what the refits say of them.
    programs
        name -> program, for posteriors fitted with a user's file.
    seed, progress
        Of the refits and the bootstrap behind pseudo_bma; whether to show a progress bar.

    Raises
    ------
    DataError
        For unknown units, posteriors of other data, or posteriors without spread.
    """
    if not posteriors:
        raise DataError("there is nothing to compare; give name -> posterior")
    programs = programs or {}
    elpds, refitted = {}, {}
    with show_progress(progress) as report:
        for k, (name, post) in enumerate(posteriors.items()):
            report("leave-one-out", k, len(posteriors))
            elpds[name] = loo(post, data, unit, programs.get(name))
            bad = np.flatnonzero(elpds[name].k_hat > USABLE)
            refitted[name] = len(bad) if refit else 0
            if refit and len(bad):
                elpds[name] = _refitted(post, data, elpds[name], bad, programs.get(name), seed)
    return Comparison(_table(posteriors, elpds, refitted, seed), unit, elpds, _warnings(posteriors, elpds))


def kfold(
    program: str | Program,
    data: Comparisons,
    *,
    unit: str = "annotator",
    folds: int = 10,
    method: str = "auto",
    seed: int = 0,
    progress: bool | None = None,
) -> Elpd:
    """Return the predictive density of units left out fold by fold, from refits.

    Exact up to the size of the folds, and the way out where importance sampling fails. `unit` as in `compare`.

    Raises
    ------
    DataError
        For an unknown unit or fewer than two folds.
    """
    program = load_program(program)
    of_row, labels = _unit_of_row(data, unit)
    if not 2 <= folds <= len(labels):
        raise DataError(f"folds={folds} must lie between 2 and the {len(labels)} units")
    fold = np.random.default_rng(seed).permutation(np.arange(len(labels)) % folds)
    elpd = np.empty(len(labels))
    with show_progress(progress) as report:
        for f in range(folds):
            report("k-fold refits", f, folds)
            out = fold == f
            elpd[out] = _left_out(program, data, unit, of_row, out, method, seed)
    weight = data.count if unit == "comparison" else np.ones(len(labels))
    return Elpd(unit, labels, elpd, np.full(len(labels), np.nan), np.zeros(len(labels)), weight)


def _unit_of_row(data: Comparisons, unit: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the unit of every row and the labels of the units, in the order of `unit_log_lik`."""
    if unit == "comparison":
        return np.arange(len(data)), tuple(map(str, range(1, len(data) + 1)))
    if unit == "annotator":
        if data.annotator is None:
            raise DataError("unit='annotator' needs to know who judged; name the annotator column")
        return data.annotator, data.annotators
    if unit != "pair":
        raise DataError(f"there is no unit {unit!r}; units are {', '.join(UNITS)}")
    low, high = np.minimum(data.item_a, data.item_b), np.maximum(data.item_a, data.item_b)
    found, of_row = np.unique(low * len(data.items) + high, return_inverse=True)
    return of_row, tuple(f"{data.items[k // len(data.items)]} - {data.items[k % len(data.items)]}" for k in found)


def _left_out(
    program: Program,
    data: Comparisons,
    unit: str,
    of_row: NDArray[np.int64],
    out: NDArray[np.bool_],
    method: str,
    seed: int,
) -> Array:
    """Return log predictive densities of the units `out` [unit] after a fit without them."""
    rows = out[of_row]
    post = fit(program, data.take(~rows), method=method, seed=seed, progress=False)
    held = data.take(rows)
    log_lik, _, _, index = unit_log_lik(post, held, unit, program, held_out=True)
    values = (log_lik.logsumexp(0) - math.log(len(log_lik))).numpy()
    if unit == "annotator":
        return np.asarray(values[out])
    return np.asarray(values[index])


def _refitted(
    post: Posterior, data: Comparisons, elpd: Elpd, bad: NDArray[np.int64], program: Program | None, seed: int
) -> Elpd:
    program = program or load_program(post.program)
    of_row, labels = _unit_of_row(data, elpd.unit)
    values, k_hat = elpd.elpd_i.copy(), elpd.k_hat.copy()
    for part in np.array_split(bad, min(_REFITS, len(bad))):
        out = np.zeros(len(labels), bool)
        out[part] = True
        values[out] = _left_out(program, data, elpd.unit, of_row, out, post.status.method, seed)
        k_hat[out] = 0.0
    return replace(elpd, elpd_i=values, k_hat=k_hat)


def _table(
    posteriors: Mapping[str, Posterior], elpds: Mapping[str, Elpd], refitted: Mapping[str, int], seed: int
) -> pd.DataFrame:
    names = sorted(elpds, key=lambda name: -elpds[name].elpd)
    values = np.stack([elpds[name].elpd_i for name in names])
    weight = elpds[names[0]].weight
    stacking, bma = stacking_weights(values, weight), pseudo_bma_weights(values, weight, seed)
    rows = []
    for k, name in enumerate(names):
        difference = values[k] - values[0]
        status, e = posteriors[name].status, elpds[name]
        rows.append({
            "program": name, "elpd": e.elpd, "se": e.se, "elpd_diff": float(weight @ difference),
            "se_diff": standard_error(difference, weight) if k else 0.0, "p_loo": e.p_loo, "stacking": stacking[k],
            "pseudo_bma": bma[k], "bad_k": e.n_bad, "refitted": refitted[name], "log_evidence": status.log_evidence,
            "elbo": status.elbo, "k_hat": status.k_hat,
        })  # fmt: skip
    return pd.DataFrame(rows)


def stacking_weights(elpd: Array, weight: Array) -> Array:
    """Return weights [program] that maximise the predictive density of their mixture (Yao et al. 2018).

    `elpd` [program, unit], `weight` [unit]. The problem is concave; its EM iteration climbs to the optimum.
    """
    density = np.exp(elpd - elpd.max(0))
    share = np.full(len(elpd), 1 / len(elpd))
    for _ in range(20_000):
        part = share[:, None] * density
        new = (part / part.sum(0)) @ weight / weight.sum()
        if np.abs(new - share).max() < 1e-9:
            break
        share = new
    return np.asarray(new)


def pseudo_bma_weights(elpd: Array, weight: Array, seed: int, replicates: int = 1000) -> Array:
    """Return pseudo-BMA+ weights [program]: softmax of elpd, averaged over a Bayesian bootstrap of units."""
    rng = np.random.default_rng(seed)
    total = np.zeros(len(elpd))
    for _ in range(replicates):
        dirichlet = rng.gamma(np.maximum(weight, 1e-12))
        score = elpd @ (dirichlet / dirichlet.sum()) * weight.sum()
        part = np.exp(score - score.max())
        total += part / part.sum()
    return np.asarray(total / replicates)


def _warnings(posteriors: Mapping[str, Posterior], elpds: Mapping[str, Elpd]) -> tuple[str, ...]:
    lines = []
    for name, post in posteriors.items():
        if not post.status.trusted:
            lines.append(f"The fit of {name} failed its own checks: its elpd is that of an approximation.")
        if elpds[name].n_bad:
            lines.append(f"{elpds[name].n_bad} units of {name} have k-hat above {USABLE}: refit=True settles them.")
    wide = [name for name, post in posteriors.items() if _evidence_gap(post) > 2]
    if wide:
        lines.append(f"The evidence of {', '.join(wide)} is uncertain: bound and estimate differ by more than 2 nats.")
    return tuple(lines)


def _evidence_gap(post: Posterior) -> float:
    """Return how far the importance-weighted evidence lies above its bound (nats), 0 where there is none."""
    bound, estimate = post.status.elbo, post.status.log_evidence
    return 0.0 if bound is None or estimate is None else estimate - bound

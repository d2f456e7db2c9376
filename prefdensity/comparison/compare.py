"""Which annotator model predicts better: elpd by unit with paired differences, stacking, evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.comparison.elpd import (
    WAIC_VARIANCE,
    Elpd,
    loo,
    standard_error,
    unit_log_lik,
    units_of,
)
from prefdensity.comparison.ranking import Comparison
from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import DataError, require_whole
from prefdensity.inference.fitting import fit_again, fit_wholly
from prefdensity.inference.many import fits_together, posteriors
from prefdensity.posterior.posterior import Posterior
from prefdensity.posterior.psis import USABLE
from prefdensity.programs.layers import Program
from prefdensity.programs.loading import load_program
from prefdensity.progress import Report, progress as show_progress

if TYPE_CHECKING:
    Array = NDArray[np.float64]

_REFITS = 10  # folds into which units with a bad k-hat are put


def compare(
    posteriors: Mapping[str, Posterior],
    data: Comparisons | Choices,
    *,
    unit: str | None = None,
    refit: bool = True,
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
        "comparison" (of choices from sets "choice"), the default: one more judgement by a known annotator; "pair": all
        judgements of a pair; "item": all of an item that nobody compared before, for programs of item features (a
        comparison counts with both of its items, so standard errors, which take items for independent, are rough);
        "annotator": everything an unknown annotator says; "context": all that is said about a prompt or question nobody
        saw; and so any other label of the data, such as a category, or the "answer" that choices come from.
    refit
        Refit without the units whose importance weights fail (k-hat above .7), in at most ten folds, and
        use what the refits say of them. They fail for all units of a program that puts sites at modes, such as
        `neural`: every judgement had a part in these.
    seed, progress
        Of the refits and the bootstrap behind pseudo_bma; whether to show a progress bar.

    Raises
    ------
    DataError
        For an unknown unit or one that the data or a program do not have, posteriors of other data, or posteriors
        without spread.
    """
    require_whole("seed", seed, 0)
    if not isinstance(posteriors, Mapping) or any(not isinstance(each, Posterior) for each in posteriors.values()):
        raise DataError("compare takes name -> posterior, as in {'linear': fit('linear', data)}")
    if not posteriors:
        raise DataError("there is nothing to compare; give name -> posterior")
    programs = {name: post.program for name, post in posteriors.items()}
    elpds, refitted = {}, {}
    with show_progress(progress) as report:
        for k, (name, post) in enumerate(posteriors.items()):
            report("leave-one-out", k, len(posteriors))
            elpds[name] = loo(post, data, unit=unit)
            bad = np.flatnonzero(elpds[name].k_hat > USABLE)
            refitted[name] = len(bad) if refit else 0
            if refit and len(bad):
                elpds[name] = _refitted(post, data, elpds[name], bad, seed, report)
    rated = [name for name, program in programs.items() if "ratings" in program.needs]
    apart = rated if len(rated) < len(programs) else []
    table = _table(posteriors, elpds, refitted, seed)
    table.loc[table["program"].isin(apart), ["log_evidence", "elbo"]] = np.nan
    return Comparison(table, unit or data.UNITS[0], elpds, _warnings(posteriors, elpds, apart), posteriors, data)


def kfold(
    program: str | Program,
    data: Comparisons | Choices,
    *,
    unit: str = "annotator",
    folds: int = 10,
    method: str = "auto",
    seed: int = 0,
    device: str = "auto",
    progress: bool | None = None,
) -> Elpd:
    """Return the predictive density of units left out fold by fold, from refits.

    Exact up to the size of the folds, and the way out where importance sampling fails. `unit` as in `compare`,
    `device` as in `fit`.

    Raises
    ------
    DataError
        For an unknown unit or fewer than two folds.
    """
    require_whole("seed", seed, 0)
    program = load_program(program)
    _, labels = units_of(data, unit, program)
    require_whole("folds", folds, 2)
    if folds > len(labels):
        raise DataError(
            f"folds={folds} are more than there are units to leave out, {len(labels)}; ask for fewer, or leave out "
            "something else: unit=..."
        )
    fold = np.random.default_rng(seed).permutation(np.arange(len(labels)) % folds)
    how: dict[str, Any] = {"method": method, "seed": seed, "device": device}
    outs = fold == np.arange(folds)[:, None]
    left = _Left(program, data, unit, how, lambda rest: fit_wholly(program, rest, progress=False, **how))
    with show_progress(progress) as report:
        elpd = left.densities(outs, "k-fold refits", report)
    weight = data.count if unit == data.UNITS[0] else np.ones(len(labels))
    unknown = np.full(len(labels), np.nan)
    return Elpd(unit, labels, elpd[fold, np.arange(len(labels))], unknown, np.zeros(len(labels)), weight, unknown)


def _refitted(
    post: Posterior, data: Comparisons | Choices, elpd: Elpd, bad: NDArray[np.int64], seed: int, report: Report
) -> Elpd:
    """Return densities of which those of the units `bad` are from refits, by the method and the steps of the fit."""
    values, k_hat = elpd.elpd_i.copy(), elpd.k_hat.copy()
    fold = np.random.default_rng(seed).permutation(np.arange(len(bad)) % _REFITS)
    outs = np.zeros((min(_REFITS, len(bad)), len(values)), bool)
    outs[fold, bad] = True
    how: dict[str, Any] = {"method": post.status.asked, "seed": seed, "device": post.device}
    left = _Left(post.program, data, elpd.unit, how, lambda rest: fit_again(post, rest, seed=seed))
    values[bad] = left.densities(outs, f"refits of {post.program_name}", report)[fold, bad]
    k_hat[bad] = 0.0
    return replace(elpd, elpd_i=values, k_hat=k_hat)


@dataclass(frozen=True)
class _Left:
    """Densities of units that are left out of a program's data, by `unit`, from fits `again` of it to the others.

    `how`: the method, seed and device of such a fit, of which there are many in one batch where the program allows.
    """

    program: Program
    data: Comparisons | Choices
    unit: str
    how: Mapping[str, Any]
    again: Callable[[Comparisons | Choices], Posterior]

    def densities(self, outs: NDArray[np.bool_], what: str, report: Report) -> Array:
        """Return log predictive densities [fold, unit] of the units of `outs` [fold, unit], of others NaN."""
        units, _ = units_of(self.data, self.unit, self.program)
        rows: NDArray[np.bool_] = np.asarray(outs[:, units].any(axis=-1))
        found = np.full(outs.shape, np.nan)
        report(what, 0, len(outs))
        for k, (out, held, post) in enumerate(zip(outs, rows, self._refits(rows), strict=True)):
            log_lik, _, _, index = unit_log_lik(post, self.data.take(held), self.unit, held_out=True)
            values = (log_lik.logsumexp(0) - math.log(len(log_lik))).cpu().numpy()
            found[k, out] = values[index] if self.unit in (self.data.UNITS[0], "pair") else values[out]
            report(what, k + 1, len(outs))
        return found

    def _refits(self, held: NDArray[np.bool_]) -> Iterator[Posterior]:
        """Yield the posterior of the data without the rows `held` [fold, row]."""
        batch = None
        if not self.data.SETS and self.how["method"] in ("auto", "laplace") and fits_together(self.program):
            counts = np.where(held, 0.0, self.data.count)
            batch = posteriors(
                self.program, self.data.pairs(), counts, seed=self.how["seed"], device=self.how["device"]
            )
        for rows in held:
            post = next(batch) if batch else None
            yield self.again(self.data.take(~rows)) if post is None or not post.status.trusted else post


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
            "pseudo_bma": bma[k], "bad_k": e.n_bad, "refitted": refitted[name], "waic": e.waic,
            "bad_waic": e.n_bad_waic, "log_evidence": status.log_evidence, "elbo": status.elbo, "k_hat": status.k_hat,
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
    if len(elpd) == 1:
        return np.ones(1)
    rng = np.random.default_rng(seed)
    total = np.zeros(len(elpd))
    for _ in range(replicates):
        dirichlet = rng.gamma(np.maximum(weight, 1e-12))
        score = elpd @ (dirichlet / dirichlet.sum()) * weight.sum()
        part = np.exp(score - score.max())
        total += part / part.sum()
    return np.asarray(total / replicates)


def _warnings(posteriors: Mapping[str, Posterior], elpds: Mapping[str, Elpd], apart: Sequence[str]) -> tuple[str, ...]:
    """Return what to read before choosing; programs `apart` observe ratings too, and some others do not."""
    lines = []
    for name, post in posteriors.items():
        if not post.status.trusted:
            lines.append(f"The fit of {name} failed its own checks: its elpd is that of an approximation.")
        if elpds[name].n_bad and post.at_mode:
            lines.append(
                f"Of {' and '.join(post.at_mode)} in {name} only modes are known, which every judgement had a part in: "
                "its elpd is too high, by much where such sites are many. refit=True settles it."
            )
        elif elpds[name].n_bad:
            lines.append(f"{elpds[name].n_bad} units of {name} have k-hat above {USABLE}: refit=True settles them.")
    rough = [name for name in posteriors if elpds[name].n_bad_waic]
    if rough:
        lines.append(f"WAIC of {', '.join(rough)} is rough: some units' p_waic is above {WAIC_VARIANCE}. Go by elpd.")
    if apart:
        lines.append(
            f"The evidence of {', '.join(apart)} is that of comparisons and ratings, of the others that of comparisons "
            "alone: these do not compare, and it is left empty."
        )
    wide = [name for name, post in posteriors.items() if name not in apart and _evidence_gap(post) > 2]
    if wide:
        lines.append(f"The evidence of {', '.join(wide)} is uncertain: bound and estimate differ by more than 2 nats.")
    return tuple(lines)


def _evidence_gap(post: Posterior) -> float:
    """Return how far the importance-weighted evidence lies above its bound (nats), 0 where there is none."""
    bound, estimate = post.status.elbo, post.status.log_evidence
    return 0.0 if bound is None or estimate is None else estimate - bound

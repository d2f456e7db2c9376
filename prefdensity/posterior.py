"""The posterior of a fitted program: draws, what they mean, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.comparisons import Comparisons
from prefdensity.errors import DataError
from prefdensity.grades import scores
from prefdensity.outlying import far_out
from prefdensity.psis import USABLE, k_hat_error

if TYPE_CHECKING:
    from prefdensity.programs import Program

Array = NDArray[Any]

K_GOOD, K_USABLE = 0.5, USABLE
# Log weights that vary less than this leave about .01 nats between approximation and posterior, whatever k-hat
# says of their extreme tail; by Pinsker's inequality no probability is then off by more than .08.
CLOSE = 0.15


R_HAT = 1.01


# The estimated error of a row's mean, in posterior standard deviations, up to which the row is marked safe.
SAFE = 0.1
# The share of a sampler's transitions that may diverge; many short chains take thousands of them.
DIVERGED = 0.001


def approximates(k_hat: float, log_weight_sd: float | None, proposals: int | None = None) -> bool:
    """Say whether an approximation with these importance weights stands for the posterior.

    k-hat is one noisy number: where that of 4,000 weights is .7, another 4,000 say .5 or .9. So an approximation is
    turned down only where k-hat is above .7 by more than twice its standard error.
    """
    if not np.isfinite(k_hat):
        return False
    band = 2 * k_hat_error(k_hat, proposals) if proposals else 0.0
    return k_hat < K_USABLE + band or (log_weight_sd is not None and log_weight_sd < CLOSE)


@dataclass(frozen=True)
class FitStatus:
    """How a fit went: all settings that produced it, and what the diagnostics say.

    Attributes
    ----------
    method
        laplace, svi, nuts, map or mle.
    converged, message
        Whether the search settled, and in words how it ended.
    k_hat
        Pareto shape of the importance weights of the approximation: < .5 good, < .7 usable, clearly more (see
        `approximates`): the joint posterior is not held; read only rows marked safe. None for nuts, map, mle.
    log_weight_sd
        Standard deviation of the log importance weights (nats).
    corrected, tempering
        The draws were importance-resampled towards the exact posterior, by the smoothed weights to this power:
        1 fully, below 1 where too few draws would have been left, 0 not at all (a very large table).
    proposals
        How many draws of the approximation were weighed.
    elbo, elbo_se, log_evidence
        Evidence lower bound, its Monte-Carlo error, importance-weighted log evidence (nats); None for point fits.
        With k exchangeable types the evidence counts all k! labellings, taken to be well apart; the bound counts one.
    log_likelihood
        Log likelihood of the judgements at the point estimate (nats), without multinomial coefficients.
    n_parameters, deviance
        Of mle: how many numbers were estimated (a common shift of utilities is none), and twice the nats to a program
        that gives each distinct comparison (who judged, order and covariates as recorded) its observed shares.
    effective
        Effective sample size: of the weighed proposals (Kish, smoothed weights), or of nuts its least.
    r_hat, divergences
        Of nuts.
    restart_values
        The objective reached by each restart (nats).
    modes
        Log evidence of each mode that holds more than 1 in 20,000 of the posterior, the one of the point estimate
        first (nats; for svi its bound); their softmax is what they hold. Draws are from all of them.
    elbo_trace
        ELBO per step of svi, thinned to at most 2,000 values.
    settings
        What `fit` was asked for beyond program, data, method and seed.
    warnings
        Sentences to read before using the result.
    """

    method: str
    converged: bool
    message: str
    seed: int
    seconds: float
    steps: int
    log_likelihood: float
    n_parameters: int | None = None
    deviance: float | None = None
    k_hat: float | None = None
    log_weight_sd: float | None = None
    corrected: bool = False
    tempering: float = 1.0
    proposals: int | None = None
    elbo: float | None = None
    elbo_se: float | None = None
    log_evidence: float | None = None
    r_hat: float | None = None
    effective: float | None = None
    divergences: int | None = None
    chains: int = 1
    guide: str = ""
    device: str = "cpu"
    restart_values: tuple[float, ...] = ()
    modes: tuple[float, ...] = ()
    elbo_trace: tuple[float, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def aic(self) -> float | None:
        """Akaike's criterion (1974) of mle: 2 (n_parameters - log_likelihood)."""
        return None if self.n_parameters is None else 2 * (self.n_parameters - self.log_likelihood)

    @property
    def trusted(self) -> bool:
        """Whether the joint posterior of everything is held; which single rows are safe, `summary()` says."""
        if not self.converged or (self.divergences or 0) > DIVERGED * self.steps:
            return False
        if self.r_hat is not None:
            return self.r_hat < R_HAT
        return self.k_hat is None or approximates(self.k_hat, self.log_weight_sd, self.proposals)


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of everything a program leaves unknown, given a table of comparisons.

    Attributes
    ----------
    program
        Name of the program, as `load_program` takes it.
    items, annotators, outcomes
        Labels; `outcomes` in the order of the program.
    draws
        site -> array [draw, ...] in the site's own units; utilities are not centred here.
    dims
        site -> names of the axes behind `draw`: item, annotator, type, feature.
    event_dims
        site -> how many of these axes belong to one distribution (a simplex), not to plates.
    point
        site -> point estimate [...]: the mode (mle, map, laplace) or the mean of the draws.
    log_p, log_q
        Joint log density and log density of the approximation at the draws (the first ones, for a very
        large table); for corrected draws both belong to the resampled draws. Empty for nuts, map, mle.
    error
        site -> [...]: the estimated error of the mean of the draws of each entry, in posterior standard deviations;
        of utilities centred, and at least that of their ranks. Empty where nothing is approximated (mle, map), or
        nothing is known (a very large table).
    measures
        name -> [item]: what was known of the items, in the users' units, where the program reads it.
    n_comparisons, data_source, data_fingerprint
        The table it was fitted to.
    """

    program: str
    items: tuple[str, ...]
    annotators: tuple[str, ...]
    outcomes: tuple[str, ...]
    draws: dict[str, Array]
    dims: dict[str, tuple[str, ...]]
    event_dims: dict[str, int]
    point: dict[str, Array]
    log_p: Array
    log_q: Array
    status: FitStatus
    meanings: dict[str, str] = field(default_factory=dict)
    feature_names: tuple[str, ...] = ()
    covariate_names: tuple[str, ...] = ()
    features: Array | None = None
    error: dict[str, Array] = field(default_factory=dict)
    measures: dict[str, Array] = field(default_factory=dict)
    n_comparisons: float = 0.0
    data_source: str = ""
    data_fingerprint: str = ""

    def __repr__(self) -> str:
        return f"Posterior({self.program}, {len(self.items)} items, {self.n_draws} draws, {self.status.method})"

    def __str__(self) -> str:
        table = self.summary().head(10).to_string(index=False, float_format=lambda x: f"{x:.3f}")
        return "\n".join([repr(self), table, *self.quality()])

    @property
    def n_draws(self) -> int:
        """Number of draws; 1 for a point estimate without spread."""
        return len(next(iter(self.draws.values())))

    @property
    def is_point(self) -> bool:
        """A mode without any spread (map)."""
        return self.status.method == "map"

    def utilities(self) -> Array:
        """Return centred utilities [draw, (type,) item]: only differences between items mean anything."""
        table = self._utility(self.draws)
        return table - table.mean(-1, keepdims=True)

    def _utility(self, sites: dict[str, Array]) -> Array:
        if "utility" not in sites:
            raise DataError(f"{self.program} has no site 'utility'; read its draws and parameters() instead")
        return sites["utility"]

    def types_by_size(self) -> list[int]:
        """Return the types, counted from 0, by falling expected weight: the order in which tables list them.

        Exchangeable types are numbered so; types that a program builds one upon another keep its numbers.
        """
        return [int(k) for k in (-self.draws["type_weight"].mean(0)).argsort(kind="stable")]

    def summary(self, level: float = 0.9) -> pd.DataFrame:
        """Return the ranking: one row per item (and type), best first, the largest type first.

        Columns: item, mean (of the centred utility), sd, lower, upper (central interval of probability `level`),
        rank_lower, rank_upper (the same for the rank, 1 = best), p_best, safe and note (see `marks`). For mle the mean
        is the estimate and the rest its asymptotic sampling distribution; for map there is no spread: sd, lower, upper
        and p_best are empty, and both ranks are those of the mode.
        """
        _require_level(level)
        draws = self.utilities()
        centre = self._utility(self.point)
        centre = centre - centre.mean(-1, keepdims=True)
        marks = self.marks("utility")
        if draws.ndim == 2:
            frame = self._ranking(draws, centre, level).join(marks)
            return frame.sort_values("mean", ascending=False, ignore_index=True)
        parts = []
        for k in self.types_by_size():
            own = marks.iloc[k * len(self.items) : (k + 1) * len(self.items)].reset_index(drop=True)
            part = self._ranking(draws[:, k], centre[k], level).join(own).sort_values("mean", ascending=False)
            part.insert(0, "type", k + 1)
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def _ranking(self, draws: Array, centre: Array, level: float) -> pd.DataFrame:
        tails = [(1 - level) / 2, (1 + level) / 2]
        frame = pd.DataFrame({"item": list(self.items)})
        frame["mean"] = centre if self.status.method in ("mle", "map") else draws.mean(0)
        order = (-draws).argsort(1).argsort(1) + 1
        frame["sd"] = draws.std(0, ddof=1) if len(draws) > 1 else np.nan
        frame["lower"], frame["upper"] = np.quantile(draws, tails, axis=0)
        if self.status.method == "mle":  # Wald's intervals
            reach = NormalDist().inv_cdf(tails[1]) * frame["sd"]
            frame["lower"], frame["upper"] = frame["mean"] - reach, frame["mean"] + reach
        ranks = np.quantile(order, tails, axis=0, method="closest_observation")
        frame["rank_lower"], frame["rank_upper"] = ranks.astype(int)
        frame["p_best"] = (order == 1).mean(0)
        if self.is_point:
            frame[["lower", "upper", "p_best"]] = np.nan
        return frame

    def marks(self, site: str) -> pd.DataFrame:
        """Return which entries of a site are safe to read, whatever the fit as a whole is worth: one row per entry.

        Columns: safe (the mean, and for utilities the mean rank, is within a tenth of a posterior standard deviation as
        far as the diagnosis tells), note (otherwise how far it may be off; of a utility far outside all others, that it
        is, for a normal prior pulls it in; empty else). Point estimates and their
        asymptotic intervals are exact as such, so mle and map are safe.
        """
        size = int(np.prod(self.draws[site].shape[1:]))
        far = self._far_out() if site == "utility" else [""] * size
        if self.status.method in ("mle", "map"):
            return pd.DataFrame({"safe": np.ones(size, bool), "note": far})
        error = np.reshape(self.error[site], -1) if site in self.error else np.full(size, np.nan)
        notes = ["; ".join(filter(None, each)) for each in zip(map(_note, error), far, strict=True)]
        return pd.DataFrame({"safe": error <= SAFE, "note": notes})

    def _far_out(self) -> list[str]:
        """Return for each utility what to say where it lies far outside those of all other items (of its type)."""
        centre = self.draws["utility"].mean(0)
        away = np.concatenate([far_out(each) for each in centre.reshape(-1, centre.shape[-1])])
        return [f"{each:.1f} sd of the others outside them" if each else "" for each in away]

    def parameters(self, level: float = 0.9) -> pd.DataFrame:
        """Return all that is not an item's utility: tie strength, biases, reliabilities, type weights, ...

        Columns: parameter, index (annotator, type or feature; empty for scalars), mean, sd, lower, upper, safe and note
        (see `marks`), meaning.
        """
        _require_level(level)
        rows = []
        for name, values in self.draws.items():
            if name in ("utility", "type_probability") or name.endswith("_offset"):
                continue
            flat, point = values.reshape(len(values), -1), np.reshape(self.point[name], -1)
            marks = self.marks(name)
            for column, index in enumerate(self._labels(name)):
                rows.append(
                    (
                        name,
                        index,
                        *self._line(flat[:, column], point[column], level),
                        *marks.iloc[column],
                        self.meanings.get(name, ""),
                    )
                )
        columns = ["parameter", "index", "mean", "sd", "lower", "upper", "safe", "note", "meaning"]
        return pd.DataFrame(rows, columns=columns)

    def _line(self, values: Array, point: float, level: float) -> tuple[float, ...]:
        if self.is_point:
            return (float(point), np.nan, np.nan, np.nan)
        lower, upper = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        mean = point if self.status.method == "mle" else values.mean()
        return (float(mean), float(values.std(ddof=1)), float(lower), float(upper))

    def labels(self, dim: str, size: int) -> list[str]:
        """Return the labels of one axis."""
        known = {"item": self.items, "annotator": self.annotators, "feature": self.feature_names}
        known["covariate"] = self.covariate_names
        found = known.get(dim, ())
        return list(found) if len(found) == size else [str(k + 1) for k in range(size)]

    def _labels(self, name: str) -> list[str]:
        shape = self.draws[name].shape[1:]
        labels = [""]
        for dim, size in zip(self.dims[name], shape, strict=True):
            labels = [f"{a}, {b}" if a else b for a in labels for b in self.labels(dim, size)]
        return labels

    def predict(
        self,
        pairs: pd.DataFrame | Iterable[tuple[str, str]],
        *,
        annotator: str | None = None,
        first: str = "neither",
        level: float = 0.9,
        program: Program | None = None,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Return outcome probabilities of pairs of items that are alike in all covariates, with intervals.

        Parameters
        ----------
        pairs
            (item_a, item_b) labels, or a frame with these columns.
        annotator
            Who judges; None: an annotator unknown so far, drawn from the fitted population.
        first
            Which side is shown first: a, b or neither.
        level
            Probability of the central intervals.
        program
            Needed when the posterior was fitted with a program from a user's file; files are never run unasked.
        seed
            For annotators drawn from the population.

        Returns
        -------
        Frame with item_a, item_b and p_a, p_a_lower, p_a_upper, and so on for every outcome.

        Raises
        ------
        DataError
            For an unknown item or annotator, naming it.
        """
        from prefdensity.predict import outcome_probabilities

        _require_level(level)
        listed = pairs[["item_a", "item_b"]].itertuples(index=False) if isinstance(pairs, pd.DataFrame) else pairs
        named = [(str(a), str(b)) for a, b in listed]
        table = outcome_probabilities(self, named, annotator, first, program, seed)
        frame = pd.DataFrame(named, columns=["item_a", "item_b"])
        lower, upper = np.quantile(table, [(1 - level) / 2, (1 + level) / 2], axis=0)
        for k, outcome in enumerate(self.outcomes):
            frame[f"p_{outcome}"] = table[..., k].mean(0)
            frame[f"p_{outcome}_lower"], frame[f"p_{outcome}_upper"] = lower[:, k], upper[:, k]
        return frame

    def win_probabilities(self, items: Sequence[str] | None = None, program: Program | None = None) -> pd.DataFrame:
        """Return item x item: probability that the row is preferred to the column, ties counted half.

        For an annotator drawn from the fitted population and no order; the diagonal is 1/2. At most 200
        draws are used.
        """
        from prefdensity.predict import outcome_probabilities

        names = list(self.items if items is None else items)
        upper = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        table = outcome_probabilities(self, upper, None, "neither", program, 0, most=200).mean(0)
        wins = table @ scores(self.outcomes)
        square = np.full((len(names), len(names)), 0.5)
        square[np.triu_indices(len(names), 1)] = wins
        square[np.tril_indices(len(names), -1)] = 1 - square.T[np.tril_indices(len(names), -1)]
        return pd.DataFrame(square, index=names, columns=names)

    def quality(self) -> list[str]:
        """Return sentences on how far this fit can be trusted."""
        return [sentence for sentence, _ in self._appraisal()]

    def troubles(self) -> list[str]:
        """Return those sentences of `quality` that speak against the fit; none where it stands."""
        return [sentence for sentence, good in self._appraisal() if not good]

    def _appraisal(self) -> list[tuple[str, bool]]:
        """Return sentences on the fit, and whether each is good news or no news."""
        s = self.status
        ended = "The search settled" if s.converged else "The search did NOT settle"
        lines = [(f"{ended}: {s.message}.", s.converged)]
        if s.k_hat is not None:
            lines.append((_k_hat_sentence(s), approximates(s.k_hat, s.log_weight_sd, s.proposals)))
        if s.r_hat is not None:
            good = s.r_hat < R_HAT and (s.effective or 0) > 100 * s.chains
            said = (
                f"Split R-hat is at most {s.r_hat:.3f} and the smallest effective sample size {s.effective:.0f}: "
                + ("the chains agree." if good else "run longer before trusting intervals.")
            )
            lines.append((said, good))
        if s.divergences:
            few = s.divergences <= DIVERGED * s.steps
            what = "few enough to pass" if few else "the sampler missed part of the posterior"
            lines.append((f"{s.divergences} of {s.steps:,} transitions diverged: {what}.", few))
        lines += [(said, True) for said in self._safe_sentence()]
        if len(s.restart_values) > 1:
            best = max(s.restart_values)
            near = sum(value > best - 0.5 for value in s.restart_values)
            said = f"{near} of {len(s.restart_values)} restarts came within half a nat of the best ({best:.1f})."
            lines.append((said, True))
        if s.aic is not None and s.deviance is not None:
            said = (
                f"Log likelihood {s.log_likelihood:.2f} with {s.n_parameters} parameters: AIC {s.aic:.2f}, residual "
                f"deviance {s.deviance:.2f}; standard errors are those of the information matrix."
            )
            lines.append((said, True))
        if self.is_point:
            lines.append(("A posterior mode has no intervals; fit with laplace, svi or nuts to get them.", True))
        return lines

    def _safe_sentence(self) -> list[str]:
        if self.status.method in ("mle", "map"):
            return []
        marks = {name: self.marks(name)["safe"] for name in self.draws if name != "type_probability"}
        known = [name for name in marks if name in self.error]
        if not known:
            return ["Single rows were not checked."]
        safe, size = sum(int(marks[name].sum()) for name in known), sum(len(marks[name]) for name in known)
        if safe == size:
            return ["Every row is marked safe: its mean lies within 0.1 posterior standard deviations."]
        ranked = ""
        if "utility" in known:
            ranked = f", of the items {int(marks['utility'].sum())} of {len(marks['utility'])}"
        return [f"{safe} of {size} rows are marked safe{ranked}; of the others the note says how far they may be off."]

    def to_arviz(self) -> Any:
        """Return an ArviZ InferenceData (0.x) or DataTree (1.x) with named dims."""
        from prefdensity.inference_data import to_arviz

        return to_arviz(self)

    def save(self, path: str | Path) -> Path:
        """Write a netCDF file, atomically: an existing file stays intact if anything fails."""
        from prefdensity.posterior_files import write

        return write(self, path)


def _k_hat_sentence(s: FitStatus) -> str:
    assert s.k_hat is not None
    start = f"Pareto k-hat of the approximation is {s.k_hat:.2f}"
    weighed = f"{s.effective or 0:,.0f} of {s.proposals or 0:,} proposals are effective"
    corrected = f"; the draws are importance-corrected ({weighed})" if s.corrected else ""
    if s.tempering < 1 and s.proposals:
        part = f"by the weights to the power {s.tempering:.2f} only" if s.tempering else "not at all"
        corrected = f"; the draws are importance-corrected {part} ({weighed})"
    if s.k_hat < K_GOOD:
        return f"{start}: it stands well for the posterior{corrected}."
    if s.k_hat < K_USABLE:
        return f"{start}: usable{corrected}."
    if s.log_weight_sd is not None and s.log_weight_sd < CLOSE:
        return (
            f"{start}: above 0.7, but its importance weights hardly vary (sd of their logarithm "
            f"{s.log_weight_sd:.2f}), so it is close to the posterior except in the far tails{corrected}."
        )
    if approximates(s.k_hat, s.log_weight_sd, s.proposals):
        return f"{start}: on the border of 0.7, which it may be above by chance; usable{corrected}."
    return (
        f"{start}, clearly above 0.7: the joint posterior is not held, and rows that are not marked safe must NOT be "
        f"trusted{corrected}. Use method='nuts' where it is affordable, or a simpler program."
    )


def _note(error: float) -> str:
    """Return what to say of a row whose mean may be off by `error` posterior standard deviations."""
    if error <= SAFE:
        return ""
    if np.isnan(error):
        return "not checked"
    return f"may be off by {error:.1f} sd" if error < 10 else "not reached by the approximation"


def _require_level(level: float) -> None:
    if not 0 < level < 1:
        raise DataError(f"level={level!r} must lie between 0 and 1, like 0.9")


def require_same_table(post: Posterior, data: Comparisons) -> None:
    """Raise `DataError` unless `data` is the table of comparisons that `post` was fitted to."""
    if not isinstance(data, Comparisons):
        raise DataError(
            "checks, comparisons of programs and the report are for pairs; of choices from sets they know nothing yet"
        )
    found = data.fingerprint()
    if post.data_fingerprint != found:
        raise DataError(
            f"{data.source} is not the table of this fit (fingerprint {found}, not {post.data_fingerprint}); "
            "give the same file with the same columns, labels and treatment of ties"
        )


def load_posterior(path: str | Path) -> Posterior:
    """Return the posterior that `Posterior.save` wrote; nothing in the file is executed.

    Raises
    ------
    DataError
        If the file is missing, damaged, or not one of ours.
    """
    from prefdensity.posterior_files import read

    return read(path)

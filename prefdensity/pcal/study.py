"""What a wrong judge model costs: true judges x assumed judges x calibrations x designs, under known propensities.

A regression coefficient is estimated from a few labels and many verdicts (Dong, Hou, Wu and Zhang 2026, arXiv
2601.13458). Whatever a nuisance assumes, the estimator is consistent; the study measures what is lost. Units are drawn
from a large finite population whose own regression is the truth, so that each nuisance predicts every unit once and a
replicate is linear algebra.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from prefdensity.errors import DataError
from prefdensity.judged.fit import fit_judge
from prefdensity.judged.simulate import JUDGES, JudgedWorld, TrueJudge, buy
from prefdensity.judged.units import COMPARED, LABELLED, UNSEEN, A, B, Judged
from prefdensity.pcal.allocation import allocate
from prefdensity.pcal.calibration import brackets, influence, multipliers
from prefdensity.programs.judged_cells import label_grid
from prefdensity.progress import progress as progress_bar
from prefdensity.workers import each

Array = NDArray[Any]
Predictions = tuple[Array, Array]  # E[Y | x, w] [unit]; E[Y | x, w, verdict] [unit, verdict]

TRUTHS = JUDGES | {"contrarian_40": TrueJudge(flip=0.4)}
PROGRAMS = (
    "gaussian+noise_free",
    "gaussian+distance",
    "gaussian+distance+lapse",
    "gaussian+distance+position_bias",
)
NUISANCES = ("oracle", *PROGRAMS, "linear", "trees", "useless")
CALIBRATIONS = ("label_only", "identity", "scalar", "single", "split", "dictionary")
DESIGNS = ("knows", "assumes_noise_free")
_LEVEL = 0.9
_BANK = 20_000  # units of the population
_NODES, _DRAWS = 8, 4  # 1e-5 sd of the label, and draws of a narrow posterior


def oracle(world: JudgedWorld, judge: TrueJudge, units: Judged) -> Predictions:
    """Return the conditional means under the true law of labels, and a judge's of verdicts."""
    mean, sd = world.label_law(units)
    told, ease = np.empty((len(units), 2)), judge.ease(units.covariates)
    for start in range(0, len(units), 5000):
        rows = slice(start, start + 5000)
        outputs = units.outputs[rows]
        at, weight = label_grid(outputs[:, 0], outputs[:, 1], mean[rows], sd, 16)
        law = stats.norm.pdf(at, mean[rows, None], sd) * weight
        p = judge.probability(at, outputs.T[None].swapaxes(0, 2), ease[rows, None])
        for verdict, share in enumerate((p, 1 - p)):
            told[rows, verdict] = (law * share * at).sum(1) / (law * share).sum(1)
    return mean, told


def estimate(
    judged: Judged, label_probability: float, preference_probability: float, guesses: Sequence[tuple[Array, Array]]
) -> dict[str, tuple[Array, Array]]:
    """Return regression coefficients [d] and standard errors [d] by calibration, under a constant design.

    Parameters
    ----------
    judged
        What was bought; every calibration uses the same table.
    label_probability, preference_probability
        p1 and p2.
    guesses
        E[Y | x, w] and E[Y | x, w, verdict] [unit] of each nuisance; all but dictionary use the first alone. The
        latter may be anything where there is no verdict.
    """
    x, n = judged.covariates, len(judged)
    hessian = np.linalg.inv(x.T @ x / n)
    seen = judged.labelled
    start = np.linalg.lstsq(x[seen], judged.label[seen], rcond=None)[0]
    fitted = x @ start

    def psi(label: Array) -> Array:
        return np.asarray((x * (label - fitted)[:, None]) @ hessian)

    own = psi(np.where(seen, judged.label, fitted))
    before, after = (tuple(psi(pair[k]) for pair in guesses) for k in (0, 1))
    p1, p2 = np.full(n, label_probability), np.full(n, preference_probability)
    found = {}
    for how in CALIBRATIONS:
        most = len(guesses) if how == "dictionary" else 1
        parts = brackets(p1, p2, seen, judged.compared, after[:most], before[:most])
        rule = {"label_only": "none", "dictionary": "split"}.get(how, how)
        phi = influence(own, seen / p1, parts, multipliers(own, seen / p1, parts, rule))
        found[how] = start + phi.mean(0), phi.std(0) / n**0.5
    return found


def predictions(kind: str, pilot: Judged, units: Judged, seed: int) -> Predictions:
    """Return what a nuisance learned from a labelled pilot predicts of units; see `NUISANCES` (without the oracle)."""
    if kind == "useless":
        return np.full(len(units), pilot.label.mean()), np.full((len(units), 2), pilot.label.mean())
    if kind in ("linear", "trees"):
        return _regressed(_trees if kind == "trees" else _least_squares, pilot, units)
    fitted = fit_judge(kind, pilot, method="laplace", seed=seed, draws=200, progress=False)
    both = [fitted.expect(units.judged_as(v), lambda y: y, nodes=_NODES, average=_DRAWS) for v in (A, B)]
    return both[0][1], np.column_stack([after for after, _ in both])


def _regressed(fit: Callable[[Array, Array], Callable[[Array], Array]], pilot: Judged, units: Judged) -> Predictions:
    def told(of: Judged) -> Array:
        side = np.sign(of.outputs[:, 0] - of.outputs[:, 1])
        return np.column_stack([of.covariates, of.outputs, of.verdict, np.where(of.verdict == A, side, -side)])

    before = fit(told(pilot)[:, :-2], pilot.label)
    after = fit(told(pilot), pilot.label)
    asked = [told(units.judged_as(v)) for v in (A, B)]
    return before(asked[0][:, :-2]), np.column_stack([after(features) for features in asked])


def _least_squares(features: Array, label: Array) -> Callable[[Array], Array]:
    slope = np.linalg.lstsq(np.column_stack([np.ones(len(label)), features]), label, rcond=None)[0]
    return lambda new: slope[0] + new @ slope[1:]


def _trees(features: Array, label: Array) -> Callable[[Array], Array]:
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(max_depth=3, max_iter=80, learning_rate=0.1, random_state=0)
    found: Callable[[Array], Array] = model.fit(features, label).predict
    return found


@dataclass(frozen=True, eq=False)
class JudgeStudy:
    """Results of `run_study`.

    Attributes
    ----------
    table
        One row per truth, design, nuisance and calibration: p1, p2, bias, rmse, length, coverage, efficiency (squared
        ratio of the oracle's mean length under split calibration to this one's), and Monte-Carlo standard errors
        bias_se, rmse_se, length_se, coverage_se.
    settings
        What was asked for.
    """

    table: pd.DataFrame
    settings: dict[str, Any]

    def __str__(self) -> str:
        wide = self.table.pivot_table(
            index=["truth", "design", "nuisance"], columns="calibration", values="length", sort=False
        )
        return wide.to_string(float_format=lambda v: f"{v:.3f}")


def run_study(
    *,
    truths: Sequence[str] = tuple(TRUTHS),
    nuisances: Sequence[str] = NUISANCES,
    replicates: int = 500,
    pilots: int = 5,
    units: int = 5000,
    pilot_units: int = 2000,
    budget: float = 3.0,
    cost: float = 10.0,
    shift: float = 0.0,
    seed: int = 0,
    jobs: int | None = None,
    progress: bool | None = None,
) -> JudgeStudy:
    """Measure every nuisance and calibration under every true judge and design.

    Parameters
    ----------
    truths, nuisances
        Which of `TRUTHS` and `NUISANCES`; "oracle" must be among the nuisances, "trees" needs scikit-learn.
    replicates
        In all, shared evenly among `pilots` fully labelled pilot tables of `pilot_units`.
    units
        Of a replicate.
    budget, cost
        Per unit, and of a label with its preference, where a preference costs 1.
    shift
        By how much output 2 is too high, which makes the world asymmetric; see `JudgedWorld`.
    seed
        Of everything random.
    jobs
        Processes; None: what `joblib.parallel_config` says. The result does not depend on it.
    progress
        Show a progress bar on stderr; None: if it is a terminal.

    Raises
    ------
    DataError
        For an unknown truth or nuisance, or fewer than 2 replicates for a pilot.
    """
    for asked, known in ((truths, TRUTHS), (nuisances, NUISANCES)):
        for name in asked:
            if name not in known:
                raise DataError(f"there is no {name!r}; there are {', '.join(known)}")
    if "oracle" not in nuisances:
        raise DataError("the oracle must be among the nuisances: efficiency is measured against it")
    if pilots < 1 or replicates < 2 * pilots:
        raise DataError(f"replicates={replicates} must be at least two for each of {pilots} pilots")
    sizes = (replicates // pilots, units, pilot_units)
    shares = [
        (truth, pilot, tuple(nuisances), sizes, budget, cost, shift, seed)
        for truth in truths
        for pilot in range(pilots)
    ]
    found: list[pd.DataFrame] = []
    with progress_bar(progress) as report:
        for frame in each(_cell, shares, jobs):
            found.append(frame)
            report("judges and pilots", len(found), len(shares))
    settings = {"replicates": sizes[0] * pilots, "pilots": pilots, "units": units, "pilot_units": pilot_units,
                "budget": budget, "cost": cost, "shift": shift, "seed": seed}  # fmt: skip
    return JudgeStudy(_summary(pd.concat(found, ignore_index=True)), settings)


def _cell(
    truth: str,
    pilot: int,
    nuisances: tuple[str, ...],
    sizes: tuple[int, int, int],
    budget: float,
    cost: float,
    shift: float,
    seed: int,
) -> pd.DataFrame:
    """Return estimates of coefficient 1 of all replicates that share a pilot."""
    replicates, n, pilot_units = sizes
    stream = [int(word) for word in np.random.SeedSequence([seed, pilot]).generate_state(3)]
    world = JudgedWorld.draw(stream[0], TRUTHS[truth], shift)  # the same systems and units under every judge
    first, bank = world.units(pilot_units, stream[1]), world.units(_BANK, stream[2])
    learned = {
        kind: oracle(world, world.judge, bank) if kind == "oracle" else predictions(kind, first, bank, pilot)
        for kind in {*nuisances, "linear"}
    }
    designs = _designs(world, bank, learned["oracle"], budget, cost)
    says_a = world.judge.probability(bank.label, bank.outputs, world.judge.ease(bank.covariates))
    theta = np.linalg.lstsq(bank.covariates, bank.label, rcond=None)[0][0]
    rows = []
    for design, (p1, p2) in designs.items():
        for number in range(replicates):
            drawn = np.random.default_rng([seed, pilot, number]).integers(_BANK, size=n)
            coin = np.random.default_rng([seed, pilot, number, 1]).random((2, n))
            verdict = np.where(coin[0] < says_a[drawn], A, B)
            pattern = np.where(coin[1] < p1, LABELLED, np.where(coin[1] < p2, COMPARED, UNSEEN))
            table = buy(_again(bank, drawn, verdict), np.full(n, p1), np.full(n, p2), pattern)
            guesses = {k: (before[drawn], after[drawn, verdict]) for k, (before, after) in learned.items()}
            for kind in nuisances:
                for how, (value, error) in estimate(table, p1, p2, [guesses[kind], guesses["linear"]]).items():
                    rows.append((truth, design, kind, how, p1, p2, value[0] - theta, error[0]))
    names = ["truth", "design", "nuisance", "calibration", "p1", "p2", "error", "se"]
    return pd.DataFrame(rows, columns=names)


def _again(bank: Judged, rows: Array, verdict: Array) -> Judged:
    """Return units drawn with replacement, with new verdicts."""
    n = len(rows)
    names = ("covariates", "outputs", "label", "label_probability", "preference_probability")
    picked = {name: getattr(bank, name)[rows] for name in names}
    return replace(bank, judged=np.arange(n), judge=np.zeros(n, np.int64), verdict=verdict, **picked)


def _designs(
    world: JudgedWorld, bank: Judged, known: Predictions, budget: float, cost: float
) -> dict[str, tuple[float, float]]:
    """Return p1, p2 for coefficient 1 under the true judge's law, and under that of a judge who never errs."""
    x, (mean, sd) = bank.covariates, world.label_law(bank)
    influence_of = (x @ np.linalg.inv(x.T @ x / len(bank)))[:, 0] ** 2
    designs = {}
    for name, (_, told) in zip(DESIGNS, (known, oracle(world, TrueJudge(), bank)), strict=True):
        # the overall mean lies between the two conditional ones, at their probabilities
        explained = np.abs((told[:, A] - mean) * (mean - told[:, B]))
        drops = [(influence_of * (sd**2 - explained)).mean(), (influence_of * explained).mean()]
        p1, p2 = allocate(drops, [cost - 1, 1.0], budget)[0]
        designs[name] = float(p1), float(p2)
    return designs


def _summary(rows: pd.DataFrame) -> pd.DataFrame:
    z = stats.norm.ppf((1 + _LEVEL) / 2)
    length = 2 * z * rows["se"]
    rows = rows.assign(length=length, covered=2 * rows["error"].abs() <= length, square=rows["error"] ** 2)
    by = rows.groupby(["truth", "design", "nuisance", "calibration"], sort=False)
    count = by.size()
    root = count**0.5
    table = by[["p1", "p2"]].mean()
    table["bias"], table["bias_se"] = by["error"].mean(), by["error"].std() / root
    table["rmse"] = by["square"].mean() ** 0.5
    table["rmse_se"] = by["square"].std() / root / (2 * table["rmse"])
    table["length"], table["length_se"] = by["length"].mean(), by["length"].std() / root
    table["coverage"] = by["covered"].mean()
    table["coverage_se"] = (table["coverage"] * (1 - table["coverage"])) ** 0.5 / root
    best = table.xs(("oracle", "split"), level=("nuisance", "calibration"))["length"]
    joined = table.reset_index().merge(best.rename("best").reset_index(), on=["truth", "design"], how="left")
    joined["efficiency"] = (joined["best"] / joined["length"]) ** 2
    return joined.drop(columns="best")

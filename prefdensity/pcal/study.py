"""What a wrong judge model costs: true judges x assumed judges x calibrations x designs, under known propensities.

A regression coefficient is estimated from a few labels and many verdicts (Dong, Hou, Wu and Zhang 2026, arXiv
2601.13458). Whatever a nuisance assumes, the estimator is consistent; the study measures what is lost. Units are drawn
from a large finite population whose own regression is the truth, so that each nuisance predicts every unit once and a
replicate is linear algebra.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from prefdensity.errors import DataError, require_known, require_whole
from prefdensity.judged.columns import as_names
from prefdensity.judged.fit import fit_judge
from prefdensity.judged.rungs import Rung
from prefdensity.judged.simulate import JUDGES, JudgedWorld, TrueJudge, buy, drawn, judged_by
from prefdensity.judged.units import COMPARED, LABELLED, UNSEEN, A, Judged
from prefdensity.pcal.allocation import allocate
from prefdensity.pcal.calibration import brackets, influence, multipliers
from prefdensity.programs.defaults import STUDIED
from prefdensity.programs.judged_cells import label_grid
from prefdensity.progress import progress as progress_bar
from prefdensity.shown import Tabled
from prefdensity.workers import each, gathered

Array = NDArray[Any]
Predictions = tuple[Array, Array]  # E[Y | x, w] [unit]; E[Y | x, w, verdicts] [unit, what the judges may say]

TRUTHS = JUDGES | {"contrarian_40": TrueJudge(flip=0.4)}
NUISANCES = ("oracle", *STUDIED, "linear", "trees", "useless")
CALIBRATIONS = ("label_only", "identity", "scalar", "single", "split", "dictionary")
DESIGNS = ("knows", "assumes_noise_free")
_LEVEL = 0.9
_BANK = 20_000  # units of the population
_FEWEST = 100  # units that coefficients are estimated from
_NODES, _DRAWS = 8, 4  # 1e-5 sd of the label, and draws of a narrow posterior


def oracle(world: JudgedWorld, judge: TrueJudge, units: Judged) -> Predictions:
    """Return the conditional means under the true law of labels, and a judge's of verdicts."""
    return _true_law(world, judge, units)[:2]


def _true_law(world: JudgedWorld, judge: TrueJudge, units: Judged) -> tuple[Array, Array, Array]:
    """Return E[Y | x, w] [unit], E[Y | x, w, verdicts] and P(verdicts | x, w) [unit, what the judges may say]."""
    mean, sd = world.label_law(units)
    ease, ways = judge.ease(units.covariates), len(judge.panel)
    told, chance = np.empty((len(units), ways)), np.empty((len(units), ways))
    for start in range(0, len(units), 5000):
        rows = slice(start, start + 5000)
        outputs = units.outputs[rows]
        at, weight = label_grid(outputs[:, 0], outputs[:, 1], mean[rows], sd, 16)
        law = stats.norm.pdf(at, mean[rows, None], sd) * weight
        said = judge.law(at, outputs.T[None].swapaxes(0, 2), ease[rows, None])
        chance[rows] = np.einsum("un,unv->uv", law, said)
        told[rows] = np.einsum("un,unv->uv", law * at, said) / chance[rows]
    return mean, told, chance


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
    rungs = (Rung("label", seen, p1), Rung("preferences", judged.compared, p2))
    found = {}
    for how in CALIBRATIONS:
        most = len(guesses) if how == "dictionary" else 1
        parts = brackets(rungs, (after[:most], before[:most]))
        rule = {"label_only": "none", "dictionary": "split"}.get(how, how)
        phi = influence(own, seen / p1, parts, multipliers(own, seen / p1, parts, rule))
        found[how] = start + phi.mean(0), phi.std(0) / n**0.5
    return found


def predictions(kind: str, pilot: Judged, units: Judged, judge: TrueJudge, seed: int) -> Predictions:
    """Return what a nuisance learned from a labelled pilot predicts of units; see `NUISANCES` (without the oracle).

    Of the judge it is told only what can be said of a unit.
    """
    ways = len(judge.panel)
    if kind == "useless":
        return np.full(len(units), pilot.label.mean()), np.full((len(units), ways), pilot.label.mean())
    asked = [judged_by(units, judge, np.full(len(units), way)) for way in range(ways)]
    if kind in ("linear", "trees"):
        return _regressed(_trees if kind == "trees" else _least_squares, pilot, asked)
    fitted = fit_judge(kind, pilot, method="laplace", seed=seed, draws=200, progress=False)
    every = [fitted.expect(each, lambda y: y, nodes=_NODES, average=_DRAWS) for each in asked]
    return every[0][1], np.column_stack([after for after, _ in every])


def _regressed(
    fit: Callable[[Array, Array], Callable[[Array], Array]], pilot: Judged, asked: Sequence[Judged]
) -> Predictions:
    def seen(of: Judged) -> Array:
        return np.column_stack([of.covariates, of.outputs])

    def told(of: Judged) -> Array:
        side, verdicts = np.sign(of.outputs[:, 0] - of.outputs[:, 1])[:, None], of.votes
        return np.hstack([seen(of), verdicts, np.where(verdicts == A, side, -side)])

    before, after = fit(seen(pilot), pilot.label), fit(told(pilot), pilot.label)
    return before(seen(asked[0])), np.column_stack([after(told(each)) for each in asked])


def _least_squares(features: Array, label: Array) -> Callable[[Array], Array]:
    slope = np.linalg.lstsq(np.column_stack([np.ones(len(label)), features]), label, rcond=None)[0]
    return lambda new: slope[0] + new @ slope[1:]


def _trees(features: Array, label: Array) -> Callable[[Array], Array]:
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(max_depth=3, max_iter=80, learning_rate=0.1, random_state=0)
    found: Callable[[Array], Array] = model.fit(features, label).predict
    return found


@dataclass(frozen=True, eq=False, repr=False)
class JudgeStudy(Tabled):
    """Results of `judge_study`.

    Attributes
    ----------
    table
        One row per truth, design, nuisance and calibration: p1, p2, bias, rmse, length, coverage, efficiency (squared
        ratio of the oracle's mean length under split calibration to this one's), and Monte-Carlo standard errors
        bias_se, rmse_se, length_se, coverage_se.
    settings
        What was asked for.
    notes
        How much of it there is, where Ctrl-C ended the study: pilots of some judges, or of all.
    """

    table: pd.DataFrame
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        wide = self.table.pivot_table(
            index=["truth", "design", "nuisance"], columns="calibration", values="length", sort=False
        )
        return "\n".join([wide.to_string(float_format=lambda v: f"{v:.3f}"), *self.notes])


def judge_study(
    *, truths: Sequence[str] = tuple(TRUTHS), nuisances: Sequence[str] = NUISANCES, replicates: int = 500,
    pilots: int = 5, units: int = 5000, pilot_units: int = 2000, budget: float = 3.0, cost: float = 10.0,
    shift: float = 0.0, seed: int = 0, jobs: int | None = None, progress: bool | None = None,
) -> JudgeStudy:  # fmt: skip
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

    Returns
    -------
    JudgeStudy. After Ctrl-C that of the judges and pilots that are complete, if there are any.

    Raises
    ------
    DataError
        For an unknown truth or nuisance, fewer than 100 units, or fewer than 2 replicates for a pilot.
    """
    truths, nuisances = as_names(truths), as_names(nuisances)
    require_known("truths", truths, TRUTHS)
    require_known("nuisances", nuisances, NUISANCES)
    _require_sizes(shift, pilots=(pilots, 1), replicates=(replicates, 2), units=(units, _FEWEST),
                   pilot_units=(pilot_units, _FEWEST), seed=(seed, 0))  # fmt: skip
    if "oracle" not in nuisances:
        raise DataError("the oracle must be among the nuisances: efficiency is measured against it")
    if replicates < 2 * pilots:
        raise DataError(f"replicates={replicates} must be at least two for each of {pilots} pilots")
    sizes = (replicates // pilots, units, pilot_units)
    shares = [
        (truth, pilot, tuple(nuisances), sizes, budget, cost, shift, seed)
        for pilot in range(pilots)  # of which every judge has as many, wherever this is ended
        for truth in truths
    ]
    with progress_bar(progress) as report:
        found, notes = gathered(each(_cell, shares, jobs), len(shares), 1, "pilots of judges", report)
    settings = {"replicates": sizes[0] * pilots, "pilots": pilots, "units": units, "pilot_units": pilot_units,
                "budget": budget, "cost": cost, "shift": shift, "seed": seed}  # fmt: skip
    return JudgeStudy(_summary(pd.concat(found, ignore_index=True)), settings, notes)


def _require_sizes(shift: float, **least: tuple[int, int]) -> None:
    """Refuse what is no size of a study."""
    for name, (given, fewest) in least.items():
        require_whole(name, given, fewest)
    if not np.isfinite(shift):
        raise DataError(f"shift={shift!r} must be finite")


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
        kind: oracle(world, world.judge, bank)
        if kind == "oracle"
        else predictions(kind, first, bank, world.judge, pilot)
        for kind in {*nuisances, "linear"}
    }
    designs = _designs(world, bank, budget, cost)
    law = world.judge.law(bank.label, bank.outputs, world.judge.ease(bank.covariates))
    theta = np.linalg.lstsq(bank.covariates, bank.label, rcond=None)[0][0]
    out = []
    for design, (p1, p2) in designs.items():
        for number in range(replicates):
            rows = np.random.default_rng([seed, pilot, number]).integers(_BANK, size=n)
            rng = np.random.default_rng([seed, pilot, number, 1])
            said, coin = drawn(law[rows], rng), rng.random(n)
            pattern = np.where(coin < p1, LABELLED, np.where(coin < p2, COMPARED, UNSEEN))
            table = buy(judged_by(bank.take(rows), world.judge, said), np.full(n, p1), np.full(n, p2), pattern)
            guesses = {k: (before[rows], after[rows, said]) for k, (before, after) in learned.items()}
            for kind in nuisances:
                for how, (value, error) in estimate(table, p1, p2, [guesses[kind], guesses["linear"]]).items():
                    out.append((truth, design, kind, how, p1, p2, value[0] - theta, error[0]))
    names = ["truth", "design", "nuisance", "calibration", "p1", "p2", "error", "se"]
    return pd.DataFrame(out, columns=names)


def _designs(world: JudgedWorld, bank: Judged, budget: float, cost: float) -> dict[str, tuple[float, float]]:
    """Return p1, p2 for coefficient 1 under the true judge's law, and under that of a judge who never errs."""
    x, (mean, sd) = bank.covariates, world.label_law(bank)
    influence_of = (x @ np.linalg.inv(x.T @ x / len(bank)))[:, 0] ** 2
    designs = {}
    for name, judge in zip(DESIGNS, (world.judge, TrueJudge()), strict=True):
        _, told, chance = _true_law(world, judge, bank)
        explained = (chance * (told - mean[:, None]) ** 2).sum(1) / chance.sum(1)
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

"""Preference-calibrated estimates at their published settings: lengths, coverage and cost over many replicates.

The bars are the oracle's lengths plus a margin; coverage within .02 of .90 is 1.5 standard errors at 500 replicates, so
that seeds are fixed. Every replicate spends exactly its budget.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from prefdensity.judged.simulate import COEFFICIENT, JudgedWorld, TrueJudge, buy
from prefdensity.judged.units import Judged
from prefdensity.pcal import ConfusionJudge, GaussianNuisance, LinearRegression, pcal, pcal_design
from prefdensity.pcal.allocation import draw
from prefdensity.pcal.nuisances import Nuisance

pytestmark = pytest.mark.slow

REGRESSION = LinearRegression(intercept=False)
PILOTS = 10


class Found(NamedTuple):
    """Over replicates: mean length and coverage of the first coefficient, mean cost, coverage of all."""

    length: float
    coverage: float
    cost: float
    coverage_all: float


def simulate(
    n: int,
    replicates: int,
    *,
    aware: bool,
    nuisance: Nuisance | None = None,
    calibration: str = "scalar",
    seed: int = 0,
    budget: float = 3.0,
    cost: float = 10.0,
    with_pilot: bool = False,
) -> Found:
    """Ten pairs of systems, a pilot of 2,000 and a design for each, replicates shared out among them."""
    lengths, inside, spent = [], [], []
    for pilot in range(PILOTS):
        world = JudgedWorld.draw(100 * seed + pilot)
        first = world.units(2000, 10_000 + 100 * seed + pilot)
        design = pcal_design(
            first, budget=budget, cost=cost, functional=REGRESSION, nuisance=nuisance, criterion="x1", aware=aware
        )
        for replicate in range(replicates // PILOTS):
            label = (seed, pilot, replicate)
            full = world.units(n, np.random.default_rng([1, *label]), cost)
            p1, p2 = design.probabilities(full)
            bought = draw(np.stack([p1, p2], 1), np.random.default_rng([2, *label])) + 1
            table = buy(full, p1, p2, bought)
            spent.append(table.spent)
            if with_pilot:
                table = together(first, table)
            found = pcal(table, REGRESSION, nuisance, calibration=calibration, seed=replicate).summary()
            lengths.append(found["upper"][0] - found["lower"][0])
            inside.append((found["lower"] <= COEFFICIENT) & (found["upper"] >= COEFFICIENT))
    return Found(float(np.mean(lengths)), float(np.mean(inside, 0)[0]), float(np.mean(spent)), float(np.mean(inside)))


def together(pilot: Judged, judged: Judged) -> Judged:
    """Return the pilot and what was bought later as two stages of one table."""
    frame = pd.concat([pilot.to_frame().assign(stage=1), judged.to_frame().assign(stage=2)], ignore_index=True)
    return Judged.from_frame(
        frame, covariates=judged.features[:5], outputs=judged.features[5:], preference="judge", stage="stage",
        label_probability="label_probability", preference_probability="preference_probability",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("n", "aware", "longest"), [(20_000, False, 0.550), (20_000, True, 0.466), (5000, False, 1.10), (5000, True, 0.935)]
)
def test_the_published_simulation(n: int, aware: bool, longest: float) -> None:
    """Budget 3 at 10 a label, 500 replicates; published lengths are .597 and .516 at n = 20,000."""
    found = simulate(n, 500, aware=aware)
    print(n, aware, found)
    assert found.length <= longest
    assert abs(found.coverage - 0.9) <= 0.02
    assert abs(found.cost - 3) <= 0.005


def test_the_pilot_s_labels_shorten_intervals_as_predicted() -> None:
    """The oracle's variance is 545.7 in a unit; 2,000 labels at 256 stand beside 20,000 units."""
    found = simulate(20_000, 30, aware=False, with_pilot=True)
    predicted = 2 * norm.ppf(0.95) / np.sqrt(20_000 / 545.7 + 2000 / 256)
    assert found.length == pytest.approx(predicted, rel=0.02)
    assert predicted < 0.92 * 0.544
    assert found.coverage >= 22 / 30  # at .90: fewer once in 1,500


FLIPS = (0.0, 0.1, 0.25, 0.4)


def under_flips(flip: float, replicates: int) -> pd.DataFrame:
    """Constant design and nuisance of an exact judge, in truth one who flips: one row per calibration.

    Bias and length are of the first coefficient, coverage is of all five. The design and the nuisance of the last two
    rows were learned under the flips.
    """
    believed = GaussianNuisance(judges=ConfusionJudge())
    exact = JudgedWorld.draw(1)
    # a design that believes in an exact judge, whoever judges: learned where that is true
    design = pcal_design(
        exact.units(2000, 2), budget=3, cost=10, functional=REGRESSION, nuisance=believed, criterion="x1", aware=False
    )
    world = JudgedWorld(exact.gain, TrueJudge(flip=flip))
    learned = pcal_design(
        world.units(2000, 2),
        budget=3,
        cost=10,
        functional=REGRESSION,
        nuisance=GaussianNuisance(),
        criterion="x1",
        aware=False,
    )
    ways: dict[str, tuple[object, Nuisance, str]] = {
        name: (design, believed, name) for name in ("none", "identity", "scalar", "single", "split")
    }
    ways["learned"] = (learned, GaussianNuisance(), "scalar")
    ways["learned, none"] = (learned, GaussianNuisance(), "none")
    rows = []
    for replicate in range(replicates):
        full = world.units(20_000, np.random.default_rng([3, replicate]))
        for name, (plan, nuisance, calibration) in ways.items():
            p1, p2 = plan.probabilities(full)  # type: ignore[attr-defined]
            bought = draw(np.stack([p1, p2], 1), np.random.default_rng([4, replicate])) + 1
            found = pcal(
                buy(full, p1, p2, bought), REGRESSION, nuisance, calibration=calibration, seed=replicate
            ).summary()
            covered = ((found["lower"] <= COEFFICIENT) & (found["upper"] >= COEFFICIENT)).mean()
            error = found["estimate"][0] - COEFFICIENT[0]
            rows.append((name, error, found["upper"][0] - found["lower"][0], covered))
    by = pd.DataFrame(rows, columns=["way", "bias", "length", "coverage"]).groupby("way", sort=False)
    return by.mean().assign(bias_se=by["bias"].std() / replicates**0.5)


@pytest.mark.parametrize("flip", FLIPS)
def test_a_misspecified_judge_costs_length_not_coverage(flip: float) -> None:
    """200 replicates, coverage over the five coefficients (standard error about .01)."""
    table = under_flips(flip, 200)
    print(flip, table.to_string())
    assert ((table["coverage"] - 0.9).abs() <= 0.02).all()
    assert (table["bias"].abs() <= 4 * table["bias_se"]).all()
    length = table["length"]
    for safe in ("scalar", "split"):
        assert length[safe] <= length["none"]
    if flip == 0.4:
        assert length["identity"] > length["none"]  # the failure that calibration is for
    if flip >= 0.25:
        assert length["learned"] < length["split"]


@pytest.fixture(scope="module")
def wine(shared_data: Path) -> Judged:
    """Ten thousand wines: points given by a critic, and by two language models."""
    file = shared_data / "wine_pcal.csv"
    if not file.exists():
        pytest.skip(f"{file.name} is not here")
    frame = pd.read_csv(file)
    frame["said"] = np.where(frame["tie"] == 1, "tie", np.where(frame["V"] == 1, "a", "b"))
    return Judged.from_frame(
        frame,
        covariates=["x_log_price", "x_ca", "x_wa", "x_or", "x_ny"],
        outputs=["W1", "W2"],
        preference="said",
        label="Y",
    )


def wine_truth(wine: Judged) -> NDArray[np.float64]:
    """Return least squares on all ten thousand."""
    x = np.column_stack([wine.covariates, np.ones(len(wine))])
    return np.asarray(np.linalg.lstsq(x, wine.label, rcond=None)[0])


@pytest.mark.parametrize(("cost", "longest"), [(5.0, 0.205), (10.0, 0.255)])
def test_wine(wine: Judged, cost: float, longest: float) -> None:
    """Superpopulation bootstrap: pilot of 2,000 and 7,000 units drawn with replacement, 200 replicates, budget 3."""
    truth, levels = wine_truth(wine)[0], np.unique(wine.label)
    nuisance = GaussianNuisance(levels=levels)
    lengths, inside, compared = [], [], []
    for replicate in range(200):
        rng = np.random.default_rng([5, replicate])
        if replicate % 20 == 0:
            pilot = wine.take(rng.integers(len(wine), size=2000))
            design = pcal_design(pilot, budget=3, cost=cost, nuisance=nuisance, criterion="x_log_price", aware=False)
        full = wine.take(rng.integers(len(wine), size=7000))
        p1, p2 = design.probabilities(full)
        bought = draw(np.stack([p1, p2], 1), rng) + 1
        found = pcal(buy(full, p1, p2, bought), nuisance=nuisance, seed=replicate).summary().iloc[0]
        lengths.append(found["upper"] - found["lower"])
        inside.append(found["lower"] <= truth <= found["upper"])
        compared.append(p2[0] - p1[0])
    print(cost, "length", np.mean(lengths), "coverage", np.mean(inside), "preferences only", np.mean(compared))
    assert np.mean(lengths) <= longest
    assert abs(np.mean(inside) - 0.9) <= 0.03
    if cost == 5:
        assert np.mean(compared) > 0.2

"""Programs of judged units as nuisances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.judged.expectations import JudgeFit
from prefdensity.judged.fit import fit_judge, refit
from prefdensity.judged.rungs import VarianceDrop
from prefdensity.judged.units import Judged
from prefdensity.pcal.functionals import LabelFunction
from prefdensity.pcal.nuisances import Nuisance

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ProgramNuisance(Nuisance):
    """A Pyro program of judged units, fitted to every fold: labels and preferences of units without label alike.

    Attributes
    ----------
    program
        Such as "gaussian+distance+lapse" (`prefdensity.judged.fit.fit_judge`), or anything fitted with `laws`.
    method, seed, draws
        Of the fit.
    hidden
        Units with preferences only that a fit uses at most.
    device
        Where it is fitted and asked; "auto" as in `fit_judge`. All else of an estimate is sums, on the CPU.
    """

    program: Any
    method: str = "laplace"  # a rough posterior costs a little length, never validity
    seed: int = 0
    draws: int = 100
    hidden: int = 500
    device: str = "auto"

    def fit(self, train: Judged) -> LawExpectation:
        """See `Nuisance`; a program already fitted is taken as it is."""
        if hasattr(self.program, "laws"):
            return LawExpectation(self.program)
        return LawExpectation(
            fit_judge(
                self.program,
                train,
                method=self.method,
                seed=self.seed,
                draws=self.draws,
                hidden=self.hidden,
                device=self.device,
                progress=False,
            )
        )

    def warmed(self, judged: Judged) -> Nuisance:
        """Fit the whole table once; folds then move its mode, and keep its scale and the spread of its draws."""
        return self if hasattr(self.program, "laws") else MovedNuisance(self.fit(judged).fit, self.hidden)


@dataclass(frozen=True, eq=False)
class MovedNuisance(Nuisance):
    """A program fitted to other units of the same kind, such as a pilot, moved to every fold: its mode, not its spread.

    Many tables that share a pilot are estimated fastest so: one fit, and a few steps for each fold of each table.

    Attributes
    ----------
    start
        A fit of `prefdensity.judged.fit.fit_judge`.
    hidden
        Units with preferences only that a fold uses at most.
    """

    start: JudgeFit
    hidden: int = 500

    def fit(self, train: Judged) -> LawExpectation:
        """See `Nuisance`."""
        return LawExpectation(refit(self.start, train, hidden=self.hidden))


@dataclass(frozen=True, eq=False)
class LawExpectation:
    """Expectations under anything that yields the law of each label as points with weights.

    Attributes
    ----------
    fit
        With `laws(judged)`, yielding rows and an object with `label`, `before`, `after` [unit, node], and, for
        designs, `variance_drop(judged)`.
    """

    fit: Any

    def expect(self, judged: Judged, function: LabelFunction) -> tuple[Array, Array]:
        """See `FittedNuisance`."""
        parts = []
        for rows, law in self.fit.laws(judged):
            with np.errstate(over="ignore", invalid="ignore"):
                value = function(judged.take(rows), law.label)
            value = np.where(law.before[..., None] > 0, value, 0.0)  # it may overflow far out, where nothing is
            parts.append([np.einsum("un,unk->uk", weight, value) for weight in (law.after, law.before)])
        return np.concatenate([after for after, _ in parts]), np.concatenate([before for _, before in parts])

    def variance_drop(self, judged: Judged) -> VarianceDrop:
        """Return what one verdict of the first judge tells [draw, unit]."""
        drop: VarianceDrop = self.fit.variance_drop(judged)
        return drop

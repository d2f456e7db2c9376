"""Programs ranked by predictive density, for reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from prefdensity.comparison.elpd import Elpd, pointwise_log_lik
from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import DataError
from prefdensity.posterior.posterior import Posterior
from prefdensity.shown import Tabled

# Nats of elpd: standard errors of smaller differences are too small (Sivula, Magnusson, Matamoros and Vehtari 2020,
# arXiv 2008.10296), the more so of programs nested in one another.
_CLEAR = 4.0


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Tabled):
    """Programs ranked by predictive density.

    Attributes
    ----------
    table
        One row per program, best first: program, elpd, se, elpd_diff (to the best, never positive), se_diff
        (paired), p_loo, stacking, pseudo_bma, bad_k (units still unreliable), refitted (units refitted), waic (a
        cross-check of elpd), bad_waic (units whose p_waic is above .4: it cannot be trusted there), log_evidence,
        elbo, k_hat (of the fit).
    unit
        What was left out; elpd of different units must not be compared.
    elpds
        The pointwise values behind the table.
    warnings
        Sentences to read before choosing.
    posteriors, data
        What was compared.
    """

    table: pd.DataFrame
    unit: str
    elpds: dict[str, Elpd]
    warnings: tuple[str, ...]
    posteriors: Mapping[str, Posterior]
    data: Comparisons | Choices

    def to_arviz(self, name: str) -> Any:
        """Return a program's posterior for ArviZ, with a group log_likelihood by unit, for `az.loo` and `az.compare`.

        They see the fit as it was, before any refit; a comparison that counts n times is there n times.

        Raises
        ------
        DataError
            For a program that was not compared, or comparisons that count by halves.
        """
        from prefdensity.posterior.groups import as_arviz

        return as_arviz(self._tree(name))

    def save_arviz(self, name: str, path: str | Path) -> Path:
        """Write what `to_arviz` returns to a netCDF file, atomically, for `az.from_netcdf`."""
        from prefdensity.posterior.files import write_tree

        return write_tree(self._tree(name), path)

    def _tree(self, name: str) -> Any:
        from prefdensity.posterior.groups import with_log_likelihood

        if name not in self.posteriors:
            raise DataError(f"{name!r} was not compared; programs are {', '.join(self.posteriors)}")
        labels, values = pointwise_log_lik(self.posteriors[name], self.data, self.unit)
        return with_log_likelihood(self.posteriors[name], self.unit, labels, values)

    def __str__(self) -> str:
        twice = " A comparison counts with both of its items." if self.unit == "item" else ""
        head = f"Left out: one {self.unit} at a time.{twice} Higher elpd predicts better."
        lines = [head, self._text(), *([self.caution] if self.caution else []), self._verdict()]
        return "\n".join([*lines, *(f"- {warning}" for warning in self.warnings)])

    @property
    def caution(self) -> str:
        """What to know of the standard errors of differences before reading them, or nothing."""
        close = self.table["program"][1:][self.table["elpd_diff"][1:] > -_CLEAR]
        if close.empty:
            return ""
        return (
            f"se_diff is too small where elpd differs by less than {_CLEAR:.0f} ({', '.join(close)}): such a "
            "difference is no evidence, however many standard errors it is."
        )

    def _text(self) -> str:
        return self.table.to_string(index=False, float_format=lambda x: f"{x:.2f}", na_rep="")

    def _verdict(self) -> str:
        if len(self.table) < 2:
            return ""
        best, second = self.table.iloc[0], self.table.iloc[1]
        gap, se = -second["elpd_diff"], second["se_diff"]
        clear = "clearly better than" if gap > _CLEAR and gap > 2 * se else "not clearly better than"
        return f"{best['program']} is {clear} {second['program']}: elpd difference {gap:.1f} (se {se:.1f})."

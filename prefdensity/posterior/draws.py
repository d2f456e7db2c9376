"""The record of a fit: draws of every site, the point, labels, and which entries are safe to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from prefdensity.data.named import require_among
from prefdensity.errors import DataError, ProgramError
from prefdensity.posterior.outlying import alike, far_out, grouped, unit_error
from prefdensity.posterior.status import SAFE, FitStatus
from prefdensity.programs.layers import Program
from prefdensity.programs.standardised import Standardised

Array = NDArray[Any]


@dataclass(frozen=True)
class Signature:
    """What tells the program of a saved posterior from another one; see `posterior.signature`.

    Attributes
    ----------
    by_name
        The name spells the program by shipped layers alone, so that it can be found again by its name.
    families
        Latent site -> the family of its distribution and its plates, as in "Normal by annotator".
    trial
        Of the first draw: the log prior density of each latent site, then log probabilities of a few judgements.
    """

    by_name: bool
    families: dict[str, str]
    trial: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of everything a program leaves unknown, given a table of comparisons.

    Attributes
    ----------
    program_name
        How the program is written, as `load_program` takes it: a composition, or the path of a user's file.
    items, annotators, outcomes
        Labels; `outcomes` in the order of the program.
    draws
        site -> array [draw, ...] in the site's own units; utilities are not centred here. What follows from others and
        is very large is worked out when it is asked for.
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
    features
        Standardised [item, feature] where the program reads them; many of them worked out as they are read.
    measures
        name -> [item]: what was known of the items, in the users' units, where the program reads it.
    labels_of
        What further labels name (context, category, "annotator.country") -> the labels, where the program reads them.
    attributes
        "annotator.age" -> [entry]: what was known of labels and the program reads, numbers in standard deviations from
        their mean, categories as codes in `labels_of`.
    units
        Name of a number that the program reads -> its mean, standard deviation, least and greatest over the judgements;
        of "annotator.age" over the annotators.
    n_comparisons, data_source, data_fingerprint
        The table it was fitted to.
    unfelt
        Latent sites without draws: scales of priors, where the method has no use for priors (mle).
    at_mode
        Latent sites that the method put at modes of the posterior: what is said of everything else is given them.
    fitted
        The program itself; None where it came with a file and is not at hand. Questions ask `program`.
    missing
        Why it is not at hand, in words.
    signature
        What tells the program from another, out of a file; None for a posterior that was never saved.
    """

    program_name: str
    items: tuple[str, ...]
    annotators: tuple[str, ...]
    outcomes: tuple[str, ...]
    draws: Mapping[str, Array]
    dims: dict[str, tuple[str, ...]]
    event_dims: dict[str, int]
    point: dict[str, Array]
    log_p: Array
    log_q: Array
    status: FitStatus
    meanings: dict[str, str] = field(default_factory=dict)
    feature_names: tuple[str, ...] = ()
    covariate_names: tuple[str, ...] = ()
    features: Array | Standardised | None = None
    error: dict[str, Array] = field(default_factory=dict)
    measures: dict[str, Array] = field(default_factory=dict)
    labels_of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    attributes: dict[str, tuple[float, ...]] = field(default_factory=dict)
    units: dict[str, tuple[float, ...]] = field(default_factory=dict)
    n_comparisons: float = 0.0
    data_source: str = ""
    data_fingerprint: str = ""
    unfelt: tuple[str, ...] = ()
    at_mode: tuple[str, ...] = ()
    signature: Signature | None = None
    fitted: Program | None = field(default=None, repr=False)
    missing: str = ""

    @property
    def program(self) -> Program:
        """The program that was fitted: what every question is put to.

        Raises
        ------
        ProgramError
            Where the posterior came out of a file and the program did not.
        """
        if self.fitted is None:
            raise ProgramError(self.missing or f"this posterior holds no program, only its name {self.program_name!r}")
        return self.fitted

    @property
    def device(self) -> str:
        """Where programs are run for questions: the device of the fit.

        That is the CPU where the device is not at hand, and where the table did not fit on it. Draws stay in host
        memory; a question copies those that it takes to the device, and its answer back.
        """
        if self.status.device == "cpu" or self.status.parts > 1:
            return "cpu"
        count = torch.cuda.device_count()
        known = ("cuda", *(f"cuda:{k}" for k in range(count))) if count else ()
        return self.status.device if self.status.device in known else "cpu"

    @property
    def drawn(self) -> tuple[str, ...]:
        """Latent sites with draws; the rest of the sites follow from these."""
        return tuple(name for name in self.event_dims if name in self.draws)

    @property
    def latent(self) -> tuple[str, ...]:
        """Sites that the program draws: those with draws of the posterior, and those that no judgement feels."""
        return (*self.drawn, *self.unfelt)

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

    def _utility(self, sites: Mapping[str, Array]) -> Array:
        if "utility" not in sites:
            raise DataError(f"{self.program_name} has no site 'utility'; read its draws and parameters() instead")
        return sites["utility"]

    def types_by_size(self) -> list[int]:
        """Return the types, counted from 0, by falling expected weight: the order in which tables list them.

        Exchangeable types are numbered so; types that a program builds one upon another keep its numbers.
        """
        return [int(k) for k in (-self.draws["type_weight"].mean(0)).argsort(kind="stable")]

    def marks(self, site: str) -> pd.DataFrame:
        """Return which entries of a site are safe to read, whatever the fit as a whole is worth: one row per entry.

        Columns: safe (the mean, and for utilities the mean rank, is within a tenth of a posterior standard deviation as
        far as the diagnosis tells), note (otherwise how far it may be off; and where utilities lean on their prior: one
        far outside the others is pulled in, the best of items in groups looks too sure, those of items that are hardly
        told apart lie as far apart as the prior of their spread says, and with a unit that the judgements hardly fix
        all may be too far out or in; empty else). Point estimates and their asymptotic intervals are exact as such, so
        mle and map are safe. Entries of sites at a mode have no intervals, and are not.
        """
        size = int(np.prod(self.draws[site].shape[1:]))
        priorless = self.status.method == "mle"
        shape = self._shape if site == "utility" and not priorless else [""] * size
        if site in self.at_mode:
            return pd.DataFrame({"safe": np.zeros(size, bool), "note": "at a mode: no interval"})
        if self.status.method in ("mle", "map"):
            return pd.DataFrame({"safe": np.ones(size, bool), "note": shape})
        error = np.reshape(self.error[site], -1) if site in self.error else np.full(size, np.nan)
        notes = ["; ".join(filter(None, each)) for each in zip(map(_note, error), shape, strict=True)]
        return pd.DataFrame({"safe": error <= SAFE, "note": notes})

    @cached_property
    def _shape(self) -> list[str]:
        """What to say of each utility where those of all items (of its type) lean on their prior; worked out once."""
        draws = self.draws["utility"]
        notes: list[str] = []
        for k in np.ndindex(draws.shape[1:-1]):
            some = draws[(slice(None), *k)]
            each = [f"{far:.1f} scales out, far for normal utilities" if far else "" for far in far_out(some)]
            best = int(some.mean(0).argmax())
            if grouped(some.mean(0)):
                each[best] = each[best] or "items fall in groups: P(best) is too sure for normal utilities"
            elif alike(some - some.mean(-1, keepdims=True)):
                each[best] = each[best] or "hardly told apart: P(best) depends on the prior of their spread"
                each = [one or "hardly told apart" for one in each]
            off = unit_error(some)
            unit = f"unit hardly known: all may be {1.645 * off:.0%} too large or small" if off else ""
            notes += ["; ".join(filter(None, (one, unit))) for one in each]
        return notes

    def labels(self, dim: str, size: int) -> list[str]:
        """Return the labels of one axis."""
        known = {"item": self.items, "annotator": self.annotators, "feature": self.feature_names}
        known["covariate"] = self.covariate_names
        known |= self.labels_of
        found = known.get(dim) or next((words for name, words in known.items() if name.endswith(f".{dim}")), ())
        return list(found) if len(found) == size else [str(k + 1) for k in range(size)]

    def full_name(self, name: str) -> str:
        """Return what a column that the program reads is called in full; see `declared.Table.full_name`."""
        if name in self.labels_of or name in self.units:
            return name
        return next((each for each in self.attributes if each.endswith(f".{name}")), name)

    def _labels(self, name: str) -> list[str]:
        shape = self.draws[name].shape[1:]
        labels = [""]
        for dim, size in zip(self.dims[name], shape, strict=True):
            labels = [f"{a}, {b}" if a else b for a in labels for b in self.labels(dim, size)]
        return labels


def _note(error: float) -> str:
    """Return what to say of a row whose mean may be off by `error` posterior standard deviations."""
    if error <= SAFE:
        return ""
    if np.isnan(error):
        return "not checked"
    return f"may be off by {error:.1f} sd" if error < 10 else "not reached by the approximation"


def require_level(level: float) -> None:
    """Raise `DataError` unless intervals can have this posterior mass."""
    if not isinstance(level, Real) or not 0 < level < 1:
        raise DataError(f"level={level!r} must lie between 0 and 1, like 0.9")


def require_spread(post: Draws, level: float, reference: str | None = None) -> None:
    """Raise `DataError` unless the fit has intervals of this mass, and knows the item that they are counted from."""
    require_fit(post)
    require_level(level)
    if post.is_point:
        raise DataError("a posterior mode has no spread, so there are no intervals; fit with another method")
    if reference is not None:
        require_among((reference,), post.items, "reference", whose="fit")


def require_fit(post: Any) -> None:
    """Raise `DataError` unless this is a fit."""
    if not isinstance(post, Draws):
        raise DataError(
            f"a fit is needed, and this is a {type(post).__name__}; give what prefdensity.fit(...) returned"
        )

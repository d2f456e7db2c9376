"""Cells: the distinct comparisons with outcome counts, as tensors. Programs see nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from prefdensity.data.grades import mirror
from prefdensity.errors import DataError, ProgramError
from prefdensity.programs.standardised import Standardised
from prefdensity.programs.tables import entries, joined, plain, rows_of

# The columns of `Cells`, [comparison, ...], and the mappings whose values are such columns.
_COLUMNS = ("item_a", "item_b", "first", "covariates", "total", "choice", "outcome")
_NAMED = ("labels", "numbers", "codes")
# What a program says that it needs of a column which it reads by `Cells.coded`.
CODED = "codes of "


@dataclass(frozen=True, eq=False)
class RatingCells:
    """Distinct ratings: `item` [rating], `annotator` [rating] or None, counts `level` [rating, level]."""

    item: Tensor
    annotator: Tensor | None
    level: Tensor


@dataclass(frozen=True, eq=False)
class Cells:
    """Distinct comparisons, oriented so that `item_a` < `item_b`, with a count for each outcome.

    Attributes
    ----------
    item_a, item_b
        int64 [comparison].
    labels
        name -> int64 [comparison]: who judged ("annotator"), in which context or category, ...; "annotator.country" is
        an attribute of who judged.
    numbers
        name -> [comparison], in standard deviations over the judgements of the table from their mean: a date, ...; and
        "annotator.age" for an attribute of who judged.
    spans
        name -> [2]: the least and the greatest of each of `numbers` in the whole table.
    outside
        Names of `numbers` that reach beyond these somewhere.
    codes
        name -> [comparison, contrast], of labels that the program reads by `coded`.
    attributes
        "annotator.age" -> [entry], what is known of items, annotators and other labels: numbers in standard deviations
        from their mean, or int64 codes of categories.
    first
        [comparison]: +1 item_a shown first, -1 item_b, 0 neither or unknown; None = order not recorded.
    covariates
        [comparison, covariate], or None; positive values speak for side a. A unit is the covariate's root mean square.
    covariate_scale, covariate_names
        That root mean square in the users' units [covariate], or None; and what covariates are called.
    features
        Standardised [item, feature], or None; of many a tensor that works them out as they are read (`Standardised`).
    feature_scale
        Their standard deviations over items in the users' units [feature], 1 for a constant one; or None.
    measures
        name -> [item], in the users' units.
    outcome
        Counts [comparison, outcome]; None asks a program to simulate.
    total
        Judgements in each cell [comparison].
    choice
        For choices from more than two items: int64 [comparison], the choice set in which this row is one alternative
        (see `prefdensity.data.choices`); None: every row is a comparison of its own.
    ratings
        Ratings of the same items, or None.
    outcomes
        The outcome labels in order.
    sizes
        How many there are of what labels name (item, annotator, category, ...): the sizes of plates.
    term
        int64 [row]: cell * outcomes + outcome of every row of the table, for readers of the table; programs have no
        use for it.
    """

    item_a: Tensor
    item_b: Tensor
    total: Tensor
    outcomes: tuple[str, ...]
    sizes: Mapping[str, int]
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    numbers: Mapping[str, Tensor] = field(default_factory=dict)
    spans: Mapping[str, Tensor] = field(default_factory=dict)
    outside: frozenset[str] = frozenset()
    codes: Mapping[str, Tensor] = field(default_factory=dict)
    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    first: Tensor | None = None
    covariates: Tensor | None = None
    covariate_scale: Tensor | None = None
    covariate_names: tuple[str, ...] = ()
    features: Tensor | None = None
    feature_scale: Tensor | None = None
    measures: Mapping[str, Tensor] = field(default_factory=dict)
    outcome: Tensor | None = None
    term: Tensor | None = None
    choice: Tensor | None = None
    ratings: RatingCells | None = None

    def __len__(self) -> int:
        return len(self.item_a)

    @property
    def n_margins(self) -> int:
        """How many margins are judged: one for each comparison."""
        return len(self.item_a)

    @cached_property
    def mirror(self) -> Tensor:
        """The place of each outcome once the sides are exchanged, int64 [outcome]: kept, for a device is waited for."""
        return torch.tensor(mirror(self.outcomes), device=self.total.device)

    @cached_property
    def rows(self) -> Tensor:
        """0, 1, ...: int64 [comparison]. Kept, for a plate asks for it in every run."""
        return torch.arange(len(self), device=self.item_a.device)

    @property
    def pairwise(self) -> bool:
        """Whether every row is a comparison of two items, and independent of the others given the sites."""
        return self.choice is None

    @property
    def annotator(self) -> Tensor | None:
        """Who judged, int64 [comparison], or None."""
        return self.labels.get("annotator")

    @property
    def n_items(self) -> int:
        """How many items there are."""
        return self.sizes["item"]

    @property
    def n_annotators(self) -> int:
        """How many annotators there are."""
        return self.sizes.get("annotator", 0)

    def size(self, name: str) -> int:
        """Return how many there are of what labels name: item, annotator, category, annotator.country, ..."""
        return _known(self.sizes, name, "labels", self.numbers)

    def of(self, name: str, table: Tensor) -> Tensor:
        """Return the entry [..., comparison] of a table [..., label] for the label of the comparison.

        Of who judged, `data.of("annotator", ability)`; of the category, `data.of("category", ability)`.
        """
        return self._read(table, _known(self.labels, name, "labels", self.numbers))

    def contrast(self, utility: Tensor, by: str = "") -> Tensor:
        """Return u_a - u_b [..., comparison] of a table [..., item].

        `by`: of a table [..., label, item], that of the label of the comparison: "annotator", "category", ...
        """
        table = self._precise(utility)
        if not by:
            return entries(table, self.item_a) - entries(table, self.item_b)
        label = _known(self.labels, by, "labels", self.numbers)
        return joined(table, label, self.item_a) - joined(table, label, self.item_b)

    def feature_contrast(self, weight: Tensor, by: str = "") -> Tensor:
        """Return w . (x_a - x_b) [..., comparison] of items' features x and weights w [..., feature].

        `by`: of a table [..., label, feature], those of the label of the comparison: "annotator", "category", ...
        """
        weight = plain(self._precise(weight))
        apart = self._features_apart.to(weight.dtype)
        if by:
            own = rows_of(weight, _known(self.labels, by, "labels"))
            return (own * apart).sum(-1).unsqueeze(-2)
        return weight @ apart.T if apart.dim() == 2 else (weight * apart).sum(-1, keepdim=True)

    @cached_property
    def _features_apart(self) -> Tensor:
        """By how much features differ within comparisons, [..., comparison, feature]."""
        assert self.features is not None  # refused without item features
        return rows_of(self.features, self.item_a) - rows_of(self.features, self.item_b)

    def sides(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """Return the entries [..., comparison] of a table [..., item] for side a and side b."""
        return self._read(table, self.item_a), self._read(table, self.item_b)

    def shared(self, table: Tensor) -> Tensor:
        """Return a table [..., entry] that every comparison reads whole, as [..., comparison or 1, entry]."""
        return table.unsqueeze(-2)

    def number(self, name: str) -> Tensor:
        """Return a number [comparison], in standard deviations from its mean: a date, "annotator.age" of who judged."""
        return _known(self.numbers, name, "numbers", self.labels)

    def course(self, name: str) -> Tensor:
        """Return a number [comparison] between 0, its least in the whole table, and 1, its greatest.

        What lies outside, such as a date that is asked about and comes later, is at the end that is nearer.
        """
        return self._course(name).clamp(0.0, 1.0)

    def beyond(self, name: str) -> Tensor:
        """Return how far a number lies outside the whole table [comparison], in its lengths: < 0 before, > 0 after."""
        place = self._course(name)
        return place - place.clamp(0.0, 1.0)

    def _course(self, name: str) -> Tensor:
        least, greatest = _known(self.spans, name, "numbers", self.labels).unbind()
        return (self.number(name) - least) / (greatest - least).clamp_min(1e-12)

    def coded(self, name: str) -> Tensor:
        """Return what is known of each comparison under this name as numbers to regress on, [comparison, column].

        A number is one column, in standard deviations from its mean; labels are as many as `contrasts` has. A layer
        that reads them needs the name, and `CODED` before it.
        """
        found = {each: held.unsqueeze(-1) for each, held in self.numbers.items()}
        return _known({**found, **self.codes}, name, "numbers or categories")

    def levels(self, name: str) -> int:
        """Return how many levels a category has that is read by `coded`; 0 of a number."""
        numeric = any(each == name or each.endswith(f".{name}") for each in self.numbers)
        return 0 if numeric else self.coded(name).shape[-1] + 1

    def attribute(self, of: str, name: str) -> Tensor:
        """Return what is known of every item, annotator or other label [entry]: `data.attribute("annotator", "age")`.

        Numbers come in standard deviations from their mean, categories as int64 codes, as many as
        `data.size("annotator.country")`.
        """
        return _known(self.attributes, f"{of}.{name}", "attributes")

    def coded_of(self, of: str, name: str) -> Tensor:
        """Return what is known of every annotator or other label as numbers to regress on, [entry, column].

        As `coded` has it: a number is one column, categories are as many as `contrasts` has.
        """
        name = name.removeprefix(f"{of}.")
        if f"{of}.{name}" not in self.attributes:
            raise ProgramError(f"a layer regresses on what is known of every {of}, and {name!r} is not known of them")
        x = self.coded(f"{of}.{name}")
        table = x.new_zeros(self.size(of), x.shape[-1])  # who has no row here has nothing to say
        table[_known(self.labels, of, "labels")] = x
        return table

    def measure(self, name: str) -> Tensor:
        """Return what is known of the items under this name [item]."""
        if name not in self.measures:
            raise DataError(f"there is no item measure {name!r}; the data have {', '.join(self.measures) or 'none'}")
        return self.measures[name]

    def covariate(self, name: str) -> tuple[Tensor, Tensor]:
        """Return a covariate [comparison], in units of its root mean square, and that unit as the users measure it."""
        if name not in self.covariate_names:
            known = ", ".join(self.covariate_names)
            raise ProgramError(f"a layer asks for the covariate {name!r}, and the data have {known}")
        assert self.covariates is not None  # refused without covariates
        assert self.covariate_scale is not None
        k = self.covariate_names.index(name)
        return self.covariates[..., k], self.covariate_scale[k]

    def covariate_sum(self, effect: Tensor) -> Tensor:
        """Return the sum of covariates times effects [..., covariate], per comparison [..., comparison]."""
        assert self.covariates is not None  # refused without covariates
        if self.covariates.dim() > 2:
            return (effect.unsqueeze(-2) * self.covariates).sum(-1)
        return effect @ self.covariates.T

    def per_unit(self, effect: Tensor) -> Tensor:
        """Return effects [..., covariate] of one unit as the users measure covariates."""
        assert self.covariate_scale is not None  # refused without covariates
        return effect / self.covariate_scale

    def log_sum_of_set(self, score: Tensor) -> Tensor:
        """Return log sum exp of scores [..., comparison] over the alternatives of each row's choice set."""
        assert self.choice is not None
        index = self.choice.expand(score.shape)
        top = score.detach().new_full((*score.shape[:-1], self._sets), -torch.inf)
        top = top.scatter_reduce(-1, index, score.detach(), "amax")
        shifted = (score - entries(top, self.choice)).exp()
        total = torch.zeros_like(top).scatter_add(-1, index, shifted)
        return entries(total.log() + top, self.choice)

    @cached_property
    def _sets(self) -> int:
        """How many choice sets there are: read once, for a device makes the host wait."""
        assert self.choice is not None
        return int(self.choice[-1]) + 1

    def head(self, rows: int) -> Cells:
        """Return the first `rows` cells only: one is enough to run a program for its latent sites."""
        return self.at(slice(rows))

    def take(self, rows: Tensor) -> Cells:
        """Return the cells at `rows`, ascending; choice sets are numbered anew, and readers of the table lose it."""
        part = replace(self.at(rows), term=None)
        if part.choice is None:
            return part
        return replace(part, choice=torch.unique_consecutive(part.choice, return_inverse=True)[1])

    def at(self, rows: Tensor | slice) -> Cells:
        """Return the cells at `rows` as they are; see `take` for choice sets."""
        # what was laid out outcome by outcome stays so
        return self.with_columns(
            {key: held.movedim(0, -1)[..., rows].movedim(-1, 0) for key, held in self.columns().items()}
        )

    def columns(self) -> dict[tuple[str, str], Tensor]:
        """Return everything with one entry for each comparison, [comparison, ...], by field and name in it."""
        found = {(name, ""): getattr(self, name) for name in _COLUMNS if getattr(self, name) is not None}
        return found | {(name, key): held for name in _NAMED for key, held in getattr(self, name).items()}

    def with_columns(self, columns: Mapping[tuple[str, str], Tensor]) -> Cells:
        """Return the cells with these in the place of `columns`."""
        changed: dict[str, Any] = {name: {} for name in _NAMED}
        for (name, key), held in columns.items():
            if key:
                changed[name][key] = held
            else:
                changed[name] = held
        return replace(self, **changed)

    def without_outcomes(self) -> Cells:
        """Return the same cells with nothing observed: programs then simulate."""
        return replace(self, outcome=None)

    def in_single_precision(self) -> Cells:
        """Return the same cells, whose comparisons are worked out in single precision: half the memory to move."""
        assert self.outcome is not None  # for likelihoods
        features = self.features
        if isinstance(features, Standardised):
            features = features.in_single_precision()
        return replace(self, outcome=self.outcome.float(), features=features)

    def each(self, change: Callable[[Tensor], Tensor]) -> Cells:
        """Return the same cells with every tensor changed, such as moved to another device."""
        changed: dict[str, Any] = {}
        for name, held in ((each.name, getattr(self, each.name)) for each in fields(self)):
            if isinstance(held, Tensor):
                changed[name] = change(held)
            elif isinstance(held, Mapping) and name != "sizes":
                changed[name] = {key: change(values) for key, values in held.items()}
        ratings = self.ratings and replace(
            self.ratings, **{name: change(held) for name, held in vars(self.ratings).items() if held is not None}
        )
        return replace(self, **changed, ratings=ratings)

    def to(self, device: torch.device | str) -> Cells:
        """Return the same cells on a device: these themselves where they are there."""
        place, here = torch.device(device), self.total.device
        there = here.type == place.type and place.index in (None, here.index)
        return self if there else self.each(lambda held: held.to(place))

    def _read(self, table: Tensor, index: Tensor) -> Tensor:
        return entries(self._precise(table), index)

    def _precise(self, table: Tensor) -> Tensor:
        """Return a table in the precision that comparisons are worked out in."""
        return table if self.outcome is None else table.to(self.outcome.dtype)


def contrasts(levels: int) -> Tensor:
    """Return the contrasts of so many levels, [level, level - 1]: orthonormal columns that sum to 0.

    Effects of levels are contrasts times coefficients; with independent coefficients of one variance no level is apart.
    """
    below = torch.ones(levels, levels - 1, dtype=torch.float64).triu()
    below[1:].diagonal().copy_(-torch.arange(1.0, levels))
    return below / torch.linalg.vector_norm(below, dim=0)


def _known(held: Mapping[str, Any], name: str, what: str, otherwise: Collection[str] = ()) -> Any:
    if name not in held:  # "age" for "annotator.age"
        name = next((each for each in held if each.endswith(f".{name}")), name)
    if name not in held:  # a layer that reads what it does not list in its needs
        known = ", ".join(held) or "none"
        if name in otherwise:
            raise ProgramError(
                f"a layer asks for the {what} of {name!r}, and the table holds other ones of it; where it is read, "
                "groups=[...] (--group) makes labels and numbers=[...] (--number) numbers"
            )
        raise ProgramError(f"a layer asks for the {what} of {name!r}, and has those of {known}; name it in its needs")
    return held[name]


def outside(numbers: Mapping[str, Tensor], spans: Mapping[str, Tensor]) -> frozenset[str]:
    """Return the names of numbers [comparison] that reach beyond their spans [2], by more than rounding."""
    known = {name: held for name, held in numbers.items() if name in spans}
    away = {name: (held - held.clamp(*spans[name].tolist())).abs() for name, held in known.items()}
    return frozenset(name for name, far in away.items() if bool((far > 1e-9).any()))

"""From tables of judged units to tensors: standard units, and where the quadrature nodes of a label lie."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefdensity.errors import DataError, ProgramError
from prefdensity.judged.units import Judged
from prefdensity.programs.defaults import JUDGED
from prefdensity.programs.judged_cells import NODES, JudgedCells, label_grid
from prefdensity.programs.layers import Program
from prefdensity.programs.shelf import tie_rules

Array = NDArray[Any]


@dataclass(frozen=True)
class Scale:
    """Units of measurement of a fit, learned from its labelled units.

    Attributes
    ----------
    label_mean, label_sd
        Of the labels; outputs are measured on the same scale.
    feature_mean, feature_sd
        Of covariates, then outputs; sd 0 marks a constant feature, which is left out.
    slope, spread
        Least squares of the standardised label on features (intercept first), and its residual sd: quadrature nodes
        are placed by these.
    levels
        The distinct labels in standard units, if there are few enough to be levels.
    judges
        Names.
    """

    label_mean: float
    label_sd: float
    feature_mean: tuple[float, ...]
    feature_sd: tuple[float, ...]
    slope: tuple[float, ...]
    spread: float
    levels: tuple[float, ...]
    judges: tuple[str, ...]

    @classmethod
    def of(cls, units: Judged) -> Scale:
        """Learn the scale from the labelled units.

        Raises
        ------
        DataError
            If fewer than 10 labels are seen, or all are equal.
        """
        seen = ~np.isnan(units.label)
        if seen.sum() < 10:
            raise DataError(f"{seen.sum()} units have a label; a program of judged units needs 10 or more")
        label, features = units.label[seen], np.column_stack([units.covariates, units.outputs])[seen]
        mean, sd = float(label.mean()), float(label.std())
        if sd == 0:
            raise DataError(f"all labels are {label[0]:g}; a program of judged units needs labels that differ")
        spread = features.std(0)
        spread[spread < 1e-12 * np.maximum(1.0, np.abs(features).max(0))] = 0.0
        kept = spread > 0
        design = np.column_stack([np.ones(len(label)), (features - features.mean(0))[:, kept] / spread[kept]])
        standard = (label - mean) / sd
        slope = np.linalg.lstsq(design, standard, rcond=None)[0]
        residual = float((standard - design @ slope).std()) if len(label) > 2 * design.shape[1] else 1.0
        levels = np.unique(standard)
        return cls(
            mean, sd, tuple(map(float, features.mean(0))), tuple(map(float, spread)), tuple(map(float, slope)),
            max(residual, 1e-3), tuple(map(float, levels)) if len(levels) <= 100 else (), units.judges,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers, for a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Scale:
        """Return what `as_dict` gave."""
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in saved.items()}
        return cls(**plain)

    def design(self, units: Judged) -> Array:
        """Return standardised features [unit, feature]."""
        sd = np.array(self.feature_sd)
        features = np.column_stack([units.covariates, units.outputs]) - self.feature_mean
        return np.asarray(features[:, sd > 0] / sd[sd > 0])

    def varying(self, units: Judged) -> tuple[str, ...]:
        """Return the names of the features that are not constant."""
        return tuple(name for name, sd in zip(units.features, self.feature_sd, strict=True) if sd > 0)

    def require(self, program: Program, units: Judged) -> None:
        """Refuse a program that cannot have made these labels and verdicts.

        Raises
        ------
        ProgramError
            If the program needs few levels, or two, or has no ties where there are some.
        """
        if len(units.verdict) and units.verdict.max() >= len(program.outcomes):
            row = int(units.judged[units.verdict.argmax()])
            raise ProgramError(
                f"unit {row} is judged a tie, and {program.name} has no ties; compose it with {tie_rules()}"
            )
        if _discrete(program) and not self.levels:
            usual = JUDGED["label"]
            raise ProgramError(f"{program.name} needs labels on at most 100 levels; these have more, use {usual}")
        if "two levels" in program.needs and len(self.levels) != 2:
            raise ProgramError(f"{program.name} needs labels of two levels; these have {len(self.levels) or 'many'}")

    def nodes_per_unit(self, program: Program, nodes: int) -> int:
        """Return about how many points a unit without label takes."""
        return len(self.levels) if _discrete(program) else 12 * nodes

    def trial(self, program: Program) -> JudgedCells:
        """Return two units to try a program on, one with a label and one with the verdict of each judge."""
        who = np.arange(len(self.judges))
        middle, sd = np.array(self.feature_mean), np.array(self.feature_sd)
        features, sure = np.stack([middle + sd, middle - sd / 2]), np.ones(2)
        label = self.label_mean + self.label_sd * (self.levels[0] if self.levels else 0.5)
        units = Judged(
            covariates=features[:, :-2], outputs=features[:, -2:] + self.label_sd * np.array([0.0, 0.5]),
            label=np.array([label, np.nan]), judged=np.repeat([0, 1], len(who)), judge=np.tile(who, 2),
            verdict=np.tile(who % 2, 2), features=tuple(map(str, range(len(middle)))), label_probability=sure,
            preference_probability=sure, judges=self.judges,
        )  # fmt: skip
        return self.cells(program, units)

    def cells(self, program: Program, units: Judged, nodes: int = NODES) -> JudgedCells:
        """Return the units as tensors, those with a label first."""
        seen = ~np.isnan(units.label)
        order = np.concatenate([np.flatnonzero(seen), np.flatnonzero(~seen)])
        units, n_seen = units.take(order), int(seen.sum())
        design = self.design(units)
        outputs = (units.outputs - self.label_mean) / self.label_sd
        label = (units.label[:n_seen] - self.label_mean) / self.label_sd
        if _discrete(program):
            levels = np.array(self.levels)
            grid = np.broadcast_to(levels, (len(units) - n_seen, len(levels)))
            log_weight = np.zeros_like(grid)
            level = np.concatenate([_level_of(label, levels), np.repeat(np.arange(len(levels)), len(grid))])
        else:
            centre = self.slope[0] + design[n_seen:] @ self.slope[1:]
            grid, weight = label_grid(outputs[n_seen:, 0], outputs[n_seen:, 1], centre, self.spread, nodes)
            with np.errstate(divide="ignore"):
                log_weight = np.log(weight)  # pieces of no length weigh nothing
            level = None
        on_seen = units.judged < n_seen
        hidden_of = units.judged[~on_seen] - n_seen
        each = np.concatenate([np.flatnonzero(on_seen), np.tile(np.flatnonzero(~on_seen), grid.shape[1])])
        return JudgedCells(
            design=_real(design), label=_real(np.concatenate([label, grid.T.ravel()])),
            level=None if level is None else _whole(level), log_weight=_real(log_weight.T),
            n_seen=n_seen, n_nodes=grid.shape[1], outputs=_real(outputs[units.judged[each]]),
            verdict=_whole(units.verdict[each]), annotator=_whole(units.judge[each]),
            seen_of=_whole(units.judged[on_seen]), hidden_of=_whole(hidden_of),
            outcomes=program.outcomes, n_annotators=len(self.judges), n_levels=len(self.levels),
        )  # fmt: skip


def _discrete(program: Program) -> bool:
    return bool({"levels", "two levels"} & set(program.needs))


def _level_of(label: Array, levels: Array) -> Array:
    """Return the place of each label among the levels."""
    at = np.abs(label[:, None] - levels).argmin(1) if len(label) else np.zeros(0, int)
    if len(label) and np.abs(levels[at] - label).max() > 1e-9:
        raise DataError("a label lies on none of the levels that the program was fitted to")
    return at


def _real(values: Array) -> Tensor:
    return torch.tensor(np.ascontiguousarray(values), dtype=torch.float64)


def _whole(values: Array) -> Tensor:
    return torch.tensor(np.ascontiguousarray(values), dtype=torch.int64)

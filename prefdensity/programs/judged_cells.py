"""Judged units as tensors: labels, outputs and verdicts laid out as points at which densities are evaluated.

A unit with a label is one point. The label of a unit that has verdicts only is summed or integrated out: over the
levels of a discrete label, or over a fixed quadrature grid that is split where a judge's margin bends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefdensity.data.grades import mirror
from prefdensity.errors import ProgramError
from prefdensity.programs.layers import Layer

Array = NDArray[np.float64]

NODES = 16  # per piece: leaves 1e-9 where 8 leave 1e-5
# Pieces between the outputs end at these shares of half their distance from the middle: each is 8 times as far out as
# the one before, so that a transition of any width is smooth on the scale of the piece it falls into.
_INNER = (1 / 64, 1 / 8, 1.0)
# Pieces outside, in r where label = centre + spread * sinh(r): sinh(3) = 10, sinh(10) = 11,000 residual sd.
_NEAR, _FAR = 3.0, 10.0
# Outputs further apart than this (in residual sd) hold the whole bulk of the labels between them.
_WIDE = 2.5
# A margin this large leaves a doubt of one rounding error (e^-36); far beyond it second derivatives overflow.
_CERTAIN = 36.0


# The fields of `JudgedCells` that are tensors.
_TENSORS = ("design", "label", "level", "log_weight", "outputs", "verdict", "annotator", "seen_of", "hidden_of")


@dataclass(frozen=True, eq=False)
class JudgedCells:
    """Units with labels first ("seen"), then `nodes` points for each unit without ("hidden"), node by node.

    All labels and outputs are in standard deviations of the observed labels from their mean, features standardised.

    Attributes
    ----------
    design
        [unit, feature].
    label
        [point]: seen labels, then the label at each node.
    level
        int64 [point]: which of `n_levels` labels it is; None for labels on a continuum.
    log_weight
        [node, hidden]: log quadrature weights; 0 for levels.
    n_seen, n_nodes
        Units with a label; nodes of every other.
    outputs
        [judgement, 2]: the two AI outputs, one row for every verdict at every point of its unit.
    verdict
        int64 [judgement], the place of the verdict in `outcomes`.
    annotator, n_annotators
        int64 [judgement]: who judged.
    seen_of, hidden_of
        int64 [verdict of a seen unit], [verdict of a hidden unit]: the place of its unit among the seen or the hidden.
    outcomes
        Verdicts in order: "a" (output 1 is closer), "b", and "tie" where the choice rule has it.
    """

    design: Tensor
    label: Tensor
    level: Tensor | None
    log_weight: Tensor
    n_seen: int
    n_nodes: int
    outputs: Tensor
    verdict: Tensor
    annotator: Tensor
    seen_of: Tensor
    hidden_of: Tensor
    outcomes: tuple[str, ...]
    n_annotators: int = 1
    n_levels: int = 0

    def __len__(self) -> int:
        return len(self.label)

    @property
    def n_margins(self) -> int:
        """How many margins are judged: one for each judgement."""
        return len(self.verdict)

    @property
    def total(self) -> Tensor:
        """One observation for each unit [unit]; also tells dtype and device."""
        return torch.ones_like(self.design[:, 0])

    @property
    def pairwise(self) -> bool:
        """Rows are no comparisons of items: points of a unit are summed over, and outputs have no utilities."""
        return False

    def columns(self) -> dict[tuple[str, str], Tensor]:
        """Return every tensor by its field, as `Cells` does."""
        return {(name, ""): held for name, held in vars(self).items() if name in _TENSORS and held is not None}

    def with_columns(self, columns: Mapping[tuple[str, str], Tensor]) -> JudgedCells:
        """Return the same cells with these in the place of `columns`."""
        return replace(self, **{name: held for (name, _), held in columns.items()})  # type: ignore[arg-type]

    def to(self, device: torch.device | str) -> JudgedCells:
        """Return the same units on a device."""
        return self.with_columns({name: held.to(device) for name, held in self.columns().items()})

    def in_single_precision(self) -> JudgedCells:
        """Return the same cells: sums over the points of a unit need double precision."""
        return self

    @cached_property
    def first(self) -> Tensor:
        """Output 1 is shown first [judgement]."""
        return torch.ones_like(self.outputs[:, 0])

    @cached_property
    def mirror(self) -> Tensor:
        """The place of each outcome once the sides are exchanged, int64 [outcome]."""
        return torch.tensor(mirror(self.outcomes), device=self.verdict.device)

    def at_points(self, per_unit: Tensor) -> Tensor:
        """Return values [..., point] of values [..., unit]."""
        hidden = per_unit[..., self.n_seen :]
        spread = hidden.unsqueeze(-2).expand(*hidden.shape[:-1], self.n_nodes, hidden.shape[-1]).flatten(-2)
        return torch.cat([per_unit[..., : self.n_seen], spread], -1)

    def size(self, name: str) -> int:
        """Return how many annotators there are, `name` being "annotator"."""
        if name != "annotator":
            raise ProgramError(f"judged units know of no {name!r}, of annotators alone")
        return self.n_annotators

    def of(self, name: str, table: Tensor) -> Tensor:
        """Return the entry [..., judgement] of a table [..., annotator] for who judged, `name` being "annotator"."""
        self.size(name)  # refused else
        return table.index_select(-1, self.annotator)

    @cached_property
    def _at_judgements(self) -> Tensor:
        seen = self.label[: self.n_seen].index_select(0, self.seen_of)
        hidden = self.label[self.n_seen :].reshape(self.n_nodes, -1).index_select(1, self.hidden_of)
        return torch.cat([seen, hidden.flatten()])

    @cached_property
    def closer(self) -> Tensor:
        """By how much output 1 is closer to the label than output 2 [judgement], |w2 - y| - |w1 - y|."""
        distance = (self.outputs - self._at_judgements[:, None]).abs()
        return distance[:, 1] - distance[:, 0]

    @cached_property
    def closer_squared(self) -> Tensor:
        """The same in squared distances [judgement], (w2 - y)^2 - (w1 - y)^2."""
        distance = (self.outputs - self._at_judgements[:, None]) ** 2
        return distance[:, 1] - distance[:, 0]

    def head(self, rows: int) -> JudgedCells:
        """Return the first `rows` units only: one is enough to run a program for its latent sites."""
        seen, total = min(rows, self.n_seen), min(rows, len(self.design))
        hidden = total - seen
        kept = [self.seen_of < seen, self.hidden_of < hidden]
        judged = torch.cat([kept[0], kept[1].repeat(self.n_nodes)])
        grid = torch.zeros(len(self.design), dtype=torch.bool, device=self.design.device)
        grid[:seen] = True
        grid[self.n_seen : self.n_seen + hidden] = True
        points = self.at_points(grid)
        return replace(
            self, design=self.design[grid], label=self.label[points], n_seen=seen,
            level=None if self.level is None else self.level[points], log_weight=self.log_weight[:, :hidden],
            outputs=self.outputs[judged], verdict=self.verdict[judged], annotator=self.annotator[judged],
            seen_of=self.seen_of[kept[0]], hidden_of=self.hidden_of[kept[1]],
        )  # fmt: skip


def regression(data: JudgedCells, intercept: bool = True) -> Tensor:
    """Sample `coefficient` (and `intercept`) from unit normal priors; return the linear predictor [..., unit]."""
    start = pyro.sample("intercept", dist.Normal(0.0, 1.0)) if intercept else 0.0
    with pyro.plate("feature", data.design.shape[1], dim=-1):
        slope = pyro.sample("coefficient", dist.Normal(0.0, 1.0))
    return start + slope @ data.design.T


def tabulate(layers: Sequence[Layer], data: JudgedCells) -> tuple[Tensor, Tensor]:
    """Run the layers and return log p(label) [..., point] and log p(verdict | label) [..., judgement, outcome]."""
    stage = {each.stage: each for each in layers}
    log_label = stage["label"](data)
    margin = stage["judge"](data)
    for each in layers:
        if each.stage == "margin":
            margin = each(margin, data)
    log_prob = stage["choice"](margin.clamp(-_CERTAIN, _CERTAIN), data)
    for each in layers:
        if each.stage == "noise":
            log_prob = each(log_prob, data)
    return log_label, log_prob.expand(*log_label.shape[:-1], *log_prob.shape[-2:])  # a judge may have no sites


def observe_units(layers: Sequence[Layer], data: JudgedCells) -> None:
    """Declare the observed site `outcome`: labels and verdicts of seen units, verdicts of hidden ones."""
    log_label, log_prob = tabulate(layers, data)
    said = _said(log_prob, data)
    seen, votes = data.n_seen, len(data.seen_of)
    known = log_label[..., :seen].index_add(-1, data.seen_of, said[..., :votes])
    hidden = _by_node(log_label[..., seen:], data) + _told(said, data) + data.log_weight
    log_unit = torch.cat([known, hidden.logsumexp(-2)], -1)
    with pyro.plate("unit", log_unit.shape[-1], dim=-1):
        pyro.factor("outcome", log_unit)


def at_nodes(layers: Sequence[Layer], data: JudgedCells) -> tuple[Tensor, Tensor]:
    """Return log p(label) and log p(verdicts | label) of hidden units at their nodes, each [..., node, hidden]."""
    log_label, log_prob = tabulate(layers, data)
    return _by_node(log_label[..., data.n_seen :], data), _told(_said(log_prob, data), data)


def _said(log_prob: Tensor, data: JudgedCells) -> Tensor:
    """Return the log probability [..., judgement] of the verdicts given."""
    index = data.verdict.expand(log_prob.shape[:-1]).unsqueeze(-1)
    return log_prob.gather(-1, index).squeeze(-1)


def _by_node(values: Tensor, data: JudgedCells) -> Tensor:
    """Return values [..., node, hidden] of values [..., point of a hidden unit]."""
    return values.unflatten(-1, (data.n_nodes, len(data.design) - data.n_seen))


def _told(said: Tensor, data: JudgedCells) -> Tensor:
    """Return the summed log probability [..., node, hidden] of a hidden unit's verdicts."""
    votes = said[..., len(data.seen_of) :].unflatten(-1, (data.n_nodes, len(data.hidden_of)))
    total = votes.new_zeros(*votes.shape[:-1], len(data.design) - data.n_seen)
    return total.index_add(-1, data.hidden_of, votes)


def label_grid(
    output_1: Array, output_2: Array, centre: Array, spread: float, nodes: int = NODES
) -> tuple[Array, Array]:
    """Return labels [unit, node] and weights [unit, node] that integrate any smooth law of a label times a judge.

    Gauss-Legendre, split where the margin of a distance judge bends: at both outputs and, graded, about their middle.

    Parameters
    ----------
    output_1, output_2
        [unit].
    centre, spread
        Roughly where the label lies [unit], and its residual sd: they place nodes, and move no integral.
    nodes
        Per piece.
    """
    middle, half = (output_1 + output_2) / 2, np.abs(output_1 - output_2) / 2
    shares = np.array([-s for s in reversed(_INNER)] + [0.0, *_INNER])
    breaks = middle[:, None] + half[:, None] * shares
    if (half > _WIDE * spread).any():
        bulk = centre[:, None] + spread * np.array([-6.0, -3.0, 0.0, 3.0, 6.0])
        breaks = np.sort(np.hstack([breaks, np.clip(bulk, breaks[:, :1], breaks[:, -1:])]), 1)
    parts = [_legendre(breaks, nodes)]
    for sign in (1.0, -1.0):
        start = np.arcsinh((half + sign * (middle - centre)) / spread)
        near, far = np.maximum(start, _NEAR), np.maximum(start, _FAR)
        at, weight = _legendre(np.stack([start, (start + near) / 2, near, far], 1), nodes)
        parts.append((centre[:, None] + sign * spread * np.sinh(at), weight * spread * np.cosh(at)))
    return np.hstack([at for at, _ in parts]), np.hstack([weight for _, weight in parts])


def _legendre(breaks: Array, nodes: int) -> tuple[Array, Array]:
    """Return Gauss-Legendre nodes and weights [unit, node] over the pieces between breaks [unit, break]."""
    at, weight = np.polynomial.legendre.leggauss(nodes)
    middle, half = (breaks[:, 1:] + breaks[:, :-1]) / 2, np.diff(breaks) / 2
    shape = (len(breaks), nodes * half.shape[1])
    return (middle[..., None] + half[..., None] * at).reshape(shape), (half[..., None] * weight).reshape(shape)

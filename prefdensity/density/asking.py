"""What a program says of anybody: the margin that they would see between any two items, under every posterior draw.

Nothing here knows a layer. The stages up to the choice rule are run on cells that ask about the items and people in
question, with neither side shown first and covariates 0, and the margin that would reach the rule is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from prefdensity.data.grades import pooled
from prefdensity.posterior.outcome_tables import outcome_tables
from prefdensity.posterior.posterior import Posterior
from prefdensity.posterior.questions import given_to, question_cells, sites_of
from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import Layer
from prefdensity.programs.pipeline import margins
from prefdensity.programs.running import centred, require_drawn, run

Array = NDArray[Any]

_PASS = 4_000_000  # draws x types x cells per pass
# Where a property is looked for: under so many draws, at about so many cells, by so many pairs for odds.
_PROBES, _CELLS, _ODDS = 4, 50_000, 200
CLOSE = 1e-9  # margins that differ by less are the same
NEW, AVERAGE = "new", "average"
_WEIGHTS = ("weight", "whole")  # places of layers that say how much is cared, not what is wanted


@dataclass(frozen=True)
class Question:
    """Layers of a posterior's program to be asked, and who is meant where nobody is named.

    Attributes
    ----------
    post
        The posterior.
    layers
        Those that are run, in order; none for a program that is a plain function, whose log odds are the margin.
    member
        "": the annotators that are asked about are known. "new": one whom nobody has met, drawn from the fitted
        population in each draw; "average": one whose own latents are at the means of their distributions.
    points
        Standardised features [point, feature] of what is compared in the place of the items, or None.
    """

    post: Posterior
    layers: tuple[Layer, ...]
    member: str = ""
    points: Array | None = None

    @property
    def size(self) -> int:
        """Number of items, or points, that are compared."""
        return len(self.post.items) if self.points is None else len(self.points)

    @property
    def people(self) -> int:
        """Number of annotators to ask about; 1 where the program knows none."""
        return max(1, len(self.post.annotators)) if self.asks_who and not self.member else 1

    @property
    def asks_who(self) -> bool:
        """Whether a layer that is run reads who judges, or what is known of them."""
        needs = [each.needs for each in self.layers] if self.layers else [self.post.program.needs]
        return any(self.post.full_name(need).partition(".")[0] == "annotator" for each in needs for need in each)

    @cached_property
    def _population(self) -> list[str]:
        """The sites that are not some annotator's own, nor of what is known of annotators."""
        of_people = (name for name in self.post.labels_of if name.startswith("annotator."))
        return given_to(self.post, question_cells(self.post, self.post.program, [0], [0]), ["annotator", *of_people])

    def ask(self, a: ArrayLike, b: ArrayLike, who: ArrayLike, step: int = 1) -> Iterator[Array]:
        """Yield margins [draw, type, cell] of every `step`-th draw, in passes of bounded memory.

        Parameters
        ----------
        a, b, who
            Codes [cell] of both sides and of the annotator, who does not matter where no layer reads it.
        step
            Take every so many draws.
        """
        post, known = self.post, None if self.member or not self.post.annotators else np.asarray(who)
        cells = question_cells(post, post.program, a, b, known, points=self.points)
        given = list(post.drawn) if known is not None else self._population
        if not self.layers:
            yield from self._log_odds(cells, given, step)
            return
        types = post.draws["type_weight"].shape[1] if "type_weight" in post.draws else 1
        rows = np.arange(0, post.n_draws, step)
        size = max(1, _PASS // (len(cells) * types))
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            yield self._run(cells, given, part)[0].expand(len(part), types, len(cells)).cpu().numpy()

    def of_cells(self, cells: Cells, step: int = 1) -> Iterator[Array]:
        """Yield margins [draw, cell] of every `step`-th draw in the situations of cells, people known.

        Of hidden types the mean, weighed by what is known of who judged.
        """
        rows = np.arange(0, self.post.n_draws, step)
        size = max(1, _PASS // max(1, len(cells)))
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            found = self._run(cells, list(self.post.drawn), part)[0].cpu().numpy()
            if found.shape[1] == 1 or cells.annotator is None:
                yield np.broadcast_to(found.mean(1), (len(part), len(cells)))
                continue
            share = self.post.draws["type_probability"][part][:, cells.annotator.cpu().numpy()]
            yield (found * share.swapaxes(1, 2)).sum(1)

    def _run(self, cells: Cells, given: Collection[str], rows: Array) -> tuple[Tensor, dict[str, Any]]:
        member = centred(self.post.latent) if self.member == AVERAGE else nullcontext()
        with member:
            return _answer(self.post, lambda data: margins(self.layers, data)[0], cells, given, rows)

    def sites(self, dim: str) -> list[str]:
        """Return the latent sites along a dim, such as item, that the margins are made of; the layers' own alone."""
        cells = question_cells(self.post, self.post.program, [0], [0], [0] if self.post.annotators else None)
        given = list(self.post.drawn)
        met = self._run(cells, given, np.zeros(1, int))[1] if self.layers else dict.fromkeys(given)
        return [name for name in given if name in met and dim in self.post.dims[name]]

    def _log_odds(self, cells: Cells, given: Collection[str], step: int) -> Iterator[Array]:
        member = centred(self.post.latent) if self.member == AVERAGE else nullcontext()
        with member:
            for table in outcome_tables(self.post, cells, given=given, step=step):
                prob = pooled(table.log_prob.cpu().numpy(), self.post.outcomes)
                yield prob[..., 0] - prob[..., 1]

    def against_first(self, items: Sequence[int], who: Sequence[int], step: int = 1) -> Array:
        """Return margins [draw, annotator, type, item] of items against the first of all.

        Where margins follow from utilities, these are theirs up to a constant.
        """
        a, people = np.tile(items, len(who)), np.repeat(who, len(items))
        found = np.concatenate(list(self.ask(a, np.zeros_like(a), people, step)))
        return found.reshape(*found.shape[:2], len(who), len(items)).swapaxes(1, 2)

    def pairs(self, who: Sequence[int], step: int = 1) -> Iterator[Array]:
        """Yield margins [draw, annotator, type, item, item] of the row over the column, each order counted half."""
        size = self.size
        a, b = np.repeat(np.arange(size), size), np.tile(np.arange(size), size)
        everyone = np.repeat(who, size * size)
        for found in self.ask(np.tile(a, len(who)), np.tile(b, len(who)), everyone, step):
            square = found.reshape(*found.shape[:2], len(who), size, size).swapaxes(1, 2)
            yield (square - square.swapaxes(-1, -2)) / 2

    @property
    def probe(self) -> int:
        """The step that leaves a few draws."""
        return max(1, self.post.n_draws // _PROBES)


def wants(post: Posterior, margin: Callable[[Layer], bool] = lambda layer: True) -> tuple[Layer, ...]:
    """Return the layers that say what is wanted: utilities, and margins but those that say how much is cared.

    Parameters
    ----------
    post
        A posterior.
    margin
        Which of these margin layers to keep.
    """
    return tuple(
        each
        for each in post.program.layers
        if each.stage in ("scale", "utility", "types") or (each.stage == "margin" and not weighs(each) and margin(each))
    )


def weighs(layer: Layer) -> bool:
    """Say whether a margin layer says how much annotators care, not what they want."""
    return layer.place in _WEIGHTS


def odds_are_margins(post: Posterior) -> bool:
    """Say whether the odds of a over b are exp(margin) under the choice rule: found by running it on some pairs."""
    layers = post.program.layers
    choice = next(each for each in layers if each.stage == "choice")
    a, b, who = _some_pairs(len(post.items), max(1, len(post.annotators)), _ODDS)
    cells = question_cells(post, post.program, a, b, who if post.annotators else None)
    rows = np.arange(0, post.n_draws, max(1, post.n_draws // _PROBES))

    def gap(data: Cells) -> Tensor:
        margin = margins(layers, data)[0]
        prob = pooled(choice(margin, data).cpu().numpy(), post.outcomes)
        return torch.tensor(prob[..., 0] - prob[..., 1]).to(margin) - margin

    return bool(_answer(post, gap, cells, post.drawn, rows)[0].abs().max() < CLOSE)


def reads_all_items(post: Posterior, behaviour: Layer) -> bool:
    """Say whether a behaviour moves the scores of items when the density of another one is changed."""
    size = len(post.items)
    cells = question_cells(post, post.program, [0], [0], [0] if post.annotators else None)
    utility = torch.linspace(0.0, 1.0, size, dtype=torch.float64, device=post.device)
    moved = utility.clone()
    moved[0] += 1.0
    rows = np.zeros(1, int)

    def score(at: Tensor) -> Tensor:
        return _answer(post, lambda data: behaviour(at.expand(1, 1, size), data), cells, post.drawn, rows)[0]

    return size > 1 and bool((score(moved) - score(utility))[..., 1:].abs().max() > CLOSE)


def differ(question: Question) -> bool:
    """Say whether annotators want different things: whether margins of the same items differ between them."""
    if question.people == 1:
        return False
    items = np.unique(np.linspace(0, question.size - 1, max(2, _CELLS // question.people)).astype(int))
    found = question.against_first(items.tolist(), range(question.people), question.probe)
    found = found - question.against_first([0], range(question.people), question.probe)
    return bool(np.abs(found - found[:, :1]).max() > CLOSE * (1 + np.abs(found).max()))


def moves(post: Posterior, layer: Layer) -> bool:
    """Say whether a margin layer moves the margin of anybody, where the situation favours neither side."""
    before = Question(post, wants(post, lambda each: False))
    after = Question(post, wants(post, lambda each: each is layer))
    a, b, who = _some_pairs(before.size, after.people, _CELLS)
    gaps = zip(before.ask(a, b, who, before.probe), after.ask(a, b, who, after.probe), strict=True)
    return any(bool(np.abs(one - other).max() > CLOSE) for one, other in gaps)


def run_in_circles(question: Question) -> bool:
    """Say whether no utilities explain the margins: asks all pairs of items, or many where there are very many."""
    if question.size < 3:
        return False
    a, b, who = _some_pairs(question.size, question.people, _CELLS)
    first, people = np.zeros_like(a), np.tile(who, 6)
    sides = np.concatenate([a, b, first, a, b, first]), np.concatenate([b, first, a, first, a, b])
    for found in question.ask(*sides, people, question.probe):
        ab, b0, r0a, a0, ba, r0b = np.split(found, 6, axis=-1)
        around = (ab - ba + b0 - r0b + r0a - a0) / 2
        if np.abs(around).max() > CLOSE * (1 + np.abs(found).max()):
            return True
    return False


def _answer(
    post: Posterior, ask: Callable[[Cells], Tensor], cells: Cells, given: Collection[str], rows: Array
) -> tuple[Tensor, dict[str, Any]]:
    """Return what part of a program answers [draw, type, cell] under some draws, and the sites it met."""
    found: list[Tensor] = []
    program = replace(post.program, model=lambda data: found.append(ask(data)))
    with torch.no_grad():
        met = run(program, cells.to(post.device), sites_of(post, given, rows), len(rows), seed=int(rows[0])).met
    require_drawn(met, post.latent, program.name)
    answer = found[0]
    # plates of layers left of those of types are no more than singletons here
    return answer.flatten(1, -2) if answer.dim() > 2 else answer.reshape(1, 1, -1).expand(len(rows), 1, -1), met


def _some_pairs(size: int, people: int, most: int) -> tuple[Array, Array, Array]:
    """Return all pairs of items [pair] by everybody, or about as many as `most` at random, and who judges."""
    a, b = np.triu_indices(size, 1) if size * size * people <= 2 * most else (None, None)
    if a is not None and b is not None:
        return np.tile(a, people), np.tile(b, people), np.repeat(np.arange(people), len(a))
    rng = np.random.default_rng(0)
    first = rng.integers(size, size=most)
    return first, (first + rng.integers(1, max(size, 2), most)) % size, rng.integers(people, size=most)

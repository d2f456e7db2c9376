"""How outcomes are observed: judgements in cells, and annotators of hidden types.

A program ends in `observe`, whose site `outcome` carries a table `outcome_log_prob`
[..., comparison, outcome]; prediction, checks and comparison read that table, never a program's inside.
"""

from __future__ import annotations

import copy
from typing import Any

import pyro
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.nn.functional import logsigmoid

from prefdensity.programs.cells import Cells
from prefdensity.programs.tables import plain


def by_outcome(*log_prob: Tensor) -> Tensor:
    """Return a table [..., comparison, outcome] of log probabilities [..., comparison], one for each outcome.

    Stored outcome by outcome: interleaving them would cost more than the rest of a likelihood.
    """
    return _stacked(log_prob).movedim(0, -1)


def _stacked(each: tuple[Tensor, ...]) -> Tensor:
    """Return tensors side by side [outcome, ...], in the precision of the largest: parameters do not add to it."""
    plainly = [plain(one) for one in each]
    precise = max(plainly, key=Tensor.numel).dtype
    return torch.stack(torch.broadcast_tensors(*(one.to(precise) for one in plainly)))


def sum_products(count: Tensor, log_prob: Tensor) -> Tensor:
    """Return sum over the last axis of count * log_prob, tables [..., outcome] laid out outcome by outcome."""
    # of the axis in front slopes come back as they lie; of the last they would come interleaved
    first, *others = zip(count.unbind(-1), log_prob.movedim(-1, 0).unbind(), strict=True)
    total = first[0] * first[1]
    for each, value in others:
        total = torch.addcmul(total, each, value)
    return total


def luce(*log_weight: Tensor) -> Tensor:
    """Return the table [..., comparison, outcome] of outcomes with probabilities proportional to exp(log_weight)."""
    return _stacked(log_weight).log_softmax(0).movedim(0, -1)  # over the contiguous layout: seven times faster


def cumulative_logit(cut: Tensor, score: Tensor) -> Tensor:
    """Return the table [..., row, level] of ordered levels with P(level <= k) = sigmoid(cut_k - score).

    `cut` [..., row or 1, level - 1] rises; `score` [..., row].
    """
    cut, score = plain(cut).movedim(-1, 0), plain(score)
    cut = cut.reshape(len(cut), *(1,) * (score.dim() + 1 - cut.dim()), *cut.shape[1:])
    below = cut - score
    lower, upper = logsigmoid(below), logsigmoid(-below)
    # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)): nothing cancels
    middle = lower[1:] + upper[:-1] + (-(-cut.diff(dim=0)).expm1()).log()
    return torch.cat([lower[:1], middle, upper[-1:]]).movedim(0, -1)  # laid out level by level


def mix(log_prob: Tensor, type_weight: Tensor) -> Tensor:
    """Return the table [..., comparison, outcome] of judgements whose type is drawn anew each time.

    `log_prob` [..., type, comparison, outcome]; the type dim is kept as a singleton under a fit plate.
    """
    weight = _log_weight(type_weight, log_prob).unsqueeze(-1)
    return (log_prob + weight).logsumexp(-3, keepdim=log_prob.dim() > 3)


def _log_weight(type_weight: Tensor, log_prob: Tensor) -> Tensor:
    """Return log weights [..., type, 1] beside `log_prob` [..., type, comparison, outcome], under a plate of fits.

    Where each annotator has weights [..., annotator, type] of their own, [..., type, annotator].
    """
    lead = log_prob.dim() - 3
    fits = type_weight.shape[:1] if lead else type_weight.shape[:0]
    table = type_weight.reshape(*fits, *(1,) * (lead - 1), -1, type_weight.shape[-1])
    return table.transpose(-1, -2).log()


class Judgements(TorchDistribution):
    """Independent judgements in each cell, given as counts [..., comparison, outcome].

    The density is that of the judgements in the order they came (no multinomial coefficient), so that
    it does not change when equal rows are counted together. The coefficient is constant in all parameters.
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.independent(constraints.nonnegative, 1)

    def __init__(self, outcome_log_prob: Tensor, total: Tensor) -> None:
        self.outcome_log_prob = outcome_log_prob
        self.total = total
        super().__init__(outcome_log_prob.shape[:-1], outcome_log_prob.shape[-1:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log probability [..., comparison] of counts [..., comparison, outcome]."""
        return sum_products(value, self.outcome_log_prob)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw counts `[*sample_shape, ..., comparison, outcome]` that add up to `total`."""
        shape = torch.Size(sample_shape) + self.outcome_log_prob.shape
        return _multinomial(self.total, self.outcome_log_prob.exp().expand(shape))

    def without_plates(self, plates: int) -> Judgements:
        """Return the same distribution without so many axes that nothing uses, right of the fits."""
        found = copy.copy(self)
        found.outcome_log_prob = self.outcome_log_prob.flatten(1, 1 + plates)
        found.total = self.total if self.total.dim() < 2 else self.total.flatten(1, 1 + plates)
        found._batch_shape = found.outcome_log_prob.shape[:-1]
        return found

    def expand(self, batch_shape: Any, _instance: Any = None) -> Judgements:
        """Return the same distribution with a larger batch shape."""
        shape = torch.Size(batch_shape)
        return Judgements(self.outcome_log_prob.expand(shape + self.event_shape), self.total.expand(shape))


class Picks(Judgements):
    """Choices from sets: counts [..., comparison, outcome] with a row for each alternative, a = chosen.

    Only what was chosen enters the density; a draw chooses `total` times from each set.
    """

    def __init__(self, outcome_log_prob: Tensor, total: Tensor, choice: Tensor) -> None:
        self.choice = choice
        super().__init__(outcome_log_prob, total)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw counts `[*sample_shape, ..., comparison, outcome]`: how often each alternative was chosen."""
        shape = torch.Size(sample_shape) + self.outcome_log_prob.shape[:-1]
        probs = self.outcome_log_prob[..., 0].exp().expand(shape)
        size = torch.bincount(self.choice)
        start = size.cumsum(0) - size
        left = self.total.expand(shape).index_select(-1, start).clone()
        rest = torch.ones_like(left)
        chosen = torch.zeros_like(probs)
        for k in range(int(size.max())):  # the k-th alternative of every set that has one, given the ones before
            has = torch.nonzero(size > k).squeeze(-1)
            rows = start[has] + k
            last = (size[has] == k + 1).expand(left[..., has].shape)
            share = (probs[..., rows] / rest[..., has].clamp_min(1e-300)).clamp(0.0, 1.0)
            drawn = torch.binomial(left[..., has], torch.where(last, 1.0, share).to(left.dtype))
            chosen[..., rows] = drawn
            left[..., has] -= drawn
            rest[..., has] -= probs[..., rows]
        return torch.stack([chosen, torch.zeros_like(chosen)], -1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Picks:
        """Return the same distribution with a larger batch shape."""
        shape = torch.Size(batch_shape)
        return Picks(self.outcome_log_prob.expand(shape + self.event_shape), self.total.expand(shape), self.choice)


class TypeMixture(TorchDistribution):
    """Judgements by annotators of K hidden types; the type of each annotator is summed out exactly.

    One draw is the whole table of counts [comparison, outcome]: all judgements of an annotator share
    his type, so cells are not independent. Enumerating a discrete site `z` and indexing `z[annotator]`
    would silently give all annotators one common type; here nobody can write that.
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.independent(constraints.nonnegative, 2)

    def __init__(
        self,
        outcome_log_prob: Tensor,
        type_weight: Tensor,
        annotator: Tensor,
        n_annotators: int,
        total: Tensor,
    ) -> None:
        self.outcome_log_prob = outcome_log_prob  # [..., type, comparison, outcome]
        batched = outcome_log_prob.dim() > 3
        self.log_weight = _log_weight(type_weight, outcome_log_prob)  # [..., type, annotator or 1]
        self.annotator, self.n_annotators, self.total = annotator, n_annotators, total
        # Kept singleton dims: without them a batch of S densities broadcasts into S x S.
        batch = outcome_log_prob.shape[:-3] + ((1, 1) if batched else ())
        super().__init__(torch.Size(batch), outcome_log_prob.shape[-2:], validate_args=False)

    def type_log_lik(self, value: Tensor) -> Tensor:
        """Return the log likelihood [..., type, annotator] of each annotator's judgements under each type."""
        # outcome by outcome, as both are laid out: no table of products is made to be summed at once
        cell = sum_products(value.unsqueeze(-3), self.outcome_log_prob)
        table = cell.new_zeros((*cell.shape[:-1], self.n_annotators))
        return table.scatter_add(-1, self.annotator.expand(cell.shape), cell)  # its gradient is a gather: see `entries`

    def annotator_log_lik(self, value: Tensor) -> Tensor:
        """Return log p(judgements of annotator) [..., annotator] with the type summed out."""
        return (self.type_log_lik(value) + self.log_weight).logsumexp(-2)

    def type_probability(self, value: Tensor) -> Tensor:
        """Return p(type | judgements) [..., annotator, type]."""
        return (self.type_log_lik(value) + self.log_weight).softmax(-2).transpose(-1, -2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log probability of the whole table of counts."""
        total = self.annotator_log_lik(value).sum(-1)
        return total.reshape(self.batch_shape)

    def assigned_log_prob(self, value: Tensor, assignment: Tensor) -> Tensor:
        """Return the log density if the types were known: `assignment` [..., type, annotator] sums to 1 over type."""
        joint = (self.type_log_lik(value) + self.log_weight) * assignment
        return joint.sum((-2, -1)).reshape(self.batch_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw a type for each annotator, then all counts [..., comparison, outcome]."""
        shape = torch.Size(sample_shape) + self.outcome_log_prob.shape[:-3]
        probs = self.log_weight.exp().expand((*shape, -1, self.n_annotators)).transpose(-1, -2)
        types = torch.distributions.Categorical(probs).sample()
        of_cell = types.index_select(-1, self.annotator)[..., None, :, None]  # [..., 1, comparison, 1]
        table = self.outcome_log_prob.expand((*shape, *self.outcome_log_prob.shape[-3:]))
        chosen = table.gather(-3, of_cell.expand((*shape, 1, *table.shape[-2:]))).squeeze(-3)
        # the fit plate puts two kept dims before the event
        middle = (1, 1) if self.batch_shape else ()
        return _multinomial(self.total, chosen.exp()).reshape((*shape, *middle, *self.event_shape))

    def without_plates(self, plates: int) -> TypeMixture:
        """Return the same distribution without so many axes that nothing uses, right of the fits."""
        found = copy.copy(self)
        found.outcome_log_prob = self.outcome_log_prob.flatten(1, 1 + plates)
        found.log_weight = self.log_weight.flatten(1, 1 + plates)
        found._batch_shape = self.batch_shape[plates:]
        return found

    def expand(self, batch_shape: Any, _instance: Any = None) -> TypeMixture:
        """Return itself: the batch shape is fixed by the utilities."""
        if torch.Size(batch_shape) != self.batch_shape:
            raise ValueError(f"a type mixture of batch shape {self.batch_shape} cannot expand to {batch_shape}")
        return self


def observe(outcome_log_prob: Tensor, data: Cells, type_weight: Tensor | None = None) -> None:
    """Declare the observed site `outcome`; with `data.outcome` None it is simulated."""
    if type_weight is not None:
        assert data.annotator is not None  # types are refused without annotators
        mixture = TypeMixture(outcome_log_prob, type_weight, data.annotator, data.n_annotators, data.total)
        pyro.sample("outcome", mixture, obs=data.outcome)
        return
    judged = (
        Judgements(outcome_log_prob, data.total)
        if data.choice is None
        else Picks(outcome_log_prob, data.total, data.choice)
    )
    with pyro.plate("comparison", len(data), subsample=data.rows, dim=-1):
        pyro.sample("outcome", judged, obs=data.outcome)


def _multinomial(total: Tensor, probs: Tensor) -> Tensor:
    """Draw counts with the shape of `probs` [..., comparison, outcome] adding up to `total`, binomial by binomial."""
    left = total.expand(probs.shape[:-1]).clone()
    rest = torch.ones_like(left)
    counts = []
    for k in range(probs.shape[-1] - 1):
        share = (probs[..., k] / rest.clamp_min(1e-300)).clamp(0.0, 1.0)
        counts.append(torch.binomial(left, share.to(left.dtype)))
        left, rest = left - counts[-1], rest - probs[..., k]
    return torch.stack([*counts, left], -1)

"""Somebody new, after a few of their judgements: what they want, at once, without a fit of everything anew.

What is new is small: the latents of one annotator, given what all share. Under the mean of that a few steps of Newton's
method find their mode and its curvature; every draw of the posterior gets one draw of theirs from that Gaussian, and
is weighed by how likely it makes the new judgements (Pareto-smoothed importance sampling, `psis`). So what all share
learns from them too, as little as it should, and how far the weights can be relied on is told. All of it is on the CPU,
wherever the fit was: a few judgements of one annotator are too little work for a device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.distributions import Transform, biject_to

from prefdensity.errors import DataError
from prefdensity.posterior.draws import Draws
from prefdensity.posterior.predict import FIRST, codes, place_of
from prefdensity.posterior.psis import USABLE, effective_size, smooth, systematic
from prefdensity.posterior.questions import given_to, padded, question_cells, unmoved
from prefdensity.programs.cells import Cells
from prefdensity.programs.running import Substitute, require_drawn, run

_STEPS, _SETTLED = 20, 1e-6  # of Newton's method; nats that another one promises
_COLUMNS = {"item_a", "item_b", "outcome", "first", "count"}


@dataclass(frozen=True)
class _Own:
    """A latent site of the newcomer: its shape under a plate of fits, and where it lies in their vector."""

    name: str
    shape: tuple[int, ...]
    transform: Transform
    at: slice

    def value(self, z: Tensor) -> Tensor:
        """Return the site [fit, ...] at vectors z [fit, dimension]."""
        return self.transform(z[:, self.at].reshape(len(z), *self.shape))  # type: ignore[no-any-return]

    def log_det(self, z: Tensor, value: Tensor) -> Tensor:
        """Return log |d value / d z| [fit]."""
        raw = z[:, self.at].reshape(len(z), *self.shape)
        return self.transform.log_abs_det_jacobian(raw, value).reshape(len(z), -1).sum(-1)  # type: ignore[no-any-return]


def given_votes(
    post: Draws, votes: pd.DataFrame | Iterable[tuple[str, str, str]], name: str, known: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Return what changes of a posterior when one new annotator has judged; see `Posterior.given`."""
    if post.is_point or post.status.method == "mle":
        raise DataError(f"{post.status.method} leaves no posterior that judgements could be added to; use laplace")
    cells, strange = _cells(post, votes, known)
    given = given_to(post, cells, strange)
    drawn = {site: torch.as_tensor(post.draws[site]) for site in given}
    own = _own_sites(post, cells, given)
    shared = {site: padded(post, site, values.mean(0, keepdim=True)) for site, values in drawn.items()}
    middle, root = _gaussian(post, cells, own, shared)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(post.n_draws, len(middle), generator=generator, dtype=torch.float64)
    z = middle + noise @ root.T
    values = {site: padded(post, site, held) for site, held in drawn.items()}
    log_p, met = _log_joint(post, cells, own, values, z)
    log_q = -0.5 * noise.square().sum(-1) - root.diagonal().log().sum()
    weight, k_hat = smooth(log_p - log_q)
    chosen = systematic(weight.exp(), post.n_draws, generator)
    common = unmoved(post, cells, ["annotator"])
    draws = {site: held[chosen.numpy()] for site, held in post.draws.items() if site in common}
    draws |= _theirs(post, cells, met, common, chosen)
    usable, error = float(k_hat) < USABLE, effective_size(weight) ** -0.5
    doubt = () if usable else (
        f"The judgements of {name} are far from what {post.program_name} expects of anybody (k-hat "
        f"{float(k_hat):.2f}); fit them together with the others",
    )  # fmt: skip
    return {
        "annotators": (name,),
        "draws": draws,
        "point": {site: held.mean(0) for site, held in draws.items()},
        "error": {site: np.fmax(post.error.get(site, 0.0) if site in common else 0.0, error)
                  + np.zeros(held.shape[1:]) for site, held in draws.items()},
        "dims": {site: post.dims[site] for site in draws},
        "event_dims": {site: size for site, size in post.event_dims.items() if site in draws},
        "attributes": _described(post, cells),
        "log_p": np.zeros(0),
        "log_q": np.zeros(0),
        "status": replace(
            post.status, k_hat=float(k_hat), log_weight_sd=float((log_p - log_q).std()), proposals=post.n_draws,
            effective=effective_size(weight), warnings=(*post.status.warnings, *doubt), restart_values=(),
        ),
        "n_comparisons": post.n_comparisons + float(cells.total.sum()),
        "data_source": f"{post.data_source} and judgements of {name}",
        "data_fingerprint": "",
        "signature": None,
    }  # fmt: skip


def _framed(votes: Iterable[tuple[str, str, str]]) -> pd.DataFrame:
    votes = list(votes)
    for row, vote in enumerate(votes, 1):
        if isinstance(vote, str) or not isinstance(vote, Sized) or len(vote) != 3:
            raise DataError(f"votes: {vote!r} in row {row} is no judgement; give them as in [('elm', 'fir', 'a')]")
    return pd.DataFrame(votes, columns=["item_a", "item_b", "outcome"])


def _cells(post: Draws, votes: Any, known: Mapping[str, Any]) -> tuple[Cells, set[str]]:
    """Return the judgements as cells, in the vocabulary of a posterior, and the labels that nobody has met."""
    frame = votes if isinstance(votes, pd.DataFrame) else _framed(votes)
    frame = frame.reset_index(drop=True)
    if missing := [each for each in ("item_a", "item_b", "outcome") if each not in frame]:
        raise DataError(f"votes lack the column {missing[0]!r}; they have {', '.join(map(str, frame.columns))}")
    if not len(frame):
        raise DataError("there are no votes")
    if post.covariate_names:
        raise DataError(
            f"{post.program_name} reads covariates, and what they were for new votes is not asked; fit anew"
        )
    outcome = [str(each) for each in frame["outcome"]]
    if wrong := [(k, each) for k, each in enumerate(outcome, 1) if each not in post.outcomes]:
        row, word = wrong[0]
        raise DataError(f"votes: outcome {word!r} in row {row} must be one of {', '.join(post.outcomes)}")
    if (frame["item_a"] == frame["item_b"]).any():
        row = int((frame["item_a"] == frame["item_b"]).to_numpy().argmax()) + 1
        raise DataError(f"votes: row {row} compares {frame['item_a'][row - 1]!r} with itself")
    a, b = codes(post, list(zip(frame["item_a"].astype(str), frame["item_b"].astype(str), strict=True)))
    columns = {post.full_name(str(each)): frame[each] for each in frame.columns if each not in _COLUMNS}
    columns |= {post.full_name(each): pd.Series([value] * len(frame)) for each, value in known.items()}
    columns.pop("annotator", None)
    at = {each: np.array([place_of(post, each, value) for value in values]) for each, values in columns.items()}
    first: Tensor | float = 0.0
    if "first" in frame:
        if wrong := sorted(set(frame["first"]) - set(FIRST)):
            raise DataError(f"votes: first={wrong[0]!r} is unknown; use 'a', 'b' or 'neither'")
        first = torch.tensor([FIRST[each] for each in frame["first"]], dtype=torch.float64)
    count = torch.tensor(frame["count"].astype(float).tolist() if "count" in frame else [1.0] * len(frame)).double()
    if not (count > 0).all():
        raise DataError("votes: count must be positive in every row")
    cells = question_cells(post, post.program, a, b, first=first, at=at)
    table = torch.zeros(len(frame), len(post.outcomes), dtype=torch.float64)
    table[torch.arange(len(frame)), [post.outcomes.index(each) for each in outcome]] = count
    strange = {each for each in ("annotator", *post.labels_of) if each not in at and not each.startswith("item.")}
    return replace(cells, outcome=table, total=count), strange


def _own_sites(post: Draws, cells: Cells, given: list[str]) -> list[_Own]:
    """Return the latent sites that are the newcomer's own (and those of other labels that nobody has met)."""
    met, found, start = run(post.program, cells, {}, 1, seed=0).met, [], 0
    require_drawn(met, post.latent, post.program_name)
    for name in post.drawn:
        if name not in given:
            transform = biject_to(met[name]["fn"].support)
            shape = tuple(transform.inv(met[name]["value"]).shape[1:])
            found.append(_Own(name, shape, transform, slice(start, start + math.prod(shape))))
            start += math.prod(shape)
    return found


def _log_joint(
    post: Draws, cells: Cells, own: list[_Own], given: dict[str, Tensor], z: Tensor
) -> tuple[Tensor, dict[str, Any]]:
    """Return log p(judgements, own | given) [fit] at vectors z [fit, dimension], and what the run met."""
    values = {each.name: each.value(z) for each in own}
    seen: Substitute = run(post.program, cells, given | values, len(z))
    outcome = seen.met["outcome"]
    total = outcome["fn"].log_prob(outcome["value"]).reshape(len(z), -1).sum(-1)
    for each in own:
        log_prob = seen.met[each.name]["fn"].log_prob(values[each.name]).reshape(len(z), -1).sum(-1)
        total = total + log_prob + each.log_det(z, values[each.name])
    return total, seen.met


def _gaussian(post: Draws, cells: Cells, own: list[_Own], shared: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mode [dimension] of what is the newcomer's own, and a root of its covariance there."""
    size = own[-1].at.stop if own else 0
    z = torch.zeros(size, dtype=torch.float64)
    root = torch.zeros(size, size, dtype=torch.float64)
    if not size:
        return z, root

    def loss(x: Tensor) -> Tensor:
        return -_log_joint(post, cells, own, shared, x[None])[0][0]

    for _ in range(_STEPS):
        free = z.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(free), free)
        curve = torch.autograd.functional.hessian(loss, z)
        value, vectors = torch.linalg.eigh((curve + curve.T) / 2)
        value = value.abs().clamp_min(1e-3)  # uphill where it is no mode
        root = vectors / value.sqrt()
        step = root @ (root.T @ slope)
        if float(slope @ step) < _SETTLED:
            break
        scale, here = 1.0, float(loss(z).detach())
        while float(loss(z - scale * step).detach()) > here and scale > 1e-3:
            scale /= 2
        z = z - scale * step
    return z, torch.linalg.cholesky(root @ root.T)


def _theirs(post: Draws, cells: Cells, met: dict[str, Any], common: set[str], chosen: Tensor) -> dict[str, Any]:
    """Return the draws of what is the newcomer's own, of what follows from it, and of their type."""
    found = {}
    for name, dims in post.dims.items():
        if name in met and name not in common:
            value = met[name]["value"].detach()
            value = value.expand(post.n_draws, *value.shape[1:])
            found[name] = value.reshape(post.n_draws, *value.shape[value.dim() - len(dims) :])[chosen].numpy()
    if hasattr(met["outcome"]["fn"], "type_probability"):
        share = met["outcome"]["fn"].type_probability(cells.outcome)
        found["type_probability"] = share.reshape(post.n_draws, 1, share.shape[-1])[chosen].numpy()
    return found


def _described(post: Draws, cells: Cells) -> dict[str, tuple[float, ...]]:
    """Return attributes, those of annotators being the newcomer's own."""
    own = {**cells.numbers, **cells.labels}
    return {
        name: (float(own[name][0]),) if name.startswith("annotator.") and name in own else values
        for name, values in post.attributes.items()
    }

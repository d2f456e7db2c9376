"""What Gaussians of expectation propagation leave out, by cumulants of what comparisons feel.

Divided by its Gaussian, what a comparison feels has a density that is 1 plus Hermite polynomials of its cumulants of
the third order and above, for expectation propagation has matched the lower ones. The posterior is the Gaussian times
the product of these; expanded in pairs and triples of comparisons, in the correlation R_ij of what they feel

    log Z     is more by  sum_i<j k3_i k3_j R_ij^3 / 3!
    E z       is more by  sum_i cov(z, u_i) (k4_i sum_j k3_j R_ij^3 / 3! + k3_i sum_j,l R_ij k3_j R_jl^2 k3_l R_li / 4),

with u_i what i feels in standard units, and j, l and i all different. (Opper, Paquet and Winther 2013, JMLR 14,
2857-2898, have the first; the second are expectations of products of Hermite polynomials alike. Where several numbers
are felt, k3 and k4 are tensors.) These are small where single comparisons say little or are nearly independent, also
in many dimensions, where importance weights say nothing of an approximation.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from prefdensity.inference.propagation import Place, Propagation

# Comparisons times the square of how many numbers each feels: correlations of them all are multiplied tensor by tensor.
_MOST = 2_000


def left_out(run: Propagation, place: Place) -> tuple[Tensor, float] | None:
    """Return the two terms of the mean [2, dimension] and the log evidence (nats) that a place leaves out.

    None: comparisons are too many, or feel too much.
    """
    count, felt = place.terms.precision.shape[:2]
    if count * felt**2 > _MOST:
        return None
    _, law = run.moments(place.cavity)
    third, fourth = run.cumulants(place.cavity, law)
    unit = torch.linalg.solve_triangular(law.frame, run.jacobian.movedim(0, 1), upper=False)
    inner = run.gaussian(place)
    along = torch.linalg.solve_triangular(inner.lower, unit.flatten(0, 1).T, upper=False)  # [free, felt]
    together = _correlation(along, felt)
    by_third = _all_three(together, third)
    pull = torch.stack([
        torch.einsum("iabcd,ibcd->ia", fourth, by_third) / 6,
        torch.einsum("iabc,ibc->ia", third, _widened(along, together, third)) / 4,
    ])  # fmt: skip
    terms = place.mean.new_zeros(2, run.free.size)
    terms[:, run.free.at] = inner.scale(pull.flatten(1) @ along.T)
    return terms, float((third * by_third).sum()) / 12


def _correlation(along: Tensor, felt: int) -> Tensor:
    """Return the correlations of what different comparisons feel [comparison, felt, comparison, felt]."""
    found = (along.T @ along).unflatten(0, (-1, felt)).unflatten(2, (-1, felt))
    found.diagonal(dim1=0, dim2=2).zero_()
    return found


def _all_three(together: Tensor, third: Tensor) -> Tensor:
    """Return sum_j k3_j R_ij R_ij R_ij [comparison, felt, felt, felt]."""
    out = torch.zeros_like(third)
    size = range(third.shape[-1])
    for (a, b, c), (d, e, f) in itertools.product(itertools.product(size, repeat=3), repeat=2):
        out[:, a, b, c] += (together[:, a, :, d] * together[:, b, :, e] * together[:, c, :, f]) @ third[:, d, e, f]
    return out


def _widened(along: Tensor, together: Tensor, third: Tensor) -> Tensor:
    """Return sum_j,l R_ij (k3_j R_jl R_jl k3_l) R_li [comparison, felt, felt], with j, l and i all different."""
    middle, felt = torch.zeros_like(together), third.shape[-1]
    for a, b, c, d, e, f in itertools.product(range(felt), repeat=6):
        both = together[:, b, :, e] * together[:, c, :, f]
        middle[:, a, :, d] += third[:, a, b, c, None] * both * third[:, d, e, f]
    half = along @ middle.flatten(2).flatten(0, 1)  # R is along^T along
    own, mine, whole = (each.T.unflatten(0, (-1, felt)) for each in (along, half, (half @ along.T).T @ along))
    once, own = own @ mine.mT, own @ torch.cat([own, whole], 1).mT
    beside, both = own.split(felt, 2)
    return both - beside @ once.mT - once @ beside  # without what is j = i or l = i

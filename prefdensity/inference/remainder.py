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

# Products of what pairs of comparisons feel that are summed at each place, at most; and numbers held meanwhile.
_MOST, _TOGETHER = 1e8, 4_000_000


def is_told(comparisons: int, felt: int) -> bool:
    """Say whether what is left out can be told of so many comparisons that feel so many numbers each."""
    return comparisons**2 * felt**6 <= _MOST


def left_out(run: Propagation, place: Place) -> tuple[Tensor, float] | None:
    """Return the two terms of the mean [2, dimension] and the log evidence (nats) that a place leaves out.

    None: that cannot be told.
    """
    if not is_told(*place.terms.precision.shape[:2]):
        return None
    _, law = run.moments(place.cavity)
    third, fourth = run.cumulants(place.cavity, law)
    unit = torch.linalg.solve_triangular(law.frame, run.jacobian.movedim(0, 1), upper=False)
    inner = run.gaussian(place)
    along = torch.linalg.solve_triangular(inner.lower, unit.flatten(0, 1).T, upper=False)  # [free, felt by all]
    by_third, half = _sums(along, third)
    pull = torch.stack([
        torch.einsum("iabcd,ibcd->ia", fourth, by_third) / 6,
        torch.einsum("iabc,ibc->ia", third, _widened(along, half, third.shape[-1])) / 4,
    ])  # fmt: skip
    terms = place.mean.new_zeros(2, run.free.size)
    terms[:, run.free.at] = inner.scale(pull.flatten(1) @ along.T)
    return terms, float((third * by_third).sum()) / 12


def _sums(along: Tensor, third: Tensor) -> tuple[Tensor, Tensor]:
    """Return sum_j k3_j R_ij R_ij R_ij [comparison, felt, felt, felt], and A M [free, felt by all].

    R is A^T A, where A is `along` [free, felt by all], between different comparisons; M_jl = k3_j R_jl R_jl k3_l. Some
    columns of these matrices after others.
    """
    count, felt = third.shape[:2]
    by_third, half = torch.zeros_like(third), torch.empty_like(along)
    step = max(1, _TOGETHER // (count * felt**2))
    for start in range(0, count, step):
        rows, at = slice(start, start + step), slice(start * felt, (start + step) * felt)
        together = (along.T @ along[:, at]).unflatten(0, (-1, felt)).unflatten(2, (-1, felt))
        together[rows].diagonal(dim1=0, dim2=2).zero_()
        middle = torch.zeros_like(together)
        for a, b, c, d, e, f in itertools.product(range(felt), repeat=6):
            both = together[:, b, :, e] * together[:, c, :, f]
            by_third[rows, d, e, f] += third[:, a, b, c] @ (together[:, a, :, d] * both)
            middle[:, a, :, d] += third[:, a, b, c, None] * both * third[rows, d, e, f]
        half[:, at] = along @ middle.flatten(2).flatten(0, 1)
    return by_third, half


def _widened(along: Tensor, half: Tensor, felt: int) -> Tensor:
    """Return sum_j,l R_ij M_jl R_li [comparison, felt, felt], with j, l and i all different; see `_sums`."""
    whole = (half @ along.T).T @ along
    own, mine, all_of_it = (each.T.unflatten(0, (-1, felt)) for each in (along, half, whole))
    beside, once, both = own @ own.mT, own @ mine.mT, own @ all_of_it.mT
    return both - beside @ once.mT - once @ beside  # without what is j = i or l = i

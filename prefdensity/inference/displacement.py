"""How far the means of a posterior lie from those of a Gaussian approximation, from the slopes of a few log weights.

With l = log p/q, E_p z = E_q z + cov_q(z, l) + cov_q(z, (l - E l)^2) / 2 + ... in joint cumulants, which hold however
many other dimensions spoil the weights themselves (see `safety`). For a Gaussian q of covariance S these are
S E_q[grad l] and S E_q[(l - E l) grad l] (Stein 1981, Annals of Statistics 9, 1135-1151). A coordinate's slope has a
small part of what log weights vary by, so a few dozen draws tell what weights would need thousands for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prefdensity.inference.mixture import Mixture, Remainder
from prefdensity.inference.safety import BOUND, Quantities, Sums, entries
from prefdensity.inference.view import View

# Draws at which quantities are looked at, here and displaced: the fewest, the most, and how many numbers in all.
_PLACES, _NUMBERS = (48, 256), 1_000_000
_CHEAP = 256, 5_000_000  # the fewest draws, and numbers, where nothing else costs
_CLEAR = 0.004  # standard deviations of noise that matter to nobody


@dataclass(frozen=True)
class Displacement:
    """What is to be added to the means of an approximation; all [dimension].

    Attributes
    ----------
    first, second
        Terms of the first and the second order.
    noise, second_noise
        A draw of the error that each has from few slopes.
    log_p, slope
        The log density at the draws that it was found from [draw], and its gradient [draw, dimension].
    """

    first: Tensor
    second: Tensor
    noise: Tensor
    second_noise: Tensor
    log_p: Tensor
    slope: Tensor

    def is_clear(self, mixture: Mixture) -> bool:
        """Whether noise is so small beside standard deviations that more draws would tell nothing new."""
        return float(mixture.whole.square(self.noise[None])) < _CLEAR**2 * len(self.noise)

    def serves(self, mixture: Mixture, sd: Tensor) -> bool:
        """Whether the first term brings means nearer; `sd` [dimension] of the approximation.

        Its square, all coordinates together, is twice that of noise. And it is small: what moves a coordinate by more
        than the standard deviation that it is given is no first term of a series that ends.
        """
        square = mixture.whole.square(torch.stack([self.first, self.noise]))
        return bool(square[0] > 2 * square[1]) and bool((self.first.abs() < sd).all())


def displacement(
    view: View, mixture: Mixture, z: Tensor, pick: Tensor, known: Displacement | None = None
) -> Displacement:
    """Return the displacement of a mixture's draws z [draw, dimension], of components `pick` [draw].

    `known`: that of the first of these draws.
    """
    told = 0 if known is None else len(known.log_p)
    log_p, steepness = view.slopes_of(z[told:])
    if known is not None:
        log_p, steepness = torch.cat([known.log_p, log_p]), torch.cat([known.slope, steepness])
    free = z.detach().requires_grad_()
    with torch.enable_grad():
        log_q = mixture.log_density(free)
        (steep,) = torch.autograd.grad(log_q.sum(), free)
    gap, slope = (log_p - log_q.detach()).to(z), steepness - steep
    away = gap - gap.mean()
    terms = (away, slope), (0.5 * away**2, away[:, None] * slope)
    halves = slice(0, None, 2), slice(1, None, 2)
    parts = [[mixture.response(pick[at], steep[at], value[at]) for at in halves] for value, steep in terms]
    (first, noise), (second, second_noise) = (((one + other) / 2, (one - other) / 2) for one, other in parts)
    return Displacement(first, second, noise, second_noise, log_p.detach(), steepness.detach())


def errors_of_displaced(view: View, z: Tensor, seen: Displacement, added: bool, draws: int) -> dict[str, Tensor]:
    """Return for each site the error [...] of means over `draws` draws such as z [draw, dimension].

    A 95 % bound of the Monte-Carlo error and of the noise of the displacement, with what is left of the displacement
    beyond its noise: the second term, and the first where it was not `added` to the draws. A row has at least the usual
    noise of its site.
    """
    fewest, most = _PLACES
    places = min(most, max(fewest, _NUMBERS // entries(view)))
    at = z[torch.linspace(0, len(z) - 1, min(len(z), places)).long()]
    left = seen.second if added else seen.first + seen.second
    alike = at.new_full((1, len(at)), 1 / len(at))
    shifts = torch.zeros_like(left), left, seen.noise, seen.second_noise
    here, *moved = (Sums.over(Quantities.parts(view, at + by), alike) for by in shifts)
    out = {}
    for name in here.of:
        sd = (here.variance(name) * len(at) / max(1, len(at) - 1)).sqrt()
        moves = sd > 1e-12
        away, noise, blur = ((sums.mean(name) - here.mean(name)).abs() / sd.clamp_min(1e-12) for sums in moved)
        usual, blurred = (each[moves].square().mean().sqrt() for each in (noise, blur))
        off = (away**2 - blurred**2).clamp_min(0.0).sqrt() + BOUND * torch.maximum(noise, usual)
        error = torch.hypot(off, torch.full_like(sd, BOUND / draws**0.5))
        out[name] = torch.where(moves, error, 0.0).nan_to_num(nan=torch.inf)
    return here.first.shaped(out)


def errors_left_out(view: View, z: Tensor, pick: Tensor, left: Remainder, draws: int) -> dict[str, Tensor]:
    """Return for each site the error [...] of means over `draws` draws of a mixture that leaves out so much.

    A 95 % bound of the Monte-Carlo error, with by how much each term that is left out, and the weights that components
    would have, move the means of such draws z [draw, dimension], of the components `pick` [draw].
    """
    fewest, numbers = _CHEAP
    places = min(len(z), max(fewest, numbers // entries(view)))
    z, pick = z[:places], pick[:places].to(z.device)
    alike, share = z.new_full((places,), 1 / places), left.log_evidence[pick].softmax(0)
    here = Sums.over(Quantities.parts(view, z), torch.stack([alike, share]))
    moved = [Sums.over(Quantities.parts(view, z + term[pick]), alike[None]) for term in left.terms]
    out = {}
    for name in here.of:
        mean, sd = here.mean(name), here.variance(name).sqrt()
        off = sum(((each.mean(name) - mean).abs() for each in moved), (here.mean(name, 1) - mean).abs())
        error = torch.hypot(off / sd.clamp_min(1e-12), torch.full_like(sd, BOUND / draws**0.5))
        out[name] = torch.where(sd > 1e-12, error, 0.0).nan_to_num(nan=torch.inf)
    return here.first.shaped(out)

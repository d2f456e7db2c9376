"""Maximum likelihood: flat priors, with a check that a finite estimate exists."""

from __future__ import annotations

import torch
from torch import Tensor

from prefdensity.data.comparisons import Comparisons
from prefdensity.data.existence import components, strong_groups, undefeated, winless
from prefdensity.errors import FitError
from prefdensity.inference.climber import Climber
from prefdensity.inference.mode import Mode, first_guess
from prefdensity.inference.precision import Dense
from prefdensity.inference.view import View

# Information below this (a standard error of 1,000 logits) means that nothing was learned in some direction.
_NOTHING = 1e-6


def maximum_likelihood(view: View, data: Comparisons) -> tuple[Mode, Tensor]:
    """Return the maximum of the likelihood and its information matrix [dimension, dimension].

    The information includes a term that fixes the common shift of utilities.

    Raises
    ------
    FitError
        Where no finite estimate exists or a parameter is not identified, with the reason.
    """
    start = first_guess(view)
    held = unfelt(view)
    _require_concave(view, held)
    _require_finite(view, data)
    climber = Climber(view, fixed=held, prior=False)
    mode = climber.climb(start)
    _, _, precision = climber.curvature(mode.z)
    if not isinstance(precision, Dense):
        raise FitError("mle needs the whole information matrix, which is too large here; use method='laplace'")
    information = precision.matrix
    information[held, held] = 1.0  # not estimated, and left out of what is reported
    values, vectors = torch.linalg.eigh(information)
    if not mode.converged or float(values[0]) < _NOTHING:
        name = _loudest(view, vectors[:, 0])
        raise FitError(
            f"no finite maximum-likelihood estimate exists for {view.program.name}: the likelihood keeps "
            f"rising, or is flat, in a direction of {name}. Use a prior: method='laplace' or 'map'"
        )
    return mode, information


def unfelt(view: View) -> tuple[int, ...]:
    """Return the hyperparameters that the likelihood does not feel: scales of priors."""
    away = torch.arange(view.dimension, dtype=view.dtype, device=view.device).sin()  # no point of symmetry
    free = (first_guess(view) + 0.3 * away)[None].requires_grad_()
    (gradient,) = torch.autograd.grad(view.log_likelihood(free).sum(), free)
    return tuple(k for k in view.hyper if float(gradient[0, k]) == 0.0)


def _require_concave(view: View, held: tuple[int, ...]) -> None:
    program = view.program
    if not program.unimodal or program.mirrors or len(held) < len(view.hyper):
        raise FitError(
            f"mle needs a program without hierarchy or several modes, and {program.name} is not one; its priors are "
            "part of the model. Use method='laplace' or 'map'"
        )


def _require_finite(view: View, data: Comparisons) -> None:
    groups = components(data)
    if groups.max() > 0 and "utility" in view.sites:
        raise FitError(
            f"the comparison graph has {int(groups.max()) + 1} components that were never compared with each other, so "
            "their utilities have no maximum-likelihood estimate; fit each component, or use a prior"
        )
    if "tie" in view.cells.outcomes and data.n_ties in (0, data.n_judgements):
        found = "no" if data.n_ties == 0 else "only"
        raise FitError(
            f"there are {found} ties, so the tie parameter of {view.program.name} has no finite maximum-likelihood "
            "estimate; use a prior (method='laplace')"
        )
    stages = {each.stage for each in view.program.layers}
    plain = stages <= {"scale", "utility", "behaviour", "choice"} and "utility" in view.sites
    if plain and len(strong_groups(data)) > 1:
        raise FitError(
            f"no finite maximum-likelihood estimate exists: {_separation(data)}. Use a prior: method='laplace' fits "
            "it and flags it"
        )


def _separation(data: Comparisons) -> str:
    found = [(group, "never lost to") for group in undefeated(data)]
    found += [(group, "never beat") for group in winless(data)]
    group, what = min(found, key=lambda each: len(each[0]))  # the rest may be the larger group
    names = ", ".join(repr(item) for item in group[:3]) + (" and others" if len(group) > 3 else "")
    return f"{names} {what} any item outside {'itself' if len(group) == 1 else 'their group'}"


def _loudest(view: View, direction: Tensor) -> str:
    position = int(direction.abs().argmax())
    return next(name for name, site in view.sites.items() if site.at.start <= position < site.at.stop)

"""How much of an auxiliary a network should use: lambda from the covariance of gradients of its last layer.

Of each row, psi is the gradient of the label's loss and c that of what the auxiliary takes away from it, the loss
that it expects of the labelled pair less that of the fresh pair; c has mean 0, so psi - lambda c is aimed at the same
minimum for every lambda. Its variance is least at lambda = E[psi' c] / E[c' c], which is what a control variate is
tuned to (Glynn and Szechtman 2002), and the ratio of both variances says what a label is worth: an estimate from n
labels with it is as sure as one from n / ratio without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prefdensity.errors import DataError
from prefdensity.reward.losses import CLIP, Loss, logistic, vr_margin_rows


@dataclass(frozen=True)
class Tuned:
    """What an auxiliary is good for.

    Attributes
    ----------
    lambda_
        Weight of least variance, in [0, 1].
    ratio
        Variance of gradients with it over that without.
    rows
        Number of rows that said so.
    """

    lambda_: float
    ratio: float
    rows: int

    def n_effective(self, n: float) -> float:
        """Return how many labels without auxiliary `n` labels with it are worth."""
        return n / self.ratio

    def worth(self, n: int) -> str:
        """Return that as a sentence."""
        return (
            f"{n:,} labels are worth {self.n_effective(n):,.0f}: at lambda {self.lambda_:.2f} the variance of "
            f"gradients is {self.ratio:.2f} of that without auxiliary ({self.rows:,} rows)"
        )


class Covariances:
    """Second moments of the gradients of rows, gathered batch by batch."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        size = sum(each.numel() for each in self._parameters)
        like = self._parameters[0]
        self._sums = torch.zeros(2, size, dtype=torch.float64, device=like.device)  # of psi and of c
        self._products = torch.zeros(4, dtype=torch.float64, device=like.device)  # rows, psi' psi, psi' c, c' c

    def add(
        self, d: Tensor, g: Tensor, d_fresh: Tensor, g_fresh: Tensor, *, loss: Loss = logistic,
        weights: Tensor | None = None, clip: float | None = CLIP,
    ) -> None:  # fmt: skip
        """Add a batch of rows, a labelled and a fresh pair each; arguments as in `vr_margin_loss`, with a graph."""
        observed, taken = vr_margin_rows(d, g, d_fresh, g_fresh, loss=loss, weights=weights, clip=clip)
        for row in zip(observed, taken, strict=True):
            psi, c = (self._gradient(each) for each in row)
            self._sums += torch.stack([psi, c])
            self._products += torch.stack([torch.ones_like(psi[0]), psi @ psi, psi @ c, c @ c])

    def _gradient(self, value: Tensor) -> Tensor:
        found = torch.autograd.grad(value, self._parameters, retain_graph=True, materialize_grads=True)
        return torch.cat([each.detach().double().flatten() for each in found])

    def tuned(self, together: Callable[[Tensor], Tensor] = lambda values: values) -> Tuned:
        """Return the lambda of least variance; `together` sums over processes.

        Raises
        ------
        DataError
            If there are fewer than two rows, or gradients vanish.
        """
        rows, own, cross, other = together(self._products).tolist()
        sums = together(self._sums)
        if rows < 2 or not own > 0:
            raise DataError(
                f"lambda cannot be tuned from {rows:.0f} rows whose gradients have the squared size {own:.3g}; give a "
                "number"
            )
        best = min(max(cross / other, 0.0), 1.0) if other > 0 else 0.0
        middle = sums[0] / rows - best * sums[1] / rows
        with_it = (own - 2 * best * cross + best**2 * other) / rows - float(middle @ middle)
        without = own / rows - float((sums[0] / rows).square().sum())
        return Tuned(best, with_it / without, int(rows))

"""The one-dimensional example of Dumoulin et al. (2024), arXiv 2311.14115, as their notebook sets it.

Numbers in [-10, 10] are judged by two annotators: one wants -2.5 and little else, the other about 2.5. Their
mixture is the preference density; pairs are drawn from a broad pretrained model.
"""

from __future__ import annotations

import numpy as np

from prefdensity.density.densities import Density, mixture, normalise
from prefdensity.density.domains import Domain

WEIGHTS = (0.4, 0.6)


def domain(size: int = 1024) -> Domain:
    """Return a midpoint grid of [-10, 10]; `size` 640 or more resolves the narrow annotator."""
    return Domain.grid(-10.0, 10.0, size)


def annotators(domain: Domain) -> Density:
    """Return the two annotators' densities [type, point]: truncated normals (-2.5, .25) and (2.5, 1)."""
    x = domain.points
    bumps = np.stack([-(((x + 2.5) / 0.25) ** 2), -((x - 2.5) ** 2)]) / 2
    return normalise(bumps, domain, ("type", "point"), ("narrow", "wide"))


def preference(domain: Domain, weights: tuple[float, float] = WEIGHTS) -> Density:
    """Return the mixture p* [point] of the two annotators."""
    return mixture(annotators(domain), weights)


def pretrained(domain: Domain) -> Density:
    """Return the pretrained model [point], a truncated normal (0, 5), from which pairs are drawn."""
    return normalise(-((domain.points / 5) ** 2) / 2, domain)

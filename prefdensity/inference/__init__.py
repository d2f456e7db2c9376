"""Inference: from a program and comparisons to a posterior."""

from prefdensity.inference.fitting import fit
from prefdensity.inference.many import ManyFits, bootstrap, fit_many, fits_together, posteriors
from prefdensity.inference.methods import METHODS

__all__ = ["METHODS", "ManyFits", "bootstrap", "fit", "fit_many", "fits_together", "posteriors"]

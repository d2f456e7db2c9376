"""Inference: from a program and comparisons to a posterior."""

from prefdensity.inference.fitting import METHODS, fit

__all__ = ["METHODS", "fit"]

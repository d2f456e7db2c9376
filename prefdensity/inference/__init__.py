"""Inference: from a program and comparisons to a posterior."""

from prefdensity.inference.fit import METHODS, fit

__all__ = ["METHODS", "fit"]

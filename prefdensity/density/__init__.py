"""Implicit densities: domains, distances, policies, and the exact limits of wrong models.

What is decided here: which density a fit stands for, and what a misspecified one costs.
"""

from prefdensity.density.implicit import curl_share, of

__all__ = ["curl_share", "of"]

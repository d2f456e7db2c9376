"""Pools of answers known by their features: which programs tell them, and fits about judged answers and others."""

from __future__ import annotations

from typing import Any

import pandas as pd

from prefdensity.data.columns import these_columns
from prefdensity.data.comparisons import Comparisons
from prefdensity.inference.fitting import viewed
from prefdensity.posterior.described import described
from prefdensity.posterior.posterior import Posterior
from prefdensity.programs.layers import Program


def describes(program: Program, data: Comparisons) -> bool:
    """Say whether a program tells utilities of items by their features alone, so that `described` takes its fits."""
    if data.item_features is None or "features" not in program.needs:
        return False
    return not any("item" in site.dims for site in viewed(program, data).sites.values())


def with_described(post: Posterior, data: Comparisons, features: pd.DataFrame, **asked: Any) -> Posterior:
    """Return `described` of the answers that were judged and of those of a table of features that were not."""
    assert data.item_features is not None  # see `describes`
    names = list(data.feature_names)
    judged = pd.DataFrame(data.item_features, index=list(data.items), columns=names)
    others = these_columns(features, names, "the features of the answers").drop(index=judged.index, errors="ignore")
    return described(post, data, pd.concat([judged, others]), **asked)

"""Cells that ask about named items and annotators, coded in the vocabulary of a posterior."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from prefdensity.posterior.draws import Draws
from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import Program


def question_cells(
    post: Draws,
    program: Program,
    item_a: ArrayLike,
    item_b: ArrayLike,
    annotator: ArrayLike | None = None,
    *,
    first: float = 0.0,
    points: NDArray[np.float64] | None = None,
) -> Cells:
    """Return one cell for each pair, all covariates 0 and nothing observed.

    Parameters
    ----------
    post, program
        The vocabulary, and the program whose needs are met.
    item_a, item_b
        Codes [cell].
    annotator
        Codes [cell] in `post.annotators`; None: somebody nobody has met, the only one there is.
    first
        Which side is shown first: 1 side a, -1 side b, 0 neither.
    points
        Standardised features [point, feature] in the place of those of the items, whose codes are then those of points.
    """
    a, b = torch.as_tensor(np.asarray(item_a)), torch.as_tensor(np.asarray(item_b))
    ones = torch.ones(len(a), dtype=torch.float64)
    who = torch.zeros(len(a), dtype=torch.int64) if annotator is None else torch.as_tensor(np.asarray(annotator))
    covariates = len(post.covariate_names)
    features = post.features if points is None else points
    return Cells(
        item_a=a,
        item_b=b,
        total=ones,
        outcomes=post.outcomes,
        n_items=len(post.items) if points is None else len(points),
        n_annotators=1 if annotator is None else len(post.annotators),
        annotator=who if "annotator" in program.needs else None,
        first=first * ones if "first" in program.needs else None,
        covariates=torch.zeros(len(a), covariates, dtype=torch.float64) if covariates else None,
        covariate_scale=torch.ones(covariates, dtype=torch.float64) if covariates else None,
        measures={name: torch.tensor(values, dtype=torch.float64) for name, values in post.measures.items()},
        feature_scale=None if features is None else torch.ones(features.shape[1], dtype=torch.float64),
        features=None if features is None else torch.tensor(features, dtype=torch.float64),
    )


def padded(post: Draws, name: str, values: Tensor) -> Tensor:
    """Return draws [draw, ...] of a site shaped for a fit plate at dim -3."""
    batch = values.dim() - 1 - post.event_dims[name]
    return values.double().reshape(len(values), *(1,) * (2 - batch), *values.shape[1:])

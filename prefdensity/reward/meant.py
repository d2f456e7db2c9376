"""What was meant and what was recorded: a program's noise layers as a channel from one to the other.

Noise layers change the probabilities of outcomes after the choice rule: an outcome is meant, and another one may be
recorded. They are asked like everything else, by running them: on an outcome that is meant for certain.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from prefdensity.errors import ProgramError
from prefdensity.posterior.outcome_tables import outcome_tables
from prefdensity.posterior.posterior import Posterior
from prefdensity.programs.cells import Cells
from prefdensity.programs.compose import compose
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.outcomes import observe
from prefdensity.programs.pipeline import decided

_ROUNDING = 1e-6  # of probabilities that a channel adds up


def noise_of(program: Program) -> tuple[Layer, ...]:
    """Return the layers by which what is recorded differs from what is meant."""
    return tuple(each for each in program.layers if each.stage == "noise")


def as_meant(post: Posterior) -> Posterior:
    """Return the posterior with the program that predicts what is meant: its own without the noise layers."""
    noise = noise_of(post.program)
    if not noise:
        return post
    return replace(post, fitted=compose(*(each for each in post.program.layers if each not in noise)))


def table_of(
    post: Posterior, cells: Cells, given: Collection[str] | None = None, seed: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Return log probabilities [draw, type, cell, outcome] of all draws, and log shares of types as `OutcomeTable`."""
    parts = list(outcome_tables(post, cells, given=given, seed=seed))
    weights = [part.log_weight for part in parts if part.log_weight is not None]
    return torch.cat([part.log_prob for part in parts]), torch.cat(weights) if weights else None


def channel(post: Posterior, cells: Cells) -> Tensor:
    """Return P(recorded | meant) [draw, cell, meant, recorded] under every draw."""
    program, size = post.program, len(post.outcomes)
    choice = next(each for each in program.layers if each.stage == "choice")
    found = []
    for k in range(size):
        certain = torch.full((1, 1, len(cells), size), -torch.inf, dtype=cells.total.dtype, device=post.device)
        certain[..., k] = 0.0
        meant = replace(choice, function=functools.partial(_said, certain), options=())
        asked = replace(program, model=functools.partial(_recorded, (meant, *noise_of(program))))
        found.append(table_of(replace(post, fitted=asked), cells)[0][:, 0].exp())
    return torch.stack(found, -2)


def _said(certain: Tensor, margin: Tensor, data: Cells) -> Tensor:
    return certain


def _recorded(layers: tuple[Layer, ...], data: Cells) -> None:
    observe(decided(layers, data.total.new_zeros(1, 1, len(data)), data), data)


def flipped(recorded: Tensor, meant: Tensor, through: Tensor, program: Program) -> Tensor:
    """Return P(meant is another outcome, this one is recorded) [draw, type, cell, outcome].

    Parameters
    ----------
    recorded, meant
        Log probabilities [draw, type, cell, outcome].
    through
        P(recorded | meant) [draw, cell, meant, recorded].
    program
        For errors.

    Raises
    ------
    ProgramError
        If a noise layer is no channel: what is recorded does not depend on what is meant alone.
    """
    passed = torch.einsum("dtcm,dcmr->dtcr", meant.exp(), through)
    if bool((passed - recorded.exp()).abs().max() > _ROUNDING):
        names = ", ".join(each.label for each in noise_of(program))
        raise ProgramError(
            f"{names}: what is recorded depends on more than what was meant, so no probability of a flip follows; a "
            "noise layer mixes log_prob with other outcomes by weights that do not depend on it"
        )
    own = through.diagonal(dim1=-2, dim2=-1)
    return (passed - meant.exp() * own[:, None]).clamp_min(0.0)

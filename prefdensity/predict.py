"""Outcome probabilities of pairs under posterior draws, by running the program itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from prefdensity.cells import Cells
from prefdensity.errors import DataError, ProgramError
from prefdensity.programs import Program, load_program

if TYPE_CHECKING:
    from prefdensity.posterior import Posterior

_FIRST = {"a": 1.0, "b": -1.0, "neither": 0.0}
# Draws x pairs x outcomes per pass.
_PASS = 8_000_000


def outcome_probabilities(
    post: Posterior,
    pairs: list[tuple[str, str]],
    annotator: str | None,
    first: str,
    program: Program | None = None,
    seed: int = 0,
    most: int | None = None,
) -> NDArray[np.float64]:
    """Return probabilities [draw, pair, outcome]; see `Posterior.predict`."""
    if first not in _FIRST:
        raise DataError(f"first={first!r} is unknown; use 'a', 'b' or 'neither'")
    program = _program(post, program)
    draws = dict(post.draws)
    step = 1 if most is None else max(1, post.n_draws // most)
    draws = {name: values[::step] for name, values in draws.items()}
    n_draws = len(next(iter(draws.values())))
    known = None if annotator is None else _index(post.annotators, annotator, "annotator")
    cells = _cells(post, pairs, program, first, known)
    # an annotator nobody has met: his own latents are drawn afresh, the population's are kept
    fixed = [name for name in draws if known is not None or "annotator" not in post.dims[name]]
    size = max(1, _PASS // (len(pairs) * len(post.outcomes) + 1))
    parts = []
    for start in range(0, n_draws, size):
        part = {name: draws[name][start : start + size] for name in draws}
        parts.append(_one_pass(post, program, cells, part, fixed, known, seed + start))
    return np.concatenate(parts)


def _one_pass(
    post: Posterior,
    program: Program,
    cells: Cells,
    draws: dict[str, NDArray[np.float64]],
    fixed: list[str],
    known: int | None,
    seed: int,
) -> NDArray[np.float64]:
    import pyro

    from prefdensity.inference.view import Substitute, environment

    values = {name: _padded(post, name, draws[name]) for name in fixed if name != "type_probability"}
    fits = len(next(iter(draws.values())))
    with torch.no_grad(), environment(torch.float64, seed=seed), Substitute(values) as seen:
        with pyro.plate("fit", fits, dim=-3):
            program(cells.without_outcomes())
    fn = seen.met["outcome"]["fn"]
    log_prob = fn.outcome_log_prob  # [draw, type or 1, pair, outcome]
    if hasattr(fn, "log_weight"):
        weight = fn.log_weight[..., 0]
        if known is not None:
            weight = torch.as_tensor(draws["type_probability"][:, known]).log()
        return (log_prob + weight[:, :, None, None]).logsumexp(1).exp().numpy()
    return log_prob.exp().expand(fits, 1, *log_prob.shape[-2:])[:, 0].numpy()


def _padded(post: Posterior, name: str, values: NDArray[np.float64]) -> torch.Tensor:
    """Return draws shaped for a fit plate at dim -3."""
    batch = values.ndim - 1 - post.event_dims.get(name, 0)
    shape = (len(values), *(1,) * (2 - batch), *values.shape[1:])
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def _program(post: Posterior, program: Program | None) -> Program:
    if program is not None:
        return program
    if post.program.endswith(".py"):
        raise ProgramError(
            f"this posterior was fitted with the file {post.program}, and files are not run unasked; pass "
            "program=load_program(...)"
        )
    return load_program(post.program)


def _index(labels: tuple[str, ...], label: str, kind: str) -> int:
    try:
        return labels.index(label)
    except ValueError:
        near = ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
        raise DataError(f"unknown {kind} {label!r}; the fit knows {len(labels)}: {near}") from None


def _cells(post: Posterior, pairs: list[tuple[str, str]], program: Program, first: str, known: int | None) -> Cells:
    if not pairs:
        raise DataError("there are no pairs to predict")
    position = {label: k for k, label in enumerate(post.items)}
    for a, b in pairs:
        for label in (a, b):
            if label not in position:
                _index(post.items, label, "item")
    n = len(pairs)
    ones = torch.ones(n, dtype=torch.float64)
    who = torch.full((n,), known or 0) if "annotator" in program.needs else None
    return Cells(
        item_a=torch.tensor([position[a] for a, _ in pairs]),
        item_b=torch.tensor([position[b] for _, b in pairs]),
        total=ones,
        outcomes=post.outcomes,
        n_items=len(post.items),
        n_annotators=1 if known is None else len(post.annotators),
        annotator=who,
        first=_FIRST[first] * ones if "first" in program.needs else None,
        features=None if post.features is None else torch.tensor(post.features, dtype=torch.float64),
    )

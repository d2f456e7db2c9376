"""Outcome probabilities of cells under posterior draws, by running the program itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefdensity.posterior.draws import Draws
from prefdensity.posterior.questions import among_asked, by_member, padded, question_cells, sites_of
from prefdensity.programs.cells import Cells
from prefdensity.programs.running import require_drawn, run

# Draws x types x cells x outcomes per pass.
_PASS = 4_000_000


@dataclass(frozen=True)
class OutcomeTable:
    """Log probabilities of the outcomes of cells, for a run of draws, on the device of the posterior.

    Attributes
    ----------
    draws
        Which draws.
    log_prob
        [draw, type, comparison, outcome]; one type for a program without types.
    log_weight
        [draw, type, 1], or [draw, type, annotator] where it depends on who judges; None without types.
    log_prior
        [draw]: log density of the sites set by `values`, one entry of their plate each.
    annotator
        int64 [comparison]: who judges, or None.
    """

    draws: slice
    log_prob: Tensor
    log_weight: Tensor | None
    log_prior: Tensor
    annotator: Tensor | None = None

    def mixed(self) -> Tensor:
        """Return log probabilities [draw, comparison, outcome] for annotators whose type nobody knows."""
        if self.log_weight is None:
            return self.log_prob[:, 0]
        return (self.log_prob + self.of_cells[..., None]).logsumexp(1)

    @property
    def of_cells(self) -> Tensor:
        """Log weights of types [draw, type, comparison or 1], for who judges."""
        assert self.log_weight is not None  # there are types
        if self.log_weight.shape[-1] == 1 or self.annotator is None:
            return self.log_weight
        return self.log_weight[..., self.annotator]


def outcome_tables(
    post: Draws,
    cells: Cells,
    *,
    given: Collection[str] | None = None,
    values: Mapping[str, Tensor] = MappingProxyType({}),
    held: Mapping[str, Tensor] = MappingProxyType({}),
    step: int = 1,
    seed: int = 0,
) -> Iterator[OutcomeTable]:
    """Yield tables for every `step`-th draw, in passes of bounded memory.

    Parameters
    ----------
    post, cells
        The posterior, and cells coded in its vocabulary.
    given
        Sites taken from the posterior (default all); the others that it has are drawn from their prior given these.
    values
        Sites set to the same value [...] in every draw, shaped like one draw of the site.
    held
        All draws of sites as `sites_of` returns them, where somebody who asks for many tables holds them.

    Raises
    ------
    ProgramError
        If the program is not at hand, or has a latent site without draws.
    """
    program = post.program
    taken = [name for name in post.drawn if given is None or name in given]
    nothing = torch.zeros(len(cells), len(post.outcomes), dtype=torch.float64, device=post.device)
    silent = replace(among_asked(post, cells).to(post.device), outcomes=post.outcomes, outcome=nothing)
    types = post.draws["type_weight"].shape[1] if "type_weight" in post.draws else 1
    index = range(0, post.n_draws, step)
    size = max(1, _PASS // (len(cells) * len(post.outcomes) * types))
    for start in range(0, len(index), size):
        rows = index[start : start + size]
        chosen = slice(rows[0], rows[-1] + 1, step)
        sites = sites_of(post, [name for name in taken if name not in held], chosen)
        sites |= {name: every[chosen] for name, every in held.items() if name in taken}
        for name, value in values.items():
            sites[name] = padded(post, name, value.to(post.device).expand(len(rows), *value.shape))
        log_prior = nothing.new_zeros(len(rows))
        log_prob, log_weight = [], []
        order: list[Tensor] = []
        for draw, some in by_member(post, sites):
            with torch.no_grad():
                met = run(program, silent, some, len(draw), seed=seed + start + sum(map(len, order))).met
                require_drawn(met, post.latent, program.name)
                for name in values:
                    log_prior[draw] += met[name]["fn"].log_prob(met[name]["value"]).flatten(1)[:, 0]
            fn = met["outcome"]["fn"]
            log_prob.append(fn.outcome_log_prob.expand(len(draw), -1, -1, -1))
            if getattr(fn, "log_weight", None) is not None:
                log_weight.append(fn.log_weight.expand(len(draw), -1, -1))
            order.append(draw)
        back = torch.cat(order).argsort() if len(order) > 1 else None
        weight = _joined(log_weight, back) if log_weight else None
        yield OutcomeTable(chosen, _joined(log_prob, back), weight, log_prior, silent.annotator)


def _joined(parts: list[Tensor], back: Tensor | None) -> Tensor:
    """Return the draws of all members in one, in their order."""
    return parts[0] if back is None else torch.cat(parts)[back]


def type_shares(post: Draws) -> NDArray[np.float64]:
    """Return the shares of types [draw, type] among the annotators of the table, by what is known of them.

    Where nothing that is known of annotators decides of their types that is `type_weight`; otherwise weights are those
    of annotators in the middle of all that is known, and shares the average over everybody.
    """
    weight = np.asarray(post.draws["type_weight"])
    if not post.annotators:
        return weight
    who = np.arange(len(post.annotators))
    parts = []
    for table in outcome_tables(post, question_cells(post, post.program, 0 * who, 0 * who, who)):
        if table.log_weight is None or table.log_weight.shape[-1] == 1:
            return weight
        parts.append(table.of_cells.exp().mean(-1).cpu().numpy())
    return np.concatenate(parts)

"""What tells the program of a saved posterior from another one: its sites, and what it answers to a few questions.

A file holds no code, so that a program comes back by its name, or from whoever opens the file. Whether it is the one
that was fitted is asked of it: it must have the sites that were drawn, of the same families, and give the first draw
the same prior densities and the same outcome probabilities of a few pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from prefdensity.errors import PrefDensityError, ProgramError
from prefdensity.posterior.draws import Draws, Signature
from prefdensity.posterior.questions import padded, question_cells
from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import Program
from prefdensity.programs.loading import spells
from prefdensity.programs.running import run

_PAIRS = 12  # that are asked about
Ask = Callable[[Program], Cells]
_CLOSE = 1e-6  # relative: the same program rounds otherwise elsewhere


def signature_of(post: Draws, program: Program, ask: Ask | None = None) -> Signature:
    """Return the signature of a program under the first draw of a posterior, on the CPU: a file is read anywhere.

    Parameters
    ----------
    post, program
        The draws, and the program that is asked.
    ask
        Program -> the cells it is tried on; None: pairs of the items, each annotator in turn, side a first.

    Raises
    ------
    ProgramError
        If the program cannot be run with these draws.
    """
    values = {name: padded(post, name, torch.tensor(post.draws[name][:1])) for name in post.drawn}
    try:
        with torch.no_grad():
            cells = _pairs(post, program) if ask is None else ask(program)
            met = run(program, cells, values, 1, seed=0).met
            latent = {name: each for name, each in met.items() if not each["is_observed"] and not each["deterministic"]}
            priors = {} if post.unfelt else latent  # where some scale is not known, no prior density is
            prior = [float(each["fn"].log_prob(each["value"]).sum()) for _, each in sorted(priors.items())]
            end = met["outcome"]
            table = getattr(end["fn"], "outcome_log_prob", None)  # judged units have one density each
            told = end["fn"].log_prob(end["value"]) if table is None else table
    except PrefDensityError:
        raise
    except Exception as error:  # whatever another program makes of these draws
        raise ProgramError(f"{program.name} does not take these draws: {type(error).__name__}: {error}") from error
    families = {name: _family(each) for name, each in sorted(latent.items())}
    return Signature(spells(program), families, (*prior, *told.flatten().tolist()))


def require_same(post: Draws, program: Program, ask: Ask | None = None) -> None:
    """Refuse a program that is not the one that a saved posterior was fitted with.

    Raises
    ------
    ProgramError
        Saying what differs.
    """
    if post.signature is None:
        return
    saved, found = post.signature, signature_of(post, program, ask)
    said = f"{program.name} is not the program that was fitted ({post.program_name}): "
    if saved.families != found.families:
        raise ProgramError(said + _other_sites(saved.families, found.families))
    if len(saved.trial) != len(found.trial):
        raise ProgramError(f"{said}it has other outcomes or types")
    off = ~np.isclose(np.array(saved.trial), np.array(found.trial), rtol=_CLOSE, atol=_CLOSE)
    sites = [] if post.unfelt else [name for name, each in zip(saved.families, off, strict=False) if each]
    if sites:
        raise ProgramError(f"{said}the prior of {', '.join(sites)} is another")
    if off.any():
        raise ProgramError(f"{said}it has the same sites, and gives other probabilities under the same draw")


def _pairs(post: Draws, program: Program) -> Cells:
    """Return pairs of neighbouring items, each annotator in turn, side a first, every covariate 1."""
    size = min(len(post.items), _PAIRS)
    a = np.arange(size)
    who = a % len(post.annotators) if post.annotators else None
    cells = question_cells(post, program, a, (a + 1) % len(post.items), who, first=1.0)
    changed: dict[str, Any] = {"outcome": torch.zeros(size, len(post.outcomes), dtype=torch.float64)}
    if cells.covariates is not None:
        changed["covariates"] = torch.ones_like(cells.covariates)
    return replace(cells, **changed)


def _family(site: Mapping[str, Any]) -> str:
    """Return the family of a site's distribution and the plates that it stands in, as in "Normal by annotator"."""
    fn = site["fn"]
    while type(fn).__name__ in ("Independent", "ExpandedDistribution", "MaskedDistribution"):
        fn = fn.base_dist
    plates = [frame.name for frame in sorted(site["cond_indep_stack"], key=lambda frame: frame.dim)]
    return " by ".join([type(fn).__name__, *(name for name in plates if name != "fit")])


def _other_sites(saved: dict[str, str], found: dict[str, str]) -> str:
    lacks, more = sorted(saved.keys() - found.keys()), sorted(found.keys() - saved.keys())
    if lacks:
        return f"it has no site {', '.join(lacks)}"
    if more:
        return f"its site {', '.join(more)} was never drawn"
    name = next(name for name in saved if saved[name] != found[name])
    return f"its site {name} is {found[name]}, and {saved[name]} was fitted"

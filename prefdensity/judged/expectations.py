"""What a fitted program of judged units expects of a label, given what was seen.

A label's law under a fit is a set of points with weights for every unit: the posterior draws are averaged weight by
weight, so that numerator and denominator of E[g(Y) | x, w, verdicts] are averaged separately, for every g at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from prefdensity.errors import DataError, ProgramError
from prefdensity.judged.rungs import VarianceDrop
from prefdensity.judged.scale import Scale
from prefdensity.judged.units import Judged
from prefdensity.posterior import files
from prefdensity.posterior.posterior import Posterior, attached
from prefdensity.posterior.signature import signature_of
from prefdensity.posterior.status import FitStatus
from prefdensity.programs.judged_cells import at_nodes
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.listing import judge_names
from prefdensity.programs.loading import load_program
from prefdensity.programs.running import run

if TYPE_CHECKING:
    from prefdensity.programs.cells import Cells

Array = NDArray[Any]

_POINTS = 2_000_000  # densities per pass over units
# Of expectations: nodes per piece, which leave 1e-5 sd, and posterior draws that are averaged over.
_NODES, _AVERAGED = 8, 8


@dataclass(frozen=True, eq=False)
class LabelLaw:
    """The law of the label of each unit as points with weights, before and after its verdicts.

    Attributes
    ----------
    label
        [unit, node].
    before, after
        Weights [unit, node], each row adding up to 1: given x and w; given x, w and the unit's verdicts.
    log_evidence
        log P(the unit's verdicts | x, w) [unit], in nats; 0 for a unit without verdicts.
    """

    label: Array
    before: Array
    after: Array
    log_evidence: Array


@dataclass(frozen=True, eq=False)
class VerdictDrop(VarianceDrop):
    """What one verdict tells about the label of each unit, under every posterior draw.

    Attributes
    ----------
    explained, left
        As of `VarianceDrop`, the verdict being all that is preferred.
    probability
        P(verdict | x, w) [draw, unit, outcome].
    mean
        E[Y | x, w, verdict] [draw, unit, outcome].
    """

    probability: Array
    mean: Array


@dataclass(frozen=True, eq=False)
class JudgeFit:
    """A program fitted to judged units.

    Attributes
    ----------
    posterior
        Draws of the program's parameters, with the status of the fit; in standard deviations of the labels.
    scale
        The units of measurement, and what places the quadrature nodes.
    """

    posterior: Posterior
    scale: Scale

    def __repr__(self) -> str:
        return f"JudgeFit({self.posterior.program_name}, {self.posterior.n_draws} draws, {self.status.method})"

    @property
    def program(self) -> Program:
        """What was fitted."""
        return self.posterior.program

    @property
    def status(self) -> FitStatus:
        """How the fit went."""
        return self.posterior.status

    def __str__(self) -> str:
        table = self.summary().to_string(index=False, float_format=lambda x: f"{x:.3f}", na_rep="")
        return "\n".join([repr(self), table, *self.posterior.quality()])

    def to_frame(self) -> pd.DataFrame:
        """Return `summary`."""
        return self.summary()

    def summary(self, level: float = 0.9) -> pd.DataFrame:
        """Return one row per parameter: parameter, index, mean, sd, lower, upper, sd_labelled, meaning.

        sd_labelled is what the sd would be without the units that have verdicts but no label (by the curvature at the
        same point); empty for a map, a refit, and functions of other parameters.
        """
        frame = self.posterior.parameters(level)
        ratio = self.status.settings.get("sd_ratio", {})
        sizes = frame.groupby("parameter")["sd"].transform("size")
        place = frame.groupby("parameter").cumcount()
        known = [
            ratio[name][k] if len(ratio.get(name, ())) == size else np.nan
            for name, k, size in zip(frame["parameter"], place, sizes, strict=True)
        ]
        frame.insert(6, "sd_labelled", frame["sd"] * known)
        return frame

    def gain(self) -> str:
        """Return in a sentence what the units with verdicts but no label added to what is known of the parameters."""
        hidden, table = self.status.settings["hidden"], self.summary()
        known = table[table["sd"] > 0].dropna(subset="sd_labelled")
        if not hidden or known.empty:
            return "What units without a label added is not known." if hidden else "Every unit used has a label."
        most = known.iloc[int(np.argmax(known["sd_labelled"] / known["sd"]))]
        name = f"{most['parameter']}[{most['index']}]" if most["index"] else most["parameter"]
        return (
            f"{hidden:,} units with a preference and no label add most to {name}: its posterior sd is {most['sd']:.3g} "
            f"and would be {most['sd_labelled']:.3g} ({most['sd_labelled'] / most['sd'] - 1:.0%} more) "
            f"from the {self.status.settings['labelled']:,} labelled units alone."
        )

    def save(self, path: str | Path) -> Path:
        """Write a netCDF file, atomically; see `Posterior.save`."""
        signature = signature_of(self.posterior, self.program, self._trial)
        return files.write(replace(self.posterior, signature=signature), path)

    def _trial(self, program: Program) -> Cells:
        return cast("Cells", self.scale.trial(program))

    def laws(self, units: Judged, nodes: int = _NODES, average: int = _AVERAGED) -> Iterator[tuple[slice, LabelLaw]]:
        """Yield rows and the law of their labels, in passes of bounded memory.

        Parameters
        ----------
        units
            Covariates, outputs and verdicts; labels, if any, are not looked at.
        nodes
            Quadrature nodes per piece.
        average
            Posterior draws to average over, evenly spaced.
        """
        for rows, label, prior, told in self._passes(units, nodes, average):
            before, after = prior.mean(0), (prior * told).mean(0)
            total, evidence = before.sum(0), after.sum(0)
            yield (
                rows,
                LabelLaw(
                    label=label.T,
                    before=(before / total).T.cpu().numpy(),
                    after=(after / evidence).T.cpu().numpy(),
                    log_evidence=(evidence / total).log().cpu().numpy(),
                ),
            )

    def expect(
        self, units: Judged, function: Callable[[Array], Array], *, nodes: int = _NODES, average: int = _AVERAGED
    ) -> tuple[Array, Array]:
        """Return E[g(Y) | x, w, verdicts] and E[g(Y) | x, w], each [unit].

        `function` takes labels [unit, node] to values of the same shape; units without verdicts have both the same.
        """
        after, before = np.empty(len(units)), np.empty(len(units))
        for rows, law in self.laws(units, nodes, average):
            with np.errstate(over="ignore"):
                value = np.where(law.before > 0, function(law.label), 0.0)  # it may overflow far out, where nothing is
            after[rows] = (law.after * value).sum(1)
            before[rows] = (law.before * value).sum(1)
        return after, before

    def variance_drop(
        self, units: Judged, *, judge: int = 0, nodes: int = _NODES, average: int = _AVERAGED
    ) -> VerdictDrop:
        """Return what a verdict of one judge would tell about each label, draw by draw: verdicts are not looked at.

        With q the squared influence of a unit's label (see the designs), q * left and q * explained are the
        variances that a label, and a preference, take away.
        """
        probability, mean, variance = [], [], None
        for outcome in range(len(self.program.outcomes)):
            parts = [_moments(*each[1:]) for each in self._passes(units.judged_as(outcome, judge), nodes, average)]
            evidence, first, variance = (np.concatenate(part, 1) for part in zip(*parts, strict=True))
            probability.append(evidence)
            mean.append(first)
        p, m = np.stack(probability, -1), np.stack(mean, -1)
        centre = (p * m).sum(-1, keepdims=True)
        explained = (p * (m - centre) ** 2).sum(-1)
        assert variance is not None  # a program has outcomes
        return VerdictDrop(explained, np.maximum(variance - explained, 0.0), probability=p, mean=m)

    @torch.no_grad()
    def _passes(
        self, units: Judged, nodes: int, average: int
    ) -> Iterator[tuple[slice, Array, torch.Tensor, torch.Tensor]]:
        """Yield rows, labels [node, unit], weights of the label and P(verdicts | label), both [draw, node, unit]."""
        pick = np.unique(np.linspace(0, self.posterior.n_draws - 1, average).astype(int))
        values = self._values(pick)
        step = max(1, _POINTS // (len(pick) * self.scale.nodes_per_unit(self.program, nodes)))
        units = replace(units, label=np.full(len(units), np.nan))
        for start in range(0, len(units), step):
            rows = slice(start, min(start + step, len(units)))
            cells = self.scale.cells(self.program, units.take(rows), nodes)
            found: list[tuple[torch.Tensor, torch.Tensor]] = []

            def model(data: Any, found: list[tuple[torch.Tensor, torch.Tensor]] = found) -> None:
                found.append(at_nodes(self.program.layers, data))

            there = cells.to(self.posterior.device)
            run(replace(self.program, model=model), cast("Cells", there), values, len(pick))
            log_label, log_told = (part.flatten(0, -3) for part in found[0])
            label = cells.label.reshape(cells.log_weight.shape).numpy() * self.scale.label_sd + self.scale.label_mean
            yield rows, label, (log_label + there.log_weight).exp(), log_told.exp()

    def _values(self, pick: Array) -> dict[str, torch.Tensor]:
        """Return the chosen draws of every site, padded as under a fit plate."""
        out = {}
        for name, values in self.posterior.draws.items():
            event = self.posterior.event_dims.get(name, 0)
            batch = values.ndim - 1 - event
            shape = (len(pick), *(1,) * (2 - batch), *values.shape[1:])
            out[name] = torch.tensor(values[pick].reshape(shape), dtype=torch.float64, device=self.posterior.device)
        return out


def _moments(label: Array, prior: torch.Tensor, told: torch.Tensor) -> tuple[Array, Array, Array]:
    """Return P(verdict), E[Y | verdict] and Var(Y) [draw, unit] of a pass."""
    y = torch.tensor(label).to(prior)
    joint = prior * told
    total, evidence = prior.sum(1), joint.sum(1)
    centre = (prior * y).sum(1) / total
    variance = (prior * (y - centre[:, None]) ** 2).sum(1) / total
    probability, mean, left = torch.stack([evidence / total, (joint * y).sum(1) / evidence, variance]).cpu().numpy()
    return probability, mean, left


def load_judge(path: str | Path, program: str | Path | Program | Layer | None = None) -> JudgeFit:
    """Read what `JudgeFit.save` wrote; nothing in the file is executed, nor any file that it names.

    Parameters
    ----------
    path
        The file.
    program
        As in `load_posterior`: needed where the program is not made of shipped layers alone.

    Raises
    ------
    DataError
        If the file is none, is damaged, or holds another posterior.
    ProgramError
        If `program` is not the one that was fitted.
    """
    posterior = files.read(path, Posterior)
    saved = posterior.status.settings.get("scale")
    if saved is None:
        raise DataError(f"{path} holds a posterior of comparisons; use prefdensity.load_posterior")
    try:
        scale = Scale.from_dict(saved)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: its scale of measurement cannot be read") from error
    given = None if program is None else judged_program(program)
    found = JudgeFit(posterior, scale)
    return replace(found, posterior=attached(posterior, path, given, found._trial))


def judged_program(name: str | Path | Program | Layer) -> Program:
    """Return the program of judged units that a name stands for; refuse programs of comparisons, and sites at modes."""
    program = load_program(name)
    if not any(each.stage == "judge" for each in program.layers):
        raise ProgramError(
            f"{program.name} is a program of comparisons; one of judged units has a label or a judge layer: "
            f"{', '.join(judge_names())}"
        )
    if program.at_mode:
        raise ProgramError(
            f"{program.name} puts {program.at_mode[0]} at a mode, as programs of comparisons alone may; leave it out"
        )
    return program

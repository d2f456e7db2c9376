"""Fitting programs of judged units, and what a fit expects of a label given what was seen.

A label's law under a fit is a set of points with weights for every unit: the posterior draws are averaged weight by
weight, so that numerator and denominator of E[g(Y) | x, w, verdicts] are averaged separately, for every g at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import prefdensity
from prefdensity.errors import DataError, FitError, ProgramError
from prefdensity.inference.curvature import dense_hessian
from prefdensity.inference.engines import Answer, Settings
from prefdensity.inference.fitting import infer, sites_at
from prefdensity.inference.mode import factor
from prefdensity.inference.view import View
from prefdensity.inference_data import read
from prefdensity.judge_scale import Scale
from prefdensity.judged import COMPARED, LABELLED, Judged
from prefdensity.judged_cells import at_nodes
from prefdensity.posterior import FitStatus, Posterior
from prefdensity.programs import Layer, Program, judge_names, load_program
from prefdensity.progress import progress as show_progress
from prefdensity.running import run

if TYPE_CHECKING:
    from prefdensity.cells import Cells

Array = NDArray[Any]

METHODS = ("auto", "laplace", "svi", "nuts", "map")
# A judge has a handful of parameters: more units than these add little to what is known of them, and cost time.
MOST_LABELLED, MOST_HIDDEN = 5000, 1000
_POINTS = 2_000_000  # densities per pass over units
# Of expectations: nodes per piece, which leave 1e-5 sd, and posterior draws that are averaged over.
_NODES, _AVERAGED = 8, 8
_STEPS, _SETTLED = 30, 1e-3  # of a refit; twice the nats left to climb before its last step


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
class VarianceDrop:
    """What one verdict tells about the label of each unit, under every posterior draw.

    Attributes
    ----------
    probability
        P(verdict | x, w) [draw, unit, outcome].
    mean
        E[Y | x, w, verdict] [draw, unit, outcome].
    explained
        Var(E[Y | x, w, verdict] | x, w) [draw, unit].
    left
        E[Var(Y | x, w, verdict) | x, w] [draw, unit].
    """

    probability: Array
    mean: Array
    explained: Array
    left: Array


@dataclass(frozen=True, eq=False)
class JudgeFit:
    """A program fitted to judged units.

    Attributes
    ----------
    program
        What was fitted.
    posterior
        Draws of its parameters, with the status of the fit; in standard deviations of the labels.
    scale
        The units of measurement, and what places the quadrature nodes.
    """

    program: Program
    posterior: Posterior
    scale: Scale

    def __repr__(self) -> str:
        return f"JudgeFit({self.program.name}, {self.posterior.n_draws} draws, {self.status.method})"

    @property
    def status(self) -> FitStatus:
        """How the fit went."""
        return self.posterior.status

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

    def save(self, path: str | Path) -> Path:
        """Write a netCDF file, atomically."""
        return self.posterior.save(path)

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
                    before=(before / total).T.numpy(),
                    after=(after / evidence).T.numpy(),
                    log_evidence=(evidence / total).log().numpy(),
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
    ) -> VarianceDrop:
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
        return VarianceDrop(p, m, explained, np.maximum(variance - explained, 0.0))

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

            run(replace(self.program, model=model), cast("Cells", cells), values, len(pick))
            log_label, log_told = (part.flatten(0, -3) for part in found[0])
            label = cells.label.reshape(cells.log_weight.shape).numpy() * self.scale.label_sd + self.scale.label_mean
            yield rows, label, (log_label + cells.log_weight).exp(), log_told.exp()

    def _values(self, pick: Array) -> dict[str, torch.Tensor]:
        """Return the chosen draws of every site, padded as under a fit plate."""
        out = {}
        for name, values in self.posterior.draws.items():
            event = self.posterior.event_dims.get(name, 0)
            batch = values.ndim - 1 - event
            shape = (len(pick), *(1,) * (2 - batch), *values.shape[1:])
            out[name] = torch.tensor(values[pick].reshape(shape), dtype=torch.float64)
        return out


def _moments(label: Array, prior: torch.Tensor, told: torch.Tensor) -> tuple[Array, Array, Array]:
    """Return P(verdict), E[Y | verdict] and Var(Y) [draw, unit] of a pass."""
    y = torch.tensor(label)
    joint = prior * told
    total, evidence = prior.sum(1), joint.sum(1)
    centre = (prior * y).sum(1) / total
    variance = (prior * (y - centre[:, None]) ** 2).sum(1) / total
    return (evidence / total).numpy(), ((joint * y).sum(1) / evidence).numpy(), variance.numpy()


def fit_judge(
    program: str | Path | Program | Layer,
    judged: Judged,
    *,
    method: str = "auto",
    seed: int = 0,
    draws: int = 500,
    labelled: int = MOST_LABELLED,
    hidden: int = MOST_HIDDEN,
    scale: Scale | None = None,
    max_steps: int = 10_000,
    progress: bool | None = None,
) -> JudgeFit:
    """Fit a program of judged units to all that was seen.

    Units with a label count by p(label, verdicts), units with verdicts only by the same integrated over the label;
    units with neither say nothing about the parameters.

    Parameters
    ----------
    program
        A composition such as "gaussian+distance+lapse"; see `prefdensity.programs.judge_names` and the choice rules,
        position biases, lapses and annotator layers of comparisons.
    judged
        The table.
    method
        laplace, svi, nuts or map; "auto": laplace, then svi where Pareto k-hat says that laplace cannot hold it.
    seed
        Of everything random, the choice of units included.
    draws
        Posterior draws to keep.
    labelled, hidden
        Units at most to use, with a label and with verdicts only; a random choice of more. The parameters are few,
        and an estimator that weights by known propensities is consistent whatever they are.
    scale
        Units of measurement, of another fit; None: learned from the labels.
    max_steps
        Of svi.
    progress
        Show a progress bar on stderr; None: if it is a terminal.

    Returns
    -------
    JudgeFit

    Raises
    ------
    ProgramError
        If the program is not one of judged units, or does not suit the labels.
    DataError
        If too few labels are seen, or a tie meets a program without ties.
    FitError
        For an unknown method.
    """
    started = time.monotonic()
    program = _program(program)
    if method not in METHODS:
        raise FitError(f"there is no method {method!r}; methods are {', '.join(METHODS)}")
    scale = scale or Scale.of(judged)
    scale.require(program, judged)
    used = _chosen(judged, labelled, hidden, seed)
    view = _view(program, scale, used)
    settings = Settings(draws, 1, seed, None, max_steps, 4, 500, None, {})
    with show_progress(progress) as report:
        answer = infer(method, view, None, settings, report)
    gain = {"sd_ratio": _sd_ratio(view, scale, used, answer.point)} if method != "map" else {}
    return _fitted(view, scale, used, answer, seed, time.monotonic() - started, gain)


def refit(
    fit: JudgeFit, judged: Judged, *, seed: int = 0, labelled: int = MOST_LABELLED, hidden: int = MOST_HIDDEN
) -> JudgeFit:
    """Return the fit moved to other units of the same kind (the rest of a fold): their mode, with the spread of `fit`.

    Fixed-curvature Newton steps from the mode of `fit`, whose units the new ones may share or not. Scale and nodes
    stay those of `fit`.

    Raises
    ------
    FitError
        If the steps do not settle: the units differ too much from those of `fit`; fit them anew.
    """
    started = time.monotonic()
    used = _chosen(judged, labelled, hidden, seed)
    view = _view(fit.program, fit.scale, used)
    z = _vectors(view, fit.posterior.draws)
    centred = z - z.mean(0)
    spread = centred.T @ centred / len(z)
    mode, start = z.mean(0), z.mean(0)
    value, gradient = _slope(view, mode)
    for step in range(1, _STEPS + 1):
        move = spread @ gradient
        gain = float(gradient @ move)
        if gain < _SETTLED:
            facts = {"method": "laplace", "converged": True, "message": "a fit moved to other units", "steps": step}
            answer = Answer(z - start + mode + move, mode + move, facts)
            return _fitted(view, fit.scale, used, answer, seed, time.monotonic() - started)
        there = _slope(view, mode + move)
        while there[0] < value + 0.1 * gain and gain > 1e-9:
            move, gain = move / 2, gain / 2
            there = _slope(view, mode + move)
        mode, (value, gradient) = mode + move, there
    raise FitError(f"{fit.program.name} moved to {len(used)} other units does not settle; fit them anew")


def _slope(view: View, z: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Return the log joint density at z [dimension], and its gradient."""
    free = z[None].detach().requires_grad_()
    value = view.log_joint(free).sum()
    (gradient,) = torch.autograd.grad(value, free)
    return float(value.detach()), gradient[0]


def load_judge(path: str | Path) -> JudgeFit:
    """Read what `JudgeFit.save` wrote.

    Raises
    ------
    DataError
        If the file is none, or holds another posterior.
    """
    posterior = read(path)
    saved = posterior.status.settings.get("scale")
    if saved is None:
        raise DataError(f"{path} holds a posterior of comparisons; use prefdensity.load_posterior")
    return JudgeFit(_program(posterior.program), posterior, Scale.from_dict(saved))


def _view(program: Program, scale: Scale, units: Judged) -> View:
    # a view asks its data for total, outcomes, head and len, which both kinds of cells have
    return View(program, cast("Cells", scale.cells(program, units)))


def _program(name: str | Path | Program | Layer) -> Program:
    program = load_program(name)
    if not any(each.stage == "judge" for each in program.layers):
        raise ProgramError(
            f"{program.name} is a program of comparisons; one of judged units has a label or a judge layer: "
            f"{', '.join(judge_names())}"
        )
    return program


def _chosen(units: Judged, labelled: int, hidden: int, seed: int) -> Judged:
    """Return the units that the likelihood uses, in their order."""
    rng = np.random.default_rng(seed)
    parts = []
    for rows, most in (
        (np.flatnonzero(units.pattern == LABELLED), labelled),
        (np.flatnonzero(units.pattern == COMPARED), hidden),
    ):
        parts.append(rows if len(rows) <= most else rng.choice(rows, most, replace=False))
    return units.take(np.sort(np.concatenate(parts)))


def _vectors(view: View, draws: dict[str, Array]) -> torch.Tensor:
    """Return the vectors [draw, dimension] of a view at draws of its sites."""
    parts = []
    for name, site in view.sites.items():
        values = torch.as_tensor(draws[name], dtype=view.dtype)
        parts.append(site.transform.inv(values).reshape(len(values), -1))
    return torch.cat(parts, -1)


def _sd_ratio(view: View, scale: Scale, used: Judged, point: torch.Tensor) -> dict[str, list[float]]:
    """Return by site how many times larger posterior sds would be without the units that have verdicts only.

    From the curvature at the same point; 1 where there are no such units.
    """
    seen = used.labelled
    if seen.all():
        return {name: [1.0] * (site.at.stop - site.at.start) for name, site in view.sites.items()}
    labelled = _view(view.program, scale, used.take(seen))
    variance = []
    for each in (labelled, view):
        hessian = dense_hessian(each.log_joint, point[None], each.work)[1][0]
        frame, _ = factor(-hessian)
        variance.append((frame**2).sum(1))
    ratio = (variance[0] / variance[1]).sqrt()
    return {name: ratio[site.at].tolist() for name, site in view.sites.items()}


def _fitted(
    view: View,
    scale: Scale,
    used: Judged,
    answer: Answer,
    seed: int,
    seconds: float,
    facts: dict[str, Any] | None = None,
) -> JudgeFit:
    """Return what `answer` found as a fit, with what produced it."""
    draws, dims = sites_at(view, answer.z)
    point, _ = sites_at(view, answer.point[None])
    labels = int(used.labelled.sum())
    status = FitStatus(
        seed=seed,
        seconds=seconds,
        log_likelihood=float(view.log_parts(answer.point[None])[1].detach()),
        settings={"scale": scale.as_dict(), "labelled": labels, "hidden": len(used) - labels} | (facts or {}),
        warnings=answer.warnings,
        versions={"prefdensity": prefdensity.__version__} | {name: version(name) for name in ("torch", "pyro-ppl")},
        **answer.facts,
    )
    posterior = Posterior(
        program=view.program.name,
        items=(),
        annotators=scale.judges,
        outcomes=view.program.outcomes,
        draws=draws,
        dims=dims,
        event_dims={name: len(site.event) for name, site in view.sites.items()},
        point={name: value[0] for name, value in point.items()},
        log_p=answer.log_p,
        log_q=answer.log_q,
        status=status,
        meanings=view.program.meanings,
        feature_names=scale.varying(used),
        n_comparisons=float(len(used.verdict)),
    )
    return JudgeFit(view.program, posterior, scale)

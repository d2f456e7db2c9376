"""Sites that no Gaussian holds at modes of the posterior, and everything else given them.

The weights of a network have so many modes that no approximation spans them. Given those of its hidden layers what is
left is smooth, of few dimensions, and every method holds it (the last-layer Laplace approximation: Daxberger et al.
2021, arXiv 2106.14806; Kristiadi, Hein and Hennig 2020, arXiv 2002.10118). The spread over several such modes tells
what one of them leaves out (Lakshminarayanan, Pritzel and Blundell 2017, arXiv 1612.01474; with the posterior at each:
Eschenhagen et al. 2021, arXiv 2111.03577). Climbs from several draws of the prior alone often end at one and the same
function. So every member but the first has a posterior of its own to climb: each judgement counts as much as an
exponential variable says, and a draw of the prior takes the place of its middle. Of a Gaussian posterior the modes are
then draws (Bardsley, Solonen, Haario and Laine 2014, SIAM J. Sci. Comput. 36, A1895-A1910; Pearce, Leibfried and
Brintrup 2020, AISTATS; Newton and Raftery 1994, JRSS-B 56, 3-48).

Members have equal weights, as draws have. By evidence, given what was fitted to the same judgements, the member that is
most sure has nearly all of it: with 20 features and 1,000 judgements 90 % intervals of utilities of items never judged
cover .10 of them so, and .88 with equal weights; without what is drawn for each member .41 where equal ones cover .87
(a curve of kinks with a gap among the items).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefdensity.inference import parallel
from prefdensity.inference.answer import Answer, Settings
from prefdensity.inference.batches import Batches
from prefdensity.inference.checkpoint import Checkpoint
from prefdensity.inference.climber import Climber
from prefdensity.inference.descent import Descent
from prefdensity.inference.member import Member
from prefdensity.inference.mode import Mode, first_guess, prior_draws
from prefdensity.inference.safety import errors_of_members
from prefdensity.inference.starts import starts
from prefdensity.inference.svi import WINDOW
from prefdensity.inference.view import View
from prefdensity.progress import Report

_LEFT = 0.1  # nats that a climb may gain in a hundred iterations more, times the root of judgements: less than noise

Engine = Callable[[View, Settings, Report], Answer]


def by_ensemble(engine: Engine, view: View, settings: Settings, report: Report) -> Answer:
    """Return what a method says given the sites at each of several modes; every mode has the same share of the draws.

    The first one, and the point, is at the mode itself. Ctrl-C leaves the members that there are; a checkpoint keeps
    the modes.
    """
    modes, count = _Modes(view, settings, report), settings.restarts
    own = replace(settings, restarts=1, checkpoint=None)
    members: list[Member] = []
    answers: list[Answer] = []
    interrupted = False
    for k in range(count):
        try:
            members.append(Member.at(view, modes(k).z))
            answers.append(engine(members[-1].view, replace(own, seed=settings.seed + k), report))
            interrupted = "interrupted" in answers[-1].facts["message"]
        except KeyboardInterrupt:
            if not answers:
                modes.checkpoint.write()
                raise
            interrupted = True
        if interrupted:
            modes.checkpoint.write()
            break
    else:
        modes.checkpoint.remove()
    found = _joined(members[: len(answers)], answers, all(mode.converged for mode in modes.found), settings)
    if not interrupted:
        return found
    message = f"interrupted, so these are {len(answers)} of {count} members; {found.facts['message']}"
    return replace(found, facts=found.facts | {"message": message, "converged": False})


class _Modes:
    """The modes of all members, one after the other, and where they are kept meanwhile."""

    def __init__(self, view: View, settings: Settings, report: Report) -> None:
        self.view, self.settings, self.report = view, settings, report
        self.left = _LEFT * float(view.cells.total.sum()) ** 0.5
        self.checkpoint = Checkpoint(settings.checkpoint, settings.key, ("modes", "settled"))
        self.saved = parallel.from_first(self.checkpoint.load()) or {}
        self.found: list[Mode] = []
        for z, settled in zip(self.saved.get("modes", ()), self.saved.get("settled", ()), strict=True):
            self.found.append(Mode(torch.from_numpy(z).to(first_guess(view)), 0.0, bool(settled), 0))

    def __call__(self, k: int) -> Mode:
        """Return the mode of member k, after those of all before it."""
        if k < len(self.found):
            return self.found[k]
        seed = self.settings.seed + k
        climber = randomised(self.view, seed) if k else Climber(self.view, fixed=self.view.hyper)
        start = starts(climber, 1, seed)[0]
        mode = self._descended(climber, start, seed) if self.settings.batch else climber.climb(start, left=self.left)
        self.found.append(
            Mode(parallel.from_first(mode.z).to(mode.z.device), mode.value, mode.converged, mode.iterations)
        )
        self.checkpoint.hold(self._arrays())
        self.report("modes", k + 1, self.settings.restarts)
        return self.found[k]

    def _descended(self, climber: Climber, start: Tensor, seed: int) -> Mode:
        """Return the mode that stochastic steps come to."""
        assert self.settings.batch is not None
        batches = Batches(climber.view, self.settings.batch, seed, self.settings.place)
        descent, k = Descent(climber, batches, start, self.settings.max_steps), len(self.found)
        if int(self.saved.get("member", -1)) == k:
            descent.resume(self.saved)

        def after(descent: Descent) -> None:
            if descent.step % WINDOW == 0:
                self.checkpoint.hold(self._arrays() | descent.arrays() | {"member": np.array(k)})
                self.report(f"mode {k + 1} of {self.settings.restarts}", descent.step, descent.steps)

        return descent.run(after)

    def _arrays(self) -> dict[str, Any]:
        z = [mode.z.cpu().numpy() for mode in self.found]
        settled = np.array([mode.converged for mode in self.found], dtype=bool)
        return {"modes": np.array(z).reshape(len(z), self.view.dimension), "settled": settled}


def randomised(view: View, seed: int) -> Climber:
    """Return what climbs to a draw of the posterior, were it Gaussian: see above.

    That a draw a of the prior takes the place of its middle is to add minus its slope at a to that of the log density.
    """
    random = np.random.default_rng(seed)
    cells = view.cells
    assert cells.outcome is not None  # a view has data
    outcome = torch.from_numpy(random.standard_gamma(cells.outcome.cpu().numpy())).to(cells.outcome)
    weighted = View(view.program, replace(cells, outcome=outcome, total=outcome.sum(-1)))
    guess = first_guess(view)
    hyper, _ = view.values(guess[None], [name for name in view.program.hyper if name in view.sites])
    at = prior_draws(view, 1, seed, hyper).requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(view.log_parts(at, cells=view.few)[0].sum(), at)
    weighted.memo["first_guess"] = guess
    return Climber(weighted, fixed=view.hyper, tilt=-slope[0])


def _joined(members: list[Member], answers: list[Answer], settled: bool, settings: Settings) -> Answer:
    """Return the answers of all members, of each its share of the draws, chains side by side and others shuffled."""
    facts, generator = _facts(answers), torch.Generator().manual_seed(settings.seed)
    facts["converged"] &= settled
    said = dict.fromkeys([_sentence(members), *(warning for each in answers for warning in each.warnings)])
    if len(answers) == 1:
        of = torch.zeros(len(answers[0].z), dtype=torch.int64)
        facts = answers[0].facts | facts | {"chains": max(1, facts["chains"])}
        alone = replace(answers[0], facts=facts, warnings=tuple(said), members=tuple(members), of=of)
        return replace(alone, error={})  # how far one mode is off nobody knows
    kept = [_share(each, facts["chains"] // len(answers), len(answers), generator) for each in answers]
    order = torch.arange(sum(map(len, kept)))
    if not facts["chains"]:
        facts["chains"], order = 1, torch.randperm(len(order), generator=generator)[: settings.draws]
    of = torch.cat([torch.full((len(rows),), k) for k, rows in enumerate(kept)])
    z = torch.cat([each.z[rows.to(each.z.device)] for each, rows in zip(answers, kept, strict=True)])
    densities = {}
    if all(len(each.log_p) == len(each.z) for each in answers):
        for name in ("log_p", "log_q"):
            parts = [getattr(each, name)[rows.numpy()] for each, rows in zip(answers, kept, strict=True)]
            densities[name] = np.concatenate(parts)[order.numpy()]
    return Answer(
        z[order.to(z.device)], answers[0].point, facts, warnings=tuple(said), error=_errors(members, answers),
        members=tuple(members), of=of[order], **densities,
    )  # fmt: skip


def _share(answer: Answer, chains: int, members: int, generator: torch.Generator) -> Tensor:
    """Return which draws of an answer to keep of so many members: some of each chain, or of those in no order."""
    every = torch.arange(len(answer.z))
    if chains:
        return every.unflatten(0, (chains, -1))[:, ::members].flatten()
    return torch.randperm(len(every), generator=generator)[: -(-len(every) // members)]


def _facts(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the facts of all members as those of one fit, of each diagnosis the worst; no chains unless all have some.

    There is no evidence of the program, only of each member, in which the sites at its mode count as known.
    """
    facts = [each.facts for each in answers]

    def over(name: str, of: Callable[..., Any]) -> dict[str, Any]:
        known = [each[name] for each in facts if each.get(name) is not None]
        return {name: of(known)} if known else {}

    methods = dict.fromkeys(each["method"] for each in facts)
    message = facts[0]["message"] if len(facts) == 1 else f"{len(facts)} members, the first: {facts[0]['message']}"
    sampled = list(methods) == ["nuts"]
    worst: dict[str, Callable[..., Any]] = {
        "converged": all,
        "k_hat": max,
        "log_weight_sd": max,
        "r_hat": max,
        "tempering": min,
        "corrected": all,
    }
    sums = dict.fromkeys(("steps", "effective", "proposals", "divergences"), sum)
    out = {"method": next(iter(methods)), "message": message, "guide": facts[0].get("guide", "")}
    for name, of in (worst | sums).items():
        out |= over(name, of)
    none = {"elbo": None, "elbo_se": None, "log_evidence": None, "modes": (), "members": len(answers)}
    return out | none | {"chains": sum(each["chains"] for each in facts) if sampled else 0}


def _errors(members: list[Member], answers: Sequence[Answer]) -> dict[str, Tensor]:
    """Return for each site how far the mean over members may be off, in posterior standard deviations of the whole.

    What the mean of each may be, in its own standard deviations, which are smaller, and that they are so few.
    """
    few = errors_of_members([(member.view, each.z) for member, each in zip(members, answers, strict=True)])
    known = set(few).intersection(*(each.error for each in answers))
    own = {name: torch.stack([each.error[name] for each in answers]).amax(0) for name in sorted(known)}
    return {name: torch.hypot(error, few[name].to(error)) for name, error in own.items()}


def _sentence(members: list[Member]) -> str:
    """Say what is at a mode, and what that means for intervals."""
    names = " and ".join(members[0].values)
    verb = "is" if len(members[0].values) == 1 else "are"
    if len(members) == 1:
        said = (
            "at a mode of the posterior, and intervals are those of everything else given it: they leave out that it "
            "could be otherwise"
        )
    else:
        said = (
            f"at a mode of the posterior in each of {len(members)} members of an ensemble, and intervals are those of "
            "everything else given it, over all members alike"
        )
    return f"{names} {verb} {said}; no importance weights leave a judgement out of it"

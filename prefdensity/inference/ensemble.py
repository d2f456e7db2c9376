"""Sites that no Gaussian holds at modes of the posterior, and everything else given them.

The weights of a network have so many modes that no approximation spans them. Given those of its hidden layers what is
left is smooth, of few dimensions, and every method holds it (the last-layer Laplace approximation: Daxberger et al.
2021, arXiv 2106.14806; Kristiadi, Hein and Hennig 2020, arXiv 2002.10118). Climbs from several draws of the prior end
at modes that explain the data about equally well and differ where there are none, which the spread over the members of
an ensemble tells (Lakshminarayanan, Pritzel and Blundell 2017, arXiv 1612.01474; with the posterior at each of them:
Eschenhagen et al. 2021, arXiv 2111.03577).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefdensity.inference.answer import Answer, Settings
from prefdensity.inference.member import Member
from prefdensity.inference.starts import distinct, search
from prefdensity.inference.view import View
from prefdensity.progress import Report

Engine = Callable[[View, Settings, Report], Answer]


def by_ensemble(engine: Engine, view: View, settings: Settings, report: Report) -> Answer:
    """Return what a method says given the sites at each of several modes; every mode has the same share of the draws."""
    modes = distinct(search(view, settings.restarts, settings.seed, report), settings.restarts)
    own = replace(settings, restarts=1, draws=-(-settings.draws // len(modes)))
    members: list[Member] = []
    answers: list[Answer] = []
    for k, mode in enumerate(modes):
        members.append(Member.at(view, mode.z))
        answers.append(engine(members[-1].view, replace(own, seed=own.seed + k), report))
        if "interrupted" in answers[-1].facts["message"]:
            break
    return _joined(members, answers, tuple(mode.value for mode in modes), settings)


def _joined(
    members: list[Member], answers: list[Answer], heights: tuple[float, ...], settings: Settings
) -> Answer:
    """Return the answers of all members side by side: chains as they are, and of other draws no more than asked for."""
    first, z = answers[0], torch.cat([each.z for each in answers])
    of = torch.cat([torch.full((len(each.z),), k) for k, each in enumerate(answers)])
    facts = _facts(answers) | {"restart_values": heights if len(heights) > 1 else ()}
    order = torch.arange(len(z))
    if facts["method"] != "nuts" and len(answers) > 1:  # independent draws are in no order
        order = torch.randperm(len(z), generator=torch.Generator().manual_seed(settings.seed))[: settings.draws]
    densities = {}
    if all(len(each.log_p) == len(each.z) for each in answers):
        for name in ("log_p", "log_q"):
            densities[name] = np.concatenate([getattr(each, name) for each in answers])[order.numpy()]
    said = [_sentence(members, facts["method"]), *(warning for each in answers for warning in each.warnings)]
    return Answer(
        z[order.to(z.device)], first.point, facts, warnings=tuple(dict.fromkeys(said)), error=_errors(answers),
        members=tuple(members), of=of[order], **densities,
    )  # fmt: skip


def _facts(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the facts of all members as those of one fit: of each diagnosis the worst.

    There is no evidence of the program, only of each member, in which the sites at its mode count as known.
    """
    facts = [each.facts for each in answers]

    def over(name: str, of: Callable[[list[Any]], Any]) -> dict[str, Any]:
        known = [each[name] for each in facts if each.get(name) is not None]
        return {name: of(known)} if known else {}

    methods = dict.fromkeys(each["method"] for each in facts)
    message = facts[0]["message"] if len(facts) == 1 else f"{len(facts)} members, the first: {facts[0]['message']}"
    sampled = list(methods) == ["nuts"]
    worst = {"converged": all, "k_hat": max, "log_weight_sd": max, "r_hat": max, "tempering": min, "corrected": all}
    sums = dict.fromkeys(("steps", "effective", "proposals", "divergences"), sum)
    out = {"method": next(iter(methods)), "message": message, "guide": facts[0].get("guide", "")}
    for name, of in (worst | sums).items():
        out |= over(name, of)
    return out | {"chains": sum(each["chains"] for each in facts) if sampled else 1}


def _errors(answers: Sequence[Answer]) -> dict[str, Tensor]:
    """Return for each site the largest error of a member's means, in its own posterior standard deviations.

    The error of the mean over members is at most that many standard deviations of the whole, which are larger.
    """
    known = set.intersection(*(set(each.error) for each in answers))
    return {name: torch.stack([each.error[name] for each in answers]).amax(0) for name in sorted(known)}


def _sentence(members: list[Member], method: str) -> str:
    """Say what is at a mode, and what that means for intervals."""
    names = " and ".join(members[0].values)
    verb = "is" if len(members[0].values) == 1 else "are"
    if len(members) == 1:
        where = "at a mode of the posterior, and intervals are those of everything else given it"
    else:
        where = (
            f"at a mode of the posterior in each of {len(members)} members of an ensemble, and intervals are those of "
            "everything else given it, over all members alike"
        )
    return (
        f"{names} {verb} {where}: they leave out that it could be otherwise, and leave-one-out scores count it as known"
    )

"""The basins of a posterior: where climbs end, mirror images included, and what each of them holds.

A mode's height says nothing of its width, so modes are weighed by their evidence, each by its own Laplace
approximation (Tierney and Kadane 1986). Those that stand make one mixture, and are told to the reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from prefdensity.errors import FitError
from prefdensity.inference.laplace import Mixture, laplace
from prefdensity.inference.mode import Climber, Mode
from prefdensity.inference.starts import distinct, search
from prefdensity.inference.view import View
from prefdensity.programs.mirrors import Mirror
from prefdensity.progress import Report

# A mode this many nats of evidence below the best holds less than 1 in 1,000 of the posterior.
NEGLIGIBLE = 7.0
MOST = 4  # modes of restarts that are weighed
# Modes closer than this in every coordinate are one; as are modes whose evidence is the same, which are copies under
# a symmetry that the prior does not break (mirrors are no copies: their priors differ).
NEAR, _COPY = 0.5, 1e-3
STANDING = 0.01  # share of the posterior from which a mode is told
# What turns round in a mirror is found on these many cells, among these many sites.
_PROBE, _TURNING = 1000, 7


def weighed(view: View, restarts: int, seed: int, report: Report) -> tuple[list[Mixture], tuple[float, ...]]:
    """Return the Laplace approximation of every mode that is not negligible, that of most evidence first.

    Modes are those that `restarts` climbs reach, the mirror images of the best of them, and where one of these is
    better still, its images too; also returned are the heights that the climbs reached, if there are several.

    Raises
    ------
    FitError
        As `laplace` does at the best mode.
    """
    heights: tuple[float, ...] = ()
    if restarts == 1:
        found = [_alone(view, laplace(view))]
    else:
        modes = search(view, restarts, seed, report)
        heights = tuple(mode.value for mode in modes)
        found = [_alone(view, laplace(view, modes[0].z))]
        for mode in distinct(modes, MOST)[1:]:
            _add(view, mode.z, found)
    looked_at: list[Mixture] = []
    while _best(found) not in looked_at:
        looked_at.append(_best(found))
        for image in images(view, looked_at[-1].mode.z):
            _add(view, image, found, looked_at[-1])
    top = _best(found).log_evidence
    kept = [each for each in found if each.log_evidence > top - NEGLIGIBLE]
    return sorted(kept, key=lambda each: -each.log_evidence), heights


def highest(view: View, restarts: int, seed: int, report: Report) -> list[Mode]:
    """Return the modes that climbs and the mirror images of the best one reach, highest first: without curvature."""
    modes = search(view, restarts, seed, report)
    climber = Climber(view)
    mirrored = [climber.climb(image) for image in images(view, modes[0].z)]
    return sorted([*modes, *mirrored], key=lambda mode: -mode.value)


def _best(found: list[Mixture]) -> Mixture:
    return max(found, key=lambda each: each.log_evidence)


class _Ended(Exception):
    """A search leads to nothing new, or to what is negligible."""


def _add(view: View, start: Tensor, found: list[Mixture], mirrored: Mixture | None = None) -> None:
    """Add to `found` what is reached from `start`, the image of `mirrored`, if it is another mode and not negligible.

    The search ends as soon as that is clear.
    """
    least = _best(found).log_evidence - NEGLIGIBLE

    def watch(mode: Mode, most: float) -> None:
        if most < least or (mirrored is not None and bool(mirrored.nearer(mode.z[None], start))):
            raise _Ended

    try:
        other = _alone(view, laplace(view, start, watch))
    except (FitError, _Ended):  # no peak: the modes that are peaks stand
        return
    if other.log_evidence > least and not any(_same(other, each) for each in found):
        found.append(other)


def _alone(view: View, found: Mixture) -> Mixture:
    """Return an approximation without what lies nearer to a mirror image of its mode, and is counted there.

    Where hyperparameters do not let a mode be, a climb from there ends in the other.
    """
    for image in images(view, found.mode.z):
        own = found.nearer(found.base, image)
        if not own.any():  # it holds nothing beside the other
            return laplace(view, found.base[found.weight.argmax()])
        found = found.only(own)
    return found


def _same(one: Mixture, other: Mixture) -> bool:
    near = float((one.mode.z - other.mode.z).abs().max()) < NEAR
    return near or abs(one.log_evidence - other.log_evidence) < _COPY


def images(view: View, z: Tensor) -> Iterator[Tensor]:
    """Yield the mirror images [dimension] of z under every set of the mirrors that the program's layers declare."""
    mirrors = view.program.mirrors
    for size in range(1, len(mirrors) + 1):
        for chosen in combinations(mirrors, size):
            yield _image(view, z, chosen)


@torch.no_grad()
def _image(view: View, z: Tensor, mirrors: tuple[Mirror, ...]) -> Tensor:
    """Return z with the mirrors' own sites changed, and turned round what must turn with them.

    Among all ways to turn real-valued sites round, that is the one which leaves the likelihood most nearly as it was.
    """
    values, _ = view.values(z[None])
    everybody = torch.ones(view.cells.n_annotators, dtype=torch.bool, device=z.device)
    own = {name: value for mirror in mirrors for name, value in mirror.image(values, everybody).items()}
    image = z.clone()
    for name, value in own.items():
        image[view.sites[name].at] = view.sites[name].transform.inv(value).flatten()
    turning = [site.at for name, site in view.sites.items() if site.is_identity and name not in own][:_TURNING]
    tried = image.repeat(2 ** len(turning), 1)
    for row, signs in zip(tried, product((-1, 1), repeat=len(turning)), strict=True):
        for at, sign in zip(turning, signs, strict=True):
            row[at] *= sign
    few = view.cells.head(_PROBE)
    goal = view.log_parts(z[None], cells=few)[1]
    return tried[int((view.log_parts(tried, cells=few)[1] - goal).abs().argmin())]


def shares(evidence: Sequence[float]) -> list[float]:
    """Return what each mode holds of the posterior, all of them together 1."""
    return [float(share) for share in softmax(np.array(evidence))]


def sentences(view: View, points: list[Tensor], share: list[float]) -> tuple[str, ...]:
    """Return sentences on the modes at `points` [dimension]: whether several stand, and who is read upside down."""
    turned = [_turned(view, point) for point in points]
    standing = [k for k, s in enumerate(share) if s >= STANDING]
    said = []
    if len(standing) > 1:
        listed = "; ".join(f"{share[k]:.0%} of the posterior{_listed(turned[k])}" for k in standing)
        said.append(
            f"{len(standing)} modes of the posterior stand: {listed}. All numbers are over these modes together, so "
            "look at who is read how before using the ranking."
        )
    for name, count, people in turned[0]:
        if count > people / 2:
            said.append(
                f"Most annotators come out {name} ({count} of {people}): the ranking is the opposite of what they "
                "voted for. See that the outcome column says who won, and whether few people cast most votes."
            )
    return tuple(said)


@torch.no_grad()
def _turned(view: View, z: Tensor) -> list[tuple[str, int, int]]:
    """Return for each mirror what it calls those who are read upside down, how many they are, and of how many."""
    values, _ = view.values(z[None])
    turned = [(mirror.name, mirror.turned(values)) for mirror in view.program.mirrors]
    return [(name, int(who.sum()), who.numel()) for name, who in turned]


def _listed(turned: list[tuple[str, int, int]]) -> str:
    said = ", ".join(f"{count} of {people} annotators {name}" for name, count, people in turned)
    return f" ({said})" if said else ""

"""The basins of a posterior: where mirror images of a mode lie, what each holds, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import torch
from torch import Tensor

from prefdensity.inference.view import View
from prefdensity.programs.mirrors import Mirror

STANDING = 0.01  # share of the posterior from which a mode is told
# What turns round in a mirror is found on these many cells, among these many sites.
_PROBE, _TURNING = 1000, 7


def images(view: View, z: Tensor) -> Iterator[Tensor]:
    """Yield the mirror images [dimension] of z under every set of the mirrors that the program's layers declare."""
    mirrors = view.program.mirrors
    for size in range(1, len(mirrors) + 1):
        for chosen in combinations(mirrors, size):
            yield _image(view, z, chosen)


@torch.no_grad()
def straightened(view: View, z: Tensor) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """Yield z [dimension] with nobody upside down by one mirror, wherever some are, and which coordinates say so.

    A mode can be the doing of a few people alone, who hold enough votes to order few items their way: its mirror image
    turns everybody round, and does not lead to the mode at which only they are read the other way. Where they are, the
    rest has yet to settle.
    """
    values, _ = view.values(z[None])
    for mirror in view.program.mirrors:
        who = mirror.turned(values).flatten()
        if not who.any():
            continue
        start, own = z.clone(), mirror.image(values, who)
        for name, value in own.items():
            start[view.sites[name].at] = view.sites[name].transform.inv(value).flatten()
        yield start, tuple(k for name in own for k in range(view.sites[name].at.start, view.sites[name].at.stop))


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
    found: list[float] = torch.tensor(evidence, dtype=torch.float64).softmax(0).tolist()
    return found


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

"""Latent sites of a program as parts of one real vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.distributions import ComposeTransform, Transform, biject_to

from prefdensity.errors import ProgramError


@dataclass(frozen=True)
class Site:
    """A latent site: where it lies in the vector, and its shape under the program's plates."""

    name: str
    batch: tuple[int, ...]
    event: tuple[int, ...]
    raw_event: tuple[int, ...]
    transform: Transform
    at: slice
    dims: tuple[str, ...]

    @property
    def is_scalar(self) -> bool:
        """One real number, in no plate."""
        return not self.dims

    @property
    def is_identity(self) -> bool:
        """Real-valued: the vector holds the value itself."""
        return isinstance(self.transform, ComposeTransform) and not self.transform.parts


def site_of(program: str, name: str, node: dict[str, Any], start: int) -> Site:
    """Return a latent site of a traced program, which lies from `start` on in the vector.

    Raises
    ------
    ProgramError
        For a discrete one.
    """
    if node["fn"].support.is_discrete:
        raise ProgramError(
            f"{program} samples the discrete site {name!r}. Sum discrete types out, as a types layer "
            f"does: enumerating {name} and indexing it by annotator would silently give all annotators one common value"
        )
    transform = biject_to(node["fn"].support)
    value = node["value"]
    raw = transform.inv(value)
    batch = tuple(node["fn"].batch_shape)
    raw_event = tuple(raw.shape[len(batch) :])
    return Site(
        name,
        batch,
        tuple(node["fn"].event_shape),
        raw_event,
        transform,
        slice(start, start + raw.numel()),
        dims_of(name, node),
    )


def dims_of(name: str, node: dict[str, Any]) -> tuple[str, ...]:
    """Name the axes of a site: its plates from left to right, then its own axes."""
    plates = sorted((frame.dim, frame.name) for frame in node["cond_indep_stack"] if frame.vectorized)
    own = node["value"].dim() - len(plates)
    stem = name.removesuffix("_weight")
    alone = own == 1 and stem != name  # an axis with the name of its own site could not be saved
    return tuple(name for _, name in plates) + tuple(stem if alone else f"{stem}_{k}" for k in range(own))

"""What the likelihood of one comparison feels of the parameters, found by running the program.

The layers from the margin on are run with every comparison in a world of its own (`prefdensity.programs.apart`): there
a site has the few entries that this comparison may feel, as quantities of its own. Which axis of a site grows with the
items or the annotators is seen in a world that has more of them. Entries that are felt through one weighted sum only,
such as the two of a difference, are found by their gradients, which then are parallel wherever one looks; they count
as one quantity. Nothing here knows how a layer reads its tables, nor needs to: whether all that a comparison feels was
found is checked against an automatic derivative of the whole (`locality.agrees`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prefdensity.errors import ProgramError
from prefdensity.inference.leaves import Leaf, Weight
from prefdensity.inference.site import Site
from prefdensity.inference.view import View
from prefdensity.programs.apart import apart, grown, sides
from prefdensity.programs.cells import Cells
from prefdensity.programs.pipeline import judged
from prefdensity.programs.running import Substitute, environment, for_fits

# Entries of one site that a comparison may feel, and quantities felt in all: their pairs all have a derivative.
_ENTRIES, _QUANTITIES = 512, 16
_PARALLEL = 1e-9  # how parallel gradients must be
# Comparisons (times fits) that are worked out together: few enough for the cache; and a gigabyte elsewhere.
_PASS, _PASS_THERE = 2**16, 2**20


def at_once(device: torch.device) -> int:
    """Return how many comparisons (times fits) are worked out together."""
    return _PASS if device.type == "cpu" else _PASS_THERE


@dataclass(frozen=True, eq=False)
class FeltSite:
    """What comparisons feel of a site: its `places` [comparison] in the site, one for each entry of its small `shape`.

    `weights`: the entries count through their weighted sum alone (numbers, or each [comparison]); None: each by itself.
    """

    site: Site
    places: tuple[Tensor, ...]
    shape: tuple[int, ...]
    grows: tuple[str | None, ...]  # with what, each axis
    weights: tuple[Weight, ...] | None = None

    @property
    def is_shared(self) -> bool:
        """Whether all comparisons feel the same entries."""
        return not any(self.grows)

    @property
    def is_own(self) -> bool:
        """Whether every annotator has entries of its own, side by side."""
        return self.grows[:1] == ("annotator",)

    @property
    def quantities(self) -> int:
        """How many numbers are felt."""
        return len(self.places) if self.weights is None else 1


class Felt:
    """What each comparison of a view feels of some sites, beside its margin.

    Raises
    ------
    ProgramError
        If that cannot be told, or is much.
    """

    def __init__(self, view: View, sites: list[Site]) -> None:
        self.view = view
        self.parts = [_part(view, site) for site in sites]
        self._worlds: dict[tuple[int | None, int | None, int], Cells] = {}
        self.parts = _merged(self)
        if sum(part.quantities for part in self.parts) > _QUANTITIES:
            raise ProgramError(f"a comparison feels more than {_QUANTITIES} numbers")

    def leaves(self, z: Tensor) -> list[Leaf]:
        """Return what is felt at z [fit, dimension]."""
        return [leaf for part in self.parts for leaf in _leaves(part, z[:, part.site.at], self.view.cells.n_annotators)]

    def log_prob(self, margin: Tensor, felt: list[Tensor], rows: slice = slice(None)) -> Tensor:
        """Return log probabilities [fit, comparison, outcome] of margins and what is felt, each [fit, comparison]."""
        fits, count = margin.shape
        world = self._world(rows, fits)
        values, left = {}, iter(felt)
        for part in self.parts:
            raw = _entries(part, [next(left) for _ in range(part.quantities)], rows)
            together = torch.stack([each.reshape(-1) for each in raw]).T
            padding = (1,) * (self.view.depth - 1 - len(part.site.batch))
            values[part.site.name] = part.site.transform(together.reshape(fits * count, *padding, *part.shape))
        margins = margin.reshape(-1, *(1,) * (self.view.depth - 1))
        layers, numbers = self.view.program.layers, torch.arange(len(margins), device=margins.device)
        with environment(self.view.dtype, device=self.view.device):
            _, found = for_fits(lambda: judged(layers, margins, world), values, numbers, self.view.depth)
        return found.reshape(fits, count, -1)  # type: ignore[no-any-return]

    def _world(self, rows: slice, fits: int) -> Cells:
        key = (rows.start, rows.stop, fits)
        if key not in self._worlds:
            if len(self._worlds) > 8:  # of other numbers of fits
                self._worlds.clear()
            cells = self.view.cells.at(rows)
            if not any("features" in each.needs for each in self.view.program.layers if each.stage != "utility"):
                cells = replace(cells, features=None)  # felt through utilities alone
            self._worlds[key] = apart(cells, fits, self.view.depth)
        return self._worlds[key]


def _part(view: View, site: Site) -> FeltSite:
    """Return what comparisons may feel of a site, by the axes that grow with items or annotators."""
    around, grows = sides(view.cells), _growing(view)[site.name]
    if site.raw_event != site.event:
        raise ProgramError(f"the entries of {site.name!r} are not independent numbers")
    axes: list[list[Tensor]] = []
    for size, name in zip(site.batch + site.event, grows, strict=True):
        if name is not None and name not in around:
            raise ProgramError(f"{site.name!r} grows with something that comparisons do not have")
        axes.append(list(around[name]) if name else list(torch.arange(size, device=view.device)))
    if math.prod(len(axis) for axis in axes) > _ENTRIES:
        raise ProgramError(f"a comparison may feel more than {_ENTRIES} entries of {site.name!r}")
    places = []
    for entry in itertools.product(*axes):
        place = torch.zeros(len(view.cells), dtype=torch.int64, device=view.device)
        for size, index in zip(site.batch + site.event, entry, strict=True):
            place = place * size + index
        places.append(place)
    return FeltSite(site, tuple(places), tuple(len(axis) for axis in axes), tuple(grows))


def _growing(view: View) -> dict[str, list[str | None]]:
    """Return by site with what each of its axes grows; None: with nothing."""
    if "growing" not in view.memo:
        large = grown(view.cells)
        more = {count - view.cells.sizes[name]: name for name, count in large.sizes.items() if name in sides(large)}
        with environment(view.dtype, 0, view.device), torch.no_grad(), Substitute({}) as seen:
            judged(view.program.layers, torch.zeros(1), large)
        found: dict[str, list[str | None]] = {}
        for name, site in view.sites.items():
            shape = tuple(seen.met[name]["value"].shape) if name in seen.met else ()
            steps = [there - here for there, here in zip(shape, site.batch + site.event, strict=False)]
            known = len(shape) == len(site.batch + site.event) and all(step in (0, *more) for step in steps)
            found[name] = [more.get(step) for step in steps] if known else ["?"] * len(site.batch + site.event)
        view.memo["growing"] = found
    growing: dict[str, list[str | None]] = view.memo["growing"]
    return growing


def _leaves(part: FeltSite, raw: Tensor, people: int) -> list[Leaf]:
    """Return what is felt of a site at its values raw [fit, size]."""
    own = raw.shape[-1] // people if part.is_own else 0
    if part.weights is not None and part.is_shared:
        matrix = torch.stack([_spread(weight, part.places[0]) for weight in part.weights], -1).to(raw)
        return [Leaf(part.site.at, raw @ matrix.T, matrix=matrix)]
    read = [raw.index_select(-1, place) if raw.shape[-1] > 1 else raw.expand(-1, len(place)) for place in part.places]
    if part.weights is None:
        return [
            Leaf(part.site.at, value, ((place, 1.0),), own=own) for value, place in zip(read, part.places, strict=True)
        ]
    value = sum((each * weight for each, weight in zip(read, part.weights, strict=True)), torch.zeros_like(read[0]))
    return [Leaf(part.site.at, value, tuple(zip(part.places, part.weights, strict=True)), own=own)]


def _entries(part: FeltSite, felt: list[Tensor], rows: slice) -> list[Tensor]:
    """Return entries [fit, comparison] of a site of which comparisons feel so much."""
    if part.weights is None:
        return felt
    (value,) = felt
    if all(isinstance(weight, float) for weight in part.weights):
        first = next(k for k, weight in enumerate(part.weights) if weight)
        return [value / part.weights[k] if k == first else torch.zeros_like(value) for k in range(len(part.places))]
    weights = torch.stack([_spread(weight, part.places[0])[rows] for weight in part.weights]).to(value)
    back = weights / weights.square().sum(0).clamp_min(1e-300)
    return [value * each for each in back]


def _spread(weight: Weight, place: Tensor) -> Tensor:
    return weight if isinstance(weight, Tensor) else torch.full(place.shape, weight, device=place.device)


def _merged(felt: Felt) -> list[FeltSite]:
    """Return the parts, those with entries that count through one weighted sum as such."""
    several = [k for k, part in enumerate(felt.parts) if len(part.places) > 1]
    parts = list(felt.parts)
    if not several:
        return parts
    count = len(felt.view.cells)
    most = at_once(felt.view.device)
    step = max(1, most * _QUANTITIES // max(2 * _QUANTITIES, sum(len(part.places) for part in felt.parts)))
    steps = [slice(start, start + step) for start in range(0, max(1, count), step)]
    found: dict[int, list[Tensor]] = {}
    for rows in steps:
        for k, each in zip(several, _directions(felt, several, rows), strict=True):
            if each is None:
                found[k] = []
            elif rows.start == 0 or found[k]:
                found.setdefault(k, []).append(each)
    for k, pieces in found.items():
        if pieces:
            parts[k] = replace(parts[k], weights=_constant(torch.cat(pieces, 1)))
    return parts


def _constant(direction: Tensor) -> tuple[Weight, ...]:
    """Return weights from directions [entry, comparison], as numbers where they are those of all that feel anything."""
    feels = (direction != 0).any(0)
    if not feels.any():
        return tuple(0.0 if k else 1.0 for k in range(len(direction)))
    first = direction[:, feels][:, :1]
    if bool((direction[:, feels] == first).all()):
        return tuple(first[:, 0].tolist())
    return tuple(direction)


def _directions(felt: Felt, several: list[int], rows: slice) -> list[Tensor | None]:
    """Return the directions [entry, comparison] of gradients by some parts; None where they change with the place."""
    view = felt.view
    generator = torch.Generator().manual_seed(0)
    count = len(view.cells.item_a[rows])

    def random() -> Tensor:
        return 0.5 * torch.randn(2, count, generator=generator, dtype=torch.float64).to(view.cells.total)

    free = [[random().requires_grad_() for _ in part.places] for part in felt.parts]
    log_prob = felt.log_prob(random(), [each for part in free for each in part], rows)
    weight = torch.randn(log_prob.shape[-1], generator=generator, dtype=torch.float64).to(log_prob)
    asked = (log_prob * weight).sum()  # whatever was observed
    out: list[Tensor | None] = []
    for k in several:
        slopes = torch.autograd.grad(asked, free[k], retain_graph=True, allow_unused=True)
        slope = torch.stack([torch.zeros(2, count).to(free[k][0]) if each is None else each for each in slopes], 1)
        largest = slope[0].abs().max(0)
        pivot = largest.indices
        scale = slope.gather(1, pivot.expand(2, 1, -1))
        direction = torch.where(largest.values > 0, slope[0] / scale[0], 0.0)
        off = (slope[1] - direction * scale[1]).abs().max()
        out.append(direction if float(off) <= _PARALLEL * float(slope.abs().max()) else None)
    return out

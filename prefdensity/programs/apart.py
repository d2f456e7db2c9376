"""Every comparison in a world of its own, with two items and one of everybody else.

What the likelihood of a comparison feels of a table of a site are the entries of its own two items and of its own
annotator (category, ...). In a world that has nobody else, a layer finds them in the same places: whatever way it
reads them, each world is one more fit of the program. `grown` tells which axes of a site grow with what.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from prefdensity.errors import ProgramError
from prefdensity.programs.cells import Cells
from prefdensity.programs.standardised import MANY, Standardised
from prefdensity.programs.tables import table

# What a layer may raise in a world where it finds two items and nobody else.
UNTOLD = (ProgramError, RuntimeError, IndexError, ValueError, TypeError, AttributeError, KeyError, AssertionError)
_AT_ONCE = 2**18  # numbers of features that are read at a time
_LEFT_OUT = ("item_a", "item_b", "labels", "outcome", "choice")  # columns that worlds have none of, or all the same


def sides(cells: Cells) -> dict[str, tuple[Tensor, ...]]:
    """Return by name of a plate which of its entries each comparison is about, int64 [comparison] each."""
    return {"item": (cells.item_a, cells.item_b), **{name: (label,) for name, label in cells.labels.items()}}


def grown(cells: Cells) -> Cells:
    """Return one of the comparisons in a world that has more of each: one more item, two more annotators, ...

    All are like the first: the world is for its sizes, and takes no memory.
    """
    more = {name: k for k, name in enumerate(sides(cells), 1)}
    sizes = {name: size + more.get(name, 0) for name, size in cells.sizes.items()}
    first = torch.zeros(1, dtype=torch.int64, device=cells.total.device)

    def longer(of: str, known: Tensor) -> Tensor:
        return known[first].expand(len(known) + more.get(of, 0), *known.shape[1:])

    return replace(
        cells.head(1),
        sizes=sizes,
        outcome=None,
        measures={name: longer("item", held) for name, held in cells.measures.items()},
        attributes={name: longer(name.partition(".")[0], held) for name, held in cells.attributes.items()},
        features=None if cells.features is None else longer("item", cells.features),
    )


def meeting(cells: Cells) -> Cells:
    """Return comparisons in a world that has no items but their own, and everybody else.

    A program whose sites do not grow with items is the same there; where utilities are worked out for all items, it is
    run sooner, of one comparison at once.
    """
    items, place = torch.cat([cells.item_a, cells.item_b]).unique(return_inverse=True)

    def of_these(name: str, held: Tensor) -> Tensor:
        return held[items] if name.partition(".")[0] == "item" else held

    return replace(
        cells,
        item_a=place[: len(cells)],
        item_b=place[len(cells) :],
        sizes={**cells.sizes, "item": len(items)},
        measures={name: held[items] for name, held in cells.measures.items()},
        attributes={name: of_these(name, held) for name, held in cells.attributes.items()},
        features=None if cells.features is None else cells.features[items],
    )


def opposed(cells: Cells, differences: Tensor) -> Cells:
    """Return the comparisons, each of an item of its own against one and the same item.

    The former have the `differences` [comparison + 1, feature] of features for their own and the latter, the last, has
    none: where utilities are linear in features, margins are what they were.
    """
    count, exact = len(cells), differences.dtype == cells.total.dtype
    own = torch.arange(count, device=differences.device)
    features = differences if exact else Standardised.of(differences, cells.total.dtype)
    return replace(
        cells, item_a=own, item_b=torch.full_like(own, count), sizes={**cells.sizes, "item": count + 1},
        features=features, term=None,
    )  # fmt: skip


def differing(cells: Cells) -> Tensor:
    """Return by how much features differ within comparisons [comparison + 1, feature], 0 in the last row.

    Where they are many they are in single precision.
    """
    assert cells.features is not None  # of programs that read them
    features, count = cells.features, len(cells)
    size = features.shape[1]
    dtype = torch.float32 if count * size > MANY else features.dtype
    out = torch.zeros(count + 1, size, dtype=dtype, device=features.device)
    for some in torch.arange(count, device=features.device).split(max(1, _AT_ONCE // size)):
        out[some] = (features[cells.item_a[some]] - features[cells.item_b[some]]).to(dtype)
    return out


def first_alone(cells: Cells) -> Cells:
    """Return the first comparison in a world that has nobody but its two items and whoever it is labelled with.

    Choice sets and ratings, in which more items meet, keep their world.
    """
    one = cells.head(1)
    if not one.pairwise or one.ratings is not None:
        return one
    own = {name: torch.cat(at) for name, at in sides(one).items()}
    zero = torch.zeros_like(one.item_a)

    def of(name: str, held: Tensor) -> Tensor:
        return held[own[name]] if name in own else held

    return replace(
        one,
        item_a=zero,
        item_b=zero + 1,
        labels=dict.fromkeys(one.labels, zero),
        sizes={name: len(own[name]) if name in own else size for name, size in one.sizes.items()},
        attributes={
            name: zero if name in one.labels else of(name.partition(".")[0], held)
            for name, held in one.attributes.items()
        },
        measures={name: of("item", held) for name, held in one.measures.items()},
        features=None if one.features is None else of("item", one.features),
    )


def apart(cells: Cells, fits: int, depth: int) -> Cells:
    """Return the cells as one comparison seen by many fits: each comparison of the first fit, of the second, ...

    `depth`: plates of the program, that of fits included.
    """
    first = torch.tensor([0])  # on the CPU: what is at a place of one world is at the same of all

    def column(values: Tensor) -> Tensor:
        values = values.repeat(fits, *(1,) * (values.dim() - 1)) if fits > 1 else values
        return table(values.reshape(len(values), *(1,) * (depth - 1), *values.shape[1:]))

    def known(of: str, held: Tensor) -> Tensor:
        """Return a table [entry] as the entries of every world, [world, ..., item] of items."""
        both = torch.stack([held[side] for side in sides(cells)[of]], -1).repeat(fits, 1)
        return table(both.reshape(len(both), *(1,) * (depth - 2), both.shape[-1]))

    def attribute(name: str, held: Tensor) -> Tensor:
        of = name.partition(".")[0]
        if of not in sides(cells):
            return held
        return first if name in cells.labels else known(of, held)  # of labels there is one in a world

    def described() -> Tensor | None:
        """Return the features of every world, [world, ..., item, feature]."""
        if cells.features is None:
            return None
        both = torch.stack([cells.features[side] for side in sides(cells)["item"]], -2)
        return table(both.repeat(fits, 1, 1).reshape(fits * len(cells), *(1,) * (depth - 3), *both.shape[1:]))

    columns = {key: column(held) for key, held in cells.columns().items() if key[0] not in _LEFT_OUT}
    return replace(
        cells.with_columns(columns),
        item_a=first,
        item_b=torch.tensor([1]),
        labels=dict.fromkeys(cells.labels, first),
        sizes={name: 2 if name == "item" else 1 if name in cells.labels else n for name, n in cells.sizes.items()},
        attributes={name: attribute(name, held) for name, held in cells.attributes.items()},
        measures={name: known("item", held) for name, held in cells.measures.items()},
        features=described(),
        outcome=None,
        term=None,
        choice=None,
        ratings=None,
    )

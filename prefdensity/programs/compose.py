"""Composition: layers of one program side by side, in order, the defaults filled in.

A program is one layer for each stage (any number for margin and noise). It means the same in whatever order its
layers are written; see `layers.MARGIN_ORDER`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence

from prefdensity.errors import ProgramError
from prefdensity.programs.defaults import COMPARED, GRADES, JUDGED, SCALE, TIES
from prefdensity.programs.judged_cells import observe_units
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.pipeline import run_stages
from prefdensity.programs.shelf import find, tie_rules
from prefdensity.programs.stages import STAGES

_REPEATABLE = ("margin", "noise")


def compose(*parts: Layer | Program | str, name: str = "", story: str = "") -> Program:
    """Compose layers (or programs made of layers, or their names) into one program.

    Raises
    ------
    ProgramError
        When a stage with room for one layer gets two, or a part is not made of layers.
    """
    flat: list[Layer] = []
    labels: list[str] = []
    stories = [inspect.cleandoc(story)]
    for part in parts:
        piece = find(part) if isinstance(part, str) else part
        if isinstance(piece, Program) and not piece.layers:
            raise ProgramError(f"{piece.name} is a plain Pyro function, not layers; it cannot be composed")
        if not isinstance(piece, Program | Layer):
            raise ProgramError(f"{piece!r} is no layer; compose takes layers, programs made of layers, or their names")
        flat += piece.given if isinstance(piece, Program) else [piece]
        labels.append(piece.name if isinstance(piece, Program) else piece.label)
        stories.append("" if story else piece.doc)
    _require_room(flat)
    taken = {each.stage for each in flat}
    judged = bool(taken & {"label", "judge"})
    usual = JUDGED if judged else COMPARED
    if any(each.ties for each in flat):
        usual = usual | {"choice": TIES}
    if any("grades" in each.needs for each in flat):
        usual = usual | {"choice": GRADES}
    defaults = [_default(name) for stage, name in usual.items() if stage not in taken]
    given = tuple(flat)
    flat += defaults
    if "scale" not in taken and any(each.stage == "utility" and each.takes("scale") for each in flat):
        defaults.append(_default(SCALE))
        flat.append(defaults[-1])
    stories += ["" if story else each.doc for each in defaults]
    ordered = tuple(sorted(flat, key=lambda each: each.rank))
    return Program(
        name=name or "+".join(labels),
        model=functools.partial(observe_units if judged else run_stages, ordered),
        outcomes=next(each.outcomes for each in ordered if each.stage == "choice"),
        needs=tuple(dict.fromkeys(need for each in ordered for need in each.needs)),
        unimodal=all(each.unimodal for each in ordered),
        layers=ordered,
        given=given,
        doc="\n\n".join(filter(None, stories)),
    )


def _require_room(layers: Sequence[Layer]) -> None:
    for stage in STAGES:
        found = [each.label for each in layers if each.stage == stage]
        if len(found) > 1 and (stage not in _REPEATABLE or len(set(found)) < len(found)):
            kind = {"utility": "utilities", "choice": "choice rules", "types": "type layers"}.get(
                stage, f"{stage} layers"
            )
            raise ProgramError(f"two {kind}, {found[0]} and {found[1]}: a program has one; leave one out")
    scale = [each.label for each in layers if each.stage == "scale"]
    unscaled = [each.label for each in layers if each.stage == "utility" and not each.takes("scale")]
    if scale and unscaled:
        raise ProgramError(f"{unscaled[0]} takes no scale, so {scale[0]} would have no effect; leave one out")
    rating = [each.label for each in layers if each.stage == "rating"]
    if rating and any(each.stage == "types" for each in layers):
        raise ProgramError(f"{rating[0]} grades one utility per item, and types have several; leave one out")
    judged = [each.label for each in layers if each.stage in ("label", "judge")]
    of_items = ("scale", "utility", "types", "rating", "behaviour")
    other = [each.label for each in layers if each.stage in of_items or each.tall]
    if judged and other:
        raise ProgramError(f"{judged[0]} is for judged units and {other[0]} for comparisons of items; leave one out")
    ties = [each.label for each in layers if each.ties]
    blind = [each.label for each in layers if each.stage == "choice" and "tie" not in each.outcomes]
    if ties and blind:
        raise ProgramError(f"{ties[0]} is about ties, and {blind[0]} knows none; use {tie_rules()}")
    strong = [each.label for each in layers if "grades" in each.needs]
    plain = [each.label for each in layers if each.stage == "choice" and "grades" not in each.needs]
    if strong and plain:
        raise ProgramError(f"{strong[0]} is about strengths of preference, and {plain[0]} knows none; use {GRADES}")
    tall = [each.label for each in layers if each.tall]
    types = [each.label for each in layers if each.stage == "types"]
    if tall and types:
        raise ProgramError(
            f"{' and '.join([*types, tall[0]])} both split annotators or items further; a program has one"
        )


def _default(name: str) -> Layer:
    found = find(name)
    assert isinstance(found, Layer)
    return found

"""Programs: generative models of comparisons, composed of layers and found by name.

A layer is a few Pyro lines of one stage (see `STAGES`); a program is one layer for each stage
(any number for margin and noise), the defaults filled in. ``"davidson+position_bias+reliability"`` names a
composition; it means the same in whatever order its layers are written (see `MARGIN_ORDER`).
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.util
import inspect
import math
import numbers
import pkgutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from prefdensity.cells import Cells
from prefdensity.errors import ProgramError
from prefdensity.mirrors import Mirror

if TYPE_CHECKING:
    from prefdensity.judged_cells import JudgedCells

STAGES = {
    "scale": "(data) -> standard deviation of utilities, for all types; of utility layers that take a `scale`",
    "utility": "(data) or (data, scale) -> utility [..., item]",
    "types": "(data) -> type weights [..., type]; the utility stage then runs once per type",
    "rating": "(utility, data) -> None; observes ratings of the same items beside the comparisons",
    "behaviour": "(utility, data) -> score [..., item]; scores are compared in the place of utilities",
    "label": "(data) -> log density [..., point] of the labels of judged units",
    "judge": "(data) -> margin [..., judgement] by which output 1 is preferred, given the label",
    "margin": "(margin, data) -> margin [..., comparison]; any number, in the order of MARGIN_ORDER",
    "choice": "(margin, data) -> log_prob [..., comparison, outcome]",
    "noise": "(log_prob, data) -> log_prob; any number, in the order written",
}
# Sums and products do not commute, so margin layers have one order. Reliability is how much one cares which item is
# better: it multiplies all that is wanted, and only that. Where the eye falls first is no part of it: a judge who does
# not care is led by the order as much as others, or more. A layer that multiplies the biases too says "whole".
MARGIN_ORDER = {
    "wants": "adds to what is wanted: tastes, factors, ideal points, circles",
    "weight": "multiplies what is wanted, by how much it matters to who judges",
    "situation": "adds what the situation does to whoever judges: order, length, style",
    "whole": "changes all of the margin",
}
_REPEATABLE = ("margin", "noise")
_DEFAULTS = {"utility": "items", "choice": "logit"}
_SCALE = "utility_scale"  # where a utility layer takes a scale
_TIES = "davidson"  # the choice rule where a layer is about ties
_GRADES = "graded"  # and where one is about strengths of preference
_JUDGED = {"label": "gaussian", "judge": "distance", "choice": "logit"}  # of programs of judged units
_LARGEST = 10_000  # of sizes in a name: more types, dimensions or units than that are a slip of the pen
_LISTED = "`prefdensity models`, or prefdensity.names(), lists them"
_PACKAGE, _JUDGES = "prefdensity.models", "prefdensity.models.judges"


# Who is shown what every layer returns; see `watched`.
_WATCHER: ContextVar[Callable[[Layer, Any], None] | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Callable[[Layer, Any], None]) -> Iterator[None]:
    """Show `watcher` every layer that runs and what it returns."""
    before = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(before)


@dataclass(frozen=True)
class Layer:
    """One stage of a program: a function with Pyro sites, and what the library must know about it.

    Attributes
    ----------
    needs
        What the data must offer: annotator, first, features, covariates.
    outcomes
        For a choice rule: the outcomes it explains, in order.
    unimodal
        The posterior has one mode, which a climb from the prior's centre finds; or one, and its mirror image.
    mirror
        The layer has a `Mirror`.
    place
        For margins: where in `MARGIN_ORDER` it applies; or a function of the layer's options that says so.
    hyper
        Scalar sites that shape the posterior of the rest; Laplace integrates them on a grid.
    tall
        The layer has a plate of its own at dim -2, where types would be, so it does not go with them.
    per
        For types: whether an annotator or each comparison has a type.
    sets
        For choice rules and margins: the layer also goes with choices from more than two items.
    ties
        The layer is about ties: it needs a tie rule, davidson unless another is named.
    starts
        For types: (cells, restarts, seed) -> int [restart, annotator], where to start the search for types.
    meanings
        site -> what it measures, for tables.
    options
        Literal arguments given in the name, as in ``utility_scale(fixed=1.5)``.
    """

    name: str
    stage: str
    function: Callable[..., Any]
    needs: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    unimodal: bool = True
    mirror: Mirror | None = None
    place: str | Callable[..., str] = "situation"
    hyper: tuple[str, ...] = ()
    tall: bool = False
    per: str = "annotator"
    sets: bool = False
    ties: bool = False
    starts: Callable[..., Any] | None = None
    meanings: dict[str, str] = field(default_factory=dict, hash=False)
    options: tuple[tuple[str, Any], ...] = ()

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run the stage on its inputs; with keywords only, return the layer with these arguments."""
        if options and not args:
            return self._configured(options)
        found = self.function(*args, **dict(self.options), **options)
        watcher = _WATCHER.get()
        if watcher is not None:
            watcher(self, found)
        return found

    def _configured(self, options: dict[str, Any]) -> Layer:
        parameters = inspect.signature(self.function).parameters.values()
        known = {p.name: p.default for p in parameters if p.default is not p.empty}
        for key, value in options.items():
            if key not in known:
                raise ProgramError(f"{self.name} has no argument {key!r}; it takes {', '.join(known) or 'none'}")
            _require_like(known[key], value, f"{key} of {self.name}")
        return replace(self, options=tuple(sorted({**dict(self.options), **options}.items())))

    def takes(self, argument: str) -> bool:
        """Say whether the function has an argument of this name."""
        return argument in inspect.signature(self.function).parameters

    @property
    def rank(self) -> tuple[int, int]:
        """Where the layer applies: its stage, and its place within it."""
        place = self.place if isinstance(self.place, str) else self.place(**dict(self.options))
        if place not in MARGIN_ORDER:
            raise ProgramError(f"{self.label} has no place {place!r}; places are {', '.join(MARGIN_ORDER)}")
        within = list(MARGIN_ORDER).index(place) if self.stage == "margin" else 0
        return list(STAGES).index(self.stage), within

    @property
    def label(self) -> str:
        """The name with its arguments, as it is written in a composition."""
        inside = ", ".join(f"{key}={value!r}" for key, value in self.options)
        return f"{self.name}({inside})" if inside else self.name

    @property
    def doc(self) -> str:
        """The story of the layer: the docstring of its file, or of its function."""
        module = sys.modules.get(self.function.__module__)
        return inspect.cleandoc((module and module.__doc__) or self.function.__doc__ or "")


def _require_like(default: Any, value: Any, what: str) -> None:
    """Refuse an argument unlike its default: a name, a yes or no, a whole number, a number; positive if that is."""
    said = f"{what} is {_cut(repr(value))}; it must be"
    if isinstance(default, str | bool):
        if type(value) is not type(default):
            raise ProgramError(f"{said} {'True or False' if isinstance(default, bool) else 'a name in quotes'}")
        return
    number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    least: float = 0 if default is None or default > 0 else -math.inf
    whole = number and isinstance(value, numbers.Integral)
    if isinstance(default, int) and not (whole and least < float(value) <= _LARGEST):
        raise ProgramError(f"{said} a whole number from {'1' if least == 0 else '-infinity'} to {_LARGEST}")
    if value is not default and not (number and value > least):
        raise ProgramError(f"{said} a {'positive' if least == 0 else 'finite'} number")


def _cut(text: str) -> str:
    """Return a text as errors quote it: not all of one that goes on and on."""
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def layer(
    stage: str,
    *,
    needs: Sequence[str] = (),
    outcomes: Sequence[str] = (),
    unimodal: bool = True,
    mirror: Mirror | None = None,
    place: str | Callable[..., str] = "situation",
    hyper: Sequence[str] = (),
    tall: bool = False,
    per: str = "annotator",
    sets: bool = False,
    ties: bool = False,
    starts: Callable[..., Any] | None = None,
    meanings: dict[str, str] | None = None,
) -> Callable[[Callable[..., Any]], Layer]:
    """Turn a function into a `Layer` of `stage` that carries the function's name.

    Raises
    ------
    ProgramError
        For an unknown stage, or a choice rule without outcomes.
    """
    if stage not in STAGES:
        raise ProgramError(f"there is no stage {stage!r}; stages are {', '.join(STAGES)}")
    if (stage == "choice") != bool(outcomes):
        raise ProgramError("a choice rule, and nothing else, says which outcomes it explains")

    def wrap(function: Callable[..., Any]) -> Layer:
        return Layer(
            name=function.__name__,
            stage=stage,
            function=function,
            needs=tuple(needs),
            outcomes=tuple(outcomes),
            unimodal=unimodal,
            mirror=mirror,
            place=place,
            hyper=tuple(hyper),
            tall=tall,
            per=per,
            sets=sets,
            ties=ties,
            starts=starts,
            meanings=meanings or {},
        )

    return wrap


@dataclass(frozen=True)
class Program:
    """A generative model of comparisons: ``program(cells)`` runs it as a Pyro program.

    A composition of layers (`compose`), or any Pyro function of `Cells` whose observed site ``outcome`` is
    declared by `prefdensity.outcomes.observe`. `given` are the layers that were named, without the defaults filled in;
    `doc` is the generative story.
    """

    name: str
    model: Callable[[Cells], None]
    outcomes: tuple[str, ...]
    needs: tuple[str, ...] = ()
    unimodal: bool = False
    layers: tuple[Layer, ...] = ()
    given: tuple[Layer, ...] = ()
    doc: str = ""

    def __call__(self, data: Cells) -> None:
        """Run the Pyro program."""
        self.model(data)

    @property
    def summary(self) -> str:
        """The first line of the story."""
        return self.doc.strip().split("\n", 1)[0]

    @property
    def hyper(self) -> tuple[str, ...]:
        """Scalar sites that Laplace integrates on a grid."""
        return tuple(site for each in self.layers for site in each.hyper)

    @property
    def mirrors(self) -> tuple[Mirror, ...]:
        """Symmetries of the likelihood that the prior alone breaks."""
        return tuple(each.mirror for each in self.layers if each.mirror is not None)

    @property
    def type_layer(self) -> Layer | None:
        """The layer that splits annotators or comparisons into hidden types."""
        return next((each for each in self.layers if each.stage == "types"), None)

    @property
    def annotators_have_types(self) -> bool:
        """Whether annotators belong to hidden types."""
        return self.type_layer is not None and self.type_layer.per == "annotator"

    @property
    def meanings(self) -> dict[str, str]:
        """What each site measures."""
        return {site: text for each in self.layers for site, text in each.meanings.items()}


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
        piece = _find(part) if isinstance(part, str) else part
        if isinstance(piece, Program) and not piece.layers:
            raise ProgramError(f"{piece.name} is a plain Pyro function, not layers; it cannot be composed")
        flat += piece.given if isinstance(piece, Program) else [piece]
        labels.append(piece.name if isinstance(piece, Program) else piece.label)
        stories.append("" if story else piece.doc)
    _require_room(flat)
    taken = {each.stage for each in flat}
    judged = bool(taken & {"label", "judge"})
    usual = _JUDGED if judged else _DEFAULTS
    if any(each.ties for each in flat):
        usual = usual | {"choice": _TIES}
    if any("grades" in each.needs for each in flat):
        usual = usual | {"choice": _GRADES}
    defaults = [_default(name) for stage, name in usual.items() if stage not in taken]
    given = tuple(flat)
    flat += defaults
    if "scale" not in taken and any(each.stage == "utility" and each.takes("scale") for each in flat):
        defaults.append(_default(_SCALE))
        flat.append(defaults[-1])
    stories += ["" if story else each.doc for each in defaults]
    ordered = tuple(sorted(flat, key=lambda each: each.rank))
    return Program(
        name=name or "+".join(labels),
        model=functools.partial(_run_judged if judged else _run, ordered),
        outcomes=next(each.outcomes for each in ordered if each.stage == "choice"),
        needs=tuple(dict.fromkeys(need for each in ordered for need in each.needs)),
        unimodal=all(each.unimodal for each in ordered),
        layers=ordered,
        given=given,
        doc="\n\n".join(filter(None, stories)),
    )


def _run(layers: tuple[Layer, ...], data: Cells) -> None:
    import pyro

    from prefdensity.outcomes import mix, observe

    stage = {each.stage: each for each in layers}
    type_weight = None
    known = {"scale": stage["scale"](data)} if "scale" in stage else {}
    if "types" in stage:
        type_weight = stage["types"](data)
        with pyro.plate("type", type_weight.shape[-1], dim=-2):
            utility = stage["utility"](data, **known)
    else:
        utility = stage["utility"](data, **known)
    if "rating" in stage:
        stage["rating"](utility, data)
    score = stage["behaviour"](utility, data) if "behaviour" in stage else utility
    margin = data.contrast(score)
    for each in layers:
        if each.stage == "margin":
            margin = each(margin, data)
    log_prob = stage["choice"](margin, data)
    for each in layers:
        if each.stage == "noise":
            log_prob = each(log_prob, data)
    if type_weight is not None and stage["types"].per == "comparison":
        observe(mix(log_prob, type_weight), data)
    else:
        observe(log_prob, data, type_weight)


def _run_judged(layers: tuple[Layer, ...], data: JudgedCells) -> None:
    from prefdensity.judged_cells import observe_units

    observe_units(layers, data)


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
        raise ProgramError(f"{ties[0]} is about ties, and {blind[0]} knows none; use davidson or rao_kupper")
    strong = [each.label for each in layers if "grades" in each.needs]
    plain = [each.label for each in layers if each.stage == "choice" and "grades" not in each.needs]
    if strong and plain:
        raise ProgramError(f"{strong[0]} is about strengths of preference, and {plain[0]} knows none; use graded")
    tall = [each.label for each in layers if each.tall]
    types = [each.label for each in layers if each.stage == "types"]
    if len(tall) + len(types) > 1:
        raise ProgramError(f"{' and '.join([*types, *tall])} both split annotators or items further; a program has one")


def _default(name: str) -> Layer:
    found = _find(name)
    assert isinstance(found, Layer)
    return found


def names() -> list[str]:
    """Return the names of the layers and programs of comparisons shipped in models/, sorted."""
    return _modules(_PACKAGE)


def judge_names() -> list[str]:
    """Return the names of the layers for judged units shipped in models/judges/, sorted."""
    return _modules(_JUDGES)


def _modules(package: str) -> list[str]:
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return sorted(m.name for m in found if not m.ispkg and not m.name.startswith("_"))


def load_program(name: str | Path | Program | Layer) -> Program:
    """Return the program called `name`: one file's name, a composition with ``+``, or a path ending in .py.

    Raises
    ------
    ProgramError
        With the names that exist, or why the composition is impossible.
    """
    if isinstance(name, Program):
        return name
    if isinstance(name, Layer):
        return compose(name)
    text = str(name).strip()
    return _from_file(Path(text)) if is_file(text) else shipped(text)


def is_file(name: str) -> bool:
    """Say whether a program of this name comes from a user's file."""
    return name.strip().endswith(".py")


def shipped(name: str) -> Program:
    """Return the program that a name spells by shipped layers alone: for names that come out of files.

    No name, whatever it says, has a file read or run.

    Raises
    ------
    ProgramError
        As `load_program`.
    """
    parts = [_parse(node) for node in _terms(name)]
    if len(parts) == 1 and isinstance(parts[0], Program):
        return parts[0]
    return compose(*parts)


def _terms(text: str) -> list[ast.expr]:
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the last two: thousands of terms or brackets
        raise ProgramError(
            f"{_cut(ascii(text))} names no program; write names joined by +, like davidson+position_bias; {_LISTED}"
        ) from None
    terms: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        terms.insert(0, node.right)
        node = node.left
    return [node, *terms]


def _parse(node: ast.expr) -> Layer | Program:
    if isinstance(node, ast.Name):
        return _find(node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        found = _find(node.func.id)
        try:
            options = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
        except (ValueError, TypeError, RecursionError, MemoryError):
            raise ProgramError(f"arguments in {_cut(repr(ast.unparse(node)))} must be literals like k=3") from None
        if len(options) < len(node.keywords):
            raise ProgramError(f"{_cut(repr(ast.unparse(node)))} gives an argument twice; give it once")
        if isinstance(found, Program):
            raise ProgramError(f"{found.name} is a composition; give arguments to its layers: {_written(found)}")
        return found(**options) if options else found
    written = _cut(repr(ast.unparse(node)))
    raise ProgramError(f"cannot read {written}; write a name, or a name with arguments like name(k=3)")


def _written(program: Program) -> str:
    return "+".join(each.label for each in program.layers)


def _find(name: str) -> Layer | Program:
    package = _PACKAGE if name in names() else _JUDGES
    if name not in _modules(package):
        near = difflib.get_close_matches(name, [*names(), *judge_names()], 3)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise ProgramError(f"no program called {_cut(repr(name))}; {meant}{_LISTED}")
    found = getattr(importlib.import_module(f"{package}.{name}"), name)
    assert isinstance(found, (Layer, Program))
    return found


def _from_file(path: Path) -> Program:
    if not path.is_file():
        raise ProgramError(f"there is no file {path} to read a program from")
    module = _import_file(path.resolve())
    found = getattr(module, "PROGRAM", None)
    if isinstance(found, Layer):
        found = compose(found)
    if not isinstance(found, Program):
        raise ProgramError(f"{path} must define PROGRAM, a prefdensity.Program (or a layer)")
    return replace(found, name=str(path))


def _import_file(path: Path) -> ModuleType:
    name = f"prefdensity_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ProgramError(f"cannot read a Pyro program from {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look the module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ProgramError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    return module

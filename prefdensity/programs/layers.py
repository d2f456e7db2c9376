"""Layers and programs: what a stage is, what a layer declares, and what a program is made of."""

from __future__ import annotations

import inspect
import math
import numbers
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefdensity.errors import ProgramError
from prefdensity.programs.cells import Cells
from prefdensity.programs.effect_names import declared
from prefdensity.programs.mends import FINDINGS, Mend
from prefdensity.programs.mirrors import Mirror
from prefdensity.programs.stages import SIZES, STAGES, called, require_inputs
from prefdensity.programs.tables import plain
from prefdensity.words import shortened

# Sums and products do not commute, so margin layers have one order. Reliability is how much one cares which item is
# better: it multiplies all that is wanted, and only that. Where the eye falls first is no part of it: a judge who does
# not care is led by the order as much as others, or more. A layer that multiplies the biases too says "whole".
MARGIN_ORDER = {
    "wants": "adds to what is wanted: tastes, factors, ideal points, circles",
    "weight": "multiplies what is wanted, by how much it matters to who judges",
    "situation": "adds what the situation does to whoever judges: order, length, style",
    "whole": "changes all of the margin",
}
_OF_ITEMS = ("utility", "behaviour")
# What arguments of a layer are written as in a composition; a call with anything else in front runs the layer.
_LITERALS = (str, bool, int, float, tuple, list)
_LISTS = ("needs", "hyper", "at_mode")  # declarations that are lists of names
_LARGEST = 10_000  # of sizes in a name: more types, dimensions or units than that are a slip of the pen
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

    The arguments of the function that have defaults are the layer's options, given in a composition or by a call; what
    is declared below may be a function of some of them, as in ``needs=lambda by: by``.

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
        For margins: where in `MARGIN_ORDER` it applies.
    hyper
        Scalar sites that shape the posterior of the rest; Laplace integrates them on a grid.
    at_mode
        Sites that no Gaussian holds, such as the hidden weights of a network: `fit` puts them at modes of the posterior
        and gives everything else its posterior given them.
    tall
        The layer has a plate of its own at dim -2, where types would be, so it does not go with them.
    per
        For types: whether an annotator or each comparison has a type.
    sets
        For choice rules and margins: the layer also goes with choices from more than two items.
    ties
        The layer is about ties: it needs a tie rule, the default one unless another is named.
    luce
        For choice rules: exp(utility) is the density of the items under it, by Luce's axiom or a threshold or scale
        laid over it. Where the odds of a over b are exp(margin) this is found by running, and need not be said.
    starts
        For types: (cells, restarts, seed) -> int [restart, annotator], where to start the search for types.
    null, spread
        Where the layer says nothing, if it can: site -> the value of all its entries there, and spread -> offsets for
        effects that are a spread (a scalar) times offsets (standard normal), which say nothing where either is 0.
        What can say nothing is tried by score tests.
    mends
        Findings of checks that the layer answers: checks then offer it.
    meanings
        site -> what it measures, for tables.
    options
        Literal arguments given in the name, as in ``utility_scale(fixed=1.5)``.
    rules
        Declarations that hang on options: attribute -> function of some options.
    """

    name: str
    stage: str
    function: Callable[..., Any]
    needs: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    unimodal: bool = True
    mirror: Mirror | None = None
    place: str = "situation"
    hyper: tuple[str, ...] = ()
    at_mode: tuple[str, ...] = ()
    tall: bool = False
    per: str = "annotator"
    sets: bool = False
    ties: bool = False
    luce: bool = False
    starts: Callable[..., Any] | None = None
    null: dict[str, float] = field(default_factory=dict, hash=False)
    spread: dict[str, str] = field(default_factory=dict, hash=False)
    mends: tuple[Mend, ...] = ()
    meanings: dict[str, str] = field(default_factory=dict, hash=False)
    options: tuple[tuple[str, Any], ...] = ()
    rules: dict[str, Callable[..., Any]] = field(default_factory=dict, hash=False, repr=False)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run the stage on its inputs; with options only, return the layer with these arguments."""
        if options and not args or args and isinstance(args[0], _LITERALS):
            return self._configured(args, options)
        found = self.function(*args, **self.arguments, **options)
        if self.stage not in _OF_ITEMS:  # what has an entry for each comparison is no table of a site any more
            found = plain(found)
        watcher = _WATCHER.get()
        if watcher is not None:
            watcher(self, found)
        return found

    def _configured(self, args: tuple[Any, ...], options: dict[str, Any]) -> Layer:
        known = self._defaults()
        if len(args) > len(known):
            raise ProgramError(f"{self.name} takes {len(known)} arguments, not {len(args)}: {', '.join(known)}")
        for key, value in zip(known, args, strict=False):
            if key in options:
                raise ProgramError(f"{self.name} is given {key!r} twice; give it once")
            options[key] = value
        for key, value in options.items():
            if key not in known:
                raise ProgramError(f"{self.name} has no argument {key!r}; it takes {', '.join(known) or 'none'}")
            options[key] = _like(known[key], value, f"{key} of {self.name}")
        return self._under({**dict(self.options), **options})

    def _under(self, options: dict[str, Any]) -> Layer:
        """Return the layer with these arguments, and what it declares under them."""
        found = replace(self, options=tuple(sorted(options.items())))
        known = self._defaults() | found.arguments
        said = {
            name: rule(**{key: known[key] for key in _parameters(rule) if key in known})
            for name, rule in self.rules.items()
        }
        made = replace(found, **said | {name: tuple(said.get(name, ())) for name in _LISTS})
        if made.place not in MARGIN_ORDER:
            raise ProgramError(f"{made.label} has no place {made.place!r}; places are {', '.join(MARGIN_ORDER)}")
        return made

    def _defaults(self) -> dict[str, Any]:
        parameters = inspect.signature(self.function).parameters.values()
        return {each.name: each.default for each in parameters if each.default is not each.empty}

    @property
    def arguments(self) -> dict[str, Any]:
        """What the function is called with beside its inputs: on what, or over what, alone leaves out by whom."""
        given = dict(self.options)
        return {"by": (), **given} if {"on", "over"} & given.keys() and self.takes("by") else given

    def bare(self, **options: Any) -> Layer:
        """Return the layer with these arguments alone."""
        plain = self._under({})
        return plain(**options) if options else plain

    def argument(self, name: str) -> Any:
        """Return what an argument is, given or not."""
        return (self._defaults() | self.arguments)[name]

    def default(self, argument: str) -> Any:
        """Return what an argument is where it is not given."""
        return inspect.signature(self.function).parameters[argument].default

    def takes(self, argument: str) -> bool:
        """Say whether the function has an argument of this name."""
        return argument in inspect.signature(self.function).parameters

    @property
    def rank(self) -> tuple[int, int]:
        """Where the layer applies: its stage, and its place within it."""
        within = list(MARGIN_ORDER).index(self.place) if self.stage == "margin" else 0
        return list(STAGES).index(self.stage), within

    @property
    def label(self) -> str:
        """The name with its arguments, as it is written in a composition."""
        inside = ", ".join(f"{key}={_written(value)}" for key, value in self.options)
        return f"{self.name}({inside})" if inside else self.name

    @property
    def doc(self) -> str:
        """The story of the layer: the docstring of its file, or of its function."""
        module = sys.modules.get(self.function.__module__)
        return inspect.cleandoc((module and module.__doc__) or self.function.__doc__ or "")


def _parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def _written(value: Any) -> str:
    """Return an argument as a composition has it: one name by itself, several as a list."""
    if isinstance(value, tuple):
        return repr(value[0]) if len(value) == 1 else repr(list(value))
    return repr(value)


def _like(default: Any, value: Any, what: str) -> Any:
    """Return an argument, refused if unlike its default: names, a name, a yes or no, a whole number, a number."""
    said = f"{what} is {shortened(repr(value))}; it must be"
    if isinstance(default, tuple):
        names = (value,) if isinstance(value, str) else value
        good = isinstance(names, tuple | list) and names and all(isinstance(each, str) and each for each in names)
        if not good or len(set(names)) < len(names):
            raise ProgramError(f"{said} a name in quotes, or a list of different ones like ['annotator', 'category']")
        return tuple(names)
    if isinstance(default, str | bool):
        if type(value) is not type(default):
            raise ProgramError(f"{said} {'True or False' if isinstance(default, bool) else 'a name in quotes'}")
        return value
    number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    least: float = 0 if default is None or default > 0 else -math.inf
    whole = number and isinstance(value, numbers.Integral)
    if isinstance(default, int) and not (whole and least < float(value) <= _LARGEST):
        raise ProgramError(f"{said} a whole number from {'1' if least == 0 else '-infinity'} to {_LARGEST}")
    if value is not default and not (number and value > least):
        raise ProgramError(f"{said} a {'positive' if least == 0 else 'finite'} number")
    return value


def layer(
    stage: str, *, needs: Sequence[str] | Callable[..., Sequence[str]] = (), outcomes: Sequence[str] = (),
    unimodal: bool = True, mirror: Mirror | Callable[..., Mirror | None] | None = None,
    place: str | Callable[..., str] = "situation", hyper: Sequence[str] | Callable[..., Sequence[str]] = (),
    at_mode: Sequence[str] | Callable[..., Sequence[str]] = (), tall: bool = False, per: str = "annotator",
    sets: bool = False, ties: bool = False, luce: bool = False,
    starts: Callable[..., Any] | None = None, null: dict[str, float] | Callable[..., dict[str, float]] | None = None,
    spread: dict[str, str] | Callable[..., dict[str, str]] | None = None, mends: str | Mend | Sequence[str | Mend] = (),
    meanings: dict[str, str] | Callable[..., dict[str, str]] | None = None, varies: dict[str, str] | None = None,
) -> Callable[[Callable[..., Any]], Layer]:  # fmt: skip
    """Turn a function into a `Layer` of `stage` that carries the function's name.

    Parameters
    ----------
    varies
        Effect -> what it is in words, of effects that vary by whom (see `effects.varying`): what these need and
        declare under the layer's argument `by` is added to the rest.
    needs, mirror, place, hyper, at_mode, null, spread, meanings
        As in `Layer`, or a function of some of the layer's options.

    Raises
    ------
    ProgramError
        For an unknown stage or finding, a choice rule without outcomes, or a function of other inputs than the stage's.
    """
    if stage not in STAGES:
        raise ProgramError(f"there is no stage {stage!r}; stages are {', '.join(STAGES)}")
    if (stage == "choice") != bool(outcomes):
        raise ProgramError("a choice rule, and nothing else, says which outcomes it explains")

    listed = [mends] if isinstance(mends, str | Mend) else mends
    answered = tuple(Mend(each) if isinstance(each, str) else each for each in listed)
    for each in answered:
        if each.finding not in FINDINGS:
            raise ProgramError(f"there is no finding {each.finding!r} to mend; findings are {', '.join(FINDINGS)}")
    said = dict(
        needs=needs, hyper=hyper, at_mode=at_mode, mirror=mirror, place=place, null=null or {}, spread=spread or {},
        meanings=meanings or {},
    )  # fmt: skip
    rules = {name: _rule(name, value, varies or {}) for name, value in said.items()}

    def wrap(function: Callable[..., Any]) -> Layer:
        require_inputs(stage, function)
        return Layer(
            name=function.__name__,
            stage=stage,
            function=function,
            outcomes=tuple(outcomes),
            unimodal=unimodal,
            tall=tall,
            per=per,
            sets=sets,
            ties=ties,
            luce=luce,
            starts=starts,
            mends=answered,
            rules=rules,
        ).bare()

    return wrap


def _rule(name: str, value: Any, varies: dict[str, str]) -> Callable[..., Any]:
    """Return what a layer declares as a function of its options."""

    def by_whom(by: tuple[str, ...], over: str = "") -> Any:
        found = value
        for effect, what in varies.items():
            more = declared(effect, by, what, over=over)[name]
            found = {**found, **more} if isinstance(more, dict) else (*found, *more)
        return found

    if callable(value):
        return value
    return by_whom if varies and name in ("needs", "hyper", "null", "spread", "meanings") else lambda: value


@dataclass(frozen=True)
class Program:
    """A generative model of comparisons: ``program(cells)`` runs it as a Pyro program.

    A composition of layers (`compose`), or any Pyro function of `Cells` whose observed site ``outcome`` is declared by
    `prefdensity.programs.outcomes.observe`. `given` are the layers that were named, without the defaults filled in;
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

    def __repr__(self) -> str:
        return f"Program({self.name})"

    def fault(self, error: Exception) -> str:
        """Say which layer raised an error when the program was run, where, and what a layer there is."""
        layers = {getattr(inspect.unwrap(each.function), "__code__", None): each for each in self.layers}
        who, what, place = self.name, "", ""
        for frame, line in traceback.walk_tb(error.__traceback__):
            layer, code = layers.get(frame.f_code), frame.f_code
            if layer is not None:
                who, what = layer.label, f"; a layer here is {called(layer.stage)}"
            if layer is not None or code is getattr(self.model, "__code__", None):
                place = f" ({Path(code.co_filename).name}, line {line})"
        shapes = SIZES if isinstance(error, RuntimeError | IndexError | ValueError) else ""
        return f"{who}{place} fails on these data with {type(error).__name__}: {error}{what}{shapes}"

    @property
    def summary(self) -> str:
        """The first line of the story."""
        return self.doc.strip().split("\n", 1)[0]

    @property
    def hyper(self) -> tuple[str, ...]:
        """Scalar sites that Laplace integrates on a grid."""
        return tuple(site for each in self.layers for site in each.hyper)

    @property
    def at_mode(self) -> tuple[str, ...]:
        """Sites that no Gaussian holds, which `fit` puts at modes of the posterior."""
        return tuple(site for each in self.layers for site in each.at_mode)

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

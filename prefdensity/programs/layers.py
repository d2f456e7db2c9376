"""Layers and programs: what a stage is, what a layer declares, and what a program is made of."""

from __future__ import annotations

import inspect
import math
import numbers
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from prefdensity.errors import ProgramError
from prefdensity.programs.cells import Cells
from prefdensity.programs.mends import FINDINGS, Mend
from prefdensity.programs.mirrors import Mirror
from prefdensity.programs.tables import plain
from prefdensity.words import shortened

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
_OF_ITEMS = ("utility", "behaviour")
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
    luce: bool = False
    starts: Callable[..., Any] | None = None
    null: dict[str, float] = field(default_factory=dict, hash=False)
    spread: dict[str, str] = field(default_factory=dict, hash=False)
    mends: tuple[Mend, ...] = ()
    meanings: dict[str, str] = field(default_factory=dict, hash=False)
    options: tuple[tuple[str, Any], ...] = ()

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run the stage on its inputs; with keywords only, return the layer with these arguments."""
        if options and not args:
            return self._configured(options)
        found = self.function(*args, **dict(self.options), **options)
        if self.stage not in _OF_ITEMS:  # what has an entry for each comparison is no table of a site any more
            found = plain(found)
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

    def bare(self, **options: Any) -> Layer:
        """Return the layer with these arguments alone."""
        plain = replace(self, options=())
        return plain(**options) if options else plain

    def default(self, argument: str) -> Any:
        """Return what an argument is where it is not given."""
        return inspect.signature(self.function).parameters[argument].default

    def takes(self, argument: str) -> bool:
        """Say whether the function has an argument of this name."""
        return argument in inspect.signature(self.function).parameters

    @property
    def rank(self) -> tuple[int, int]:
        """Where the layer applies: its stage, and its place within it."""
        within = list(MARGIN_ORDER).index(self.place_name) if self.stage == "margin" else 0
        return list(STAGES).index(self.stage), within

    @property
    def place_name(self) -> str:
        """The place among margins, under the layer's options."""
        place = self.place if isinstance(self.place, str) else self.place(**dict(self.options))
        if place not in MARGIN_ORDER:
            raise ProgramError(f"{self.label} has no place {place!r}; places are {', '.join(MARGIN_ORDER)}")
        return place

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
    said = f"{what} is {shortened(repr(value))}; it must be"
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
    luce: bool = False,
    starts: Callable[..., Any] | None = None,
    null: dict[str, float] | None = None,
    spread: dict[str, str] | None = None,
    mends: str | Mend | Sequence[str | Mend] = (),
    meanings: dict[str, str] | None = None,
) -> Callable[[Callable[..., Any]], Layer]:
    """Turn a function into a `Layer` of `stage` that carries the function's name.

    Raises
    ------
    ProgramError
        For an unknown stage or finding, or a choice rule without outcomes.
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
            luce=luce,
            starts=starts,
            null=null or {},
            spread=spread or {},
            mends=answered,
            meanings=meanings or {},
        )

    return wrap


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

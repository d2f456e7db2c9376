"""The checks there are: what each asks of a program, and what its answers mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from prefdensity.checking import discrepancies as of
from prefdensity.checking.discrepancies import Directions, Discrepancy
from prefdensity.checking.replication import Design
from prefdensity.checking.sets import choice_fit


def catalogue(design: Design) -> list[Discrepancy]:
    """Return the checks for a design, one for each of its covariates among them; some may lack what they need."""
    lengths = [
        Discrepancy(
            f"covariate {name}",
            of.leaning(f"covariate {name}"),
            "",
            f"Does {name} speak for a side beyond what the program says?",
            f"a side wins more often the more {name} speaks for it",
            f"a side wins less often the more {name} speaks for it",
            _confounded(f"covariate {name}"),
        )
        for name in design.data.covariate_names
    ]
    return [*_CHECKS, *lengths]


def _people(design: Design, d: Directions | None) -> str:
    """Return why annotators cannot be told apart, or nothing."""
    if design.annotator is None:
        return "who judged is not recorded"
    return "" if len(design.data.annotators) > 1 else "there is one annotator"


def _order(design: Design, d: Directions) -> str:
    return "which item was shown first is not recorded" if design.first is None else _confounded("order")(design, d)


def _ties(design: Design, d: Directions) -> str:
    return "" if design.data.n_ties else "there are no ties"


def _shared(design: Design, d: Directions) -> str:
    return _people(design, d) or ("" if of.shared(design) else "no pair was judged by two annotators")


def _answers(design: Design, d: Directions) -> str:
    """Return why what one annotator answered cannot be looked at: the halves of a tie would contradict each other."""
    if np.any(design.data.count != np.round(design.data.count)):
        return "counts are half wins or weights, and no answers"
    return _people(design, d)


def _repeats(design: Design, d: Directions) -> str:
    return _answers(design, d) or ("" if of.repeated(design) else "no annotator judged a pair twice")


def _triads(design: Design, d: Directions) -> str:
    return "" if len(design.triads) else "no three items were all compared with each other"


def _own_triads(design: Design, d: Directions) -> str:
    return _answers(design, d) or ("" if len(design.own_triads) else "no annotator compared three items all ways")


def _confounded(name: str) -> Callable[[Design, Directions], str]:
    return lambda design, d: "" if name in d.along else "utilities of the items can stand for all of it"


# Of pairs and of choices from sets alike.
_TASTES = (
    Discrepancy(
        "tastes",
        of.tastes,
        "annotator",
        "Do all annotators favour the items that the program says?",
        "annotators depart from the common utilities, be it in taste or in care",
        lacks=_people,
    ),
    Discrepancy(
        "own tastes",
        of.own_tastes,
        "annotator",
        "And if each could follow the utilities more or less closely?",
        "annotators favour other items than the program says",
        lacks=_people,
    ),
)
_CHECKS = (
    Discrepancy(
        "pair fit",
        of.pair_fit,
        "pair",
        "Are pairs won as often as the program says?",
        "some pairs are won more often, others less often, than the program allows",
    ),
    Discrepancy(
        "form fit",
        of.form_fit,
        "pair",
        "Would they be, if only the curve from utilities to choices were free?",
        "no curve from utilities to choices makes the program fit the pairs",
    ),
    Discrepancy(
        "item totals",
        of.item_totals,
        "item",
        "Do items win as often as the program says?",
        "some items win more often, others less often, than the program allows",
    ),
    Discrepancy(
        "cycles",
        of.cycles,
        "item",
        "Do majorities go round in circles?",
        "majorities go round in circles (a beats b, b beats c, c beats a) more often than expected",
        lacks=_triads,
    ),
    Discrepancy(
        "clear cycles",
        of.clear_cycles,
        "item",
        "Do clear majorities go round in circles?",
        "majorities too clear for chance go round in circles",
        lacks=_triads,
    ),
    Discrepancy(
        "calibration",
        of.leaning("calibration"),
        "",
        "Do clear favourites win as often as the program says?",
        "clear favourites win even more often than expected: the curve is too flat far out",
        "clear favourites lose more often than expected, as they do when annotators lapse",
        _confounded("calibration"),
    ),
    Discrepancy(
        "order",
        of.leaning("order"),
        "",
        "Does the item shown first win as often as the program says?",
        "the item shown first wins more often than expected",
        "the item shown first wins less often than expected",
        _order,
    ),
    Discrepancy(
        "order habits",
        of.order_habits,
        "annotator",
        "Do all annotators lean alike to the item shown first?",
        "some annotators lean to the item shown first, others to the second",
        lacks=lambda design, d: _people(design, d) or _order(design, d),
    ),
    *_TASTES,
    Discrepancy(
        "slopes",
        of.slopes,
        "annotator",
        "Do utilities weigh the same in everyone's judgements?",
        "some annotators follow the utilities closely, others hardly or not at all",
        lacks=_people,
    ),
    Discrepancy(
        "accuracy",
        of.accuracy,
        "annotator",
        "Does everyone agree equally often with the program's favourites?",
        "some annotators side with the favourites more often than expected, others less",
        lacks=_people,
    ),
    Discrepancy(
        "agreement",
        of.agreement,
        "pair",
        "Is what annotators of one pair have in common explained?",
        "annotators who judge the same pair have more in common than the program says",
        "annotators who judge the same pair have less in common than the program says",
        _shared,
    ),
    Discrepancy(
        "self-agreement",
        of.self_agreement,
        "annotator",
        "Does an annotator who judges a pair again repeat the answer as often as the program says?",
        "annotators repeat their own answers more often than the program says",
        "annotators contradict their own answers more often than the program says",
        _repeats,
    ),
    Discrepancy(
        "own cycles",
        of.own_cycles,
        "annotator",
        "Do the answers of one annotator go round in circles?",
        "annotators' own answers go round in circles more often than expected",
        "annotators' own answers go round in circles less often than expected: their views are steadier",
        _own_triads,
    ),
    Discrepancy(
        "ties",
        of.leaning("ties"),
        "",
        "Do ties become rarer with the difference in utility as the program says?",
        "ties are too frequent between unequal items, too rare between equal ones",
        "ties are too frequent between equal items, too rare between unequal ones",
        _ties,
    ),
    Discrepancy(
        "tie habits",
        of.tie_habits,
        "annotator",
        "Does everyone call ties equally often?",
        "some annotators call ties often, others rarely or never",
        lacks=lambda design, d: _people(design, d) or _ties(design, d),
    ),
)
OF_SETS = (
    Discrepancy(
        "choice fit",
        choice_fit,
        "set",
        "Are items chosen from each set as often as the program says?",
        "what is chosen depends on what else is in the set more than the program allows",
    ),
    Discrepancy(
        "item totals",
        of.item_totals,
        "item",
        "Are items chosen as often as the program says?",
        "some items are chosen more often, others less often, than the program allows",
    ),
    *_TASTES,
    Discrepancy(
        "slopes",
        of.slopes,
        "annotator",
        "Do utilities weigh the same in everyone's choices?",
        "some annotators follow the utilities closely, others hardly or not at all",
        lacks=_people,
    ),
)

"""Errors by meaning, so that callers can catch what they can act on."""

import math
from collections.abc import Collection, Iterable, Sequence
from numbers import Integral


class PrefDensityError(ValueError):
    """Base of all errors that a user can mend; the message says what came, what was expected, what to do."""


class DataError(PrefDensityError):
    """The table of comparisons, or a file, is not what was announced."""


class ProgramError(PrefDensityError):
    """A program does not exist, cannot be composed so, or does not suit the data."""


class FitError(PrefDensityError):
    """No estimate exists, or the fit failed."""


def require_positive(**values: float) -> None:
    """Raise `DataError` unless every value is positive and finite."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise DataError(f"{name}={value!r} must be positive and finite")


def require_whole(name: str, value: object, least: int, kind: type[PrefDensityError] = DataError) -> None:
    """Raise an error of this kind unless the value is a whole number of at least `least`; numpy's are."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise kind(f"{name} must be a whole number of at least {least}, not {value!r}")


def require_known(name: str, given: Sequence[str], known: Collection[str]) -> None:
    """Raise `DataError` unless there are names, and all of them known."""
    wrong = [each for each in given if each not in known]
    if wrong or not given:
        said = f"{name}={wrong[0]!r} is unknown" if wrong else f"{name} names none"
        raise DataError(f"{said}; there are {', '.join(known)}")


def require_ascending(name: str, given: object, what: str) -> None:
    """Raise `DataError` unless these are two or more positive numbers, each greater than the one before."""
    numbers = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else []
    whole = all(isinstance(each, Integral) for each in numbers)
    if len(numbers) < 2 or not whole or any(b <= a for a, b in zip([0, *numbers], numbers, strict=False)):
        said = numbers or repr(given)
        raise DataError(f"{name}={said} must be two or more ascending numbers of {what}")

"""Errors by meaning, so that callers can catch what they can act on."""

import math
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

"""Errors by meaning, so that callers can catch what they can act on."""


class PrefDensityError(ValueError):
    """Base of all errors that a user can mend; the message says what came, what was expected, what to do."""


class DataError(PrefDensityError):
    """The table of comparisons, or a file, is not what was announced."""


class ProgramError(PrefDensityError):
    """A program does not exist, cannot be composed so, or does not suit the data."""


class FitError(PrefDensityError):
    """No estimate exists, or the fit failed."""

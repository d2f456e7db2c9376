"""The version of the package, for everyone who records it."""

__version__ = "0.1.0"

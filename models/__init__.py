"""Annotator models as Pyro programs, one file each, and the layers they are composed of."""

if __name__ != "prefdensity.models":
    raise ImportError("import these programs as prefdensity.models, not as a top-level package")

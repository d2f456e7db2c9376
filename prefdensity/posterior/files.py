"""Files of posteriors: netCDF that holds arrays and plain values, never code.

A file may come from anybody. It ends with a checksum of the rest, looked at first: HDF5 can run forever on a damaged
file (damage, not malice: whoever can write the file can write that too). Then whatever would make HDF5 look elsewhere
(links to other files, data kept outside, filters that load libraries) or set aside more memory than the file has bytes
is refused. At last every value must have the type that `Posterior` declares, every axis the length of its labels, and
every draw be a number.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import h5py
import numpy as np
import xarray as xr

from prefdensity.errors import DataError
from prefdensity.posterior.draws import Draws
from prefdensity.posterior.groups import as_tree, groups
from prefdensity.posterior.plain_values import restored
from prefdensity.posterior.status import FitStatus

T = TypeVar("T", bound=Draws)

_FORMAT = "prefdensity-posterior-1"
_LONG = ("elbo_trace", "restart_values", "modes")  # of the status, kept as arrays
_ARRAYS = ("draws", "point", "log_p", "log_q", "features", "error", "measures")
_LIVE = ("fitted", "missing")  # what a file cannot hold: the program itself, and why it is not at hand
_SEAL = b"\nprefdensity sha256 "
_BYTES = 1 << 20  # that small datasets may take beyond the file's own size: text is kept beside its array


def write(post: Draws, path: str | Path) -> Path:
    """Write `post` to a netCDF file, atomically; see `Posterior.save`."""
    return write_tree(_tree(post), path)


def write_tree(tree: xr.DataTree, path: str | Path) -> Path:
    """Write groups to a sealed netCDF file through a temporary neighbour."""
    path = Path(path)
    content = io.BytesIO()  # HDF5 itself, on a disk that fills up, brings the whole process down at exit
    tree.to_netcdf(content, engine="h5netcdf")
    content.seek(0, io.SEEK_END)
    content.write(seal(content.getbuffer()))
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.getbuffer())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def seal(content: bytes | memoryview) -> bytes:
    """Return what follows the bytes of a netCDF file in a saved one; readers of netCDF pass over it."""
    return _SEAL + hashlib.sha256(content).hexdigest().encode()


def read(path: str | Path, kind: type[T]) -> T:
    """Read what `write` wrote as a record of this kind; see `prefdensity.load_posterior`."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    _require_sealed(path)
    try:
        _require_plain(path)
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            loaded = tree.load()
    except (DataError, ImportError):
        raise
    except Exception as error:  # a damaged file can fail in any layer below
        raise DataError(f"{path} is not a readable netCDF file ({type(error).__name__})") from error
    if not str(loaded.attrs.get("format")) == _FORMAT:
        raise DataError(f"{path} is a netCDF file, but not a posterior saved by prefdensity (or by a later version)")
    try:
        post = _posterior(loaded, kind)
        _require_whole(post)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {' '.join(str(error).split())[:150]}") from error
    return post


def _require_sealed(path: Path) -> None:
    content = memoryview(path.read_bytes())
    size = len(seal(b""))
    if len(content) < size or bytes(content[-size:]) != seal(content[:-size]):
        raise DataError(
            f"{path} is not as prefdensity saved it: it was cut short or changed, or another program wrote it"
        )


def _require_plain(path: Path) -> None:
    """Refuse what makes HDF5 look outside the file, load a library, or take memory that the file has no bytes for."""
    size = path.stat().st_size
    with h5py.File(path, "r") as file:
        for where, link, thing in _everything(file):
            if not isinstance(link, h5py.HardLink):
                raise DataError(f"{path} has a link to elsewhere at {where}; a saved posterior has none")
            if not isinstance(thing, h5py.Dataset):
                continue
            if thing.external is not None or thing.is_virtual or thing.id.get_create_plist().get_nfilters():
                raise DataError(f"{path} keeps {where} outside itself or packed; a saved posterior does not")
            if thing.nbytes > size + _BYTES:
                raise DataError(f"{path} is damaged: {where} claims {thing.nbytes:,} bytes of a file of {size:,}")


def _everything(group: h5py.Group, depth: int = 0) -> Iterator[tuple[str, Any, Any]]:
    """Yield place, link and what it leads to; of links elsewhere nothing is opened."""
    if depth > 2:  # a saved posterior has one level of groups; a group may even hold itself
        raise ValueError("groups within groups")
    for name in group:
        link = group.get(name, getlink=True)
        thing = group[name] if isinstance(link, h5py.HardLink) else None
        yield f"{group.name.rstrip('/')}/{name}", link, thing
        if isinstance(thing, h5py.Group):
            yield from _everything(thing, depth + 1)


def _tree(post: Draws) -> xr.DataTree:
    try:
        _require_whole(post)
    except ValueError as error:
        raise DataError(f"this posterior cannot be saved, for {error}") from error
    out = groups(post, post.status.chains)
    constant: dict[str, Any] = {f"point_{name}": (post.dims[name], value) for name, value in post.point.items()}
    if post.features is not None:
        constant["features"] = (("item", "feature"), np.asarray(post.features))
    constant |= {f"error_{name}": (post.dims[name], value) for name, value in post.error.items()}
    constant |= {f"measure_{name}": (("item",), values) for name, values in post.measures.items()}
    coords = {name: values for name, values in out["posterior"].coords.items() if name not in ("chain", "draw")}
    coords["item"] = np.array(post.items, dtype=object)
    if post.feature_names:
        coords["feature"] = np.array(post.feature_names, dtype=object)
    out["constant_data"] = xr.Dataset(constant, coords)
    out["fit"] = xr.Dataset(
        {name: ((name + "_step",), np.array(getattr(post.status, name), float)) for name in _LONG}
        | {"log_p": (("checked",), post.log_p), "log_q": (("checked",), post.log_q)}
    )
    tree = as_tree(out)
    tree.attrs.update(format=_FORMAT, schema=json.dumps(_schema(post)))
    return tree


def _schema(post: Draws) -> dict[str, Any]:
    """Return all that is no array, as JSON has it."""
    apart = {*_ARRAYS, *_LIVE, "status", "signature"}
    plain = {each.name: getattr(post, each.name) for each in fields(post) if each.name not in apart}
    status = {k: v for k, v in asdict(post.status).items() if k not in _LONG}
    return plain | {"status": status, "signature": post.signature and asdict(post.signature)}


def _posterior(tree: xr.DataTree, kind: type[T]) -> T:
    schema = json.loads(tree.attrs["schema"])
    hints = get_type_hints(Draws)
    if not isinstance(schema, dict) or schema.keys() != hints.keys() - {*_ARRAYS, *_LIVE}:
        raise ValueError("its schema has other fields")
    fit, posterior, constant = tree["fit"], tree["posterior"], tree["constant_data"]
    long = {name: [float(x) for x in _array(fit, name)] for name in _LONG}
    status = restored({**schema.pop("status"), **long}, FitStatus, "status")
    plain = {name: restored(value, hints[name], name) for name, value in schema.items()}
    draws = {}
    for name, axes in plain["dims"].items():
        values = posterior[name].transpose("chain", "draw", *axes).values
        draws[name] = values.reshape(-1, *values.shape[2:])
    return kind(
        **plain,
        status=status,
        draws=draws,
        point={name: constant[f"point_{name}"].transpose(*axes).values for name, axes in plain["dims"].items()},
        log_p=_array(fit, "log_p"),
        log_q=_array(fit, "log_q"),
        features=_array(constant, "features") if "features" in constant else None,
        error={
            name: constant[f"error_{name}"].transpose(*axes).values
            for name, axes in plain["dims"].items()
            if f"error_{name}" in constant
        },
        measures={
            str(name).removeprefix("measure_"): _array(constant, str(name))
            for name in constant.data_vars
            if str(name).startswith("measure_")
        },
    )


def _require_whole(post: Draws) -> None:
    """Raise `ValueError` where arrays, their axes and the labels do not fit each other, or a draw is no number."""
    if not post.draws or not post.outcomes:
        raise ValueError("it has no draws, or no outcomes")
    if post.draws.keys() != post.dims.keys() or post.point.keys() != post.dims.keys():
        raise ValueError("its draws, points and dims have other names")
    sizes = {"item": len(post.items)} | ({"annotator": len(post.annotators)} if post.annotators else {})
    sizes |= {"feature": len(post.feature_names)} if post.feature_names else {}
    sizes |= {name: len(labels) for name, labels in post.labels_of.items()}
    for name, axes in post.dims.items():
        shape = tuple(sizes.setdefault(axis, n) for axis, n in zip(axes, np.shape(post.point[name]), strict=True))
        _require_numbers(f"the draws of {name}", post.draws[name], (post.n_draws, *shape))
        _require_numbers(f"the point of {name}", post.point[name], shape)
        if not 0 <= post.event_dims.get(name, 0) <= len(axes):
            raise ValueError(f"event_dims of {name} is {post.event_dims[name]}")
    for name, values in post.error.items():  # infinite where the approximation says nothing
        fits = name in post.point and np.shape(values) == np.shape(post.point[name])
        if not fits or not (np.asarray(values, float) >= 0).all():
            raise ValueError(f"the errors of {name} are not one number of 0 or more for each of its entries")
    for name, values in post.measures.items():
        _require_numbers(f"the measure {name}", values, (len(post.items),))
    if post.features is not None:
        _require_numbers("the features", post.features, (len(post.items), len(post.feature_names)))
    chains = post.status.chains
    if len(post.log_p) != len(post.log_q) or len(post.log_p) > post.n_draws or chains < 1 or post.n_draws % chains:
        raise ValueError("its draws, their densities and chains are not equally many")
    for name, known in post.attributes.items():
        described = sizes.get(name.partition(".")[0])
        if len(known) != described or not np.isfinite(known).all():
            raise ValueError(f"the attribute {name} is not one number for each of {described}")
        if name in post.labels_of and not set(known) <= set(range(sizes[name])):
            raise ValueError(f"the attribute {name} has codes beyond its labels")
    for unit in post.units.values():
        if len(unit) != 4 or not np.isfinite(unit).all() or not unit[1] > 0 or not unit[2] <= unit[3]:
            raise ValueError("the units of its numbers are no mean, standard deviation, least and greatest")
    vocabularies = {"item": post.items, "annotator": post.annotators, "outcome": post.outcomes, **post.labels_of}
    for kind, labels in vocabularies.items():
        if len(set(labels)) < len(labels):
            raise ValueError(f"its labels of {kind} hold one twice")


def _require_numbers(what: str, values: Any, shape: tuple[int, ...]) -> None:
    if np.shape(values) != shape:
        raise ValueError(f"{what} have the shape {np.shape(values)} and should have {shape}")
    values = np.asarray(values)
    if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise ValueError(f"{what} are not all finite numbers")


def _array(group: Any, name: str) -> np.ndarray:
    return np.asarray(group[name].values)

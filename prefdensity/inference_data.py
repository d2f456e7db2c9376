"""Posteriors as labelled arrays: ArviZ export for 0.x and 1.x, and the file format (netCDF, no pickle)."""

from __future__ import annotations

import io
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from prefdensity.errors import DataError
from prefdensity.posterior import FitStatus, Posterior

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FORMAT = "prefdensity-posterior-1"
_LONG = ("elbo_trace", "restart_values")


def groups(post: Posterior) -> dict[str, xr.Dataset]:
    """Return the posterior as ArviZ groups: posterior [chain, draw, ...], sample_stats, constant_data."""
    chains = post.status.chains
    draws = post.n_draws // chains
    coords: dict[str, Any] = {"chain": np.arange(chains), "draw": np.arange(draws)}
    variables = {}
    for name, values in post.draws.items():
        dims = post.dims[name]
        for dim, size in zip(dims, values.shape[1:], strict=True):
            coords[dim] = np.array(post.labels(dim, size), dtype=object)
        variables[name] = (("chain", "draw", *dims), values.reshape(chains, draws, *values.shape[1:]))
    posterior = xr.Dataset(variables, {k: v for k, v in coords.items()})
    posterior.attrs["sampler"] = "nuts" if post.status.method == "nuts" else "guide"  # R-hat of a guide means nothing
    posterior.attrs["program"] = post.program
    out = {"posterior": posterior}
    if len(post.log_p) == post.n_draws:
        stats = {
            "log_p": (("chain", "draw"), post.log_p.reshape(chains, draws)),
            "log_q": (("chain", "draw"), post.log_q.reshape(chains, draws)),
        }
        out["sample_stats"] = xr.Dataset(stats, {"chain": coords["chain"], "draw": coords["draw"]})
    return out


def with_log_likelihood(post: Posterior, unit: str, labels: Sequence[str], values: np.ndarray) -> xr.DataTree:
    """Return the posterior's groups, and in the group log_likelihood the values [draw, unit] of `judgements`."""
    chains = post.status.chains
    coords: dict[str, Any] = {"chain": np.arange(chains), "draw": np.arange(post.n_draws // chains)}
    coords[unit] = np.array(labels, dtype=object)
    judgements = values.reshape(chains, post.n_draws // chains, len(labels))
    pointwise = xr.Dataset({"judgements": (("chain", "draw", unit), judgements)}, coords)
    return _as_tree(groups(post) | {"log_likelihood": pointwise})


def to_arviz(post: Posterior) -> Any:
    """Return the posterior for ArviZ; see `as_arviz`."""
    return as_arviz(_as_tree(groups(post)))


def as_arviz(tree: xr.DataTree) -> Any:
    """Return `az.InferenceData` under ArviZ 0.x, and under 1.x the `xarray.DataTree` itself."""
    import arviz

    if int(arviz.__version__.split(".")[0]) >= 1:
        return tree
    return arviz.from_datatree(tree)


def write(post: Posterior, path: str | Path) -> Path:
    """Write `post` to a netCDF file; see `Posterior.save`."""
    return write_tree(_tree(post), path)


def write_tree(tree: xr.DataTree, path: str | Path) -> Path:
    """Write groups to a netCDF file through a temporary neighbour."""
    path = Path(path)
    content = io.BytesIO()  # HDF5 itself, on a disk that fills up, brings the whole process down at exit
    tree.to_netcdf(content, engine="h5netcdf")
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.getbuffer())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def read(path: str | Path) -> Posterior:
    """Read what `write` wrote; see `prefdensity.load_posterior`."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            loaded = tree.load()
    except ImportError:
        raise
    except Exception as error:  # a damaged file can fail in any layer below
        raise DataError(f"{path} is not a readable netCDF file ({type(error).__name__}); was it cut short?") from error
    if loaded.attrs.get("format") != _FORMAT:
        raise DataError(f"{path} is a netCDF file, but not a posterior saved by prefdensity (or by a later version)")
    try:
        return _posterior(loaded)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def _tree(post: Posterior) -> xr.DataTree:
    out = groups(post)
    constant: dict[str, Any] = {f"point_{name}": (post.dims[name], value) for name, value in post.point.items()}
    if post.features is not None:
        constant["features"] = (("item", "feature"), post.features)
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
    tree = _as_tree(out)
    tree.attrs.update(format=_FORMAT, schema=json.dumps(_schema(post)))
    return tree


def _as_tree(datasets: Mapping[str, xr.Dataset]) -> xr.DataTree:
    return xr.DataTree.from_dict({f"/{name}": dataset for name, dataset in datasets.items()})


def _schema(post: Posterior) -> dict[str, Any]:
    status = {k: v for k, v in asdict(post.status).items() if k not in _LONG}
    names = ("program", "items", "annotators", "outcomes", "dims", "event_dims", "meanings", "feature_names",
             "covariate_names", "n_comparisons", "data_source", "data_fingerprint")  # fmt: skip
    return {name: getattr(post, name) for name in names} | {"status": status}


def _posterior(tree: xr.DataTree) -> Posterior:
    schema: Mapping[str, Any] = json.loads(tree.attrs["schema"])
    long = {name: tuple(map(float, _array(tree["fit"], name))) for name in _LONG}
    status = schema["status"]
    dims = {name: tuple(axes) for name, axes in schema["dims"].items()}
    posterior, constant = tree["posterior"], tree["constant_data"]
    draws = {}
    for name, axes in dims.items():
        values = posterior[name].transpose("chain", "draw", *axes).values
        draws[name] = values.reshape(-1, *values.shape[2:])
    return Posterior(
        program=schema["program"],
        items=tuple(schema["items"]),
        annotators=tuple(schema["annotators"]),
        outcomes=tuple(schema["outcomes"]),
        draws=draws,
        dims=dims,
        event_dims=dict(schema["event_dims"]),
        point={name: constant[f"point_{name}"].transpose(*axes).values for name, axes in dims.items()},
        log_p=_array(tree["fit"], "log_p"),
        log_q=_array(tree["fit"], "log_q"),
        status=FitStatus(**{**status, **long, "warnings": tuple(status["warnings"])}),
        meanings=dict(schema["meanings"]),
        feature_names=tuple(schema["feature_names"]),
        covariate_names=tuple(schema["covariate_names"]),
        features=_array(constant, "features") if "features" in constant else None,
        measures={
            str(name).removeprefix("measure_"): _array(constant, str(name))
            for name in constant.data_vars
            if str(name).startswith("measure_")
        },
        n_comparisons=schema["n_comparisons"],
        data_source=schema["data_source"],
        data_fingerprint=schema["data_fingerprint"],
    )


def _array(group: Any, name: str) -> np.ndarray:
    return np.asarray(group[name].values)

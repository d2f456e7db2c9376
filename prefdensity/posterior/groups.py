"""Posteriors as labelled arrays for ArviZ, 0.x and 1.x."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from prefdensity.posterior.draws import Draws

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_DEALT = 4  # chains that independent draws are dealt to


def groups(post: Draws, chains: int) -> dict[str, xr.Dataset]:
    """Return the posterior as ArviZ groups: posterior [chain, draw, ...] and, where known, sample_stats."""
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
    posterior.attrs["program"] = post.program_name
    out = {"posterior": posterior}
    if len(post.log_p) == post.n_draws:
        stats = {
            "log_p": (("chain", "draw"), post.log_p.reshape(chains, draws)),
            "log_q": (("chain", "draw"), post.log_q.reshape(chains, draws)),
        }
        out["sample_stats"] = xr.Dataset(stats, {"chain": coords["chain"], "draw": coords["draw"]})
    return out


def with_log_likelihood(post: Draws, unit: str, labels: Sequence[str], values: np.ndarray) -> xr.DataTree:
    """Return the posterior's groups, and in the group log_likelihood the values [draw, unit] of `judgements`."""
    chains = post.status.chains
    coords: dict[str, Any] = {"chain": np.arange(chains), "draw": np.arange(post.n_draws // chains)}
    coords[unit] = np.array(labels, dtype=object)
    judgements = values.reshape(chains, post.n_draws // chains, len(labels))
    pointwise = xr.Dataset({"judgements": (("chain", "draw", unit), judgements)}, coords)
    return as_tree(groups(post, chains) | {"log_likelihood": pointwise})


def to_arviz(post: Draws) -> Any:
    """Return the posterior for ArviZ; see `as_arviz`.

    Independent draws are in random order and are dealt to four chains, for ArviZ judges nothing less than two: its
    R-hat is then near 1 by construction, and its effective sample size tells how often draws repeat.
    """
    whole = post.status.method == "nuts" or post.n_draws % _DEALT
    return as_arviz(as_tree(groups(post, post.status.chains if whole else _DEALT)))


def as_arviz(tree: xr.DataTree) -> Any:
    """Return `az.InferenceData` under ArviZ 0.x, and under 1.x the `xarray.DataTree` itself."""
    import arviz

    if int(arviz.__version__.split(".")[0]) >= 1:
        return tree
    return arviz.from_datatree(tree)


def as_tree(datasets: Mapping[str, xr.Dataset]) -> xr.DataTree:
    """Return groups as one tree."""
    return xr.DataTree.from_dict({f"/{name}": dataset for name, dataset in datasets.items()})

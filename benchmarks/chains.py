"""Hamiltonian chains, prefdensity against NumPyro: `python -m benchmarks.chains METHOD PROGRAM:ITEMSxROWSxPEOPLE`.

The same model, priors and number of chains and draws; what is told is the effective number of draws of the worst
contrast of two utilities and of the spread of utilities, for a CPU second, compilation included. Items may be few and
rows many, where posteriors are narrow, or the other way round, where the spread of utilities makes a funnel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.measuring import answer, timed, versions
from benchmarks.worlds import annotated

PROGRAMS = {"plain": "bradley_terry", "reliability": "reliability"}
SETTINGS = ("plain:20x2000x10", "plain:100x300x10", "reliability:30x3000x50")
METHODS = {"prefdensity": "prefdensity", "NumPyro": "numpyro"}  # method -> its package
CHAINS, WARMUP, DRAWS = 4, 500, 500


def prefdensity_chains(what: str, world: dict[str, np.ndarray]):
    """Run chains of the shipped program; yield draws [chain, draw, item] of utilities and [chain, draw] of a spread."""
    import prefdensity as pf
    from benchmarks.annotators import comparisons

    data, fit = comparisons(world), pf.fit
    yield None
    post = fit(PROGRAMS[what], data, method="nuts", chains=CHAINS, warmup=WARMUP, draws=DRAWS, progress=False)
    chained = {name: values.reshape(CHAINS, -1, *values.shape[1:]) for name, values in post.draws.items()}
    yield chained["utility"], chained["utility_scale"]


def numpyro_chains(what: str, world: dict[str, np.ndarray]):
    """Run chains of the same model written in NumPyro, as vectors on one core."""
    import jax
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import MCMC, NUTS
    from numpyro.infer.reparam import LocScaleReparam

    numpyro.enable_x64()
    a, b, who, wins = (jax.numpy.asarray(world[name]) for name in ("item_a", "item_b", "annotator", "wins"))
    n_items, n_people = world["utility"].shape[-1], int(world["annotator"].max()) + 1

    def model():
        scale = numpyro.sample("utility_scale", dist.LogNormal(0.0, 1.0))
        with numpyro.plate("item", n_items):
            u = numpyro.sample("utility", dist.Normal(0.0, scale))
        margin = u[a] - u[b]
        if what == "reliability":
            spread = numpyro.sample("spread", dist.HalfNormal(0.5))
            with numpyro.plate("annotator", n_people), numpyro.handlers.reparam(config={"own": LocScaleReparam(0)}):
                own = numpyro.sample("own", dist.Normal(1.0, spread))
            margin = own[who] * margin
        numpyro.factor("wins", jax.nn.log_sigmoid(jax.numpy.where(wins, margin, -margin)).sum())

    mcmc = MCMC(NUTS(model), num_warmup=WARMUP, num_samples=DRAWS, num_chains=CHAINS, chain_method="vectorized",
                progress_bar=False)  # fmt: skip
    yield None
    mcmc.run(jax.random.PRNGKey(0))
    found = mcmc.get_samples(group_by_chain=True)
    yield np.asarray(found["utility"]), np.asarray(found["utility_scale"])


def effective(draws: np.ndarray) -> float:
    """Return the effective number of draws [chain, draw], by Geyer's initial monotone sequence."""
    chains, size = draws.shape
    centred = draws - draws.mean(1, keepdims=True)
    power = np.abs(np.fft.rfft(centred, 2 * size, axis=1)) ** 2
    within = np.fft.irfft(power, axis=1)[:, :size].mean(0) / (size - 1)
    variance = within[0] * (size - 1) / size + draws.mean(1).var(ddof=1)
    correlation = 1 - (within[0] - within * (size - 1) / size) / variance
    pairs = correlation[: size // 2 * 2].reshape(-1, 2).sum(1)
    ends = np.flatnonzero(pairs < 0)
    pairs = np.minimum.accumulate(pairs[: ends[0] if len(ends) else len(pairs)])
    return float(chains * size / max(2 * pairs.sum() - 1, 1 / np.log10(chains * size)))


def measure(method: str, setting: str) -> dict[str, Any]:
    """Run one method in this process."""
    what, _, size = setting.partition(":")
    items, rows, people = map(int, size.split("x"))
    world = annotated("reliability", items, rows, people)
    run = timed((numpyro_chains if method == "NumPyro" else prefdensity_chains)(what, world))
    utility, scale = run.pop("result")
    contrasts = [effective(utility[..., i] - utility[..., k]) for i in range(items) for k in range(i)]
    found = {"worst contrast": min(contrasts), "spread": effective(scale)}
    rate = {f"{name} / CPU s": value / run["fit"] for name, value in found.items()}
    return run | found | rate | {"version": versions("numpyro" if method == "NumPyro" else "prefdensity")}


if __name__ == "__main__":
    answer(measure)

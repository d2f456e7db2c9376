"""Annotators who differ in reliability, or are of three types, prefdensity against NumPyro.

`python -m benchmarks.annotators METHOD PROGRAM:ITEMSxROWSxANNOTATORS`, the program "reliability" or "types".
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np

from benchmarks.measuring import answer, timed, versions
from benchmarks.worlds import SHARES, SPREAD, TYPES, annotated

PROGRAMS = {"reliability": "reliability", "types": f"annotator_types(k={TYPES})"}
# method -> its package, and what it says of uncertainty
METHODS = {
    "prefdensity": ("prefdensity", "draws, checked"),
    "prefdensity, laplace": ("prefdensity", "Laplace"),
    "NumPyro SVI": ("numpyro", "mean-field"),
    "utilities known": ("numpy", "exact"),  # no method recovers annotators better
}
STEPS = 2000


def comparisons(world: dict[str, np.ndarray]) -> Any:
    """Return the table as prefdensity's."""
    import prefdensity as pf

    n_items, n_annotators = world["utility"].shape[-1], int(world["annotator"].max()) + 1
    return pf.Comparisons(
        items=tuple(f"{i:05d}" for i in range(n_items)), item_a=world["item_a"], item_b=world["item_b"],
        outcome=np.where(world["wins"], 0, 1).astype(np.int8), count=np.ones(len(world["wins"])),
        annotators=tuple(f"{j:05d}" for j in range(n_annotators)), annotator=world["annotator"],
    )  # fmt: skip


def prefdensity_fit(what: str, world: dict[str, np.ndarray], method: str):
    """The whole fit: mode, grid of hyperparameters or restarts over types, check, draws."""
    import prefdensity as pf

    data, fit = comparisons(world), pf.fit
    yield None
    post = fit(PROGRAMS[what], data, method=method, progress=False)
    found = {"utility": post.draws["utility"].mean(0), "k_hat": post.status.k_hat, "method": post.status.method}
    for name, site in (("reliability", "annotator_reliability"), ("type_probability", "type_probability")):
        if site in post.draws:
            found[name] = post.draws[site].mean(0)
    yield found


def numpyro_svi(what: str, world: dict[str, np.ndarray]):
    """Mean-field variational inference of the same model, types summed out, 2,000 steps of Adam in one scan."""
    import jax
    import numpyro
    from numpyro.infer import SVI, Trace_ELBO, init_to_median
    from numpyro.infer.autoguide import AutoNormal

    a, b, who, wins = (jax.numpy.asarray(world[name]) for name in ("item_a", "item_b", "annotator", "wins"))
    n_items, n_annotators = world["utility"].shape[-1], int(world["annotator"].max()) + 1
    model = _models(n_items, n_annotators)[what]
    guide = AutoNormal(model, init_loc_fn=init_to_median() if what == "reliability" else _scattered())
    optimiser = numpyro.optim.Adam(lambda step: 0.05 * 0.01 ** (step / STEPS))
    yield None
    params = SVI(model, guide, optimiser, Trace_ELBO()).run(
        jax.random.PRNGKey(0), STEPS, a, b, who, wins, progress_bar=False
    ).params  # fmt: skip
    point = guide.median(params)
    found = {"utility": np.asarray(point["utility"])}
    if what == "reliability":
        found["reliability"] = np.asarray(1 + point["spread"] * point["offset"])
    else:
        margin = point["utility"][:, a] - point["utility"][:, b]
        sums = jax.ops.segment_sum(_log_lik(jax, margin, wins).T, who, n_annotators)
        found["type_probability"] = np.asarray(jax.nn.softmax(sums + jax.numpy.log(point["weight"]), -1))
    yield found


def known(what: str, world: dict[str, np.ndarray]):
    """Posterior means of annotators where utilities and the distribution of annotators are known, on a grid."""
    a, b, who = world["item_a"], world["item_b"], world["annotator"]
    yield None
    if what == "reliability":
        grid = 1 + SPREAD * np.linspace(-5, 5, 201)
        margin, log_prior = world["utility"][a] - world["utility"][b], -0.5 * np.linspace(-5, 5, 201) ** 2
        margins = (each * margin for each in grid)
    else:
        log_prior, margins = np.log(SHARES), (each[a] - each[b] for each in world["utility"])
    log_lik = [np.bincount(who, -np.logaddexp(0, np.where(world["wins"], -each, each))) for each in margins]
    log_posterior = np.stack(log_lik, 1) + log_prior
    posterior = np.exp(log_posterior - log_posterior.max(1, keepdims=True))
    posterior /= posterior.sum(1, keepdims=True)
    found = {"utility": world["utility"]}
    yield found | ({"reliability": posterior @ grid} if what == "reliability" else {"type_probability": posterior})


def _scattered():
    from numpyro.infer import init_to_uniform

    return init_to_uniform(radius=0.1)


def _log_lik(jax, margin, wins):
    return jax.nn.log_sigmoid(jax.numpy.where(wins, margin, -margin))


def _models(n_items: int, n_annotators: int) -> dict[str, Any]:
    import jax
    import numpyro
    import numpyro.distributions as dist

    def reliability(a, b, who, wins):
        with numpyro.plate("item", n_items):
            u = numpyro.sample("utility", dist.Normal(0.0, 1.5))
        spread = numpyro.sample("spread", dist.HalfNormal(0.5))
        with numpyro.plate("annotator", n_annotators):
            offset = numpyro.sample("offset", dist.Normal(0.0, 1.0))
        margin = (1 + spread * offset)[who] * (u[a] - u[b])
        numpyro.factor("wins", _log_lik(jax, margin, wins).sum())

    def types(a, b, who, wins):
        weight = numpyro.sample("weight", dist.Dirichlet(jax.numpy.full(TYPES, 2.0)))
        with numpyro.plate("item", n_items, dim=-1), numpyro.plate("type", TYPES, dim=-2):
            u = numpyro.sample("utility", dist.Normal(0.0, 1.5))
        sums = jax.ops.segment_sum(_log_lik(jax, u[:, a] - u[:, b], wins).T, who, n_annotators)
        numpyro.factor("wins", jax.nn.logsumexp(sums + jax.numpy.log(weight), -1).sum())

    return {"reliability": reliability, "types": types}


def recovered(found: dict[str, Any], world: dict[str, np.ndarray]) -> dict[str, float]:
    """Return correlations with the truth; of types, under their best labelling."""
    if "reliability" in world:
        return {name: float(np.corrcoef(world[name], found[name])[0, 1]) for name in ("utility", "reliability")}
    said = found["type_probability"].argmax(1)
    utility, truth = (np.asarray(u) for u in (found["utility"], world["utility"]))
    order = max(permutations(range(TYPES)), key=lambda p: (np.asarray(p)[said] == world["type"]).mean())
    matched = [np.corrcoef(truth[order[k]], utility[k])[0, 1] for k in range(TYPES)]
    return {"utility": float(min(matched)), "type accuracy": float((np.asarray(order)[said] == world["type"]).mean())}


def measure(method: str, setting: str) -> dict[str, Any]:
    """Run one method in this process."""
    what, _, size = setting.partition(":")
    world = annotated(what, *map(int, size.split("x")))
    steps = {"NumPyro SVI": numpyro_svi, "utilities known": known}.get(method)
    if steps is None:
        run = timed(prefdensity_fit(what, world, "laplace" if "laplace" in method else "auto"))
    else:
        run = timed(steps(what, world))
    found = run.pop("result")
    facts = {key: found[key] for key in ("k_hat", "method") if key in found}
    return run | facts | recovered(found, world) | {"version": versions(METHODS[method][0])}


if __name__ == "__main__":
    answer(measure)

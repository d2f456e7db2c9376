"""Plain Bradley-Terry as peers fit it. Each yields once its data are ready, and then its utilities [item]."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.worlds import counts

PRIOR_SD = 1.5
STEPS = 2000
REFITS = 3  # of the 100 of a bootstrap


def scipy_newton(n_items: int, winner: np.ndarray, loser: np.ndarray) -> Iterator[np.ndarray | None]:
    """Newton on counts with a sparse Laplacian and conjugate gradients: the floor for a point estimate."""
    import scipy.sparse as sp
    from scipy.sparse.linalg import cg

    i, j, won, lost = counts(n_items, winner, loser)
    total = won + lost
    yield None
    utility = np.zeros(n_items)
    for _ in range(50):
        p = 1 / (1 + np.exp(utility[j] - utility[i]))
        flow, weight = won - total * p, total * p * (1 - p)
        gradient = np.bincount(i, flow, n_items) - np.bincount(j, flow, n_items) - utility / PRIOR_SD**2
        off = sp.csr_matrix((weight, (i, j)), (n_items, n_items))
        off = off + off.T
        diagonal = np.asarray(off.sum(0)).ravel() + PRIOR_SD**-2
        hessian = sp.diags(diagonal) - off
        step, _ = cg(hessian, gradient, rtol=1e-10, M=sp.diags(1 / diagonal))
        utility = utility + step
        if gradient @ step < 1e-9:
            break
    yield utility


def scipy_newton_covariance(n_items: int, winner: np.ndarray, loser: np.ndarray) -> Iterator[np.ndarray | None]:
    """The same with the exact Laplace covariance from a dense inverse."""
    runner = scipy_newton(n_items, winner, loser)
    next(runner)
    i, j, won, lost = counts(n_items, winner, loser)
    yield None
    utility = next(runner)
    assert utility is not None
    p = 1 / (1 + np.exp(utility[j] - utility[i]))
    weight = (won + lost) * p * (1 - p)
    hessian = np.zeros((n_items, n_items))
    hessian[i, j] = hessian[j, i] = -weight
    np.fill_diagonal(hessian, PRIOR_SD**-2 - hessian.sum(1))
    np.linalg.inv(hessian)
    yield utility


def sklearn_counts(n_items: int, winner: np.ndarray, loser: np.ndarray) -> Iterator[np.ndarray | None]:
    """Logistic regression on counts as weights (the same prior)."""
    for fit in _sklearn(n_items, winner, loser):
        yield None if fit is None else fit(None)


def sklearn_bootstrap(n_items: int, winner: np.ndarray, loser: np.ndarray) -> Iterator[np.ndarray | None]:
    """The same for resampled counts."""
    rng = np.random.default_rng(3)
    for fit in _sklearn(n_items, winner, loser):
        yield None if fit is None else np.mean([fit(rng) for _ in range(REFITS)], 0)


def _sklearn(n_items, winner, loser):
    import scipy.sparse as sp
    from sklearn.linear_model import LogisticRegression

    i, j, won, lost = counts(n_items, winner, loser)
    rows = np.arange(len(i))
    half = sp.csr_matrix(
        (np.r_[np.ones(len(i)), -np.ones(len(i))], (np.r_[rows, rows], np.r_[i, j])), (len(i), n_items)
    )
    design, target = sp.vstack([half, half]), np.r_[np.ones(len(i)), np.zeros(len(i))]
    weight = np.r_[won, lost]
    yield None

    def fit(rng: np.random.Generator | None) -> np.ndarray:
        resampled = weight if rng is None else rng.multinomial(len(winner), weight / weight.sum())
        model = LogisticRegression(C=PRIOR_SD**2, fit_intercept=False, tol=1e-8, max_iter=1000)
        return model.fit(design, target, sample_weight=resampled).coef_[0]

    yield fit


def choix_ilsr(n_items: int, winner: np.ndarray, loser: np.ndarray) -> Iterator[np.ndarray | None]:
    """Iterative Luce spectral ranking on rows."""
    import choix

    pairs = list(zip(winner.tolist(), loser.tolist(), strict=True))
    yield None
    yield choix.ilsr_pairwise(n_items, pairs, alpha=0.01)


def evalica_bt(n_items: int, winner: np.ndarray, loser: np.ndarray) -> Iterator[np.ndarray | None]:
    """Maximum likelihood, compiled."""
    yield from _evalica(n_items, winner, loser, None)


def evalica_bootstrap(n_items: int, winner: np.ndarray, loser: np.ndarray) -> Iterator[np.ndarray | None]:
    """The same for resampled rows, as its own helper for intervals does."""
    yield from _evalica(n_items, winner, loser, np.random.default_rng(3))


def _evalica(n_items, winner, loser, rng):
    import evalica

    labels = [f"{i:06d}" for i in range(n_items)]
    first = [labels[k] for k in winner]
    second = [labels[k] for k in loser]
    won = [evalica.Winner.X] * len(first)
    _, _, index = evalica.indexing(first, second)
    yield None

    def fit(weights: list[float] | None) -> np.ndarray:
        scores = evalica.bradley_terry(first, second, won, index=index, weights=weights).scores
        return np.log(scores.reindex(labels).to_numpy())

    if rng is None:
        yield fit(None)
        return
    n = len(won)
    yield np.mean([fit(np.bincount(rng.integers(0, n, n), minlength=n).astype(float).tolist()) for _ in range(REFITS)],
                  0)  # fmt: skip


def arena_rank(n_items: int, winner: np.ndarray, loser: np.ndarray) -> Iterator[np.ndarray | None]:
    """Maximum likelihood in JAX, with its sandwich intervals."""
    import pandas as pd
    from arena_rank.models.bradley_terry import BradleyTerry
    from arena_rank.utils.data_utils import PairDataset

    frame = pd.DataFrame({"model_a": winner, "model_b": loser, "winner": "model_a"})
    data = PairDataset.from_pandas(frame)
    yield None
    model = BradleyTerry(n_competitors=len(data.competitors))
    model.compute_ratings_and_cis(data, ci_method="sandwich")
    utility = np.zeros(n_items)
    utility[np.asarray(data.competitors)] = np.asarray(model.params["ratings"])
    yield utility


def crowd_kit(n_items: int, winner: np.ndarray, loser: np.ndarray) -> Iterator[np.ndarray | None]:
    """Minorisation-maximisation, 100 iterations."""
    import pandas as pd
    from crowdkit.aggregation import BradleyTerry

    frame = pd.DataFrame({"left": winner, "right": loser, "label": winner, "worker": 0})
    yield None
    scores = BradleyTerry(n_iter=100).fit_predict(frame)
    yield np.log(scores.reindex(range(n_items)).to_numpy())


def numpyro_svi(n_items: int, winner: np.ndarray, loser: np.ndarray) -> Iterator[np.ndarray | None]:
    """Mean-field variational inference on counts, 2,000 steps of Adam in one scan, the rate decayed."""
    import jax
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal

    i, j, won, lost = counts(n_items, winner, loser)
    total = won + lost

    def model(i, j, won, total):
        with numpyro.plate("item", n_items):
            u = numpyro.sample("u", dist.Normal(0.0, PRIOR_SD))
        numpyro.sample("won", dist.Binomial(total, logits=u[i] - u[j]), obs=won)

    guide = AutoNormal(model)
    optimiser = numpyro.optim.Adam(lambda step: 0.05 * 0.01 ** (step / STEPS))
    yield None
    found = SVI(model, guide, optimiser, Trace_ELBO()).run(
        jax.random.PRNGKey(0), STEPS, i, j, won, total, progress_bar=False
    )
    yield np.asarray(found.params["u_auto_loc"])


def pyro_svi(n_items: int, winner: np.ndarray, loser: np.ndarray) -> Iterator[np.ndarray | None]:
    """Mean-field variational inference as one would first write it: on rows, 2,000 calls of `SVI.step`."""
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer import SVI, Trace_ELBO
    from pyro.infer.autoguide import AutoNormal

    rows, first, second = torch.ones(len(winner)), torch.tensor(winner), torch.tensor(loser)

    def model(first, second, rows):
        with pyro.plate("item", n_items):
            u = pyro.sample("u", dist.Normal(0.0, PRIOR_SD))
        with pyro.plate("row", len(rows)):
            pyro.sample("won", dist.Bernoulli(logits=u[first] - u[second]), obs=rows)

    guide = AutoNormal(model)
    optimiser = pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "gamma": 0.01 ** (1 / STEPS)}
    )
    svi = SVI(model, guide, optimiser, Trace_ELBO())
    yield None
    for _ in range(STEPS):
        svi.step(first, second, rows)
        optimiser.step()
    yield guide.median()["u"].detach().numpy()

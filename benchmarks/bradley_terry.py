"""Plain Bradley-Terry, prefdensity against its peers: `python -m benchmarks.bradley_terry METHOD ITEMSxROWS`."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import bradley_terry_peers as peers
from benchmarks.measuring import answer, timed, versions
from benchmarks.worlds import simulate

SIZES = ("100x100000", "1000x1000000", "10000x1000000", "10000x10000000")


def prefdensity_mode(n_items, winner, loser):
    """Mode and curvature only: the posterior before it is checked and drawn from."""
    import prefdensity as pf
    from prefdensity.inference.laplace import laplace
    from prefdensity.inference.view import View
    from prefdensity.programs.tabulate import cells_of

    program = pf.load_program("bradley_terry")
    cells = cells_of(_comparisons(n_items, winner, loser), program.outcomes, program.needs)
    yield None
    view = View(program, cells)
    found = laplace(view)
    yield found.mode.z[view.sites["utility"].at].numpy()


def prefdensity_fit(n_items, winner, loser):
    """The whole fit: mode, curvature, Pareto k-hat, importance correction, 1,000 draws."""
    import prefdensity as pf

    data, fit = _comparisons(n_items, winner, loser), pf.fit  # naming `fit` imports torch and Pyro
    yield None
    post = fit("bradley_terry", data, progress=False)
    yield post.draws["utility"].mean(0), {"k_hat": post.status.k_hat, "method": post.status.method}


def _comparisons(n_items, winner, loser):
    import prefdensity as pf

    outcome = (np.arange(len(winner)) % 2).astype(np.int8)  # sides as a table would have them
    a, b = np.where(outcome == 0, winner, loser), np.where(outcome == 0, loser, winner)
    labels = tuple(f"{i:06d}" for i in range(n_items))
    return pf.Comparisons(items=labels, item_a=a, item_b=b, outcome=outcome, count=np.ones(len(a)))


# method -> function, what it says of uncertainty, its package, refits it stands for
METHODS = {
    "prefdensity, whole fit": (prefdensity_fit, "draws, checked", "prefdensity", 1),
    "prefdensity, mode + covariance": (prefdensity_mode, "Laplace", "prefdensity", 1),
    "scipy Newton-CG": (peers.scipy_newton, "none", "scipy", 1),
    "scipy Newton-CG + inverse": (peers.scipy_newton_covariance, "Laplace", "scipy", 1),
    "scikit-learn on counts": (peers.sklearn_counts, "none", "scikit-learn", 1),
    "scikit-learn, 100 refits": (peers.sklearn_bootstrap, "bootstrap", "scikit-learn", 100),
    "evalica": (peers.evalica_bt, "none", "evalica", 1),
    "evalica, 100 refits": (peers.evalica_bootstrap, "bootstrap", "evalica", 100),
    "choix ilsr_pairwise": (peers.choix_ilsr, "none", "choix", 1),
    "arena-rank": (peers.arena_rank, "sandwich", "arena-rank", 1),
    "crowd-kit": (peers.crowd_kit, "none", "crowd-kit", 1),
    "NumPyro SVI": (peers.numpyro_svi, "mean-field", "numpyro", 1),
    "Pyro SVI, naive": (peers.pyro_svi, "mean-field", "pyro-ppl", 1),
}


def measure(method: str, size: str) -> dict[str, Any]:
    """Run one method in this process."""
    items, rows = map(int, size.split("x"))
    truth, winner, loser = simulate(items, rows)
    function, _, package, refits = METHODS[method]
    found = timed(function(items, winner, loser))
    result = found.pop("result")
    estimate, facts = result if isinstance(result, tuple) else (result, {})
    estimate = estimate - estimate.mean()
    if refits > 1:  # a few were run
        found |= {key: found[key] * refits / peers.REFITS for key in ("fit", "wall")}
    return found | facts | {
        "correlation": float(np.corrcoef(truth, estimate)[0, 1]),
        "rmse": float(np.sqrt(np.mean((truth - truth.mean() - estimate) ** 2))),
        "version": versions(package),
    }  # fmt: skip


if __name__ == "__main__":
    answer(measure)

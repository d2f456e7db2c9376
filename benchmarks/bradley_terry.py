"""Plain Bradley-Terry, prefdensity against its peers: CPU seconds, peak memory and accuracy in one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time

import numpy as np

PRIOR_SD = 1.5
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")}


def simulate(n_items: int, n_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return true utilities, and winner and loser of random pairs."""
    rng = np.random.default_rng(1)
    utility = rng.normal(size=n_items)
    a = rng.integers(0, n_items, n_rows)
    b = (a + rng.integers(1, n_items, n_rows)) % n_items
    wins = rng.random(n_rows) < 1 / (1 + np.exp(utility[b] - utility[a]))
    return utility, np.where(wins, a, b), np.where(wins, b, a)


def counts(n_items: int, winner: np.ndarray, loser: np.ndarray):
    """Return unordered pairs (i < j) with wins of i and of j."""
    low, high = np.minimum(winner, loser), np.maximum(winner, loser)
    key, inverse = np.unique(low * n_items + high, return_inverse=True)
    first = np.bincount(inverse, winner == low, len(key))
    total = np.bincount(inverse, minlength=len(key))
    return key // n_items, key % n_items, first, total - first


def prefdensity_mode(n_items, winner, loser):
    """Mode and curvature only: the posterior before it is checked and drawn from."""
    import prefdensity as pf
    from prefdensity.inference.laplace import laplace
    from prefdensity.inference.view import View

    program = pf.load_program("bradley_terry")
    cells = _comparisons(n_items, winner, loser).cells(program.outcomes, program.needs)
    yield "prep"
    found = laplace(View(program, cells))
    yield found.mode.z.numpy()


def prefdensity_fit(n_items, winner, loser):
    """The whole fit: mode, curvature, Pareto k-hat, importance correction, 1,000 draws."""
    import prefdensity as pf

    data, fit = _comparisons(n_items, winner, loser), pf.fit  # naming `fit` imports torch and Pyro
    yield "prep"
    post = fit("bradley_terry", data, progress=False)
    yield post.draws["utility"].mean(0)


def _comparisons(n_items, winner, loser):
    import prefdensity as pf

    outcome = (np.arange(len(winner)) % 2).astype(np.int8)  # sides as a table would have them
    a, b = np.where(outcome == 0, winner, loser), np.where(outcome == 0, loser, winner)
    labels = tuple(f"{i:06d}" for i in range(n_items))
    return pf.Comparisons(items=labels, item_a=a, item_b=b, outcome=outcome, count=np.ones(len(a)))


def scipy_newton(n_items, winner, loser):
    """Newton on counts with a sparse Laplacian and conjugate gradients: the floor for a point estimate."""
    import scipy.sparse as sp
    from scipy.sparse.linalg import cg

    i, j, won, lost = counts(n_items, winner, loser)
    total = won + lost
    yield "prep"
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


def scipy_newton_covariance(n_items, winner, loser):
    """The same with the exact Laplace covariance from a dense inverse."""
    runner = scipy_newton(n_items, winner, loser)
    next(runner)
    i, j, won, lost = counts(n_items, winner, loser)
    yield "prep"
    utility = next(runner)
    p = 1 / (1 + np.exp(utility[j] - utility[i]))
    weight = (won + lost) * p * (1 - p)
    hessian = np.zeros((n_items, n_items))
    hessian[i, j] = hessian[j, i] = -weight
    np.fill_diagonal(hessian, PRIOR_SD**-2 - hessian.sum(1))
    np.linalg.inv(hessian)
    yield utility


def sklearn_counts(n_items, winner, loser):
    """Logistic regression on counts as weights (the same prior)."""
    import scipy.sparse as sp
    from sklearn.linear_model import LogisticRegression

    i, j, won, lost = counts(n_items, winner, loser)
    rows = np.arange(len(i))
    half = sp.csr_matrix(
        (np.r_[np.ones(len(i)), -np.ones(len(i))], (np.r_[rows, rows], np.r_[i, j])), (len(i), n_items)
    )
    design, target = sp.vstack([half, half]), np.r_[np.ones(len(i)), np.zeros(len(i))]
    yield "prep"
    model = LogisticRegression(C=PRIOR_SD**2, fit_intercept=False, tol=1e-8, max_iter=1000)
    yield model.fit(design, target, sample_weight=np.r_[won, lost]).coef_[0]


def choix_ilsr(n_items, winner, loser):
    """Iterative Luce spectral ranking on rows."""
    import choix

    pairs = list(zip(winner.tolist(), loser.tolist(), strict=True))
    yield "prep"
    yield choix.ilsr_pairwise(n_items, pairs, alpha=0.01)


def evalica_bt(n_items, winner, loser):
    """Maximum likelihood, compiled."""
    import evalica

    labels = [f"{i:06d}" for i in range(n_items)]
    first = [labels[k] for k in winner]
    second = [labels[k] for k in loser]
    won = [evalica.Winner.X] * len(first)
    yield "prep"
    scores = evalica.bradley_terry(first, second, won).scores
    yield np.log(scores.reindex(labels).to_numpy())


METHODS = {
    "prefdensity, mode + covariance": (prefdensity_mode, "Laplace"),
    "prefdensity, whole fit": (prefdensity_fit, "corrected draws, k-hat"),
    "scipy Newton-CG": (scipy_newton, "none"),
    "scipy Newton-CG + inverse": (scipy_newton_covariance, "Laplace"),
    "scikit-learn on counts": (sklearn_counts, "none"),
    "choix ilsr_pairwise": (choix_ilsr, "none"),
    "evalica bradley_terry": (evalica_bt, "none"),
}


def measure(name: str, n_items: int, n_rows: int) -> dict[str, object]:
    """Run one method in this process."""
    truth, winner, loser = simulate(n_items, n_rows)
    steps = METHODS[name][0](n_items, winner, loser)
    began = time.process_time()
    next(steps)
    ready, wall = time.process_time(), time.time()
    estimate = next(steps)
    done = time.process_time()
    estimate = estimate - estimate.mean()
    return {
        "prep": ready - began,
        "fit": done - ready,
        "wall": time.time() - wall,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "correlation": float(np.corrcoef(truth, estimate)[0, 1]),
        "rmse": float(np.sqrt(np.mean((truth - truth.mean() - estimate) ** 2))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["100x100000", "1000x1000000"])
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        items, rows = map(int, options.one[1].split("x"))
        print(json.dumps(measure(options.one[0], items, rows)))
        return
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, one thread per process\n")
    print(
        "| items x comparisons | method | uncertainty | prep CPU s | fit CPU s | fit wall s | peak MB | corr | RMSE |"
    )
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for size in options.sizes:
        for name, (_, intervals) in METHODS.items():
            command = [sys.executable, __file__, "--one", name, size]
            run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **THREADS}, check=False)
            if run.returncode:
                reason = run.stderr.strip().splitlines()[-1]
                print(f"| {size} | {name} | {intervals} | skipped: {reason} | | | | | |", flush=True)
                continue
            r = json.loads(run.stdout.splitlines()[-1])
            print(
                f"| {size} | {name} | {intervals} | {r['prep']:.2f} | {r['fit']:.2f} | {r['wall']:.2f} "
                f"| {r['memory']:.0f} | {r['correlation']:.4f} | {r['rmse']:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

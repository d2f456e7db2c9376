"""Variance-reduced reward against maximum likelihood: error, coverage, policies, in worlds with exact answers.

    python -m benchmarks.reward --replicates 500

prints a table for each world. Ratios are mean squared errors over those of maximum likelihood on the same data.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from benchmarks.reward_worlds import AUXILIARIES, FIXED, WORLDS, World, draw, world
from prefdensity.reward.convex import curvature, gram, margins
from prefdensity.reward.equation import Equation
from prefdensity.reward.policy_learning import at_kl, regret, two_stage, win_rate

CHUNK = 10  # replicates at a time, for memory


@dataclass(frozen=True)
class Runs:
    """Replicates of one estimator beside maximum likelihood, arrays [replicate, ...]."""

    theta: np.ndarray
    mle: np.ndarray
    se: np.ndarray
    mle_se: np.ndarray
    expected: np.ndarray
    fallback: np.ndarray
    target: np.ndarray

    @property
    def error(self) -> np.ndarray:
        return ((self.theta - self.target) ** 2).sum(-1)

    @property
    def mle_error(self) -> np.ndarray:
        return ((self.mle - self.target) ** 2).sum(-1)

    @property
    def ratio(self) -> float:
        return float(self.error.mean() / self.mle_error.mean())

    @property
    def ratio_se(self) -> float:
        """Monte-Carlo error of the ratio, paired."""
        off = self.error - self.ratio * self.mle_error
        return float(off.std(ddof=1) / np.sqrt(len(off)) / self.mle_error.mean())

    def coverage(self, level: float = 0.95) -> float:
        return coverage(self.theta, self.se, self.target, level)

    def mle_coverage(self, level: float = 0.95) -> float:
        return coverage(self.mle, self.mle_se, self.target, level)


def coverage(theta: np.ndarray, se: np.ndarray, target: np.ndarray, level: float) -> float:
    return float((np.abs(theta - target) < norm.ppf((1 + level) / 2) * se).mean())


def run(
    w: World, auxiliaries, n: int, replicates: int, layout: str = "exact", lambdas=(1.0, "auto"), use: str = "raw",
    seed: int = 0,
) -> dict[tuple[str, float | str], Runs]:  # fmt: skip
    """Return runs for each auxiliary and lambda, all on the same data."""
    parts: dict[tuple[str, float | str], list[tuple]] = {}
    for chunk, start in enumerate(range(0, replicates, CHUNK)):
        sample = draw(w, n, min(CHUNK, replicates - start), layout, seed=1000 * seed + chunk)
        for name in auxiliaries:
            for lam in lambdas:
                equation = sample.equation(name, use, None if lam == "auto" else float(lam))
                parts.setdefault((name, lam), []).append(_one(equation, lam))
    return {
        key: Runs(*(np.concatenate(each) for each in zip(*found, strict=True)), w.target)
        for key, found in parts.items()
    }


def _one(equation: Equation, lam: float | str) -> tuple[np.ndarray, ...]:
    count = len(equation.labelled.z)
    wanted = equation.efficiency.best() if lam == "auto" else np.full(count, float(lam))
    found, used = equation.settle(wanted)
    se, mle_se = (
        np.sqrt(np.diagonal(equation.covariance(theta, at), axis1=-2, axis2=-1))
        for theta, at in ((found.theta, used), (equation.mle.theta, np.zeros(count)))
    )
    every = found.theta, equation.mle.theta, se, mle_se, equation.efficiency.ratio(wanted), used < wanted
    return tuple(each[equation.mle.exists] for each in every)  # without it there is nothing to compare with


def predicted(w: World, auxiliary: str, fresh_per_label: float = np.inf) -> float:
    """Return the asymptotic ratio of variances at lambda = 1 for an auxiliary that has seen no label."""
    g, p = w.auxiliary(auxiliary), expit(margins(w.d, w.target))
    bread = np.linalg.inv(curvature([(w.d, w.design)], w.target))

    def trace(noise: np.ndarray, bias: np.ndarray) -> float:
        centre = (w.design * bias) @ w.d
        return float(np.trace(bread @ (gram(w.design * (noise + bias**2), w.d) - np.outer(centre, centre)) @ bread))

    label = w.g * (1 - w.g)
    return (trace(label, g - w.g) + trace(0 * label, p - g) / fresh_per_label) / trace(label, p - w.g)


@dataclass(frozen=True)
class Policies:
    """How often the policy of an estimate beats that of maximum likelihood at equal KL, and regrets."""

    beats: float
    win: float
    win_mle: float
    regret_ratio: float


def policies(w: World, runs: Runs, beta: float, nats: float = 1.0) -> Policies:
    """Compare the policies of two estimates: head to head at `nats` from the reference, and by regret at `beta`."""
    theirs, ours = (np.einsum("xyp,rp->rxy", w.features, theta) for theta in (runs.mle, runs.theta))
    a, b = (at_kl(reward, w.reference, nats) for reward in (ours, theirs))
    head = win_rate(a, b, w.preference)
    reward = w.features @ w.target
    lost = [regret(two_stage(each, w.reference, beta), reward, w.reference, beta).mean() for each in (ours, theirs)]
    wins = [win_rate(each, np.broadcast_to(w.reference, each.shape), w.preference).mean() for each in (a, b)]
    return Policies(float((head > 0.5).mean()), *map(float, wins), float(lost[0] / lost[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--labels", type=int, default=400)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS))
    parser.add_argument("--layouts", nargs="+", default=["exact", "fresh:6400", "fresh:400", "same:1"])
    options = parser.parse_args()
    print("| world | fresh pairs | auxiliary | lambda | used | ratio (s.e.) | predicted | expected | coverage |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    began = time.process_time()
    for name in options.worlds:
        w = world(name)
        for layout in options.layouts:
            if layout.startswith("same") and name == "annotator":
                continue
            share = np.inf if layout == "exact" else int(layout.partition(":")[2]) / options.labels
            for use in ("raw", "recalibrated", "both"):
                found = run(w, AUXILIARIES, options.labels, options.replicates, layout, use=use)
                for (auxiliary, lam), runs in found.items():
                    theory = lam == 1.0 and use == "raw" and auxiliary in FIXED and not layout.startswith("same")
                    print(
                        f"| {name} | {layout} | {auxiliary} | {lam} | {use} "
                        f"| {runs.ratio:.3f} ({runs.ratio_se:.3f}) "
                        f"| {f'{predicted(w, auxiliary, share):.3f}' if theory else ''} "
                        f"| {runs.expected.mean():.3f} | {runs.coverage():.3f} |",
                        flush=True,
                    )
    print(f"\n{time.process_time() - began:.0f} CPU seconds")


if __name__ == "__main__":
    main()

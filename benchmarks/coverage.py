"""Coverage of what a ranking reports, in worlds unlike the prior: `python -m benchmarks.coverage PROGRAM WORLD TABLES`.

Every table of a world has utilities of its own, and all tables of a world the same pairs, so that they are fitted as
one batch of the approximation that `fit` uses. Printed are the shares of 90 % intervals that hold the truth, with their
Monte-Carlo standard errors (tables are independent, items of a table are not), and how often the top-ranked item is
the best, by the P(best) that was given for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ITEMS, PER_PAIR, LEVEL, TIE_STRENGTH = 10, 7, 0.9, 0.8
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def _clusters(rng: np.random.Generator) -> Array:
    return np.asarray(np.where(np.arange(ITEMS) < ITEMS // 2, -1.5, 1.5) + rng.normal(0, 0.2, ITEMS))


def _outlier(rng: np.random.Generator) -> Array:
    return np.asarray(np.r_[6.0, rng.normal(0, 1, ITEMS - 1)])


# world -> utilities [item] of one table
WORLDS: dict[str, Callable[[np.random.Generator], Array]] = {
    "prior": lambda rng: rng.normal(0, rng.lognormal(0, 1), ITEMS),
    "sd .15": lambda rng: rng.normal(0, 0.15, ITEMS),
    "sd .5": lambda rng: rng.normal(0, 0.5, ITEMS),
    "sd 2.5": lambda rng: rng.normal(0, 2.5, ITEMS),
    "clusters": _clusters,
    "hubs": lambda rng: rng.normal(0, 1, ITEMS),
    "outlier": _outlier,
    "t2": lambda rng: rng.standard_t(2, ITEMS),
}


def tables(program: str, world: str, count: int, seed: int):
    """Return rows that all tables share, counts [table, row] and true utilities [table, item]."""
    import prefdensity as pf

    rng = np.random.default_rng(seed)
    ties = program.startswith("davidson")
    a, b = np.triu_indices(ITEMS, 1)
    each = np.full(len(a), PER_PAIR)
    if world == "hubs":  # two items meet everybody often, the others hardly ever meet
        each = np.where(a < 2, 18, 1)
    outcomes = 3 if ties else 2
    rows = pf.Comparisons(
        items=tuple(f"i{k}" for k in range(ITEMS)),
        item_a=np.repeat(a, outcomes),
        item_b=np.repeat(b, outcomes),
        outcome=np.tile(np.arange(outcomes), len(a)).astype(np.int8),
        count=np.ones(outcomes * len(a)),
    )
    truth = np.stack([WORLDS[world](rng) for _ in range(count)])
    half = (truth[:, a] - truth[:, b]) / 2
    nu = (rng.lognormal(0, 0.7, count) if world == "prior" else np.full(count, TIE_STRENGTH))[:, None]
    weight = np.stack([np.exp(half), np.exp(-half), nu * np.ones_like(half)][:outcomes], -1)
    share = weight / weight.sum(-1, keepdims=True)
    counts = rng.multinomial(each, share).reshape(count, -1)
    return rows, counts.astype(float), truth, share[..., 0]


def measure(program: str, world: str, count: int, seed: int = 0, draws: int = 1000) -> dict[str, Array]:
    """Return figures of each table [table].

    Shares of intervals that hold the truth, P(best) of the leader and whether it is, k-hat, whether a note says that
    utilities are not normal, and whether the leader's note doubts its P(best).
    """
    import prefdensity as pf
    from prefdensity.inference import posteriors

    rows, counts, truth, share = tables(program, world, count, seed)
    a, b = np.triu_indices(ITEMS, 1)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    found = []
    for k, post in enumerate(posteriors(pf.load_program(program), rows, counts, draws=draws, seed=seed)):
        u = post.utilities()
        centred = truth[k] - truth[k].mean()
        margin = u[:, a] - u[:, b]
        nu = post.draws.get("tie_strength", np.zeros(len(u)))[:, None]
        p_a = 1 / (1 + np.exp(-margin) + nu * np.exp(-margin / 2))
        values = np.concatenate([u, margin, p_a], 1)
        lower, upper = np.quantile(values, tails, axis=0)
        held = (np.r_[centred, centred[a] - centred[b], share[k]] >= lower) & (
            np.r_[centred, centred[a] - centred[b], share[k]] <= upper
        )
        leader, note = int(u.mean(0).argmax()), post.marks("utility")["note"]
        found.append(
            {
                "utilities": held[:ITEMS].mean(),
                "first item": held[0],
                "differences": held[ITEMS : ITEMS + len(a)].mean(),
                "probabilities": held[ITEMS + len(a) :].mean(),
                "leader": held[leader],
                "p_best": (u.argmax(1) == leader).mean(),
                "best": centred.argmax() == leader,
                "k_hat": post.status.k_hat,
                "far": note.str.contains("utilities").any(),
                "doubted": "P(best)" in note[leader],
            }
        )
    return {name: np.array([each[name] for each in found], float) for name in found[0]}


def calibration(found: dict[str, Array]) -> list[tuple[float, float, int]]:
    """Return mean P(best), share of leaders that are best, and tables, for each bin of P(best)."""
    place = np.digitize(found["p_best"], BINS[1:-1])
    bins = [place == k for k in range(len(BINS) - 1)]
    return [(found["p_best"][each].mean(), found["best"][each].mean(), int(each.sum())) for each in bins if each.any()]


def main(program: str, world: str, count: int) -> None:
    """Print the figures of one cell."""
    found = measure(program, world, count)
    parts = []
    for name in ("utilities", "differences", "probabilities", "leader", "first item"):
        parts.append(f"{name} {found[name].mean():.3f} ({found[name].std() / count**0.5:.3f})")
    print(f"{program} | {world} | {count} tables | " + ", ".join(parts))
    usable = (found["k_hat"] < 0.7).mean()
    for far, which in ((1, "a row's note calls utilities not normal"), (0, "no note does")):
        some = found["utilities"][found["far"] == far]
        if len(some) > 1:
            print(f"    {which}: utilities {some.mean():.3f} ({some.std() / len(some) ** 0.5:.3f}), {len(some)} tables")
    for doubted, which in ((0, "no note doubts it"), (1, "its note does")):
        some = {name: each[found["doubted"] == doubted] for name, each in found.items()}
        bins = "; ".join(f"{said:.2f}: {true:.2f} of {n}" for said, true, n in calibration(some))
        print(f"    P(best) of the leader where {which}: {bins or 'never'}")
    print(f"    k-hat below .7 in {usable:.1%} of tables.", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

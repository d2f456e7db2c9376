"""Coverage of what a ranking reports, in worlds unlike the prior: `python -m benchmarks.coverage PROGRAM WORLD TABLES`.

Every table of a world has utilities of its own, and all tables of a world the same pairs, so that they are fitted as
one batch of the approximation that `fit` uses, where a program can be; others are fitted by `fit` one by one. Printed
are the shares of 90 % intervals that hold the truth, with their Monte-Carlo standard errors (tables are independent,
items of a table are not), and how often the top-ranked item is the best, by the P(best) that was given for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ITEMS, PER_PAIR, LEVEL, TIE_STRENGTH = 10, 7, 0.9, 0.8
PEOPLE, SPREAD = 7, 0.4  # annotators, and the standard deviation of their reliability where the prior draws none
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def _clusters(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    return np.asarray(np.where(np.arange(ITEMS) < ITEMS // 2, -1.5, 1.5) + rng.normal(0, 0.2, size))


def _outlier(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    u = rng.normal(0, 1, size)
    u[:, 0] = 6.0
    return u


# world -> utilities [camp, item] of one table
WORLDS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Array]] = {
    "prior": lambda rng, size: rng.normal(0, rng.lognormal(0, 1), size),
    "sd .15": lambda rng, size: rng.normal(0, 0.15, size),
    "sd .5": lambda rng, size: rng.normal(0, 0.5, size),
    "sd 2.5": lambda rng, size: rng.normal(0, 2.5, size),
    "clusters": _clusters,
    "hubs": lambda rng, size: rng.normal(0, 1, size),
    "outlier": _outlier,
    "t2": lambda rng, size: rng.standard_t(2, size),
}


def tables(program: str, world: str, count: int, seed: int):
    """Return rows that all tables share, counts [table, row], and true utilities [table, camp, item].

    A program with annotators is asked about `PEOPLE` of them, who each judge every pair: of spread reliability, or, for
    a program with types, in two camps with utilities of their own, the first camp that of the first annotator. In the
    world called prior, spreads and sizes of camps are drawn from the prior as well.
    """
    import prefdensity as pf

    rng = np.random.default_rng(seed)
    asked = pf.load_program(program)
    people = PEOPLE if "annotator" in asked.needs else 1
    camps = 1 if asked.type_layer is None else 2
    outcomes = 3 if program.startswith("davidson") else 2
    pairs = np.stack(np.triu_indices(ITEMS, 1), 1)
    hubs = pairs[:, 0] < 2  # two items meet everybody often, the others hardly ever meet
    each = np.where(hubs, 18, 1) if world == "hubs" else np.full(len(pairs), PER_PAIR)
    cell, who = np.divmod(np.arange(len(pairs) * people), people)
    judged = each[cell] // people + (who < each[cell] % people)
    rows = pf.Comparisons(
        items=tuple(f"i{k}" for k in range(ITEMS)),
        item_a=np.repeat(pairs[cell, 0], outcomes),
        item_b=np.repeat(pairs[cell, 1], outcomes),
        outcome=np.tile(np.arange(outcomes), len(cell)).astype(np.int8),
        count=np.ones(outcomes * len(cell)),
        annotators=tuple(f"p{k}" for k in range(people)) if people > 1 else (),
        annotator=np.repeat(who, outcomes) if people > 1 else None,
    )
    truth = np.array([WORLDS[world](rng, (camps, ITEMS)) for _ in range(count)])
    from_prior = world == "prior"
    weight = rng.beta(2, 2, (count, 1)) if from_prior else np.full((count, 1), 0.5)
    camp = (rng.random((count, people)) < weight).astype(int) * (camps - 1)
    camp ^= camp[:, :1]
    spread = np.abs(rng.normal(0, 0.5, (count, 1))) if from_prior else np.full((count, 1), SPREAD)
    care = 1 + spread * rng.standard_normal((count, people)) * (people > 1 and camps == 1)
    margin = truth[:, :, pairs[:, 0]] - truth[:, :, pairs[:, 1]]
    margin = care[:, who] * margin[np.arange(count)[:, None], camp[:, who], cell]
    nu = (rng.lognormal(0, 0.7, count) if from_prior else np.full(count, TIE_STRENGTH))[:, None]
    share = _shares(margin, nu)[..., :outcomes]
    counts = rng.multinomial(judged, share / share.sum(-1, keepdims=True)).reshape(count, -1)
    return rows, counts.astype(float), truth, nu if outcomes == 3 else 0 * nu


def _shares(margin: Array, nu: Array) -> Array:
    """Return weights of a, b and a tie [..., 3], which add up to 1 with them all."""
    with np.errstate(divide="ignore"):
        log_weight = np.stack([margin / 2, -margin / 2, np.log(nu) * np.ones_like(margin)], -1)
    weight = np.exp(log_weight - log_weight.max(-1, keepdims=True))
    return np.asarray(weight / weight.sum(-1, keepdims=True))


def fits(program: str, rows, counts: Array, draws: int, seed: int):
    """Yield the posterior of each table: of one batch where a program can be fitted so, else by `fit` as it is."""
    import prefdensity as pf
    from prefdensity.inference import posteriors
    from prefdensity.inference.many import fits_together

    asked = pf.load_program(program)
    if fits_together(asked):
        yield from posteriors(asked, rows, counts, draws=draws, seed=seed)
        return
    for each in counts:
        table = replace(rows.take(np.flatnonzero(each)), count=each[each > 0])
        yield pf.fit(program, table, draws=draws, seed=seed, progress=False)


def wants(post, rng: np.random.Generator) -> Array:
    """Return utilities [draw, item], of a program with types those of the first annotator."""
    u = post.utilities()
    if u.ndim == 2:
        return u
    share = post.draws["type_probability"][:, 0]
    which = (share.cumsum(-1) > rng.random((len(share), 1))).argmax(-1)
    return u[np.arange(len(u)), which]


def measure(program: str, world: str, count: int, seed: int = 0, draws: int = 1000) -> dict[str, Array]:
    """Return figures of each table [table].

    Shares of intervals that hold the truth, P(best) of the leader and whether it is, k-hat, whether a note says that
    utilities are not normal, and whether the leader's note doubts its P(best).
    """
    rows, counts, camps, ties = tables(program, world, count, seed)
    truth = camps[:, 0] - camps[:, 0].mean(-1, keepdims=True)
    a, b = np.triu_indices(ITEMS, 1)
    tails, rng, found = [(1 - LEVEL) / 2, (1 + LEVEL) / 2], np.random.default_rng([seed, 1]), []
    for u, tie, true, post in _believed(program, rows, counts, ties, truth, draws, seed, rng):
        margin, far = u[:, a] - u[:, b], true[a] - true[b]
        values = np.concatenate([u, margin, _shares(margin, tie[0])[..., 0]], 1)
        known = np.r_[true, far, _shares(far, tie[1])[..., 0]]
        lower, upper = np.quantile(values, tails, axis=0)
        held = (known >= lower) & (known <= upper)
        leader, note = int(u.mean(0).argmax()), post.marks("utility")["note"]
        found.append(
            {
                "utilities": held[:ITEMS].mean(),
                "first item": held[0],
                "differences": held[ITEMS : ITEMS + len(a)].mean(),
                "probabilities": held[ITEMS + len(a) :].mean(),
                "leader": held[leader],
                "p_best": (u.argmax(1) == leader).mean(),
                "best": true.argmax() == leader,
                "k_hat": np.nan if post.status.k_hat is None else post.status.k_hat,
                "far": note.str.contains("utilities").any(),
                "doubted": note.str.contains("P(best)", regex=False).any(),
            }
        )
    return {name: np.array([each[name] for each in found], float) for name in found[0]}


def _believed(program, rows, counts, ties, truth, draws, seed, rng):
    """Yield utilities [draw, item], tie strengths ([draw, 1], true), true utilities [item] and the posterior."""
    for k, post in enumerate(fits(program, rows, counts, draws, seed)):
        u = wants(post, rng)
        yield u, (post.draws.get("tie_strength", np.zeros(len(u)))[:, None], ties[k]), truth[k], post


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

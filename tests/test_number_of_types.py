"""How many camps: evidence, and leave-one-annotator-out with the one-standard-error rule, find the known number.

The smallest number whose elpd is within one standard error of the best (Breiman et al. 1984, section 3.4.3), since the
plain maximum takes a camp too many as often as not: its gain over the true number is noise.
"""

import numpy as np
import pytest

import prefdensity
from prefdensity.comparisons import Comparisons
from prefdensity.elpd import standard_error

TABLES = 20


def camps(k, seed, items=8, people=30, each=60):
    """Annotators of k equally likely types with independent standard normal utilities."""
    rng = np.random.default_rng(1000 * k + seed)
    utility = rng.normal(size=(k, items))
    kind = rng.integers(0, k, people)
    who = np.repeat(np.arange(people), each)
    a = rng.integers(0, items, people * each)
    b = (a + rng.integers(1, items, people * each)) % items
    wins = rng.random(len(a)) < 1 / (1 + np.exp(utility[kind[who], b] - utility[kind[who], a]))
    return Comparisons(
        items=tuple(map(str, range(items))),
        item_a=a,
        item_b=b,
        outcome=np.where(wins, 0, 1).astype(np.int8),
        count=np.ones(len(a)),
        annotators=tuple(f"{j:02d}" for j in range(people)),
        annotator=who,
    )


def chosen(data, seed):
    """The number with the most evidence, and the smallest within one standard error of the best elpd."""
    posts = {k: prefdensity.fit(f"annotator_types(k={k})", data, seed=seed, method="laplace") for k in (1, 2, 3, 4)}
    evidence = max(posts, key=lambda k: posts[k].status.log_evidence)
    found = {k: prefdensity.loo(post, data, "annotator") for k, post in posts.items()}
    best = max(found.values(), key=lambda each: each.elpd)
    gaps = {k: (best.elpd_i - each.elpd_i) for k, each in found.items()}
    close = [k for k, gap in gaps.items() if gap.sum() <= standard_error(gap, np.ones(len(gap)))]
    return evidence, min(close)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_number_of_types_is_found(k):
    picks = np.array([chosen(camps(k, seed), seed) for seed in range(TABLES)])
    right = (picks == k).sum(0)
    print(f"\n{k} types: evidence right in {right[0]}, leave-one-annotator-out in {right[1]} of {TABLES}")
    assert (right >= 17).all()

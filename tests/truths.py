"""Ten ways in which 30 annotators may judge 60 random pairs each of 8 items, the first item shown first."""

import functools

import numpy as np
from scipy.stats import norm

import prefdensity
from prefdensity.data.comparisons import Comparisons

TASTES, RELIABILITY = "annotators want different things", "annotators are not equally reliable"
MIXED, CIRCLES = "each comparison mixes several preferences", "preferences go round in circles"

# truth -> what a check of plain Bradley-Terry should name; probit can hardly be told from it
NAMED = {
    "luce": "",
    "types by annotator": TASTES,
    "types by comparison": MIXED,
    "own utilities": TASTES,
    "temperature": RELIABILITY,
    "spammers": RELIABILITY,
    "position": "an effect of the order",
    "lapse": "annotators lapse",
    "probit": "",
    "intransitive": CIRCLES,
}


def logistic(x):
    return 1 / (1 + np.exp(-x))


def simulated(truth, seed, items=8, people=30, each=60):
    rng = np.random.default_rng([seed, list(NAMED).index(truth)])
    who = np.repeat(np.arange(people), each)
    a = rng.integers(items, size=len(who))
    b = (a + rng.integers(1, items, size=len(who))) % items
    u, other = rng.normal(size=(2, items))
    d, d_other = u[a] - u[b], other[a] - other[b]
    own = u + 0.5 * rng.normal(size=(people, items))
    camp, careless = rng.integers(2, size=people)[who], (rng.random(people) < 0.2)[who]
    angle = 2 * np.pi * np.arange(items) / items
    p = {
        "luce": logistic(d),
        "types by annotator": logistic(np.where(camp == 0, d, d_other)),
        "types by comparison": logistic(2 * d) / 2 + logistic(2 * d_other) / 2,
        "own utilities": logistic(own[who, a] - own[who, b]),
        "temperature": logistic(d * np.exp(0.8 * rng.normal(size=people))[who]),
        "spammers": np.where(careless, 0.5, logistic(1.5 * d)),
        "position": logistic(d + 0.4),
        "lapse": 0.1 + 0.8 * logistic(2 * d),
        "probit": norm.cdf(d),
        "intransitive": logistic(0.5 * d + np.sin(angle[a] - angle[b])),
    }[truth]
    return table(who, a, b, (rng.random(len(who)) > p).astype(np.int8))


def table(who, a, b, outcome, **more):
    return Comparisons(
        items=tuple(f"i{k}" for k in range(max(a.max(), b.max()) + 1)),
        item_a=a,
        item_b=b,
        outcome=outcome,
        count=np.ones(len(a)),
        annotators=tuple(f"p{k:02d}" for k in range(who.max() + 1)),
        annotator=who,
        first=np.ones(len(a), np.int8),
        **more,
    )


@functools.cache
def fitted(truth, seed, program="bradley_terry"):
    data = simulated(truth, seed)
    return prefdensity.fit(program, data, method="laplace", draws=300), data

"""The two-annotator toy of Dumoulin et al. (2024), from votes: one utility fails, two are recovered."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import prefdensity
from prefdensity.density import toy

SIZE = 250
DOMAIN = toy.domain(SIZE)
POINTS = np.ravel(DOMAIN.points)
KINDS = toy.annotators(DOMAIN)
TRUTH = np.asarray(KINDS.probability)  # [annotator kind, point]
PROPOSAL = np.ravel(toy.pretrained(DOMAIN).probability)
LABELS = np.array([f"{k:03d}" for k in range(SIZE)])


def votes(judgements, people, weight, seed):
    """Pairs from the pretrained model, judged by `people` of two kinds; the points seen, and everyone's kind."""
    rng = np.random.default_rng(seed)
    kind = (np.arange(people) >= round(weight * people)).astype(int)
    a, b = rng.choice(SIZE, (2, judgements), p=PROPOSAL)
    who = rng.integers(people, size=judgements)
    a, b, who = a[a != b], b[a != b], who[a != b]
    margin = KINDS.log_p[kind[who], a] - KINDS.log_p[kind[who], b]
    wins = rng.random(len(a)) < 1 / (1 + np.exp(-margin.clip(-700, 700)))
    frame = pd.DataFrame({"item_a": LABELS[a], "item_b": LABELS[b], "outcome": np.where(wins, "a", "b")})
    frame["annotator"] = [f"p{j:04d}" for j in who]
    seen = np.unique(np.r_[a, b])
    features = pd.DataFrame({"x": POINTS[seen]}, index=LABELS[seen])
    return prefdensity.Comparisons.from_frame(frame, item_features=features), seen, kind


def gp(seen):
    """Utilities of amplitude 8 and lengthscale 1 in the units of the domain.

    A scale that is learned is 20 there, for log densities are hundreds of nats far out, where no mass is.
    """
    return f"utility_scale(fixed=8.0)+gp(lengthscale={1 / POINTS[seen].std():.4f})"


def share(utility):
    weight = np.exp(utility - utility.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def tv(p, q):
    return 0.5 * np.abs(p - q).sum(-1)


def kl(p, q):
    return np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / q), 0).sum(-1)


def truth_at(seen):
    return TRUTH[:, seen] / TRUTH[:, seen].sum(1, keepdims=True)


def matched(post, truth):
    """Fitted densities and weights of the types in the order of the truth, and that order."""
    found = share(post.point["utility"])
    order = min(([0, 1], [1, 0]), key=lambda o: tv(found[o], truth).sum())
    return found[order], post.point["type_weight"][order], order


def test_one_utility_is_near_neither_annotator_nor_their_mixture():
    data, seen, _ = votes(2**15, 200, 0.4, 100)
    truth = truth_at(seen)
    mixture = 0.4 * truth[0] + 0.6 * truth[1]
    single = share(prefdensity.fit(gp(seen), data, method="map").point["utility"])
    assert tv(mixture, single) >= 0.45
    assert kl(mixture, single) >= 0.70
    pretrained = PROPOSAL[seen] / PROPOSAL[seen].sum()
    assert tv(pretrained, single) <= 0.25  # a blur, nearer to where the pairs came from
    assert (tv(truth, single) >= 0.45).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, 101])
@pytest.mark.parametrize("weight", [0.4, 0.5])
@pytest.mark.parametrize("people", [20, 200])
def test_with_ids_both_annotators_are_recovered(people, weight, seed):
    data, seen, kind = votes(2**15, people, weight, seed)
    truth = truth_at(seen)
    mixture = weight * truth[0] + (1 - weight) * truth[1]
    post = prefdensity.fit(f"annotator_types(k=2)+{gp(seen)}", data, method="map", restarts=4)
    found, shares, order = matched(post, truth)
    belongs = post.draws["type_probability"].mean(0).argmax(1)  # annotators p0000, p0001, ... in this order
    accuracy = (np.argsort(order)[belongs] == kind).mean()
    single = share(prefdensity.fit(gp(seen), data, method="map").point["utility"])
    gain = tv(mixture, single) / tv(mixture, shares @ found)
    print(f"\nTV {tv(found, truth).round(3)} KL {kl(truth, found).round(4)} weight {shares[0]:.3f} "
          f"accuracy {accuracy:.3f}; the marginal is {gain:.1f} times nearer than one utility")  # fmt: skip
    assert (tv(found, truth) <= 0.15).all()
    assert (kl(truth, found) <= 0.05).all()
    assert accuracy >= 0.99
    assert abs(shares[0] - weight) <= (0.03 if people == 20 else 0.02)  # the prior adds two annotators
    assert gain >= 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, 101])
@pytest.mark.parametrize("weight", [0.4, 0.5])
def test_without_ids_both_annotators_are_recovered_less_sharply(weight, seed):
    data, seen, _ = votes(2**15, 200, weight, seed)
    nobody = replace(data, annotator=None, annotators=())
    truth = truth_at(seen)
    post = prefdensity.fit(f"comparison_types(k=2)+{gp(seen)}", nobody, method="map", restarts=4)
    found, shares, _ = matched(post, truth)
    print(f"\nTV {tv(found, truth).round(3)} weight {shares[0]:.3f}")
    assert (tv(found, truth) <= 0.25).all()
    assert abs(shares[0] - weight) <= 0.03

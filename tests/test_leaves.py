"""Sums over comparisons against the matrices they stand for, written out in NumPy: J row by row, then products."""

import itertools

import numpy as np
import pytest
import torch

from prefdensity.inference.leaves import Leaf

COMPARISONS, PEOPLE, OWN = 30, 4, 3
RNG = np.random.default_rng(0)


def places(size):
    return torch.tensor(RNG.integers(size, size=COMPARISONS))


def tensor(*shape):
    return torch.tensor(RNG.normal(size=shape))


def jacobian(leaf):
    """J [comparison, size], from what a leaf says of its rows."""
    if leaf.matrix is not None:
        return leaf.matrix.numpy()
    sparse = np.zeros((COMPARISONS, leaf.entries))
    for place, weight in leaf.terms:
        for c in range(COMPARISONS):
            sparse[c, place[c]] += float(weight if isinstance(weight, float) else weight[c])
    return sparse if leaf.through is None else sparse @ leaf.through.numpy()


def annotators_own(at):
    """Entries of annotators: three each, of which a comparison feels a difference of two of its annotator's."""
    first = torch.tensor(RNG.integers(PEOPLE, size=COMPARISONS)) * OWN
    terms = ((first + places(OWN), 1.0), (first + places(OWN), -1.0))
    return Leaf(at, tensor(1, COMPARISONS), terms, own=OWN)


# of coordinates 0..4, 5..6, 7..18, 19..20, 21..25
LEAVES = {
    "margin": Leaf(slice(0, 5), tensor(1, COMPARISONS), ((places(5), 1.0), (places(5), -1.0))),
    "through": Leaf(slice(5, 7), tensor(1, COMPARISONS), ((places(4), 1.0), (places(4), -1.0)), through=tensor(4, 2)),
    "own": annotators_own(slice(7, 19)),
    "matrix": Leaf(slice(19, 21), tensor(1, COMPARISONS), matrix=tensor(COMPARISONS, 2)),
    "weighted": Leaf(slice(21, 26), tensor(1, COMPARISONS), ((places(5), tensor(COMPARISONS)), (places(5), 2.0))),
}


@pytest.mark.parametrize("name", LEAVES)
def test_a_pullback_is_a_product_with_the_jacobian(name):
    values = tensor(3, COMPARISONS)
    np.testing.assert_allclose(LEAVES[name].pullback(values), values.numpy() @ jacobian(LEAVES[name]), atol=1e-12)


@pytest.mark.parametrize(("name", "other"), list(itertools.product(LEAVES, repeat=2)))
def test_blocks_and_covariances_are_those_of_jacobians(name, other):
    one, two, values = LEAVES[name], LEAVES[other], tensor(2, COMPARISONS)
    j, k = jacobian(one), jacobian(two)
    for found, weight in zip(one.block(two, values), values.numpy(), strict=True):
        np.testing.assert_allclose(found, j.T @ (weight[:, None] * k), atol=1e-12)
    root = tensor(26, 26)
    covariance = root @ root.T
    expected = np.einsum("ci,ij,cj->c", j, covariance[one.at, two.at].numpy(), k)
    np.testing.assert_allclose(one.covariance_with(two, covariance), expected, atol=1e-11)


def test_annotators_own_entries_meet_within_a_person():
    one, values = LEAVES["own"], tensor(1, COMPARISONS)
    who = one.terms[0][0] // OWN
    two = Leaf(slice(0, PEOPLE), tensor(1, COMPARISONS), ((who, 1.0),), own=1)
    for other in (one, two):
        whole = jacobian(one).T @ (values[0].numpy()[:, None] * jacobian(other))
        apart = whole.reshape(PEOPLE, OWN, PEOPLE, other.own)
        found = one.own_blocks(other, values)
        for person, mate in itertools.product(range(PEOPLE), repeat=2):
            expected = found[person] if person == mate else np.zeros((OWN, other.own))
            np.testing.assert_allclose(apart[person, :, mate], expected, atol=1e-12)

"""A reward network trained with and without the camps of its annotators: `python -m benchmarks.trainer --seeds 20`.

Three camps want different things of responses to prompts, and it is recorded whose vote each is. A program with weights
of features by camp is fitted to the votes, `auxiliary_columns` writes its probabilities beside them, and a network of
one hidden layer is trained twice, from the same weights for as many steps: with the labels' loss alone, and with the
variance-reduced one, its lambda tuned from gradients of the last layer at every hundredth step. Printed for each seed:
lambda and the ratio of the variances of gradients in the end, and the regret of both policies at prompts that neither
has seen: beta KL from the policy that is best for the average preference there.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from scipy.special import expit
from torch import nn

import prefdensity as pf
from benchmarks.reward_worlds import STEEPNESS, TYPE_SHARE
from prefdensity.reward.columns import auxiliary_columns
from prefdensity.reward.convex import moment, solve
from prefdensity.reward.losses import vr_margin_loss
from prefdensity.reward.policy_learning import regret, two_stage
from prefdensity.reward.tuning import Covariances, Tuned

FEATURES, PROMPTS, RESPONSES = 5, 40, 6
STEPS, TUNING, HIDDEN, BETA = 300, 100, 16, 1.0


@pf.layer("margin", needs=["annotator", "features"])
def camps(margin, data):
    """Weights of features by camp, who is the annotator here, about those of the layer `linear`."""
    with pyro.plate("annotator", data.size("annotator"), dim=-2), pyro.plate("feature", FEATURES, dim=-1):
        own = pyro.sample("weight_by_camp", dist.Normal(0.0, 1.0))
    return margin + data.contrast(own @ data.features.T, by="annotator")


@dataclass(frozen=True, eq=False)
class World:
    """Votes on responses with features [prompt, response, feature], and what camps prefer at prompts held out."""

    votes: pf.Comparisons
    features: pd.DataFrame
    held_out: np.ndarray
    best: np.ndarray  # rewards [prompt, response] of the average preference there


def world(seed: int, votes: int) -> World:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, PROMPTS, RESPONSES, FEATURES))
    want = rng.normal(size=(len(TYPE_SHARE), FEATURES))
    want *= STEEPNESS / np.linalg.norm(want, axis=1, keepdims=True)
    prompt, camp = rng.integers(PROMPTS, size=votes), rng.choice(len(TYPE_SHARE), votes, p=TYPE_SHARE)
    a, b = np.array([rng.choice(RESPONSES, 2, replace=False) for _ in range(votes)]).T
    margin = ((x[0, prompt, a] - x[0, prompt, b]) * want[camp]).sum(1)
    names = np.array([[f"{k}.{j}" for j in range(RESPONSES)] for k in range(PROMPTS)])
    table = pd.DataFrame({
        "item_a": names[prompt, a], "item_b": names[prompt, b], "camp": [f"camp {k}" for k in camp],
        "outcome": np.where(rng.random(votes) < expit(margin), "a", "b"), "prompt": [f"prompt {k}" for k in prompt],
    })  # fmt: skip
    features = pd.DataFrame(x[0].reshape(-1, FEATURES), names.ravel(), [f"f{k}" for k in range(FEATURES)])
    data = pf.read(table, annotator="camp", context="prompt", item_features=features)
    utility = x[1] @ want.T  # [prompt, response, camp]
    return World(
        data, features, x[1], np.array([_projected(expit(each[:, None] - each) @ TYPE_SHARE) for each in utility])
    )


def _projected(preference: np.ndarray) -> np.ndarray:
    """Return the Bradley-Terry rewards [response] nearest to preferences [response, response], pairs met evenly."""
    one, two = np.nonzero(~np.eye(len(preference), dtype=bool))
    basis = np.eye(len(preference))[:, 1:]
    d, weight = basis[one] - basis[two], np.full(len(one), 1 / len(one))
    return basis @ solve([(d, weight)], moment(weight * preference[one, two], d)).theta


@dataclass(frozen=True, eq=False)
class Rows:
    """Features [row, feature] of the four responses of each row, and probabilities [row], as tensors."""

    x: tuple[torch.Tensor, ...]
    g: tuple[torch.Tensor, torch.Tensor]

    @classmethod
    def of(cls, table: pd.DataFrame, features: pd.DataFrame) -> Rows:
        x = tuple(torch.tensor(features.loc[table[name]].to_numpy()) for name in ("chosen", "rejected", "a_1", "a_2"))
        g = [torch.tensor(table[name].to_numpy()) for name in ("chosen_preference", "a_1_preference")]
        return cls(x, (g[0], g[1]))

    def margins(self, network: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        chosen, rejected, one, two = (network(each).squeeze(-1) for each in self.x)
        return chosen - rejected, one - two


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1, bias=False)).double()


def tuned(rows: Rows, made: nn.Module) -> Tuned:
    """Return the lambda of least variance at the network as it stands, as the trainers find it."""
    found = Covariances(list(made.parameters())[-1:])
    (d, away), (g, g_away) = rows.margins(made), rows.g
    found.add(d, g, away, g_away)
    return found.tuned()


def trained(rows: Rows, seed: int, auto: bool) -> nn.Module:
    """Return a network trained with the labels' loss, or with lambda tuned anew now and then."""
    made, lambda_ = network(seed), 0.0
    steps = torch.optim.Adam(made.parameters(), lr=0.02)
    for step in range(STEPS):
        if auto and step % TUNING == 0:
            lambda_ = tuned(rows, made).lambda_
        steps.zero_grad()
        (d, away), (g, g_away) = rows.margins(made), rows.g
        vr_margin_loss(d, g, away, g_away, lambda_=lambda_).total.backward()
        steps.step()
    return made


def lost(w: World, made: nn.Module) -> float:
    """Return the regret of the network's policy at prompts that it has not seen."""
    with torch.no_grad():
        reward = made(torch.tensor(w.held_out)).squeeze(-1).numpy()
    even = np.full(reward.shape, 1 / RESPONSES)
    return float(regret(two_stage(reward, even, BETA), w.best, even, BETA))


def compared(seed: int, votes: int = 600) -> tuple[Tuned, float, float]:
    """Return what tuning found, and the regrets of training with the labels alone and with the auxiliary."""
    w = world(seed, votes)
    post = pf.fit(pf.compose("linear", camps, "logit"), w.votes, method="laplace", seed=seed, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some rows may be rough
        rows = Rows.of(auxiliary_columns(w.votes, post, seed=seed, progress=False), w.features)
    plain, reduced = (trained(rows, seed, auto) for auto in (False, True))
    return tuned(rows, reduced), lost(w, plain), lost(w, reduced)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--votes", type=int, default=600)
    options = parser.parse_args()
    began, lower = time.process_time(), 0
    for seed in range(options.seeds):
        found, plain, reduced = compared(seed, options.votes)
        lower += reduced < plain
        print(f"seed {seed}: {found.worth(options.votes)}; regret {plain:.4f} without, {reduced:.4f} with", flush=True)
    print(f"lower in {lower} of {options.seeds}; {time.process_time() - began:.0f} CPU seconds")


if __name__ == "__main__":
    main()

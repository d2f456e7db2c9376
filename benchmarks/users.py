"""Rewards that differ between users, beside published ones: `python -m benchmarks.users [--seeds 5]`.

Made-up users judge pairs of answers known by their features; of everybody's pairs a fifth is held out. Peers are
written from their descriptions:

    VPL      a variational user latent (Poddar et al. 2024, arXiv 2408.10075): a network reads a user's judged pairs
             into a Gaussian over 8 numbers, another one gives rewards from these and the features
    factors  rewards factorised into a few rewards of features that users mix (Bose et al. 2025, arXiv 2504.14439;
             Shenfeld et al. 2025, arXiv 2503.06358), by penalised maximum likelihood

Both stop where a tenth of the training pairs, kept apart, says so; the penalty and the number of factors are chosen
there too. Our programs choose nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import prefdensity as pf

Array = NDArray[np.float64]
PROGRAMS = (
    "linear", "linear+annotator_types(k=2)", "linear+feature_tastes", "linear+feature_factors(rank=2)",
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """Pairs as differences of features [pair, feature], who judged [pair], whether the first won [pair]."""

    apart: Array
    who: NDArray[np.int64]
    won: NDArray[np.bool_]

    def at(self, rows: NDArray[np.bool_]) -> Judged:
        """Return some of the pairs."""
        return Judged(self.apart[rows], self.who[rows], self.won[rows])


def world(kind: str, seed: int, users: int = 60, each: int = 50, features: int = 10) -> tuple[Judged, Array]:
    """Return pairs that users of a kind judged, and the chance of the first one each time."""
    rng = np.random.default_rng((seed, len(kind)))
    common, own = rng.standard_normal((1, features)), rng.standard_normal((users, features))
    camp = rng.standard_normal((2, features))[rng.integers(0, 2, users)]
    mixed = rng.standard_normal((users, 2)) @ rng.standard_normal((2, features))
    weight = {
        "alike": 1.5 * common + 0 * own,
        "camps": 1.5 * camp,
        "own weights": common + own,
        "two factors": common + mixed,
    }[kind]
    weight = weight / features**0.5
    who = np.repeat(np.arange(users), each)
    apart = rng.standard_normal((2, len(who), features))
    chance = 1 / (1 + np.exp(-((apart[0] - apart[1]) * weight[who]).sum(1)))
    return Judged(apart[0] - apart[1], who, rng.random(len(who)) < chance), chance


def ours(program: str, known: Judged, asked: Judged, seed: int) -> Array:
    """Return the chance that the first of each pair asked about wins, by a program of ours."""
    count, size = known.apart.shape
    zero = np.zeros_like(known.apart)
    features = np.concatenate([known.apart / 2, -known.apart / 2]) if count else zero
    names = tuple(f"x{k}" for k in range(size))
    data = pf.Comparisons(
        items=tuple(map(str, range(2 * count))), item_a=np.arange(count), item_b=np.arange(count) + count,
        outcome=np.where(known.won, 0, 1).astype(np.int8), count=np.ones(count), annotator=known.who,
        annotators=tuple(f"u{k}" for k in range(known.who.max() + 1)), item_features=features, feature_names=names,
    )  # fmt: skip
    post = pf.fit(program, data, seed=seed, progress=False)
    table = pd.DataFrame(np.concatenate([asked.apart / 2, -asked.apart / 2]), columns=names)
    fresh = pf.described(post, data, table, progress=False)
    found = np.empty(len(asked.who))
    for k in np.unique(asked.who):
        rows = np.flatnonzero(asked.who == k)
        pairs = [(str(row), str(row + len(found))) for row in rows]
        who = {} if "annotator" not in post.program.needs else {"annotator": data.annotators[k]}
        found[rows] = fresh.predict(pairs, **who)["p_a"]
    return found


def fitted(
    module: nn.Module, margin: Callable[[Judged, bool], tuple[Tensor, Tensor]], known: Judged, seed: int
) -> float:
    """Train a network, stopped by a tenth of the pairs; return the log loss there. `margin` gives a penalty as well."""
    kept = np.random.default_rng(seed).random(len(known.who)) < 0.1
    train, stop = known.at(~kept), known.at(kept)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.01)
    best, state, since = np.inf, module.state_dict(), 0
    for _ in range(2000):
        optimiser.zero_grad()
        found, penalty = margin(train, True)
        loss = nn.functional.binary_cross_entropy_with_logits(found, torch.tensor(train.won, dtype=torch.float32))
        (loss + penalty / len(train.who)).backward()
        optimiser.step()
        with torch.no_grad():
            found, _ = margin(stop, False)
            now = float(
                nn.functional.binary_cross_entropy_with_logits(found, torch.tensor(stop.won, dtype=torch.float32))
            )
        since += 1
        if now < best - 1e-4:
            best, state, since = now, {name: value.clone() for name, value in module.state_dict().items()}, 0
        if since == 100:
            break
    module.load_state_dict(state)
    return best


class Factors(nn.Module):
    """Users' weights of features: common ones, and scores times a few factors."""

    def __init__(self, users: int, features: int, rank: int) -> None:
        super().__init__()
        self.common = nn.Parameter(torch.zeros(features))
        self.score = nn.Parameter(0.1 * torch.randn(users, rank))
        self.factor = nn.Parameter(0.1 * torch.randn(rank, features))

    def margins(self, pairs: Judged) -> Tensor:
        """Return by how much the first is better, to who judged it [pair]."""
        apart, who = torch.tensor(pairs.apart, dtype=torch.float32), torch.tensor(pairs.who)
        return apart @ self.common + (self.score[who] * (apart @ self.factor.T)).sum(1)


def factors(known: Judged, asked: Judged, seed: int) -> Array:
    """Return the same by a factorised reward, of the best penalty and number of factors."""
    best, found = np.inf, np.zeros(0)
    for rank in (1, 2, 4):
        for penalty in (0.3, 1.0, 3.0):
            torch.manual_seed(seed)
            module = Factors(int(known.who.max()) + 1, known.apart.shape[1], rank)

            def margin(
                pairs: Judged, training: bool, module: Factors = module, by: float = penalty
            ) -> tuple[Tensor, Tensor]:
                return module.margins(pairs), by * sum((p.square().sum() for p in module.parameters()), torch.zeros(()))

            now = fitted(module, margin, known, seed)
            if now < best:
                best, found = now, torch.sigmoid(module.margins(asked)).detach().numpy().astype(float)
    return found


class Latent(nn.Module):
    """Encoder of a user's judged pairs into a Gaussian over 8 numbers, and the reward given these."""

    def __init__(self, features: int, width: int = 64, latent: int = 8) -> None:
        super().__init__()
        self.pair = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, 2 * latent)
        self.reward = nn.Sequential(nn.Linear(features + latent, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                                    nn.Linear(width, 1))  # fmt: skip

    def encoded(self, judged: Judged) -> tuple[Tensor, Tensor]:
        """Return mean and log sd [user, latent] by the average over a user's pairs, the chosen answer first."""
        signed = torch.tensor(judged.apart * np.where(judged.won, 1, -1)[:, None], dtype=torch.float32)
        read, who = self.pair(signed), torch.tensor(judged.who)
        users = int(judged.who.max()) + 1
        count = torch.bincount(who, minlength=users).clamp_min(1)[:, None]
        mean, log_sd = self.head(torch.zeros(users, read.shape[1]).index_add(0, who, read) / count).chunk(2, -1)
        return mean, log_sd

    def margins(self, pairs: Judged, z: Tensor) -> Tensor:
        """Return reward of the first less that of the second [pair], for users' latents z [user, latent]."""
        apart, own = torch.tensor(pairs.apart, dtype=torch.float32), z[torch.tensor(pairs.who)]
        one, two = (self.reward(torch.cat([sign * apart / 2, own], 1))[:, 0] for sign in (1, -1))
        return one - two  # type: ignore[no-any-return]


def vpl(known: Judged, asked: Judged, seed: int) -> Array:
    """Return the same by a variational user latent."""
    torch.manual_seed(seed)
    module = Latent(known.apart.shape[1])
    kept = np.random.default_rng(seed).random(len(known.who)) < 0.1  # what stops the training is not read either
    context = known.at(~kept)

    def margin(pairs: Judged, training: bool) -> tuple[Tensor, Tensor]:
        mean, log_sd = module.encoded(context)
        z = mean + log_sd.exp() * torch.randn_like(mean) if training else mean
        divergence = 0.5 * ((2 * log_sd).exp() + mean**2 - 1 - 2 * log_sd).sum()
        return module.margins(pairs, z), divergence

    fitted(module, margin, known, seed)
    with torch.no_grad():
        mean, _ = module.encoded(known)
        return torch.sigmoid(module.margins(asked, mean)).numpy().astype(float)


def methods() -> dict[str, Callable[[Judged, Judged, int], Array]]:
    """Return what is compared by name."""
    return {
        **{name: (lambda known, asked, seed, name=name: ours(name, known, asked, seed)) for name in PROGRAMS},
        "VPL": vpl,
        "factors": factors,
    }


def measured(kind: str, seed: int) -> list[dict[str, object]]:
    """Return by method the accuracy on pairs held out, their log score over that of the truth, and CPU seconds."""
    judged, chance = world(kind, seed)
    held = np.random.default_rng(seed).random(len(judged.who)) < 0.2
    known, asked = judged.at(~held), judged.at(held)
    truth = np.where(asked.won, chance[held], 1 - chance[held])
    rows: list[dict[str, object]] = [
        {
            "world": kind,
            "method": "the truth",
            "accuracy": ((chance[held] > 0.5) == asked.won).mean(),
            "loss": 0.0,
            "s": 0.0,
        }
    ]
    for name, method in methods().items():
        began = time.process_time()
        found = method(known, asked, seed)
        loss = np.log(truth).mean() - np.log(np.where(asked.won, found, 1 - found).clip(1e-12)).mean()
        right = ((found > 0.5) == asked.won).mean()
        rows.append({"world": kind, "method": name, "accuracy": right, "loss": loss, "s": time.process_time() - began})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kinds = ("alike", "camps", "own weights", "two factors")
    rows = [row for kind in kinds for seed in range(options.seeds) for row in measured(kind, seed)]
    table = pd.DataFrame(rows).groupby(["world", "method"], sort=False).mean().unstack("world")
    print(table.swaplevel(axis=1)[list(kinds)].to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()

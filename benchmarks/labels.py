"""Planted label errors, found by `annotate` and by confident learning: `python -m benchmarks.labels FOLDER`.

FOLDER holds ukpconvarg and the hh pairs with their sentence embeddings. Labels that are taken for the truth (the gold
labels of ukpconvarg, people's choices of hh) are flipped at random; both methods see the flipped labels and features of
the same pairs, and put rows in the order in which somebody should look at them. Printed for each rate: the average
precision of that order, means over plantings, the difference with its paired standard error, how many flips were
expected, and how far p_flipped is from the share that was flipped: the largest gap of ten classes of probabilities that
hold at least `LEAST` rows of all plantings, and the mean gap of rows.

Confident learning (Northcutt, Jiang and Chuang 2021, JAIR 70) ranks labels by self-confidence, the out-of-fold
probability of the label; with two classes its other scores order rows alike (cleanlab 2.9 gives the same average
precision to four digits). Probabilities are those of logistic regression on differences of features, five folds, with
scikit-learn's ridge and with one tuned by cross-validation.

Where no label can be predicted well, a flip looks like a difference of opinion, and the share of flips cannot be
learned: on hh some rows are checked by hand (`CHECKED`, their planted flips are looked at), and the program is told
how many were wrong.

What is taken for the truth has errors of its own: of the labels of ukpconvarg that were suspected (p_flipped above
`SUSPECTED`) it is told how many had been flipped, and how many of the others most of the crowd contradicts.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict

import prefdensity as pf

RATES, FOLDS, CHECKED, LEAST, SUSPECTED = (0.05, 0.1, 0.2), 5, 400, 200, 0.6
COVARIATES = ("longer", "longer_by_panel")
RIDGES = (0.01, 0.1, 1.0)  # inverse, of the tuned one


@dataclass(frozen=True, eq=False)
class Labelled:
    """Pairs with the label that is taken for the truth, features [item, feature] of their items, and programs."""

    name: str
    pairs: pd.DataFrame
    a_wins: np.ndarray
    features: pd.DataFrame
    programs: dict[str, str]  # with {wrong} and {checked} where rows are checked
    checked: int = 0  # rows whose planted flips are looked at
    long: bool = False  # whether lengths are told
    method: str = "laplace"
    crowd: np.ndarray | None = None  # its votes [row, 2] that say the label, and that say the opposite

    def differences(self) -> dict[str, np.ndarray | csr_array]:
        """Return what peers are told of pairs: features, and features with a column for each item that recurs."""
        a, b = (self.features.index.get_indexer(self.pairs[side]) for side in ("item_a", "item_b"))
        x, n = self.features.to_numpy(), len(a)
        beside = self.pairs[list(COVARIATES)].to_numpy() if self.long else np.empty((n, 0))
        found: dict[str, np.ndarray | csr_array] = {"features": np.hstack([x[a] - x[b], beside])}
        if n > len(x):
            place = np.tile(np.arange(n), 2), np.concatenate([a, b])
            items = csr_array((np.repeat([1.0, -1.0], n), place), (n, len(x)))
            found["features and items"] = csr_array(hstack([csr_array(found["features"]), items]))
        return found

    def annotated(self, program: str, a_wins: np.ndarray, wrong: int) -> pd.DataFrame:
        """Return our rows of these labels, from a fit of a program."""
        table = self.pairs.assign(outcome=np.where(a_wins, "a", "b"))
        more = {"covariates": COVARIATES} if self.long else {"context": "all"} if "all" in table else {}
        data = pf.read(table, item_features=self.features, **more)
        post = pf.fit(program.format(wrong=wrong, checked=self.checked), data, method=self.method, progress=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # p_flipped needs no refits
            return pf.annotate(data, post, refits=0, progress=False)


def arguments(folder: Path) -> Labelled:
    votes = pd.read_csv(folder / "ukpconvarg.csv.gz")
    says = pd.DataFrame({side: votes["outcome"] == side for side in "ab"})
    votes[["say_a", "say_b"]] = says.groupby([votes["topic"], votes["pair"]]).transform("sum")
    gold = votes.drop_duplicates(["topic", "pair"])
    gold = gold[gold["gold"].isin(["a", "b"])]
    kept = np.load(folder / "ukp_embeddings.npz")
    pairs = gold[["item_a", "item_b"]].assign(all="all").reset_index(drop=True)
    own = 'linear+tastes(by="context")+logit+flips'  # in the one context, each item has something of its own
    programs = {"features and items": own}
    features = _frame(kept["x"], kept["items"])
    truth = (gold["gold"] == "a").to_numpy()
    crowd = gold[["say_a", "say_b"]].to_numpy(float)
    crowd[~truth] = crowd[~truth, ::-1]
    return Labelled("ukp", pairs, truth, features, programs, method="auto", crowd=crowd)


def answers(folder: Path, wide: bool) -> Labelled:
    """Return the pairs of hh; wide: with lengths, and all features by panel."""
    votes, kept = pd.read_csv(folder / "hh_pairs.csv.gz"), np.load(folder / "hh_embeddings.npz")
    names = {side: np.array([f"{side}{k}" for k in range(len(votes))]) for side in "ab"}
    x = np.concatenate([kept["a"], kept["b"]]).astype(float)
    panel = np.where(votes["subset"] == "helpful", 1.0, -1.0)
    longer = np.log1p(votes["words_a"]) - np.log1p(votes["words_b"])
    pairs = pd.DataFrame(
        {"item_a": names["a"], "item_b": names["b"], "longer": longer, "longer_by_panel": longer * panel,
         "panel": votes["subset"]}
    )  # fmt: skip
    if wide:
        x = np.hstack([x, x * np.tile(panel, 2)[:, None]])
    features = _frame(x, np.concatenate([names["a"], names["b"]]))
    name = "hh, by panel, with lengths" if wide else "hh"
    programs = {"features": f"linear{'+covariate' * wide}+logit+flips(wrong={{wrong}}, checked={{checked}})"}
    return Labelled(name, pairs, (votes["human"] == "a").to_numpy(), features, programs, CHECKED, wide)


def _frame(x: np.ndarray, items: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(x.astype(float), index=items, columns=[f"f{k}" for k in range(x.shape[1])])


def sets(folder: Path) -> Iterator[Labelled]:
    """Yield what is to be cleaned."""
    yield arguments(folder)
    yield answers(folder, wide=False)
    yield answers(folder, wide=True)


def confident(x: np.ndarray | csr_array, label: np.ndarray, tuned: bool, seed: int) -> np.ndarray:
    """Return the self-confidence [row] of labels: their out-of-fold probability."""
    made = LogisticRegression(fit_intercept=False, max_iter=1000)
    if tuned:
        made = GridSearchCV(made, {"C": RIDGES}, scoring="neg_log_loss", cv=FOLDS)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    p = cross_val_predict(made, x, label.astype(int), cv=folds, method="predict_proba")
    return np.asarray(p[np.arange(len(label)), label.astype(int)])


@dataclass
class Found:
    """What one method found in some plantings."""

    precision: list[float] = field(default_factory=list)
    chance: list[np.ndarray] = field(default_factory=list)
    flipped: list[np.ndarray] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, suspicion: np.ndarray, flipped: np.ndarray, began: float) -> None:
        self.precision.append(float(average_precision_score(flipped, suspicion)))
        self.chance.append(suspicion)
        self.flipped.append(flipped)
        self.seconds += time.process_time() - began

    def suspected(self, crowd: np.ndarray) -> str:
        """Say of the labels that were suspected how many were flipped, and what the crowd [row, 2] says of the rest."""
        chance, flipped = np.concatenate(self.chance), np.concatenate(self.flipped)
        mine = chance > SUSPECTED
        own, other = np.tile(crowd, (len(self.chance), 1))[mine & ~flipped].T
        against, anyway = (other > own).sum(), (crowd[:, 1] > crowd[:, 0]).mean()
        return (
            f"of {mine.sum()} suspected labels {chance[mine].sum():.0f} were expected to be wrong, "
            f"{flipped[mine].sum()} were flipped, and of the other {len(own)} most of the crowd "
            f"contradicts {against} ({anyway:.1%} of all)"
        )

    def calibration(self) -> str:
        chance, flipped = np.concatenate(self.chance), np.concatenate(self.flipped)
        rows = np.minimum((10 * chance).astype(int), 9)
        size, said, was = (np.bincount(rows, each, 10) for each in (np.ones(len(rows)), chance, flipped))
        gap = np.abs(said - was)[size > 0] / size[size > 0]
        large = size[size > 0] >= LEAST
        mean = (gap * size[size > 0]).sum() / size.sum()
        most = gap[large].max() if large.any() else np.nan
        return f"{chance.sum():.0f} expected of {flipped.sum()}, gaps {most:.3f}, mean {mean:.3f}"


def planting(each: Labelled, rate: float, seed: int, found: dict[str, Found], told: dict) -> None:
    """Flip labels, and let all methods look for them."""
    rng = np.random.default_rng([seed, int(1000 * rate)])
    flipped = rng.random(len(each.pairs)) < rate
    label = each.a_wins ^ flipped
    left = np.sort(rng.permutation(len(label))[each.checked :])  # rows that nobody has checked
    seen = np.delete(flipped, left)
    for name, program in each.programs.items():
        began = time.process_time()
        chance = each.annotated(program, label, int(seen.sum()))["p_flipped"].to_numpy(float)
        found.setdefault(f"annotate, {name}", Found()).add(chance[left], flipped[left], began)
    for name, x in told.items():
        for tuned in (False, True)[: 1 + each.checked]:  # on ukp tuning changes nothing, or to the worse
            began = time.process_time()
            doubt = 1 - confident(x, label, tuned, seed)
            key = f"confident learning, {name}{', tuned ridge' * tuned}"
            found.setdefault(key, Found()).add(doubt[left], flipped[left], began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plantings", type=int, default=10)
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--only", default="", help="the set of this name")
    options = parser.parse_args()
    for each in sets(options.folder):
        if options.only and each.name != options.only:
            continue
        told = each.differences()
        for rate in options.rates:
            found: dict[str, Found] = {}
            for seed in range(options.plantings):
                planting(each, rate, seed, found, told)
                last = {name: round(one.precision[-1], 4) for name, one in found.items()}
                said = [one.calibration() for name, one in found.items() if name.startswith("annotate")]
                print(f"planting {seed + 1}: {last}; so far {'; '.join(said)}", flush=True)
            print(f"\n{each.name}, {rate:.0%} flipped, {len(each.pairs)} pairs, {options.plantings} plantings")
            _tell(found, each.crowd)


def _tell(found: dict[str, Found], crowd: np.ndarray | None) -> None:
    ours = {name: one for name, one in found.items() if name.startswith("annotate")}
    for name, one in found.items():
        precision = np.array(one.precision)
        line = f"  {name}: average precision {precision.mean():.4f}"
        if name in ours:
            line += f"; {one.calibration()}"
            line += "" if crowd is None else f"; {one.suspected(crowd)}"
        for other, mine in ours.items():
            if name not in ours and len(precision) > 1:
                more = np.array(mine.precision) - precision
                line += f"; {other} {more.mean():+.4f} ({more.std(ddof=1) / np.sqrt(len(more)):.4f})"
        print(f"{line}; {one.seconds / len(precision):.1f} CPU s", flush=True)


if __name__ == "__main__":
    main()

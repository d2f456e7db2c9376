"""Win rates of real systems, people as labels and recorded verdicts of AI judges as cheap rungs, at equal cost.

    python -m benchmarks.win_rates DATA --replicates 500

DATA is the folder with pandalm.csv and llmfao.csv. A unit is a pair of answers of which one is the system's; its label
is the share of people who prefer that answer, a tie half; a label costs 10, a verdict of an AI judge 1. What is known
of every pair is free: how much longer the system's answer is (pandalm), the prompt (llmfao). Units are drawn with
replacement, so that the win rate of all pairs is the truth. A plan is learned from a pilot of 300 units.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from prefdensity.judged.measured import Measured
from prefdensity.pcal import ladder, ladder_plan
from prefdensity.pcal.allocation import draw

SETS = {"pandalm": ("ai_pandalm7b", "ai_gpt35"), "llmfao": ("ai_gpt4", "ai_gpt3")}
FREE = {"pandalm": "longer", "llmfao": "prompt"}
UNITS, PILOT, MONEY = 2000, 300, 2500.0


def table(path: Path, judges: tuple[str, ...], free: str, system: str) -> pd.DataFrame:
    """Return one row per pair of answers of a system: people's votes for it, what each judge said, what is free."""
    frame = pd.read_csv(path)
    frame = frame[(frame["item_a"] == system) | (frame["item_b"] == system)]
    mine = np.where(frame["item_a"] == system, "a", "b")
    frame["label"] = np.where(frame["outcome"] == "tie", 0.5, (frame["outcome"] == mine).astype(float))
    if free == "longer":
        words = np.log1p(frame[["words_a", "words_b"]].to_numpy(float))
        frame["longer"] = (words[:, 0] - words[:, 1]) * np.where(mine == "a", 1, -1)
    else:
        frame[free] = "number " + frame[free].astype(str)
    for judge in judges:
        said = frame[judge].fillna("none")
        frame[judge] = np.where(said == mine, "win", np.where(said.isin(["tie", "none"]), said, "loss"))
    return (
        frame.groupby("pair").agg({"label": "mean", **dict.fromkeys((*judges, free), "first")}).reset_index(drop=True)
    )


def compare(
    frame: pd.DataFrame, judges: tuple[str, ...], free: str, replicates: int
) -> tuple[float, float, float, str]:  # fmt: skip
    """Return the length over that of labels only, its Monte-Carlo error, coverage, and what was bought."""
    truth, options = frame["label"].mean(), {"ladder": dict(zip(judges, judges, strict=True)), "free": [free]}
    prices = {**dict.fromkeys(judges, 1.0), "label": 10.0}
    lengths, inside, bought = [], [], ""
    for replicate in range(replicates):
        rng = np.random.default_rng([7, replicate])
        if replicate % 25 == 0:
            pilot = Measured.from_frame(frame.sample(PILOT, replace=True, random_state=rng), prices=prices, **options)
            option, p = ladder_plan(pilot, money=MONEY, units=UNITS).best()
            bought = ", ".join(f"{share:.2f} {name}" for name, share in zip(option.names, p, strict=True))
        full = Measured.from_frame(frame.sample(UNITS, replace=True, random_state=rng), prices=prices, **options)
        mine = full.only(*option.names[:0:-1])
        found = ladder(mine.bought(p[::-1], len(p) - draw(np.tile(p, (UNITS, 1)), rng))).summary().iloc[0]
        alone = np.array([MONEY / 10 / UNITS])
        bare = full.without(*judges).bought(alone, 1 - draw(np.tile(alone, (UNITS, 1)), rng))
        other = ladder(bare, calibration="none").summary().iloc[0]
        lengths.append((found["upper"] - found["lower"]) / (other["upper"] - other["lower"]))
        inside.append(found["lower"] <= truth <= found["upper"])
    return float(np.mean(lengths)), float(np.std(lengths) / replicates**0.5), float(np.mean(inside)), bought


def main() -> None:
    """Print a row per system, the four with the most pairs of each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--replicates", type=int, default=500)
    said = parser.parse_args()
    print("| set | system | pairs | length over labels only | coverage | bought of units |")
    print("|---|---|---|---|---|---|")
    for name, judges in SETS.items():
        path = said.data / f"{name}.csv"
        once = pd.read_csv(path).drop_duplicates("pair")
        often = pd.concat([once["item_a"], once["item_b"]]).value_counts().index[:4]
        for system in often:
            frame = table(path, judges, FREE[name], system)
            ratio, error, covered, bought = compare(frame, judges, FREE[name], said.replicates)
            print(
                f"| {name} | {system} | {len(frame)} | {ratio:.3f} ({error:.3f}) | {covered:.3f} | {bought} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

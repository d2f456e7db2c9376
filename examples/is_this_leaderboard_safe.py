"""Is this leaderboard safe against ties, order and length? One simulated arena, ranked under ever fewer assumptions."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import prefdensity
from prefdensity.reporting.canvas import COLOURS

out = Path(sys.argv[1] if len(sys.argv) > 1 else "examples-output")
out.mkdir(parents=True, exist_ok=True)

# 10 models, 4,000 votes. Voters like what they see first, and length: the model called early is shown first in three
# quarters of its battles, and the one called wordy writes long answers.
names = np.array(["early", "wordy", *(f"model {k}" for k in range(8))])
rng = np.random.default_rng(1)
skill = np.r_[0.0, 0.0, np.linspace(-1.2, 1.2, 8)]
a = rng.integers(10, size=4000)
b = (a + rng.integers(1, 10, size=4000)) % 10
swap = (b == 0) & (rng.random(4000) < 0.5)
a, b = np.where(swap, b, a), np.where(swap, a, b)
words = rng.normal(0, 0.7, (2, 4000)) + np.where(names == "wordy", 1.0, 0.0)[np.stack([a, b])]
longer = words[0] - words[1]
margin = skill[a] - skill[b] + 0.5 + 0.6 * longer
weight = np.stack([np.exp(margin / 2), np.exp(-margin / 2), np.full(4000, 0.8)])  # Davidson: ties between equals
vote = (rng.random(4000) > (weight / weight.sum(0)).cumsum(0)).sum(0)
table = pd.DataFrame({"item_a": names[a], "item_b": names[b], "outcome": np.array(["a", "b", "tie"])[vote]})
data = prefdensity.Comparisons.from_frame(table.assign(longer=longer), ordered=True, covariates=["longer"])

half = prefdensity.fit("bradley_terry", data.ties_as_half_wins(), seed=0)
steps = ["davidson", "davidson+position_bias", "davidson+position_bias+covariate"]
fits = {name: prefdensity.fit(name, data, seed=0) for name in steps}
for name in steps:
    print(prefdensity.check(fits[name], data).headline)
print("\n", prefdensity.compare(fits, data), "\n", sep="")

columns = {"ties as half wins": half, "ties": fits[steps[0]], "+ order": fits[steps[1]], "+ length": fits[steps[2]]}
place = pd.DataFrame({
    name: pd.Series({row["item"]: rank + 1 for rank, row in enumerate(post.summary().to_dict("records"))})
    for name, post in columns.items()
})  # fmt: skip
place["truth"] = pd.Series(dict(zip(names, (-skill).argsort(kind="stable").argsort() + 1, strict=True)))
print("Place on the leaderboard under each set of assumptions:")
print(place.sort_values("+ length").to_string(), "\n")
print(fits[steps[2]].parameters()[["parameter", "mean", "lower", "upper"]].round(2).to_string(index=False))
moved = [name for name in place.index if place.loc[name, "ties as half wins"] != place.loc[name, "+ length"]]
print(f"\nnot safe: the place of {', '.join(moved)} depends on what is assumed")

figure = Figure(figsize=(7, 4), layout="constrained")
ax = figure.subplots()
for name in place.index:
    loud = {"early": COLOURS[1], "wordy": COLOURS[2]}.get(name, "0.75")
    ax.plot(range(len(columns)), place.loc[name, list(columns)], "o-", color=loud, linewidth=2)
    ax.annotate(name, (len(columns) - 1, place.loc[name, "+ length"]), xytext=(8, -3), textcoords="offset points")
ax.set_xticks(range(len(columns)), list(columns))
ax.set_xlim(-0.2, len(columns) - 0.3)
ax.invert_yaxis()
ax.set_ylabel("place")
picture = out / "is_this_leaderboard_safe.png"
figure.savefig(picture, dpi=150)
print(f"\nwrote {picture}")

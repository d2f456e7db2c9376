"""Which judges are biased, and how? Twelve simulated AI judges: some like what they see first, some what is long."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import prefdensity
from prefdensity.reporting.canvas import COLOURS

out = Path(sys.argv[1] if len(sys.argv) > 1 else "examples-output")
out.mkdir(parents=True, exist_ok=True)

# 30 answers to one task. Every judge sees 60 pairs in both orders; `longer` is how much longer answer a is (log words).
rng = np.random.default_rng(3)
utility, words = rng.normal(size=30), rng.normal(5, 0.6, 30)
bias = np.r_[1.5, 1.0, 0.5, np.zeros(7), -0.5, -1.0]  # of the judges, towards what they see first
pairs = np.array([rng.choice(30, 2, replace=False) for _ in range(12 * 60)])
both = np.concatenate([pairs, pairs[:, ::-1]])
judge = np.tile(np.repeat(np.arange(12), 60), 2)
longer = words[both[:, 0]] - words[both[:, 1]]
margin = utility[both[:, 0]] - utility[both[:, 1]] + bias[judge] + 0.4 * longer
table = pd.DataFrame({
    "item_a": [f"answer {k:02}" for k in both[:, 0]],
    "item_b": [f"answer {k:02}" for k in both[:, 1]],
    "annotator": [f"judge {j:02}" for j in judge],
    "outcome": np.where(rng.random(len(both)) < 1 / (1 + np.exp(-margin)), "a", "b"),
    "longer": longer,
})  # fmt: skip
data = prefdensity.Comparisons.from_frame(table, ordered=True, covariates=["longer"])

plain = prefdensity.fit("bradley_terry", data, seed=0)
found = prefdensity.check(plain, data)
print(found)

post = prefdensity.fit("position_bias(by='annotator')", data, seed=0)
rows = post.parameters().query("parameter == 'annotator_position_bias'").set_index("index")
rows = rows[["mean", "lower", "upper"]].assign(truth=bias, first_won=1 - table.groupby("annotator")["outcome"]
                                               .agg(lambda each: (each == "b").mean()))  # fmt: skip
print("Liking for the first place (logits), 90 % intervals:")
print(rows.sort_values("mean").round(2).to_string(), "\n")
sure = rows[(rows["lower"] > 0) | (rows["upper"] < 0)].index.tolist()
print(f"interval excludes 0: {', '.join(sure)}")
held = ((rows["lower"] <= rows["truth"]) & (rows["truth"] <= rows["upper"])).sum()
print(f"intervals that hold the truth: {held} of {len(rows)}\n")

# Length belongs to the answers: with one task nobody can say whether long answers are better or only liked.
length = prefdensity.fit("position_bias(by='annotator')+covariate", data, seed=0)
line = length.parameters().query("parameter == 'covariate_effect'")[["mean", "sd"]].iloc[0]
print(f"effect of length {line['mean']:.2f} with sd {line['sd']:.2f}, and 0.50 by the prior alone: not identified")

figure = Figure(figsize=(6, 4), layout="constrained")
ax = figure.subplots()
shown = rows.sort_values("mean")
place = np.arange(len(shown))
ax.hlines(place, shown["lower"], shown["upper"], color=COLOURS[0], linewidth=2)
ax.plot(shown["mean"], place, "o", color=COLOURS[0], label="estimate with 90 % interval")
ax.plot(shown["truth"], place, "x", color=COLOURS[1], label="truth")
ax.axvline(0, color="0.6", linewidth=1)
ax.set_yticks(place, shown.index)
ax.set_xlabel("liking for what is shown first (logits)")
ax.legend(frameon=False)
picture = out / "which_judges_are_biased.png"
figure.savefig(picture, dpi=150)
print(f"\nwrote {picture}")

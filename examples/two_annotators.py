"""Two annotators taken for one: what a single utility learns from them, exactly and from votes."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import prefdensity
from prefdensity.density import implicit, toy
from prefdensity.density.misspecified import law, optimum
from prefdensity.reporting.canvas import COLOURS

out = Path(sys.argv[1] if len(sys.argv) > 1 else "examples-output")
out.mkdir(parents=True, exist_ok=True)

# Infinitely many judgements: w of them by someone who wants -2.5, the others by someone who wants about 2.5.
grid = toy.domain(800)
kinds, proposal = toy.annotators(grid), toy.pretrained(grid)
rows = {}
for w in (0.5, 0.4):
    both = toy.preference(grid, (w, 1 - w))
    single = optimum(w * law(kinds.log_p[0]) + (1 - w) * law(kinds.log_p[1]), proposal).density
    rows[w, "TV"] = [*implicit.tv(kinds, single), implicit.tv(both, single), implicit.tv(proposal, single)]
    rows[w, "KL"] = [*implicit.kl(kinds, single), implicit.kl(both, single), implicit.kl(proposal, single)]
table = pd.DataFrame(rows, index=["narrow annotator", "wide annotator", "their mixture", "pretrained model"])
print("Distance to the best single utility, by the share of the narrow annotator's judgements:")
print(table.round(3).to_string(), "\n")

# 30,000 judgements: 40 numbers as items, 100 annotators of either kind, 300 judgements each.
line = implicit.Domain.grid(-5, 6, 40)
kinds, truth, labels = toy.annotators(line), toy.preference(line), np.array(line.labels)
rng = np.random.default_rng(0)
utility = kinds.log_p[rng.choice(2, 100, p=toy.WEIGHTS)]  # [annotator, item]
who = np.repeat(np.arange(100), 300)
a = rng.integers(40, size=len(who))
b = (a + rng.integers(1, 40, size=len(who))) % 40
wins = rng.random(len(who)) < 1 / (1 + np.exp(utility[who, b] - utility[who, a]))
votes = pd.DataFrame({"item_a": labels[a], "item_b": labels[b], "annotator": who})
data = prefdensity.Comparisons.from_frame(votes.assign(outcome=np.where(wins, "a", "b")))

two = prefdensity.fit("annotator_types(k=2)+utility_scale(fixed=3.0)", data, seed=0)
one = prefdensity.fit("utility_scale(fixed=3.0)", data, seed=0)
found = {"two types": implicit.of(two, line), "one utility": implicit.of(one, line)}
types, _ = implicit.match(implicit.of(two, line, by="type").mean(), kinds)
print("TV of each fitted type to its annotator:", implicit.tv(types, kinds).round(3))
for name, fitted in found.items():
    mass = fitted.interval(line.points < 0)
    print(
        f"{name}: TV to the mixture {implicit.tv(fitted.mean(), truth):.3f}, mass below 0 "
        f"{mass.mean:.3f} [{mass.lower:.3f}, {mass.upper:.3f}], truth {truth.mass(line.points < 0):.3f}"
    )

figure = Figure(figsize=(9, 3.5), layout="constrained")
exact, finite = figure.subplots(1, 2, sharey=True)
exact.set_title("infinitely many judgements")
exact.plot(grid.points, both.p, color=COLOURS[0], label="mixture of the two annotators")
exact.plot(grid.points, single.p, color=COLOURS[1], label="one utility for both")
finite.set_title(f"{len(votes):,} judgements of {len(line)} numbers")
finite.step(line.points, truth.p, where="mid", color=COLOURS[0], label="mixture of the two annotators")
for (name, fitted), colour in zip(found.items(), (COLOURS[2], COLOURS[1]), strict=True):
    frame = fitted.to_frame()
    finite.plot(frame["x"], frame["density"], ".-", color=colour, label=f"{name}, fitted")
    finite.fill_between(frame["x"], frame["lower"], frame["upper"], color=colour, alpha=0.25, linewidth=0)
for ax in (exact, finite):
    ax.set(xlabel="x", xlim=(-5, 6))
    ax.legend(frameon=False)
exact.set_ylabel("density")
picture = out / "two_annotators.png"
figure.savefig(picture, dpi=150)
print(f"\nwrote {picture}")

"""Do annotators want different things? Two simulated camps, found again from their votes alone."""

import sys
from pathlib import Path

import numpy as np

import prefdensity

out = Path(sys.argv[1] if len(sys.argv) > 1 else "examples-output")
out.mkdir(parents=True, exist_ok=True)

data, truth = prefdensity.simulate.population(
    n_items=8, n_annotators=60, n_comparisons=2400, seed=3, n_types=2, type_weight=[0.7, 0.3]
)
together = prefdensity.fit("bradley_terry", data, seed=0)
camps = prefdensity.fit("annotator_types(k=2)", data, seed=0)

sizes = camps.parameters().query("parameter == 'type_weight'")
print(sizes[["index", "mean", "lower", "upper"]].round(2).to_string(index=False), "\n")

found = camps.draws["type_probability"].mean(0).argmax(1)  # types are listed by falling weight, as in the truth
print(f"annotators in the right camp: {np.sum(found == truth.annotator_type)} of {len(found)}\n")

table = camps.summary().pivot(index="item", columns="type", values="mean").add_prefix("type ").rename_axis(columns="")
table["everybody as one"] = together.summary().set_index("item")["mean"]
centred = truth.utilities - truth.utilities.mean(1, keepdims=True)
table["truth 1"], table["truth 2"] = centred
print("Utilities, 0 = average item:")
print(table.round(2).to_string(), "\n")
print(f"log evidence: {camps.status.log_evidence:.1f} with two types, {together.status.log_evidence:.1f} with one")

picture = out / "camps_among_annotators.png"
prefdensity.plots.ranking(camps).savefig(picture, dpi=150)
print(f"\nwrote {picture}")

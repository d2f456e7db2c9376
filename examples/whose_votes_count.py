"""Who judges with care? Reliability of 40 simulated annotators, two of whom do not look at the items."""

import sys
from pathlib import Path

import prefdensity

out = Path(sys.argv[1] if len(sys.argv) > 1 else "examples-output")
out.mkdir(parents=True, exist_ok=True)

data, truth = prefdensity.simulate.example()
post = prefdensity.fit("davidson+position_bias+reliability", data, seed=0)

table = post.parameters()
shared = table[table["index"] == ""]
print(shared[["parameter", "mean", "lower", "upper", "meaning"]].round(2).to_string(index=False), "\n")

people = table[table["parameter"] == "annotator_reliability"].set_index("index")[["mean", "lower", "upper"]]
people["truth"] = truth.reliability
print("The five annotators whose votes say least about the items, 0 = coin-flipper, 1 = average:")
print(people.nsmallest(5, "mean").round(2).to_string(), "\n")

careless = people.index[people["lower"] < 0].tolist()
print(f"90% interval reaches below 0: {', '.join(careless) or 'nobody'}")
print(f"drawn as careless:            {', '.join(people.index[people['truth'] == 0])}")

picture = out / "whose_votes_count.png"
prefdensity.plots.annotators(post, data).savefig(picture, dpi=150)
print(f"\nwrote {picture}")

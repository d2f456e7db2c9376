"""Which item is best, and how sure is that? Six puddings, tasted in pairs, ties allowed (Davidson 1970)."""

import sys
from pathlib import Path

import prefdensity

out = Path(sys.argv[1] if len(sys.argv) > 1 else "examples-output")
out.mkdir(parents=True, exist_ok=True)

data = prefdensity.read("example:puddings")
print(prefdensity.describe(data), "\n")

post = prefdensity.fit("davidson", data, seed=0)
print(post.summary().round(2).to_string(index=False), "\n")
print(post.parameters().round(2).to_string(index=False), "\n")

best, *rest = post.summary()["item"]
print(f"If pudding {best} meets each of the others:")
print(post.predict([(best, other) for other in rest]).round(2).to_string(index=False), "\n")
print(*post.quality(), sep="\n")

picture = out / "rank_items.png"
prefdensity.plots.ranking(post).savefig(picture, dpi=150)
print(f"\nwrote {picture}")

"""What a policy trained for the average does to two panels: `python -m benchmarks.panels FOLDER`.

FOLDER holds the pairs of the helpful and the harmless panel of HH-RLHF with sentence embeddings of their answers; the
panels want different things. A linear reward is fitted to all choices and one to each panel's, and `compare_policies`
asks each panel's about policies at the same distance from an even choice between the two answers of each pair.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import prefdensity as pf
from benchmarks.labels import answers
from prefdensity.reward import compare_policies
from prefdensity.selection.candidates import with_items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nats", type=float, nargs="+", default=[0.1, 0.3])
    options = parser.parse_args()
    began, known = time.process_time(), answers(options.folder, wide=False)
    table = known.pairs.assign(outcome=["a" if won else "b" for won in known.a_wins])
    table["context"] = [f"pair {k}" for k in range(len(table))]

    def fit(rows):
        votes = table.loc[rows, ["item_a", "item_b", "outcome", "context"]]
        own = known.features.loc[[*votes["item_a"], *votes["item_b"]]]
        data = with_items(pf.read(votes, item_features=own), known.features.index, known.features)
        return pf.fit("linear+logit", data, method="laplace", progress=False), data

    post, data = fit(table["panel"].notna())
    panels = {name: fit(table["panel"] == name)[0] for name in ("helpful", "harmless")}
    print(compare_policies(post, data, panels, nats=options.nats))
    print(f"{time.process_time() - began:.0f} CPU seconds")


if __name__ == "__main__":
    main()

"""Which pairs should people judge next? A batch for 40 assistants after 80 votes, and whether choosing pays."""

import sys
from pathlib import Path

import prefdensity
from prefdensity.data import simulate
from prefdensity.reporting import selection_plots

out = Path(sys.argv[1] if len(sys.argv) > 1 else "examples-output")
out.mkdir(parents=True, exist_ok=True)

votes, _ = simulate.population(40, 4, 80, seed=5, utility_sd=1.5)
post = prefdensity.fit("bradley_terry", votes, seed=0, progress=False)

# twenty new pairs, no item in more than three of them, five for each of four people
people = votes.annotators
batch = prefdensity.select(post, n=20, data=votes, quota=3, annotators=people, progress=False)
print(batch[["item_a", "item_b", "p_a", "gain", "entropy_rank", "annotator"]].head(8).round(3).to_string(index=False))
print(f"\nThe first of them, because {batch['reason'][0]}.")
said = batch.attrs
print(f"The batch is expected to tell {said['gain']:.2f} nats, out of {said['candidates']} candidates;")
print(f"the 20 most even pairs {said['gain_entropy']:.2f}, 20 random pairs {said['gain_random']:.2f}.\n")

# does it pay? Rounds of choosing, answering and refitting, with draws of this fit for truths
study = prefdensity.selection_study(
    post, ("eig", "greedy_d_optimal"), budgets=(80, 120, 160, 240, 320), seeds=8, progress=False
)
print(study)

picture = out / "which_pairs_next.png"
selection_plots.learning_curves(study).savefig(picture, dpi=150)
print(f"\nwrote {picture}")

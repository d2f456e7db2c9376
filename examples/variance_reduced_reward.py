"""Annotators who differ -> a program of types -> auxiliary probabilities -> a variance-reduced reward and DPO step."""

import importlib.util
import os
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import prefdensity
from prefdensity.reward import Exact, reward
from prefdensity.reward.columns import auxiliary_columns

out = Path(sys.argv[1] if len(sys.argv) > 1 else "examples-output")
out.mkdir(parents=True, exist_ok=True)

answers = ["it rained", "light is blue", "dust and light", "the sky made it so", "it was red"]
data, _ = prefdensity.simulate.population(
    n_items=5, n_annotators=40, n_comparisons=800, seed=4, n_types=2, type_weight=[0.6, 0.4], utility_sd=2.0,
    items=answers,
)  # fmt: skip
types = prefdensity.fit("annotator_types(k=2)", data, seed=0, progress=False)

# Bradley-Terry is wrong for these annotators; what it converges to can be learned from fewer of their votes
design = Exact.uniform(data)
plain = reward(data, types, design, lambda_=0)
reduced = reward(data, types, design)
print("maximum likelihood\n" + plain.summary().round(2).to_string(index=False))
print(f"\nvariance-reduced, lambda {reduced.lambda_:.2f}\n" + reduced.summary().round(2).to_string(index=False))
print(f"\nThe types make {reduced.n} votes worth about {reduced.n_effective:.0f}.\n")

table = auxiliary_columns(data, types, prompts={"": "why is the sky blue"})
print(table.head(3).round(2).to_string(index=False))

figure = Figure(figsize=(7, 3.5), layout="constrained")
axes = figure.add_subplot()
for shift, (label, found) in enumerate({"maximum likelihood": plain, "variance-reduced": reduced}.items()):
    axes.errorbar(found.theta, np.arange(5) + 0.2 * shift, xerr=1.96 * found.se, fmt="o", capsize=3, label=label)
axes.set(yticks=np.arange(5), yticklabels=plain.names, xlabel="utility for these annotators (logits), 95 %")
axes.legend()
figure.savefig(out / "variance_reduced_reward.png", dpi=150)


def dpo_step() -> float:
    """One step of trl's DPOTrainer with this table, on a tiny random model."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import DPOConfig

    from prefdensity.reward.trl import VarianceReducedDPOTrainer

    words = {word: k for k, word in enumerate(["<eos>", *sorted(set(" ".join([*answers, "why"]).split()))])}
    core = Tokenizer(models.WordLevel(words, unk_token="<eos>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<eos>", unk_token="<eos>")
    size = LlamaConfig(vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                       num_attention_heads=2, num_key_value_heads=2, eos_token_id=0, bos_token_id=None)  # fmt: skip
    rows = table.assign(**{name: " " + table[name] for name in ("chosen", "rejected", "a_1", "a_2")})
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(output_dir=folder, max_steps=1, per_device_train_batch_size=64, use_cpu=True, report_to=[],
                           save_strategy="no", logging_steps=1, disable_tqdm=True, bf16=False)  # fmt: skip
        trainer = VarianceReducedDPOTrainer(
            model=LlamaForCausalLM(size), ref_model=LlamaForCausalLM(size), args=config,
            train_dataset=Dataset.from_pandas(rows), processing_class=tokenizer,
        )  # fmt: skip
        return trainer.train().training_loss


if importlib.util.find_spec("trl"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(f"\nvariance-reduced DPO loss of the first step: {dpo_step():.3f}")
else:
    print("\npip install 'prefdensity[trl]' for the DPO step")

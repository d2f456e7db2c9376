"""Tiny random models, a tokenizer and rows for the trainers of prefdensity.trl, all made in memory."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import warnings

import pytest
import torch

pytest.importorskip("trl")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        LlamaForSequenceClassification,
        MixtralConfig,
        MixtralForCausalLM,
        PreTrainedTokenizerFast,
    )
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer  # noqa: F401

    from prefdensity.errors import DataError  # noqa: F401
    from prefdensity.reward.trl import VarianceReducedDPOTrainer, VarianceReducedRewardTrainer

QUIET = [
    pytest.mark.usefixtures("torch_as_it_was"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
WORDS = "why is the sky blue red it was rain light and dust made so user assistant weather city".split()
# tools, an argument of the template, messages, and the beginning of an answer where one is asked for
TEMPLATE = (
    "{% for tool in tools or [] %}{{ tool['function']['name'] + ' ' }}{% endfor %}"
    "{% if mood is defined %}{{ mood + ' ' }}{% endif %}"
    "{% for m in messages %}{{ m['role'] + ' ' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}"
)


def tokenizer():
    vocabulary = {word: k for k, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens(["<pad>", "<eos>", "<unk>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", chat_template=TEMPLATE
    )


SIZE = {
    "vocab_size": len(WORDS) + 3, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None,
}  # fmt: skip


def causal(seed):
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SIZE))


def scorer(seed):
    torch.manual_seed(seed)
    return LlamaForSequenceClassification(LlamaConfig(**SIZE, num_labels=1))


def mixture(seed):
    """A mixture of experts whose router has a loss of its own."""
    torch.manual_seed(seed)
    return MixtralForCausalLM(MixtralConfig(**SIZE, num_local_experts=4, router_aux_loss_coef=0.7))


TABLE = {
    "prompt": ["why is the sky blue", "why is the rain red", "why is it so", "why is dust"],
    "chosen": [" it was light", " dust made it", " the sky", " rain made it so"],
    "rejected": [" rain", " it was", " blue and red", " light"],
    "a_1": [" light and dust", " rain and light", " it was made so", " the sky made it"],
    "a_2": [" the rain made it so", " dust", " red", " blue"],
    "chosen_preference": [0.9, 0.6, 0.7, 0.2],
    "rejected_preference": [0.1, 0.4, 0.3, 0.8],
    "a_1_preference": [0.3, 0.8, 0.55, 0.4],
    "a_2_preference": [0.7, 0.2, 0.45, 0.6],
}
BARE = {name: None for name in TABLE if name not in ("prompt", "chosen", "rejected")}


def rows(**change):
    """The table with columns changed, added, or left out where they are None."""
    return Dataset.from_dict({name: values for name, values in (TABLE | change).items() if values is not None})


def settings(kind, folder, **more):
    return kind(**{
        "output_dir": str(folder), "per_device_train_batch_size": 2, "per_device_eval_batch_size": 3, "max_steps": 2,
        "learning_rate": 1e-2, "report_to": [], "use_cpu": True, "save_strategy": "no", "logging_steps": 1,
        "disable_tqdm": True, "bf16": False, "gradient_checkpointing": False,
    } | more)  # fmt: skip


def dpo(folder, kind=VarianceReducedDPOTrainer, data=None, options=None, **more):
    made = {"processing_class": tokenizer()} | more
    if "model" not in made:
        made |= {"model": causal(0), "ref_model": causal(1)}
    return kind(
        args=settings(DPOConfig, folder, **(options or {})), train_dataset=rows() if data is None else data, **made
    )


def scored(folder, kind=VarianceReducedRewardTrainer, data=None, options=None, **more):
    made = {"processing_class": tokenizer(), "model": scorer(0)} | more
    return kind(
        args=settings(RewardConfig, folder, **(options or {})), train_dataset=rows() if data is None else data, **made
    )


def whole_batch(trainer):
    """The prepared training set as one batch, of the columns that Trainer lets through to the collator."""
    data = trainer.train_dataset
    if isinstance(data, Dataset):
        return trainer.data_collator(list(trainer._remove_unused_columns(data)))
    return trainer._get_collator_with_removed_columns(trainer.data_collator)(list(data))


def first_loss(trainer):
    """The trainer's loss of the whole table."""
    trainer.model.eval()
    with torch.no_grad():
        return trainer.compute_loss(trainer.model, dict(whole_batch(trainer)))

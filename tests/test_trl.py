"""The trainers of prefdensity.trl in real trl and transformers, with a tiny random model made in memory."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import warnings
from functools import partial

import numpy as np
import pytest
import torch

pytest.importorskip("trl")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

    from prefdensity.trl import VarianceReducedDPOTrainer, VarianceReducedRewardTrainer, VROptions

from prefdensity.errors import DataError
from prefdensity.preference_losses import ramp, vr_margin_loss

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

WORDS = "why is the sky blue red it was rain light and dust made so".split()


@pytest.fixture(autouse=True)
def torch_as_it_was():
    """Trainers set seeds, which the process must not keep."""
    before, state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    yield
    torch.set_rng_state(before)
    np.random.set_state(state)  # noqa: NPY002


@pytest.fixture(scope="module")
def tokenizer():
    vocabulary = {word: k for k, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.add_special_tokens(["<pad>", "<eos>", "<unk>"])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def config(**more):
    return LlamaConfig(
        vocab_size=len(WORDS) + 3, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, pad_token_id=0, eos_token_id=1, bos_token_id=None, **more,
    )  # fmt: skip


def causal(seed):
    torch.manual_seed(seed)
    return LlamaForCausalLM(config())


def scorer(seed):
    torch.manual_seed(seed)
    return LlamaForSequenceClassification(config(num_labels=1))


def rows(**change):
    table = {
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
    table |= change
    return Dataset.from_dict({name: values for name, values in table.items() if values is not None})


def settings(kind, folder, **more):
    return kind(
        output_dir=str(folder), per_device_train_batch_size=2, max_steps=2, learning_rate=1e-2, report_to=[],
        use_cpu=True, save_strategy="no", logging_steps=1, disable_tqdm=True, bf16=False, gradient_checkpointing=False,
        **more,
    )  # fmt: skip


def dpo(folder, tokenizer, kind=VarianceReducedDPOTrainer, data=None, options=None, **more):
    return kind(
        model=causal(0), ref_model=causal(1), args=settings(DPOConfig, folder, **(options or {})),
        train_dataset=rows() if data is None else data, processing_class=tokenizer, **more,
    )  # fmt: skip


def scored(folder, tokenizer, kind=VarianceReducedRewardTrainer, data=None, options=None, **more):
    return kind(
        model=scorer(0), args=settings(RewardConfig, folder, **(options or {})),
        train_dataset=rows() if data is None else data, processing_class=tokenizer, **more,
    )  # fmt: skip


def first_batch(trainer):
    """The whole table as one batch, and the trainer's loss of it."""
    batch = trainer.data_collator([trainer.train_dataset[k] for k in range(len(trainer.train_dataset))])
    trainer.model.eval()
    with torch.no_grad():
        return batch, trainer.compute_loss(trainer.model, dict(batch))


def log_prob(model, tokenizer, prompt, response):
    """Summed log-probability of a response, token by token."""
    start = tokenizer(prompt)["input_ids"]
    ids = tokenizer(prompt + response + "<eos>")["input_ids"]
    with torch.no_grad():
        log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(log_p[k - 1, ids[k]] for k in range(len(start), len(ids)))


@pytest.mark.parametrize("options", [VROptions(), VROptions(loss=ramp, lambda_=0.5), VROptions(clip=0.01)])
def test_dpo_loss_is_the_packages_own(options, tmp_path, tokenizer):
    trainer = dpo(tmp_path, tokenizer, vr=options, options={"beta": 0.7})
    _, loss = first_batch(trainer)
    policy, reference, table = causal(0).eval(), causal(1).eval(), rows()

    def margin(one, two):
        ratio = [
            [log_prob(m, tokenizer, row["prompt"], row[side]) for m in (policy, reference)]
            for row in table
            for side in (one, two)
        ]
        both = torch.tensor(ratio).reshape(-1, 2, 2)
        return 0.7 * ((both[:, 0, 0] - both[:, 0, 1]) - (both[:, 1, 0] - both[:, 1, 1]))

    terms = vr_margin_loss(
        margin("chosen", "rejected"), torch.tensor(table["chosen_preference"][:]),
        margin("a_1", "a_2"), torch.tensor(table["a_1_preference"][:]),
        loss=options.loss, lambda_=options.lambda_, clip=options.clip,
    )  # fmt: skip
    assert float(loss) == pytest.approx(float(terms.total), abs=1e-6)


def test_reward_loss_is_the_packages_own(tmp_path, tokenizer):
    _, loss = first_batch(scored(tmp_path, tokenizer))
    model, table = scorer(0).eval(), rows()

    def reward(row, side):
        ids = tokenizer(row["prompt"] + row[side] + "<eos>")["input_ids"]
        with torch.no_grad():
            return float(model(torch.tensor([ids])).logits[0, 0])

    d, away = (
        torch.tensor([reward(r, one) - reward(r, two) for r in table])
        for one, two in (("chosen", "rejected"), ("a_1", "a_2"))
    )
    g, g_away = torch.tensor(table["chosen_preference"][:]), torch.tensor(table["a_1_preference"][:])
    assert float(loss) == pytest.approx(float(vr_margin_loss(d, g, away, g_away).total), abs=1e-6)


def test_without_auxiliary_the_dpo_loss_is_that_of_trl(tmp_path, tokenizer):
    bare = rows(a_1=None, a_2=None, a_1_preference=None, a_2_preference=None)
    _, ours = first_batch(dpo(tmp_path, tokenizer, data=bare, vr=VROptions(lambda_=0)))
    _, theirs = first_batch(dpo(tmp_path, tokenizer, kind=DPOTrainer, data=bare))
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)
    assert float(ours) != pytest.approx(np.log(2), abs=1e-4)  # the two models differ


@pytest.mark.parametrize("centre", [None, 0.3])
@pytest.mark.parametrize("margin", [None, [0.1, 2.0, 0.0, 0.5]])
def test_without_auxiliary_the_reward_loss_is_that_of_trl(centre, margin, tmp_path, tokenizer):
    options, data = {"center_rewards_coefficient": centre}, rows(margin=margin)
    _, ours = first_batch(scored(tmp_path, tokenizer, data=data, options=options, vr=VROptions(lambda_=0)))
    _, theirs = first_batch(scored(tmp_path, tokenizer, kind=RewardTrainer, data=data, options=options))
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_training_without_auxiliary_gives_the_weights_of_trl(accumulated, tmp_path, tokenizer):
    options = {"gradient_accumulation_steps": accumulated, "optim": "sgd"}  # Adam enlarges gradients of rounding size
    ours = dpo(tmp_path, tokenizer, options=options, vr=VROptions(lambda_=0))
    theirs = dpo(tmp_path, tokenizer, kind=DPOTrainer, options=options)
    for trainer in (ours, theirs):
        trainer.train()
    for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("make", [dpo, scored])
def test_two_steps_train(make, tmp_path, tokenizer):
    trainer = make(tmp_path, tokenizer)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    result = trainer.train()
    assert result.global_step == 2
    assert np.isfinite(result.training_loss)
    after = list(trainer.model.parameters())
    assert any((a != b).any() for a, b in zip(after, before, strict=True))
    assert all(torch.isfinite(p).all() for p in after)
    logged = [entry for entry in trainer.state.log_history if "vr/fresh" in entry]
    assert len(logged) == 2
    for entry in logged:
        total = entry["vr/observed"] - entry["vr/expected"] + entry["vr/fresh"]
        assert entry["loss"] == pytest.approx(total, abs=1e-3)


def test_evaluation_has_terms_of_its_own(tmp_path, tokenizer):
    trainer = dpo(tmp_path, tokenizer, eval_dataset=rows())
    found = trainer.evaluate()
    logged = trainer.state.log_history[-1]
    assert found["eval_loss"] == pytest.approx(
        logged["eval_vr/observed"] - logged["eval_vr/expected"] + logged["eval_vr/fresh"], abs=1e-5
    )
    assert not any(name.startswith("vr/") for name in logged)


def test_precomputed_reference_gives_the_same_loss(tmp_path, tokenizer):
    reference = causal(1).eval()
    columns = {
        f"ref_{side}_logps": [float(log_prob(reference, tokenizer, r["prompt"], r[side])) for r in rows()]
        for side in ("chosen", "rejected", "a_1", "a_2")
    }
    _, given = first_batch(dpo(tmp_path, tokenizer, data=rows(**columns)))
    _, computed = first_batch(dpo(tmp_path, tokenizer))
    assert float(given) == pytest.approx(float(computed), abs=1e-5)
    short = columns | {"ref_a_2_logps": None}
    with pytest.raises(DataError, match="no 'ref_a_2_logps'"):
        first_batch(dpo(tmp_path, tokenizer, data=rows(**short)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a_1": None}, "has no 'a_1'"),
        ({"chosen_preference": None}, "has no 'chosen_preference'"),
        ({"a_1_preference": [0.3, 1.0, 0.5, 0.4]}, "a_1_preference is 1; it must lie strictly between"),
        ({"rejected_preference": [0.1, 0.4, 0.5, 0.8]}, "add up to 1.2, not 1"),
        ({"a_2": [" light and dust", " dust", " red", " blue"]}, "the same response"),
    ],
)
def test_bad_columns_get_one_sentence(change, message, tmp_path, tokenizer):
    with pytest.raises(DataError, match=message):
        first_batch(dpo(tmp_path, tokenizer, data=rows(**change)))


@pytest.mark.parametrize("option", [{"loss_type": ["ipo"]}, {"precompute_ref_log_probs": True}])
def test_other_losses_of_trl_are_refused(option, tmp_path, tokenizer):
    with pytest.raises(DataError, match="changes trl's loss"):
        dpo(tmp_path, tokenizer, options=option)


def test_margins_and_long_fresh_responses_are_refused(tmp_path, tokenizer):
    with pytest.raises(DataError, match="margin"):
        first_batch(scored(tmp_path, tokenizer, data=rows(margin=[0.1] * 4)))
    long = rows(a_1=[" it was" * 20] * 4)
    with pytest.raises(DataError, match="max_length is 16"):
        first_batch(scored(tmp_path, tokenizer, data=long, options={"max_length": 16}))


def test_messages_are_collated_as_trl_collates_them(tmp_path, tokenizer):
    template = "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    chat = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>",
        chat_template=template,
    )  # fmt: skip

    def said(role, texts):
        return [[{"role": role, "content": text}] for text in texts]

    plain = rows()
    columns = {name: said("assistant", plain[name][:]) for name in ("chosen", "rejected", "a_1", "a_2")}
    # fresh pairs that are the labelled ones must come out as the labelled ones do
    columns |= {"prompt": said("user", plain["prompt"][:]), "a_1": columns["chosen"], "a_2": columns["rejected"]}
    batch, _ = first_batch(dpo(tmp_path, chat, data=rows(**columns)))
    for name in ("input_ids", "completion_mask"):
        half = batch[name].chunk(2)
        for part in half:
            torch.testing.assert_close(*part.chunk(2))


def test_any_margin_loss_plugs_in(tmp_path, tokenizer):
    from prefdensity.preference_losses import ipo

    _, loss = first_batch(dpo(tmp_path, tokenizer, vr=VROptions(loss=partial(ipo, beta=0.1))))
    assert torch.isfinite(loss)

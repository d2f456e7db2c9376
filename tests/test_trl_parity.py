"""The trainers of prefdensity.trl against trl's own, for every kind of training: the same losses and weights.

With lambda_=0 to the last bit. With a fresh pair that is the labelled pair, and expected to be decided as it is, the
auxiliary cancels whatever its weight, so that the forward pass of fresh pairs is held against trl's as well.
"""

import warnings

import pytest
import torch

pytest.importorskip("trl")
import tiny_trl as tiny
from tiny_trl import BARE, TABLE, causal, dpo, mixture, rows, scored, scorer

from prefdensity.reward.trl import VROptions

pytestmark = tiny.QUIET


def adapted(make, kind, task):
    """A maker of a model and its adapter; the trainer gets both."""

    def build():
        peft = pytest.importorskip("peft", reason="adapters need peft")
        configs = {
            "lora": lambda: peft.LoraConfig(task_type=task, r=2, target_modules=["q_proj", "v_proj"]),
            "prompt": lambda: peft.PromptTuningConfig(task_type=task, num_virtual_tokens=3),
        }
        return {"model": make(0), "peft_config": configs[kind]()}

    return build


def trained_adapter():
    """A model with an adapter that has been trained before, which is its own reference."""
    peft = pytest.importorskip("peft", reason="adapters need peft")
    model = peft.get_peft_model(causal(0), peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))
    torch.manual_seed(5)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_()
    return {"model": model}


def double(make):
    return {"model": make(0).double(), "ref_model": make(1).double()}


POLICIES = {
    "plain": (dict, {}),
    "float64": (lambda: double(causal), {}),
    "lora": (adapted(causal, "lora", "CAUSAL_LM"), {}),
    "trained lora": (trained_adapter, {}),
    "prompt tuning": (adapted(causal, "prompt", "CAUSAL_LM"), {}),
    "mixture of experts": (lambda: {"model": mixture(0), "ref_model": mixture(1)}, {}),
    "mixture, prompt tuning": (adapted(mixture, "prompt", "CAUSAL_LM"), {}),
    "accumulation": (dict, {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 1}),
    "checkpointing": (dict, {"gradient_checkpointing": True}),
    "precomputed": (dict, {"precompute_ref_log_probs": True}),
    "precomputed, no reference": (lambda: {"model": causal(0)}, {"precompute_ref_log_probs": True}),
    "precomputed, lora": (adapted(causal, "lora", "CAUSAL_LM"), {"precompute_ref_log_probs": True}),
    "truncated": (dict, {"max_length": 6}),
}
REWARDS = {
    "plain": (dict, {}),
    "lora": (adapted(scorer, "lora", "SEQ_CLS"), {}),
    "prompt tuning": (adapted(scorer, "prompt", "SEQ_CLS"), {}),
    "accumulation": (dict, {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 1}),
    "centred": (dict, {"center_rewards_coefficient": 0.3}),
}
CASES = {f"dpo, {name}": (dpo, tiny.DPOTrainer, *case) for name, case in POLICIES.items()}
CASES |= {f"reward, {name}": (scored, tiny.RewardTrainer, *case) for name, case in REWARDS.items()}


def cases(*quick):
    """All cases as parameters, those that are not `quick` marked slow."""
    return [pytest.param(name, id=name, marks=[] if name in quick else [pytest.mark.slow]) for name in CASES]


def trained(make, folder, build, options, **more):
    """Losses and weights after three steps, and the evaluation before."""
    plain = {"optim": "sgd", "learning_rate": 0.1, "max_steps": 3}  # Adam would enlarge differences of rounding size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = make(folder, options=plain | options, eval_dataset=rows(**BARE), **build(), **more)
        before = trainer.evaluate()["eval_loss"]
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return [before, *losses], {name: p.detach() for name, p in trainer.model.named_parameters()}


@pytest.mark.parametrize(
    "name",
    cases("dpo, lora", "dpo, prompt tuning", "dpo, mixture of experts", "dpo, accumulation", "dpo, precomputed",
          "reward, plain"),
)  # fmt: skip
def test_without_auxiliary_training_is_that_of_trl_to_the_last_bit(name, tmp_path):
    make, theirs, build, options = CASES[name]
    bare = rows(**BARE)
    losses, weights = trained(make, tmp_path, build, options, data=bare, vr=VROptions(lambda_=0))
    wanted, others = trained(make, tmp_path, build, options, data=bare, kind=theirs)
    assert losses == wanted
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[key], others[key]) for key in weights)


@pytest.mark.parametrize("name", cases("dpo, mixture, prompt tuning", "dpo, float64", "reward, lora"))
def test_an_auxiliary_that_cancels_leaves_the_training_of_trl(name, tmp_path):
    make, theirs, build, options = CASES[name]
    same = {"a_1": TABLE["chosen"], "a_2": TABLE["rejected"], "a_1_preference": TABLE["chosen_preference"]}
    data = rows(**same, a_2_preference=None, rejected_preference=None)
    vr = VROptions(lambda_=1.0, clip=None)
    losses, weights = trained(make, tmp_path, build, options, data=data, vr=vr)
    wanted, others = trained(make, tmp_path, build, options, data=rows(**BARE), kind=theirs)
    assert losses == pytest.approx(wanted, abs=3e-6)
    for key, value in weights.items():
        torch.testing.assert_close(value, others[key], atol=1e-8 if "float64" in name else 3e-6, rtol=0)


@pytest.mark.parametrize("margin", [None, [0.1, 2.0, 0.0, 0.5]])
def test_margins_of_rewards_are_left_to_trl_without_auxiliary(margin, tmp_path):
    data = rows(**BARE, margin=margin)
    ours = tiny.first_loss(scored(tmp_path, data=data, vr=VROptions(lambda_=0)))
    assert float(ours) == float(tiny.first_loss(scored(tmp_path, kind=tiny.RewardTrainer, data=data)))


def test_other_losses_are_left_to_trl_without_auxiliary(tmp_path):
    options = {"loss_type": ["ipo"]}
    ours = tiny.first_loss(dpo(tmp_path, options=options, data=rows(**BARE), vr=VROptions(lambda_=0)))
    assert float(ours) == float(tiny.first_loss(dpo(tmp_path, kind=tiny.DPOTrainer, options=options)))


def test_fresh_pairs_of_a_mixture_have_its_router_loss(tmp_path):
    trainer = dpo(tmp_path, model=mixture(0), ref_model=mixture(1), options={"per_device_train_batch_size": 4})
    trainer.train()
    entry = next(e for e in trainer.state.log_history if "vr/fresh" in e)
    margin_loss = entry["vr/observed"] + 0.5 * (entry["vr/fresh"] - entry["vr/expected"])
    assert entry["aux_loss"] > 1  # 2 of 4 experts, evenly, would give 2
    assert entry["loss"] == pytest.approx(margin_loss + 0.7 * entry["aux_loss"], abs=1e-4)

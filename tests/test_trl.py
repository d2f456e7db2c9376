"""The trainers of prefdensity.trl in real trl and transformers: their loss, what they log, and what they refuse."""

from functools import partial

import numpy as np
import pytest
import torch

pytest.importorskip("trl")
import tiny_trl as tiny
from tiny_trl import BARE, causal, dpo, first_loss, rows, scored, scorer

from prefdensity.errors import DataError
from prefdensity.reward.losses import ipo, ramp, vr_margin_loss
from prefdensity.reward.trl import VROptions

pytestmark = tiny.QUIET


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


def log_prob(model, tokenizer, prompt, response):
    """Summed log-probability of a response, token by token."""
    start = tokenizer(prompt)["input_ids"]
    ids = tokenizer(prompt + response + "<eos>")["input_ids"]
    with torch.no_grad():
        log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(log_p[k - 1, ids[k]] for k in range(len(start), len(ids)))


def margins(tokenizer, one, two, beta):
    """DPO margins of the table from `causal(0)` and the reference `causal(1)`."""
    policy, reference = causal(0).eval(), causal(1).eval()
    ratios = [
        [log_prob(m, tokenizer, row["prompt"], row[side]) for m in (policy, reference)]
        for row in rows()
        for side in (one, two)
    ]
    both = torch.tensor(ratios).reshape(-1, 2, 2)
    return beta * ((both[:, 0, 0] - both[:, 0, 1]) - (both[:, 1, 0] - both[:, 1, 1]))


def total(tokenizer, options, weight=None, **more):
    table = rows()
    return vr_margin_loss(
        margins(tokenizer, "chosen", "rejected", 0.7), torch.tensor(table["chosen_preference"][:]),
        margins(tokenizer, "a_1", "a_2", 0.7), torch.tensor(table["a_1_preference"][:]),
        loss=options.loss, lambda_=options.lambda_, clip=options.clip, weights=weight, fresh_weights=weight,
    ).total  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [VROptions(), VROptions(loss=ramp, lambda_=1.0), VROptions(clip=0.01), VROptions(lambda_=1.0, clip=None),
     VROptions(loss=partial(ipo, beta=0.1))],
)  # fmt: skip
def test_dpo_loss_is_the_packages_own(options, tmp_path, tokenizer):
    loss = first_loss(dpo(tmp_path, vr=options, options={"beta": 0.7}))
    assert float(loss) == pytest.approx(float(total(tokenizer, options)), rel=1e-6)


def test_a_weight_multiplies_label_expectation_and_fresh_pair(tmp_path, tokenizer):
    weight = [0.4, 2.0, 1.1, 0.5]
    loss = first_loss(dpo(tmp_path, data=rows(weight=weight), options={"beta": 0.7}))
    expected = total(tokenizer, VROptions(), torch.tensor(weight))
    assert float(loss) == pytest.approx(float(expected), abs=1e-6)
    assert abs(float(expected - total(tokenizer, VROptions()))) > 1e-4


def test_reward_loss_is_the_packages_own(tmp_path, tokenizer):
    loss = first_loss(scored(tmp_path))
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
    assert float(loss) == pytest.approx(float(vr_margin_loss(d, g, away, g_away, lambda_=0.5).total), abs=1e-6)


NETWORKS = {dpo: {"model": lambda: causal(0), "ref_model": lambda: causal(1)}, scored: {"model": lambda: scorer(0)}}


@pytest.mark.parametrize("make", NETWORKS, ids=["dpo", "reward"])
def test_probabilities_near_one_are_not_rounded_to_it_where_networks_are_of_half_precision(make, tmp_path):
    near = {"chosen_preference": [0.9, 0.6, 0.7, 0.9993], "rejected_preference": [0.1, 0.4, 0.3, 0.0007]}

    def loss(dtype):
        networks = {name: network().to(dtype) for name, network in NETWORKS[make].items()}
        return float(first_loss(make(tmp_path, data=rows(**near), **networks)))

    exact, rough = loss(torch.float32), loss(torch.bfloat16)
    assert rough == pytest.approx(exact, abs=0.1)


@pytest.mark.parametrize("make", [dpo, scored])
def test_two_steps_train(make, tmp_path):
    trainer = make(tmp_path)
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
        value = entry["vr/observed"] + 0.5 * (entry["vr/fresh"] - entry["vr/expected"])
        assert entry["loss"] == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize(
    ("make", "theirs"), [(dpo, tiny.DPOTrainer), (scored, tiny.RewardTrainer)], ids=["dpo", "reward"]
)
def test_metrics_are_those_of_trl_on_labelled_rows(make, theirs, tmp_path):
    ours, other = make(tmp_path, eval_dataset=rows()), make(tmp_path, kind=theirs, eval_dataset=rows(**BARE))
    found, wanted = ours.evaluate(), other.evaluate()
    timed = {name for name in wanted if "time" in name or "per_second" in name}
    assert wanted.keys() - timed >= {"eval_loss", "eval_num_tokens"}
    assert found.keys() - wanted.keys() == {"eval_vr/observed", "eval_vr/expected", "eval_vr/fresh"}
    for name in wanted.keys() - timed - {"eval_loss"}:
        assert found[name] == pytest.approx(wanted[name], abs=1e-5), name
    terms = found["eval_vr/observed"] + 0.5 * (found["eval_vr/fresh"] - found["eval_vr/expected"])
    # 3 rows and 1: the trainer weighs batches by rows, their metrics evenly
    assert found["eval_loss"] == pytest.approx(terms, abs=0.05)


@pytest.mark.parametrize(("make", "metric"), [(dpo, "rewards/margins"), (dpo, "vr/fresh"), (scored, "margin")])
def test_the_best_model_is_found_by_any_metric(make, metric, tmp_path):
    options = {
        "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1,
        "load_best_model_at_end": True, "metric_for_best_model": metric, "greater_is_better": True,
    }  # fmt: skip
    trainer = make(tmp_path, options=options, eval_dataset=rows())
    trainer.train()
    seen = [entry[f"eval_{metric}"] for entry in trainer.state.log_history if f"eval_{metric}" in entry]
    assert len(seen) == 2
    assert trainer.state.best_metric == max(seen)


@pytest.mark.parametrize(
    ("make", "theirs"), [(dpo, tiny.DPOTrainer), (scored, tiny.RewardTrainer)], ids=["dpo", "reward"]
)
def test_ordinary_evaluation_sets_are_evaluated_as_trl_does(make, theirs, tmp_path):
    sets = {"plain": rows(**BARE), "train": rows(**BARE), "paired": rows()}
    found = make(tmp_path, eval_dataset=sets).evaluate()
    wanted = make(tmp_path, kind=theirs, eval_dataset=sets["plain"]).evaluate()
    for name in ("plain", "train"):
        assert found[f"eval_{name}_loss"] == wanted["eval_loss"]
    assert found["eval_paired_loss"] != pytest.approx(wanted["eval_loss"], abs=1e-4)
    passed = make(tmp_path).evaluate(sets["plain"])
    assert passed["eval_loss"] == wanted["eval_loss"]


@pytest.mark.parametrize("make", [dpo, scored])
def test_compute_metrics_sees_labelled_rows_only(make, tmp_path):
    seen = []

    def note(found):
        seen.append(found.predictions)
        return {}

    data = rows()
    make(tmp_path, eval_dataset=data, compute_metrics=note).evaluate()
    make(tmp_path, eval_dataset=rows(**BARE), compute_metrics=note).evaluate()
    ours, plain = (np.asarray(each) for each in seen)
    assert len(ours) == len(plain)
    if make is scored:  # widths of padding differ for logits [row, position, token]
        np.testing.assert_allclose(ours, plain, atol=1e-6)


def test_precomputed_references_give_the_same_loss(tmp_path, tokenizer):
    reference = causal(1).eval()
    columns = {
        f"ref_{side}_logps": [float(log_prob(reference, tokenizer, r["prompt"], r[side])) for r in rows()]
        for side in ("chosen", "rejected", "a_1", "a_2")
    }
    wanted = float(first_loss(dpo(tmp_path)))
    assert float(first_loss(dpo(tmp_path, data=rows(**columns)))) == pytest.approx(wanted, abs=1e-5)
    ahead = {"precompute_ref_log_probs": True}
    assert float(first_loss(dpo(tmp_path, options=ahead))) == pytest.approx(wanted, abs=1e-6)
    assert float(first_loss(dpo(tmp_path, options=ahead, data=rows(**columns)))) == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(DataError, match="row 1 of the train set has no 'ref_a_2_logps'"):
        dpo(tmp_path, data=rows(**columns | {"ref_a_2_logps": None}))


def test_references_of_evaluation_sets_are_precomputed_too(tmp_path):
    ahead, sets = {"precompute_ref_log_probs": True}, {"paired": rows(), "plain": rows(**BARE)}
    trainer = dpo(tmp_path, options=ahead, eval_dataset=sets)
    wanted = dpo(tmp_path, eval_dataset=sets).evaluate()
    found = trainer.evaluate()
    for name in sets:
        assert found[f"eval_{name}_loss"] == pytest.approx(wanted[f"eval_{name}_loss"], abs=1e-6)
    assert trainer.evaluate(rows())["eval_loss"] == pytest.approx(wanted["eval_paired_loss"], abs=1e-6)


def said(text):
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize("make", [dpo, scored])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict.fromkeys(("a_1", "a_2")), "the training set has no 'a_1'"),
        ({"a_1": None}, "row 1 of the train set has no 'a_1'"),
        ({"a_2": [" x", None, " y", " z"]}, "row 2 of the train set has no 'a_2'"),
        ({"chosen_preference": None}, "has no 'chosen_preference'"),
        ({"a_1_preference": [0.3, 1.0, 0.5, 0.4]}, "row 2 of .*a_1_preference is 1; it must lie strictly between"),
        ({"a_1_preference": ["half", ".1", ".5", ".4"]}, "row 1 of .*a_1_preference is 'half'; it must be a number"),
        ({"chosen_preference": [0.9, 0.6, 0.7, float("nan")]}, "row 4 of .*chosen_preference is nan"),
        ({"rejected_preference": [0.1, 0.4, 0.5, 0.8]}, "row 3 of .* add up to 1.2, not 1"),
        ({"a_2": [" light and dust", " dust", " red", " blue"]}, "row 1 of .*the same response"),
        ({"a_2": [said("blue"), said("red"), said("rain"), said("dust")]}, "row 1 .*a_2 and chosen one is a text"),
        ({"weight": [1.0, 1.0, 0.0, 2.0]}, "row 3 of .*weight is 0.0; it must be positive"),
        ({"prompt": ["why", "why", None, "why"], "chosen": [" x"] * 4, "rejected": [" y"] * 4},
         "row 3: trl cannot prepare a_1 and a_2 of the train set"),
        ({"chosen": [" it was", " dust", None, " so"]}, "row 3"),
    ],
)  # fmt: skip
def test_bad_rows_are_named_when_the_trainer_is_made(make, change, message, tmp_path):
    with pytest.raises(DataError, match=message):
        make(tmp_path, data=rows(**change))


@pytest.mark.parametrize("option", [{"loss_type": ["ipo"]}, {"loss_weights": [0.5]}, {"ld_alpha": 0.5}])
def test_other_losses_of_trl_are_refused(option, tmp_path):
    with pytest.raises(DataError, match="changes trl's loss"):
        dpo(tmp_path, options=option)


def test_columns_that_only_labels_have_are_refused(tmp_path):
    with pytest.raises(DataError, match="a column 'margin', which would shift the loss of labels only"):
        scored(tmp_path, data=rows(margin=[0.1] * 4))
    with pytest.raises(DataError, match="the train set has a column 'weight'"):
        dpo(tmp_path, data=rows(**BARE, weight=[1.0] * 4), vr=VROptions(lambda_=0))
    with pytest.raises(DataError, match="the eval set has a column 'weight'"):
        dpo(tmp_path, eval_dataset=rows(**BARE, weight=[1.0] * 4))


def test_rows_too_long_are_named_or_counted(tmp_path):
    a_1 = [" it was", " dust and light", " it was" * 20, " so"]
    with pytest.raises(DataError, match="row 3 of the train set: a_1 has 45 tokens, and max_length is 16"):
        scored(tmp_path, data=rows(a_1=a_1), options={"max_length": 16})
    chosen = [" light" * 20, *tiny.TABLE["chosen"][1:]]
    with pytest.warns(UserWarning, match="trl leaves out 1 of 4 rows of the train set"):
        trainer = scored(tmp_path, data=rows(chosen=chosen), options={"max_length": 16})
    assert len(trainer.train_dataset) == 3
    assert trainer.train_dataset[0]["a_1"] == tiny.TABLE["a_1"][1]
    # DPO truncates responses; a prompt that leaves none is named
    prompts = [*tiny.TABLE["prompt"][:3], "why " * 20]
    trainer = dpo(tmp_path, data=rows(a_1=a_1), options={"max_length": 16})
    assert tiny.whole_batch(trainer)["input_ids"].shape[1] == 16
    with pytest.warns(UserWarning, match="trl leaves out 1 of 4 rows"):
        dpo(tmp_path, data=rows(prompt=prompts), options={"max_length": 16})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VROptions(lambda_=1.5), "lambda_=1.5 must lie between 0 and 1"),
        (lambda: VROptions(clip=0.0), "clip=0.0 must be positive"),
        (lambda: VROptions(loss=ramp, lambda_=0), "lambda_=0 trains as trl does"),
    ],
)
def test_options_get_one_sentence(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_the_default_loss_is_bounded_below():
    # what a network can do at worst: raise every labelled margin, whatever the fresh pairs say
    options, g = VROptions(), torch.tensor([0.01, 0.5, 0.99], dtype=torch.float64)
    for away in (-200.0, 0.0, 200.0):
        for d in (200.0, 1e4):
            fresh = torch.full_like(g, away)
            loss = vr_margin_loss(torch.full_like(g, d), g, fresh, g, lambda_=options.lambda_, clip=options.clip)
            assert float(loss.total) >= -options.lambda_ * options.clip

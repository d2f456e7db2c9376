"""Every row format of trl: a fresh pair that is the labelled pair collates to the labelled rows, and these to trl's."""

import json

import pytest
import torch

pytest.importorskip("trl")
import tiny_trl as tiny
from tiny_trl import TABLE, dpo, scored

pytestmark = tiny.QUIET

ASKED = ["why is the sky blue", "why is the rain red", "why is it so", "why is dust"]


def said(texts, role="assistant"):
    return [[{"role": role, "content": text.strip()}] for text in texts]


def joined(prompts, answers):
    return [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]


def tool(name):
    return {"type": "function", "function": {"name": name, "description": "dust", "parameters": {"type": "object"}}}


TALK = {
    "prompt": said(ASKED, "user"), "chosen": said(TABLE["chosen"]), "rejected": said(TABLE["rejected"]),
}  # fmt: skip
LONG = joined(joined(said(ASKED, "user"), said([" light and dust"] * 4)), said([" why so"] * 4, "user"))
TOOLS = [[tool("weather")], [tool("city"), tool("weather")], [], [tool("city")]]
MOODS = ["blue", "red", "dust", "so"]
FORMATS = {
    "plain": {name: TABLE[name] for name in ("prompt", "chosen", "rejected")},
    "prompt inside": {
        "chosen": joined(ASKED, TABLE["chosen"]),
        # the two answers to the second question begin alike, so that trl takes their beginning for the prompt
        "rejected": joined(ASKED, [" rain", " dust and rain", " blue and red", " light"]),
    },
    "messages": TALK,
    "messages, prompt inside": {
        name: joined(TALK["prompt"], TALK[name]) for name in ("chosen", "rejected")
    },
    "several turns": TALK | {"prompt": LONG},
    "several turns, prompt inside": {name: joined(LONG, TALK[name]) for name in ("chosen", "rejected")},
    "tools": TALK | {"tools": TOOLS},
    "tools as text": TALK | {"tools": [json.dumps(each) for each in TOOLS]},
    "tools, prompt inside": {
        name: joined(TALK["prompt"], TALK[name]) for name in ("chosen", "rejected")
    } | {"tools": TOOLS},
    "arguments of the template": TALK | {"chat_template_kwargs": [{"mood": word} for word in MOODS]},
    "ended answers": {name: TABLE[name] for name in ("prompt", "rejected")}
    | {"chosen": [f"{text}<eos>" for text in TABLE["chosen"]]},
}  # fmt: skip
PAIRED = {"chosen_preference": [0.9, 0.6, 0.7, 0.2], "a_1_preference": [0.9, 0.6, 0.7, 0.2]}


def paired(columns):
    return columns | PAIRED | {"a_1": columns["chosen"], "a_2": columns["rejected"]}


def assert_twice(ours, theirs):
    """The batch holds trl's batch twice, each half of it first as labelled rows, then as fresh ones."""
    assert theirs.keys() == ours.keys() - {"auxiliary"}
    for name, wanted in theirs.items():
        for half, part in zip(ours[name].chunk(2), wanted.chunk(2), strict=True):
            labelled, fresh = half.chunk(2)
            assert torch.equal(labelled, part), name
            assert torch.equal(fresh, part), name


def both(make, folder, columns, stream=False, **options):
    """Batches of the whole table by our trainer and by trl's."""
    theirs = tiny.DPOTrainer if make is dpo else tiny.RewardTrainer
    found = []
    for more, kind in ((paired(columns), {}), (columns, {"kind": theirs})):
        data = tiny.Dataset.from_dict(more)
        trainer = make(folder, data=data.to_iterable_dataset() if stream else data, options=options, **kind)
        found.append(tiny.whole_batch(trainer))
    return found


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("make", [dpo, scored])
def test_a_fresh_pair_that_is_the_labelled_one_collates_to_it(make, name, tmp_path):
    assert_twice(*both(make, tmp_path, FORMATS[name]))


@pytest.mark.parametrize("name", ["prompt inside", "tools"])
@pytest.mark.parametrize(
    "options", [{"truncation_mode": "keep_start"}, {"truncation_mode": "keep_end"}, {"pad_to_multiple_of": 8}]
)
def test_truncated_and_padded_as_trl_does(name, options, tmp_path):
    limit = {} if "pad_to_multiple_of" in options else {"max_length": 8}
    ours, theirs = both(dpo, tmp_path, FORMATS[name], **options, **limit)
    assert_twice(ours, theirs)
    assert ours["input_ids"].shape[1] == 8 or ours["input_ids"].shape[1] % 8 == 0


@pytest.mark.parametrize("name", ["plain", "messages, prompt inside", "tools as text"])
@pytest.mark.parametrize("make", [dpo, scored])
def test_streamed_rows(make, name, tmp_path):
    assert_twice(*both(make, tmp_path, FORMATS[name], stream=True))


def test_rows_of_token_ids(tmp_path):
    ids = {"chosen_ids": [[3, 4, 5], [6, 7]], "rejected_ids": [[3, 4], [6, 8, 9]]}
    fresh = {"a_1_ids": ids["chosen_ids"], "a_2_ids": ids["rejected_ids"], "chosen_preference": [0.6, 0.7]}
    data = tiny.Dataset.from_dict(ids | fresh | {"a_1_preference": [0.2, 0.4]})
    ours = tiny.whole_batch(scored(tmp_path, data=data))
    assert_twice(ours, tiny.whole_batch(scored(tmp_path, kind=tiny.RewardTrainer, data=tiny.Dataset.from_dict(ids))))


@pytest.mark.parametrize("make", [dpo, scored])
def test_a_prepared_set_can_be_evaluated_again(make, tmp_path):
    data = tiny.Dataset.from_dict(paired(FORMATS["prompt inside"]))
    trainer = make(tmp_path, data=data, eval_dataset=data)
    assert trainer.evaluate(trainer.eval_dataset)["eval_loss"] == trainer.evaluate()["eval_loss"]


def test_streamed_rows_are_checked_as_they_come(tmp_path):
    data = {name: values * 2 for name, values in paired(FORMATS["plain"]).items()}
    data["chosen_preference"] = [0.5] * 6 + [1.5, 0.5]
    trainer = dpo(tmp_path, data=tiny.Dataset.from_dict(data).to_iterable_dataset(), options={"max_steps": 4})
    with pytest.raises(tiny.DataError, match="row 7 of the train set: chosen_preference is 1.5"):
        trainer.train()
    assert trainer.state.global_step >= 2

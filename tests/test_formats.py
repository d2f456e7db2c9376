"""Public formats: look-alikes of their files are read as what they mean."""

import json

import pandas as pd
import pytest

from prefdensity.data.readers import read
from prefdensity.errors import DataError

# Look-alikes of the public files: their columns and nesting, invented content.
ARENA_33K = pd.DataFrame(
    {
        "question_id": ["q1", "q2", "q3", "q4"],
        "model_a": ["alpha", "beta", "gamma", "alpha"],
        "model_b": ["beta", "gamma", "alpha", "gamma"],
        "winner": ["model_a", "model_b", "tie", "tie (bothbad)"],
        "judge": ["arena_user_1", "arena_user_2", "arena_user_1", "arena_user_1"],
        "language": "English",
    }
)


ARENA_140K = ARENA_33K.drop(columns=["judge", "question_id"]).assign(
    winner=["model_a", "model_b", "tie", "both_bad"],
    evaluation_session_id=["s1", "s1", "s2", "s3"],
    evaluation_order=1,
)


ARENA_55K = pd.DataFrame(
    {
        "model_a": ["alpha", "beta", "gamma"],
        "model_b": ["beta", "gamma", "alpha"],
        "winner_model_a": [1, 0, 0],
        "winner_model_b": [0, 1, 0],
        "winner_tie": [0, 0, 1],
    }
)


MT_BENCH = pd.DataFrame(
    {
        "question_id": [81, 81, 82],
        "model_a": ["alpha", "beta", "alpha"],
        "model_b": ["beta", "gamma", "gamma"],
        "winner": ["model_b", "tie", "model_a"],
        "judge": ["author_2", "expert_9", "gpt4_pair"],
        "turn": [1, 2, 1],
    }
)


START = "\n\nHuman: How do I boil an egg?"


LONGER = f"{START}\n\nAssistant: Gently.\n\nHuman: How long?"


HH_RLHF = pd.DataFrame(
    {
        "chosen": [f"{LONGER}\n\nAssistant: Seven minutes.", f"{START}\n\nAssistant: No."],
        "rejected": [f"{LONGER}\n\nAssistant: Ask a hen.", f"{START}\n\nAssistant: Why?"],
    }
)


ALPACA = pd.DataFrame(
    {
        "instruction": ["say hello", "say hello", "count", "count"],
        "output_1": ["hi", "hello", "1 2", "1"],
        "output_2": ["hey", "hi", "1 3", "2"],
        "generator_1": ["base", "base", "base", "base"],
        "generator_2": ["alpha", "beta", "alpha", "beta"],
        "preference": [1.0, 1.97, 1.5, 0],
        "annotator": "judge model",
    }
)


def vote(evaluator, preference):
    return {"evaluator": evaluator, "overall_pref": preference, "helpful_pref": "Tie", "time_spent": 60}


MULTIPREF = pd.DataFrame(
    {
        "prompt_id": ["p1", "p2"],
        "model_a": ["alpha", "beta"],
        "model_b": ["beta", "gamma"],
        "normal_worker_annotations": [
            [vote("n1", "A-is-clearly-better"), vote("n2", "B-is-slightly-better")],
            [vote("n1", "Tie"), vote("n3", "A-is-slightly-better")],
        ],
        "expert_worker_annotations": [[vote("n1", "B-is-clearly-better")], []],
    }
)


HELPSTEER = pd.DataFrame(
    {
        "context": [[{"role": "user", "content": "hello"}], [{"role": "user", "content": "count"}], "plain"],
        "response1": ["hi", "1 2", "x"],
        "response2": ["hey", "1 3", "y"],
        "overall_preference": [2, -1, 0],
        "individual_preference": [
            [{"score": 3, "reasoning": "r"}, {"score": -1, "reasoning": "r"}],
            [{"score": -2, "reasoning": "r"}],
            [],
        ],
    }
)


def summaries(*pairs):
    return [{"text": text, "policy": policy, "note": ""} for text, policy in pairs]


SUMMARIZE = pd.DataFrame(
    {
        "info": [{"id": name, "post": "..."} for name in ("t3_a", "t3_b", "t3_b")],
        "summaries": [
            summaries(("short", "sup1"), ("long", "ref")),
            summaries(("one", "sup1"), ("two", "sup1")),
            summaries(("one", "sup1"), ("three", "ppo")),
        ],
        "choice": [1, 0, 0],
        "worker": ["w1", "w2", "w1"],
    }
)


PRISM = pd.DataFrame(
    {
        "utterance_id": [f"ut{number}" for number in range(7)],
        "interaction_id": ["int0", "int0", "int0", "int1", "int1", "int2", "int3"],
        "conversation_id": "c0",
        "user_id": ["user0"] * 3 + ["user1"] * 4,
        "model_name": ["alpha", "beta", "gamma", "alpha", "beta", "alpha", "beta"],
        "score": [80, 20, 80, 5, 60, 50, 50],
        "if_chosen": [True, False, False, False, True, True, True],
    }
)


FRAMES = {
    "arena": ARENA_33K.iloc[:3],
    "mt_bench": MT_BENCH,
    "chosen_rejected": HH_RLHF,
    "alpaca_eval": ALPACA,
    "multipref": MULTIPREF,
    "helpsteer3": HELPSTEER,
    "summarize_from_feedback": SUMMARIZE,
    "prism": PRISM,
}


def read_chosen(frame, **options):
    return read(frame, format="chosen_rejected", **options)


def triples(data):
    frame = data.to_frame()
    return list(zip(frame["item_a"], frame["item_b"], frame["outcome"], strict=True))


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_files_give_what_frames_give(tmp_path, name, ending):
    frame = FRAMES[name]
    path = tmp_path / f"file.{ending}"
    if ending == "parquet":
        if name == "helpsteer3":  # parquet columns have one type
            frame = frame.iloc[:2]
        frame.to_parquet(path)
    else:
        path.write_text("\n".join(map(json.dumps, json.loads(frame.to_json(orient="records")))))
    options = {"fractional": "majority"} if name == "alpaca_eval" else {}
    one, two = read(path, format=name, **options), read(frame, format=name, **options)
    assert one.fingerprint() == two.fingerprint()
    assert one.contexts == two.contexts
    assert one.notes == two.notes


NEEDED = {
    "arena": "model_a", "mt_bench": "question_id", "chosen_rejected": "chosen", "alpaca_eval": "output_1",
    "multipref": "prompt_id", "helpsteer3": "response1", "summarize_from_feedback": "worker", "prism": "user_id",
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_a_missing_column_is_named(name):
    frame = FRAMES[name].drop(columns=["generator_1"] if name == "alpaca_eval" else [])
    needed = NEEDED[name]
    with pytest.raises(DataError, match=f"has no column '{needed}[^']*'"):
        read(frame.drop(columns=needed), format=name)


@pytest.mark.parametrize("name", FRAMES)
def test_an_empty_frame_is_refused(name):
    with pytest.raises(DataError, match="has no rows"):
        read(FRAMES[name].iloc[:0], format=name)


def test_mt_bench_order_and_inconsistent_ties():
    data = read(MT_BENCH, format="mt_bench")
    assert data.outcome.tolist() == [1, 2, 0]
    assert data.first.tolist() == [1, 1, 0]
    assert data.contexts == ("81 / 1", "81 / 2", "82 / 1")
    frame = MT_BENCH.assign(winner=["model_b", "tie", "tie (inconsistent)"])
    with pytest.raises(DataError, match="1 rows changed with the order shown.*inconsistent='tie'"):
        read(frame, format="mt_bench")
    assert read(frame, format="mt_bench", inconsistent="drop").outcome.tolist() == [1, 2]
    assert read(frame, format="mt_bench", inconsistent="tie").outcome.tolist() == [1, 2, 2]


def test_hh_rlhf_items_are_answers_to_a_prompt():
    data = read(HH_RLHF, format="chosen_rejected")
    assert data.first is None
    assert data.outcome.tolist() == [0, 0]
    assert len(data.items) == 4
    assert len(data.contexts) == 2
    assert data.items[data.item_a[0]].startswith("Seven minutes. #")
    assert "the order shown is unknown" in data.notes[0]
    # a label depends on nothing but the text and its prompt
    assert set(read(HH_RLHF.iloc[[1]], format="chosen_rejected").items) < set(data.items)


def test_hh_rlhf_dialogues_may_part_early_and_prompts_may_be_given():
    early = pd.DataFrame(
        {
            "chosen": [f"{START}\n\nAssistant: A.\n\nHuman: Go on.\n\nAssistant: B."],
            "rejected": [f"{START}\n\nAssistant: C."],
        }
    )
    data = read_chosen(early)
    assert data.items[data.item_b[0]].startswith("C. #")
    assert data.items[data.item_a[0]].startswith("A. Human: Go on. Assistant: B. #")
    given = read_chosen(pd.DataFrame({"prompt": ["p", "q"], "chosen": ["yes", "yes"], "rejected": ["no", "no"]}))
    assert len(given.items) == 4  # the same words to another prompt are another item
    with pytest.raises(DataError, match="chosen and rejected of row 1 share no beginning"):
        read_chosen(pd.DataFrame({"chosen": ["yes"], "rejected": ["no"]}))
    with pytest.raises(DataError, match="'chosen' must hold text or messages with role and content, and holds list"):
        read_chosen(pd.DataFrame({"chosen": [[{"role": "user"}]], "rejected": ["no"]}))


def test_identical_sides_raise_or_are_dropped_on_request():
    frame = pd.DataFrame({"prompt": ["p", "q"], "chosen": ["yes", "yes"], "rejected": ["no", "yes"]})
    with pytest.raises(DataError, match="1 rows compare an item with itself, first row 2 .*identical='drop'"):
        read_chosen(frame)
    data = read_chosen(frame, identical="drop")
    assert len(data) == 1
    assert "1 rows that compare an item with itself dropped on request" in data.notes
    with pytest.raises(DataError, match="no row is left: 1 rows that compare an item with itself"):
        read_chosen(frame.iloc[1:], identical="drop")
    with pytest.raises(DataError, match="identical='keep' is unknown"):
        read_chosen(frame, identical="keep")


def test_missing_texts_raise_or_are_dropped_on_request():
    frame = pd.DataFrame({"prompt": ["p", "q"], "chosen": ["yes", None], "rejected": ["no", "no"]})
    with pytest.raises(DataError, match="'chosen' .* is empty in 1 rows"):
        read_chosen(frame)
    assert len(read_chosen(frame, missing="drop")) == 1
    assert len(read_chosen(HH_RLHF.assign(chosen=[HH_RLHF["chosen"][0], None]), missing="drop")) == 1


def test_alpaca_eval_preferences():
    with pytest.raises(DataError, match="shares between the sides in 1 rows, first row 2.*a has the majority in 0.50"):
        read(ALPACA, format="alpaca_eval")
    data = read(ALPACA, format="alpaca_eval", fractional="majority")
    assert triples(data) == [
        ("base", "alpha", "a"),
        ("base", "beta", "b"),
        ("base", "alpha", "tie"),
        ("base", "beta", "tie"),
    ]
    assert data.annotators == ("judge model",)
    assert data.first is None
    texts = read(ALPACA.drop(columns=["generator_1", "generator_2"]), format="alpaca_eval", fractional="majority")
    assert len(texts.items) == 7  # "hi" answers one prompt twice
    with pytest.raises(DataError, match="column 'preference' must hold numbers from 1 to 2, and holds 2.5 in row 3"):
        read(ALPACA.assign(preference=[1, 2, 2.5, 0]), format="alpaca_eval")
    with pytest.raises(DataError, match="is empty in 1 rows, first in row 3"):
        read(ALPACA.assign(preference=[1, 2, None, 0]), format="alpaca_eval")


def test_an_index_within_examples_is_no_annotator():
    frame = ALPACA.drop(columns="annotator").assign(annotator_index=[0, 1, 0, 1], input=["", None, "x", "y"])
    data = read(frame, format="alpaca_eval", fractional="majority")
    assert data.annotator is None
    assert len(data.contexts) == 3


def test_multipref_votes():
    data = read(MULTIPREF, format="multipref")
    assert data.outcome.tolist() == [0, 1, 2, 0, 1]
    assert data.annotators == ("expert/n1", "normal/n1", "normal/n2", "normal/n3")
    assert data.contexts == ("p1", "p2")
    assert data.first is None
    assert "1 rows hold no judgement in expert_worker_annotations" in data.notes
    assert len(read(MULTIPREF, format="multipref", workers="normal")) == 4
    assert len(read(MULTIPREF, format="multipref", workers="expert")) == 1
    with pytest.raises(DataError, match="workers='all of them' is unknown; use 'normal' or 'expert' or 'all'"):
        read(MULTIPREF, format="multipref", workers="all of them")
    with pytest.raises(DataError, match="row 1 has no 'overall_pref' on the way to"):
        read(MULTIPREF.assign(normal_worker_annotations="[...]"), format="multipref")
    with pytest.raises(DataError, match="unknown outcomes: 'Both'"):
        read(MULTIPREF.assign(normal_worker_annotations=[[vote("n1", "Both")]] * 2), format="multipref")


def test_strengths_are_kept_on_request():
    data = read(MULTIPREF, format="multipref", strength="keep")
    assert [data.grades[k] for k in data.grade] == ["a2", "b1", "tie", "a1", "b2"]
    data = read(HELPSTEER, format="helpsteer3", strength="keep")
    assert [data.grades[k] for k in data.grade] == ["b2", "a1", "tie"]
    assert not any("strength is not used" in note for note in data.notes)
    assert read(HELPSTEER, format="helpsteer3").grade is None
    with pytest.raises(DataError, match="strength='yes' is unknown; use 'keep' or 'drop'"):
        read(HELPSTEER, format="helpsteer3", strength="yes")


def test_helpsteer_positive_means_the_second_response():
    data = read(HELPSTEER, format="helpsteer3")
    assert data.outcome.tolist() == [1, 0, 2]
    assert data.items[data.item_b[0]].startswith("hey #")
    single = read(HELPSTEER, format="helpsteer3", votes="individual")
    assert single.outcome.tolist() == [1, 0, 0]
    assert single.annotator is None
    assert set(single.items) < set(data.items)
    assert "1 rows hold no judgement in individual_preference" in single.notes
    with pytest.raises(DataError, match="must hold numbers from -3 to 3, and holds 5 in row 2"):
        read(HELPSTEER.assign(overall_preference=[1, 5, 0]), format="helpsteer3")
    with pytest.raises(DataError, match="whole numbers with 1 the weakest, and holds 1.5 in row 2"):
        read(HELPSTEER.assign(overall_preference=[1, 1.5, 0]), format="helpsteer3", strength="keep")
    with pytest.raises(DataError, match="votes='each' is unknown"):
        read(HELPSTEER, format="helpsteer3", votes="each")
    with pytest.raises(DataError, match="holds no judgement at all"):
        read(HELPSTEER.iloc[2:], format="helpsteer3", votes="individual")


def test_summaries_by_text_and_by_policy():
    data = read(SUMMARIZE, format="summarize_from_feedback")
    assert data.outcome.tolist() == [1, 0, 0]
    assert len(data.items) == 5
    assert data.annotators == ("w1", "w2")
    assert data.contexts == ("t3_a", "t3_b")
    with pytest.raises(DataError, match="1 rows compare an item with itself, first row 2"):
        read(SUMMARIZE, format="summarize_from_feedback", items="policy")
    policy = read(SUMMARIZE, format="summarize_from_feedback", items="policy", identical="drop")
    assert triples(policy) == [("sup1", "ref", "b"), ("sup1", "ppo", "a")]
    with pytest.raises(DataError, match="column 'choice' holds unknown outcomes: 2 .3 rows.; known are 0, 1"):
        read(SUMMARIZE.assign(choice=2), format="summarize_from_feedback")
    with pytest.raises(DataError, match="row 1 has no '0' on the way to 'summaries.0.text'"):
        read(SUMMARIZE.assign(summaries="[...]"), format="summarize_from_feedback")


def test_prism_pairs_of_one_rating_share_a_context():
    data = read(PRISM, format="prism")
    assert triples(data) == [
        ("alpha", "beta", "a"),
        ("alpha", "gamma", "tie"),
        ("beta", "gamma", "b"),
        ("alpha", "beta", "b"),
    ]
    assert data.contexts == ("int0", "int1")
    assert data.annotators == ("user0", "user1")
    assert any("dependent" in note for note in data.notes)
    assert "2 rows scored alone give no pair" in data.notes
    with pytest.raises(DataError, match="has one item only, 'alpha'"):
        read(PRISM.assign(model_name="alpha"), format="prism")
    with pytest.raises(DataError, match="must hold scores from 0 to 100, and holds 500 in row 1"):
        read(PRISM.assign(score=500), format="prism")
    with pytest.raises(DataError, match="no interaction_id and user_id has two scored items"):
        read(PRISM.iloc[5:], format="prism")


def test_a_frame_with_any_index_is_read():
    for name, frame in FRAMES.items():
        options = {"fractional": "majority"} if name == "alpaca_eval" else {}
        shuffled = frame.set_axis([7] * len(frame), axis=0)
        assert read(shuffled, format=name, **options).fingerprint() == read(frame, format=name, **options).fingerprint()

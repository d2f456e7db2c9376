"""Named public formats of preference data -> Comparisons; one converter each.

All converters take `missing` ("error", or "drop" rows without an item, outcome or annotator), `identical`
("error", or "drop" rows that compare an item with itself) and `source`. What they drop or recode is counted
in `notes`. Where files hold texts, an item is one response to one prompt, and its label is the beginning
of the text with a hash.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from prefdensity.data import format_tools as tools
from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import DataError

_BOTH_BAD = ("tie (bothbad)", "both_bad")  # older and newer spelling
_WINNERS = {"model_a": "a", "model_b": "b", "tie": "tie"}
_ONE_HOT = ("winner_model_a", "winner_model_b", "winner_tie")
_WORDS = {"slightly": 1, "clearly": 2}
_LIKERT = {f"{side.upper()}-is-{word}-better": side for side in "ab" for word in _WORDS} | {"Tie": "tie"}


def from_arena(
    frame: pd.DataFrame,
    *,
    both_bad: str | None = None,
    missing: str = "error",
    identical: str = "error",
    source: str = "arena",
) -> Comparisons:
    """Convert votes of Chatbot Arena: 33k (`judge`), 140k (`evaluation_session_id`), 55k (one-hot winners).

    `model_a` is on the left, so it counts as shown first. `both_bad` says what "tie (bothbad)" or "both_bad"
    is: "tie" or "drop"; without it such rows raise. A session id stands for an annotator where there is no
    judge.

    Raises
    ------
    DataError
        If a column is missing, a label unknown, or "both bad" occurs unmapped.
    """
    frame = tools.require(frame, ("model_a", "model_b"), source, "arena")
    notes = []
    if "winner" not in frame.columns:
        frame = tools.require(frame, _ONE_HOT, source, "arena without a column 'winner'")
        frame = frame.assign(winner=np.array(list(_WINNERS))[tools.one_hot(frame, _ONE_HOT, source)])
        notes.append("winner_tie does not tell ties from both-bad answers")
    table = pd.DataFrame({"item_a": frame["model_a"], "item_b": frame["model_b"], "outcome": frame["winner"]})
    if "judge" in frame.columns:
        table["annotator"] = frame["judge"]
    elif "evaluation_session_id" in frame.columns:
        table["annotator"] = frame["evaluation_session_id"]
        notes.append("annotators are evaluation sessions; one person may have had several")
    meaning = "call both answers bad, which is more than a tie"
    outcome = table["outcome"]
    labels = _WINNERS | tools.mapped(outcome, _BOTH_BAD, both_bad, "both_bad", meaning, source, notes)
    return tools.comparisons(
        table,
        notes,
        missing,
        identical,
        source,
        labels,
        ordered=True,
        item_a="model_a",
        item_b="model_b",
        outcome="winner",
    )


def from_mt_bench(
    frame: pd.DataFrame,
    *,
    inconsistent: str | None = None,
    missing: str = "error",
    identical: str = "error",
    source: str = "mt_bench",
) -> Comparisons:
    """Convert the human or GPT-4 judgements of MT-bench.

    Humans saw `model_a` first; `gpt4_pair` was asked in both orders, so neither counts as first. Where its
    answers disagreed the file says "tie (inconsistent)": `inconsistent` is "tie" or "drop", else such rows
    raise. The context is the question and turn.

    Raises
    ------
    DataError
        If a column is missing, a label unknown, or an inconsistent tie occurs unmapped.
    """
    columns = ("question_id", "model_a", "model_b", "winner", "judge", "turn")
    frame = tools.require(frame, columns, source, "mt_bench")
    table = pd.DataFrame({"item_a": frame["model_a"], "item_b": frame["model_b"], "outcome": frame["winner"]})
    table["annotator"] = frame["judge"]
    asked = "question " + frame["question_id"].astype(str) + ", turn " + frame["turn"].astype(str)
    table["context"] = asked.where(frame[["question_id", "turn"]].notna().all(axis=1), None)
    table["first"] = np.where(frame["judge"] == "gpt4_pair", "neither", "a")
    notes: list[str] = []
    labels = _WINNERS | tools.mapped(
        table["outcome"],
        ("tie (inconsistent)",),
        inconsistent,
        "inconsistent",
        "changed with the order shown, which is not a judged tie",
        source,
        notes,
    )
    return tools.comparisons(
        table, notes, missing, identical, source, labels, item_a="model_a", item_b="model_b", outcome="winner"
    )


def from_hh_rlhf(
    frame: pd.DataFrame,
    *,
    equal_scores: str | None = None,
    missing: str = "error",
    identical: str = "error",
    source: str = "hh_rlhf",
) -> Comparisons:
    """Convert chosen/rejected files: whole dialogues as in HH-RLHF, or texts beside a column `prompt`.

    The chosen text is always `item_a` and nobody recorded the order shown: order effects cannot be learned.
    The context is the prompt: the column, or what both dialogues share before the last answer. Columns `score_chosen`
    and `score_rejected` are compared where they are there: `equal_scores` says what a row with equal scores is, "tie",
    "win" of the chosen text, or "drop"; without it such rows raise.

    Raises
    ------
    DataError
        If a column is missing, a text is not a dialogue that begins like its rival, or scores are equal and unmapped.
    """
    frame = tools.require(frame, ("chosen", "rejected"), source, "hh_rlhf")
    tools.require_text(frame, ("chosen", "rejected"), source)
    prompts = frame["prompt"] if "prompt" in frame.columns else [None] * len(frame)
    whole = (frame["chosen"].notna() & frame["rejected"].notna()).to_numpy()
    rows = []
    texts = zip(prompts, frame["chosen"], frame["rejected"], strict=True)
    for row, (prompt, chosen, rejected) in enumerate(texts):
        if whole[row] and "prompt" not in frame.columns:
            prompt, chosen, rejected = tools.dialogue(chosen, rejected, row + 1, source)
        prompt = tools.text(prompt)
        rows.append((tools.label(chosen, prompt), tools.label(rejected, prompt), tools.label(prompt)))
    table = pd.DataFrame(rows, columns=["item_a", "item_b", "context"])
    notes = ["chosen is item_a throughout; the order shown is unknown"]
    table["outcome"] = tools.chosen_or_equal(frame, equal_scores, source, notes)
    labels = {"chosen": "a", "equal": equal_scores or "tie"}
    if equal_scores == "win":
        labels["equal"] = "a"
    return tools.comparisons(
        table, notes, missing, identical, source, labels, item_a="chosen", item_b="rejected", outcome="scores"
    )


def from_alpaca_eval(
    frame: pd.DataFrame, *, missing: str = "error", identical: str = "error", source: str = "alpaca_eval"
) -> Comparisons:
    """Convert annotations of AlpacaEval or AlpacaFarm.

    `preference` runs from 1 (`output_1`) to 2 (`output_2`); 1.5 and 0 are draws. Items are the generators, or
    the texts where no generator is named. The order shown is not recorded.

    Raises
    ------
    DataError
        If a column is missing or a preference is neither 0 nor from 1 to 2.
    """
    frame = tools.require(frame, ("instruction", "output_1", "output_2", "preference"), source, "alpaca_eval")
    notes = ["preference reduced to a, b or tie: its strength is not used"]
    expected = "numbers from 1 to 2, or 0 for a draw"
    preference = tools.scores(frame["preference"], lambda x: (x == 0) | ((x >= 1) & (x <= 2)), expected, source)
    prompt = frame["instruction"].map(tools.text)
    if "input" in frame.columns:
        prompt = prompt + "\n" + frame["input"].fillna("").map(tools.text)
    table = pd.DataFrame({"outcome": tools.by_sign(np.where(preference == 0, 0, preference - 1.5))})
    named = "generator_1" in frame.columns and "generator_2" in frame.columns
    sides = {side: f"{'generator' if named else 'output'}_{n}" for n, side in ((1, "item_a"), (2, "item_b"))}
    for side, column in sides.items():
        table[side] = frame[column].to_numpy() if named else tools.labels(frame[column], prompt)
    table["context"] = [tools.label(text) for text in prompt]
    if "annotator" in frame.columns:
        table["annotator"] = frame["annotator"].to_numpy()
    elif "annotator_index" in frame.columns:
        notes.append("annotator_index counts within an example and names nobody: annotators are unknown")
    return tools.comparisons(
        table,
        notes,
        missing,
        identical,
        source,
        item_a=sides["item_a"],
        item_b=sides["item_b"],
        outcome="preference",
    )


def from_multipref(
    frame: pd.DataFrame,
    *,
    workers: str = "all",
    strength: str = "drop",
    missing: str = "error",
    identical: str = "error",
    source: str = "multipref",
) -> Comparisons:
    """Convert the overall preferences of MultiPref; `workers` is "normal", "expert" or "all".

    With strength="keep" slightly and clearly better are strengths 1 and 2; "drop" says who won alone. Each entry of
    the nested lists is one judgement; annotators are called normal/ID and expert/ID.

    Raises
    ------
    DataError
        If a column is missing, is not a list, or a label is unknown.
    """
    tools.one_of("workers", workers, ("normal", "expert", "all"))
    groups = ("normal", "expert") if workers == "all" else (workers,)
    frame = tools.require(frame, ("prompt_id", "model_a", "model_b"), source, "multipref")
    frame = tools.require(frame, [f"{group}_worker_annotations" for group in groups], source, "multipref")
    notes = tools.strength_notes(strength, "overall_pref")
    parts = []
    for group in groups:
        entries = tools.entries(frame, f"{group}_worker_annotations", source, notes)
        who = [entry.get("evaluator") for entry in entries]
        who = [None if name is None else f"{group}/{name}" for name in who]
        pairs = frame.loc[entries.index, ["model_a", "model_b", "prompt_id"]]
        pairs = pairs.set_axis(["item_a", "item_b", "context"], axis=1)
        parts.append(
            pairs.assign(outcome=[entry.get("overall_pref") for entry in entries], annotator=np.array(who))
        )
    table = pd.concat(parts)
    if strength == "keep":
        table["strength"] = table["outcome"].str.extract("(slightly|clearly)")[0].map(_WORDS)  # none for a tie
    return tools.comparisons(
        table,
        notes,
        missing,
        identical,
        source,
        _LIKERT,
        item_a="model_a",
        item_b="model_b",
        outcome="overall_pref",
        annotator="evaluator",
    )


def from_helpsteer3(
    frame: pd.DataFrame,
    *,
    votes: str = "overall",
    strength: str = "drop",
    missing: str = "error",
    identical: str = "error",
    source: str = "helpsteer3",
) -> Comparisons:
    """Convert HelpSteer3 preferences, where a positive score speaks for response 2.

    `votes` is "overall" (one judgement for each pair) or "individual" (each entry of `individual_preference`;
    nobody is named, so annotators are unknown). With strength="keep" the size of the score is the strength of
    preference; "drop" says who won alone.

    Raises
    ------
    DataError
        If a column is missing or a score is not a whole number from -3 to 3.
    """
    tools.one_of("votes", votes, ("overall", "individual"))
    column = f"{votes}_preference"
    frame = tools.require(frame, ("context", "response1", "response2", column), source, "helpsteer3")
    notes = tools.strength_notes(strength, column)
    if votes == "individual":
        entries = tools.entries(frame, column, source, notes)
        frame = frame.loc[entries.index].assign(**{column: [entry.get("score") for entry in entries]})
    score = tools.scores(frame[column], lambda x: np.isin(x, range(-3, 4)), "whole numbers from -3 to 3", source)
    prompt = frame["context"].map(tools.text)
    table = pd.DataFrame(
        {
            "item_a": tools.labels(frame["response1"], prompt),
            "item_b": tools.labels(frame["response2"], prompt),
            "outcome": tools.by_sign(score),
            "context": [tools.label(text) for text in prompt],
        }
    )
    if strength == "keep":
        table["strength"] = np.abs(score)
    return tools.comparisons(
        table, notes, missing, identical, source, item_a="response1", item_b="response2", outcome=column
    )


def from_summarize_from_feedback(
    frame: pd.DataFrame,
    *,
    items: str = "text",
    missing: str = "error",
    identical: str = "error",
    source: str = "summarize_from_feedback",
) -> Comparisons:
    """Convert the comparisons of summarize-from-feedback; the context is the post.

    `items` is "text" (each summary is an item) or "policy"; many rows compare two summaries of one policy, so
    that "policy" also needs identical="drop".

    Raises
    ------
    DataError
        If a column is missing, is not nested as published, or `choice` is not 0 or 1.
    """
    tools.one_of("items", items, ("text", "policy"))
    frame = tools.require(frame, ("info", "summaries", "choice", "worker"), source, "summarize_from_feedback")
    try:
        context = [info["id"] for info in frame["info"]]
        pairs = [(first[items], second[items]) for first, second in frame["summaries"]]
    except (TypeError, KeyError, ValueError):
        raise DataError(
            f"{source}: each row needs info with an id, and two summaries with {items}; "
            f"read the published json lines"
        ) from None
    choice = tools.scores(frame["choice"], lambda x: np.isin(x, (0, 1)), "0 or 1", source)
    outcome = tools.by_sign(choice - 0.5)
    table = pd.DataFrame({"context": context, "outcome": outcome, "annotator": frame["worker"].to_numpy()})
    for position, side in enumerate(("item_a", "item_b")):
        texts = [pair[position] for pair in pairs]
        table[side] = tools.labels(pd.Series(texts), pd.Series(context)) if items == "text" else texts
    return tools.comparisons(
        table, ["confidence is not used"], missing, identical, source, outcome="choice", annotator="worker"
    )


def from_prism(
    frame: pd.DataFrame, *, missing: str = "error", identical: str = "error", source: str = "prism"
) -> Comparisons:
    """Convert rated utterances of PRISM: every two models rated in one interaction, the higher score wins.

    Equal scores are ties. The context is the interaction. After the first turn both responses come from one
    model, so that real files need identical="drop".

    Raises
    ------
    DataError
        If a column is missing, or a score is not from 0 to 100.
    """
    frame = tools.require(frame, ("user_id", "interaction_id", "model_name", "score"), source, "prism")
    score = tools.scores(frame["score"], lambda x: (x >= 0) & (x <= 100), "scores from 0 to 100", source)
    rated = frame[["user_id", "interaction_id", "model_name"]].assign(score=score, row=np.arange(len(frame)))
    pairs = rated.merge(rated, on="interaction_id", suffixes=("_a", "_b"))
    pairs = pairs[pairs["row_a"] < pairs["row_b"]]
    if len(pairs) == 0:
        raise DataError(f"{source}: no interaction_id has two rated utterances")
    alone = int((rated.groupby("interaction_id")["row"].transform("size") == 1).sum())
    notes = [
        "pairs of one interaction come from one multi-way rating and are dependent: resample by context",
        "score reduced to a, b or tie: its strength is not used",
    ]
    if alone:
        notes.append(f"{alone} utterances rated alone give no pair")
    table = pd.DataFrame(
        {
            "item_a": pairs["model_name_a"],
            "item_b": pairs["model_name_b"],
            "outcome": tools.by_sign((pairs["score_b"] - pairs["score_a"]).to_numpy()),
            "annotator": pairs["user_id_a"],
            "context": pairs["interaction_id"],
        }
    )
    return tools.comparisons(
        table,
        notes,
        missing,
        identical,
        source,
        outcome="score",
        annotator="user_id",
        context="interaction_id",
    )


class Format(NamedTuple):
    """A converter, and the columns that it may use (a reader loads no others)."""

    convert: Callable[..., Comparisons]
    columns: tuple[str, ...]


FORMATS = {
    "arena": Format(
        from_arena, ("model_a", "model_b", "winner", *_ONE_HOT, "judge", "evaluation_session_id")
    ),
    "mt_bench": Format(from_mt_bench, ("question_id", "model_a", "model_b", "winner", "judge", "turn")),
    "hh_rlhf": Format(from_hh_rlhf, ("prompt", "chosen", "rejected", "score_chosen", "score_rejected")),
    "alpaca_eval": Format(
        from_alpaca_eval,
        ("instruction", "input", "output_1", "output_2", "generator_1", "generator_2", "preference")
        + ("annotator", "annotator_index"),
    ),
    "multipref": Format(
        from_multipref,
        ("prompt_id", "model_a", "model_b", "normal_worker_annotations", "expert_worker_annotations"),
    ),
    "helpsteer3": Format(
        from_helpsteer3, ("context", "response1", "response2", "overall_preference", "individual_preference")
    ),
    "summarize_from_feedback": Format(
        from_summarize_from_feedback, ("info", "summaries", "choice", "worker")
    ),
    "prism": Format(from_prism, ("user_id", "interaction_id", "model_name", "score")),
}

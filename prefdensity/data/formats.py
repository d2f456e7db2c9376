"""Public formats of preference data: for each a short recipe, which is a description of its table and its options.

Every field of `Layout` that a user gives takes the place of the recipe's. What formats leave to the user to say (is
"both bad" a tie?) is an option without a default: where it matters it must be said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefdensity.errors import DataError

Changes = Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """A choice that a format leaves to the user.

    Attributes
    ----------
    says
        What it decides.
    values
        Value -> what it changes in the layout; empty: any text, which takes the place of {NAME} in paths.
    free
        What any text changes, where there are no `values`.
    default
        The value unless one is given; None: there is none.
    words, meaning
        Outcomes that nobody but the user can place, and what they say: refused while no value is given, counted else.
    needed_for
        A column that nobody but the user can place: refused while no value is given.
    """

    says: str
    values: Mapping[str, Changes] = field(default_factory=dict)
    free: Changes = field(default_factory=dict)
    default: str | None = None
    words: tuple[str, ...] = ()
    meaning: str = ""
    needed_for: str = ""


@dataclass(frozen=True)
class Recipe:
    """A public format.

    Attributes
    ----------
    story
        What it holds, in a sentence; the first clause is its line in the list.
    layout
        Fields of `Layout`.
    instead
        Column -> what changes where the file does not have it.
    optional
        Roles that a file may lack.
    kept
        Columns that are read as groups where the file has them, filled in every row.
    parts
        Name -> what changes, for each place in a row that holds judgements.
    apart
        Annotators of different parts are different people, called part/ID.
    options
        What the user may, or must, decide.
    notes
        What is true of every such file.
    """

    story: str
    layout: Changes
    instead: Mapping[str, Changes] = field(default_factory=dict)
    optional: tuple[str, ...] = ("annotator", "context", "first", "score_a", "score_b", "drop")
    kept: tuple[str, ...] = ()
    parts: Mapping[str, Changes] = field(default_factory=dict)
    apart: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


_STRENGTH = Option(
    "whether how strongly somebody prefers is read",
    {"keep": {}, "drop": {"strength_dropped": True}},
    default="drop",
)
_GRADES = {"A>>B": "a2", "A>B": "a1", "A=B": "tie", "B>A": "b1", "B>>A": "b2",
           "B<<A": "a2", "B<A": "a1", "B=A": "tie", "A<B": "b1", "A<<B": "b2"}  # fmt: skip
_LIKERT = {"A-is-clearly-better": "a2", "A-is-slightly-better": "a1", "Tie": "tie",
           "B-is-slightly-better": "b1", "B-is-clearly-better": "b2"}  # fmt: skip
_SIDES = {"left": "a", "right": "b", "A": "a", "B": "b", "1": "a", "2": "b", "response-1": "a", "response-2": "b",
          "response_1": "a", "response_2": "b", "response1": "a", "response2": "b", "tie": "tie", "equal": "tie",
          "Tie": "tie", "same": "tie"}  # fmt: skip
_SCORED = ("acc", "exact_match", "acc_norm", "score")


def _answers(side: str, within: str = "") -> tuple[str, ...]:
    """Return usual names of the column of an answer."""
    number, letter = {"a": ("1", "a"), "b": ("2", "b")}[side]
    names = [f"answer{number}", f"answer_{number}", f"response{number}", f"response_{number}", f"response-{number}",
             f"text{number}", f"answer_{letter}", f"response_{letter}", f"completion_{number}", f"output_{number}",
             f"model{number}", f"model_{letter}", f"generation-{number}", f"generation_{number}"]  # fmt: skip
    return tuple(within + name for name in names)


_STYLE = {
    "length": "conv_metadata.sum_assistant_a_tokens,conv_metadata.sum_assistant_b_tokens",
    "headers": "conv_metadata.header_count_a,conv_metadata.header_count_b",
    "lists": "conv_metadata.list_count_a,conv_metadata.list_count_b",
    "bold": "conv_metadata.bold_count_a,conv_metadata.bold_count_b",
}

FORMATS: dict[str, Recipe] = {
    "arena": Recipe(
        "Votes of Chatbot Arena: 33k (judge), 140k (evaluation_session_id), 55k (one-hot winners). model_a is on the "
        "left, so it counts as shown first.",
        {"item_a": "model_a", "item_b": "model_b", "outcome": "winner", "ordered": True,
         "annotator": ("judge", "evaluation_session_id"), "labels": {"model_a": "a", "model_b": "b", "tie": "tie"}},
        instead={"winner": {"outcome": None, "labels": None, "wins_a": "winner_model_a", "wins_b": "winner_model_b",
                            "drawn": "winner_tie", "one_hot": True}},
        kept=("language", "turn", "is_code", "category", "modality"),
        options={
            "both_bad": Option(
                "what 'tie (bothbad)' and 'both_bad' are", {"tie": {}, "drop": {}},
                words=("tie (bothbad)", "both_bad"), meaning="call both answers bad, which is more than a tie",
            ),
            "style": Option(
                "covariates of style for style control, from conv_metadata: (a - b) / (a + b) of tokens and markdown",
                {"length": {"contrasts": {"length": _STYLE["length"]}}, "all": {"contrasts": _STYLE}},
            ),
        },
    ),
    "mt_bench": Recipe(
        "Human or GPT-4 judgements of MT-bench. Humans saw model_a first; gpt4_pair was asked in both orders, so "
        "neither counts as first.",
        {"item_a": "model_a", "item_b": "model_b", "outcome": "winner", "annotator": "judge",
         "context": "question_id+turn", "first": "judge", "first_labels": {"gpt4_pair": "neither", "*": "a"},
         "labels": {"model_a": "a", "model_b": "b", "tie": "tie"}},
        optional=(),
        options={
            "inconsistent": Option(
                "what 'tie (inconsistent)' is", {"tie": {}, "drop": {}}, words=("tie (inconsistent)",),
                meaning="changed with the order shown, which is not a judged tie",
            ),
        },
    ),
    "chosen_rejected": Recipe(
        "A chosen and a rejected answer, as text, dialogue (HH-RLHF, hh_rlhf) or messages (UltraFeedback, trl). The "
        "order shown is not recorded. Without a prompt it is what both share before the last answer.",
        {"winner": "chosen", "loser": "rejected", "texts": "items", "context": ("prompt", "question", "instruction"),
         "annotator": ("annotator", "annotator_id", "labeler", "worker"),
         "score_a": ("score_chosen", "chosen_score", "chosen_rating", "chosen-rating"),
         "score_b": ("score_rejected", "rejected_score", "rejected_rating", "rejected-rating")},
        options={
            "items": Option(
                "what is compared: answers, their models, or their ids (for embeddings joined by id)",
                {"text": {},
                 "model": {"winner": ("chosen_model", "chosen-model"), "loser": ("rejected_model", "rejected-model"),
                           "texts": "context"},
                 "id": {"winner": ("chosen_id", "chosen-id"), "loser": ("rejected_id", "rejected-id"),
                        "texts": "context"}},
                default="text",
            ),
        },
    ),
    "alpaca_eval": Recipe(
        "Annotations of AlpacaEval or AlpacaFarm: preference runs from 1 (output_1) to 2 (output_2); 1.5 and 0 are "
        "draws. Items are the generators, or the texts where none is named. The order shown is not recorded.",
        {"item_a": "generator_1", "item_b": "generator_2", "share": "preference", "scale": (1, 2), "higher": "b",
         "labels": {"0": "tie"}, "annotator": "annotator", "context": ("instruction+input", "instruction"),
         "texts": "context"},
        instead={"generator_1": {"item_a": "output_1", "item_b": "output_2", "texts": "items"}},
    ),
    "multipref": Recipe(
        "Overall preferences of MultiPref, by normal and expert workers; slightly and clearly better are strengths 1 "
        "and 2.",
        {"item_a": "model_a", "item_b": "model_b", "context": "prompt_id", "labels": _LIKERT},
        parts={who: {"outcome": f"{who}_worker_annotations.overall_pref",
                     "annotator": f"{who}_worker_annotations.evaluator"} for who in ("normal", "expert")},
        apart=True,
        optional=(),
        options={
            "strength": _STRENGTH,
            "workers": Option("whose judgements", {"normal": {"parts": ("normal",)}, "expert": {"parts": ("expert",)},
                                                   "all": {}}, default="all"),
        },
    ),
    "helpsteer3": Recipe(
        "Preferences of HelpSteer3, from -3 to 3: a positive score speaks for response 2.",
        {"item_a": "response1", "item_b": "response2", "context": "context", "texts": "items", "scale": (-3, 3),
         "signed_strength": "overall_preference", "strength_centre": 0, "higher": "b", "annotator": None},
        options={
            "strength": _STRENGTH,
            "votes": Option(
                "one overall judgement of a pair, or each of individual_preference (of whom is not told)",
                {"overall": {}, "individual": {"signed_strength": "individual_preference.score"}},
                default="overall",
            ),
        },
    ),
    "summarize_from_feedback": Recipe(
        "Comparisons of summarize-from-feedback; the context is the post. Confidence is not used.",
        {"item_a": "summaries.0.text", "item_b": "summaries.1.text", "outcome": "choice", "labels": {0: "a", 1: "b"},
         "annotator": "worker", "context": "info.id", "texts": "items"},
        optional=(),
        options={
            "items": Option(
                "what is compared: summaries, or the policies that wrote them (needs identical='drop')",
                {"text": {}, "policy": {"item_a": "summaries.0.policy", "item_b": "summaries.1.policy", "texts": None}},
                default="text",
            ),
        },
        notes=("confidence is not used",),
    ),
    "prism": Recipe(
        "Rated utterances of PRISM: of every two models rated in one interaction the higher score wins. After the "
        "first turn both answers come from one model, so that real files need identical='drop'.",
        {"item": "model_name", "score": "score", "scale": (0, 100), "context": "interaction_id",
         "annotator": "user_id"},
        optional=(),
    ),
    "arena_hard": Recipe(
        "Judgements of Arena-Hard (model_judgment): two games of a model against a baseline, in both orders, from A>>B "
        "to B>>A.",
        {"labels": _GRADES, "ordered": True, "annotator": "judge", "context": ("question_id", "uid")},
        parts={"first game": {"item_a": "={baseline}", "item_b": "model", "outcome": "games.0.score"},
               "second game": {"item_a": "model", "item_b": "={baseline}", "outcome": "games.1.score"}},
        options={"strength": _STRENGTH, "baseline": Option("the model that all others were judged against")},
    ),
    "label_studio": Recipe(
        "Label Studio exports (JSON) of pairwise tasks: who was selected, left or right, by each annotator. Name the "
        "answers where they are not called answer1 and answer2: item_a='data.model1'.",
        {"item_a": _answers("a", "data."), "item_b": _answers("b", "data."), "texts": "items", "ordered": True,
         "outcome": ("annotations.result.value.selected", "annotations.result.value.choices.0"), "labels": _SIDES,
         "annotator": ("annotations.completed_by", "annotations.completed_by.email", "annotations.completed_by.id"),
         "context": ("data.prompt", "data.question", "data.text"),
         "drop": {"annotations.was_cancelled": "true",
                  "annotations.result.type": ("textarea", "rating", "number", "labels", "taxonomy", "datetime")}},
    ),
    "argilla": Recipe(
        "Argilla records, as json or as a data set: the answer of every annotator to one question. Name the texts "
        "where they are not called response1 and response2: item_a='fields.left'.",
        {"item_a": (*_answers("a", "fields."), *_answers("a")), "item_b": (*_answers("b", "fields."), *_answers("b")),
         "texts": "items", "labels": _SIDES, "outcome": "responses.{question}.value",
         "annotator": "responses.{question}.user_id", "context": ("fields.prompt", "fields.instruction", "prompt",
                                                                  "instruction"),
         "drop": {"responses.{question}.status": ("discarded", "draft"), "responses.status": ("discarded", "draft")}},
        instead={"responses.{question}": {"outcome": "responses.values.{question}.value",
                                          "annotator": "responses.user_id"},
                 "responses": {"outcome": "{question}.responses[]", "annotator": "{question}.responses.users[]"}},
        options={"question": Option("the question that asks for the better one", default="preference")},
    ),
    "prodigy": Recipe(
        "Prodigy answers to a choice between two options: which id was accepted. Rejected and ignored tasks are left "
        "out.",
        {"item_a": "options.0.id", "item_b": "options.1.id", "winner": "accept.0", "ordered": True,
         "annotator": ("_annotator_id", "_session_id"), "context": ("prompt", "text", "input.text"), "texts": "context",
         "drop": {"answer": ("reject", "ignore")}},
    ),
    "lm_eval": Recipe(
        "Samples of lm-evaluation-harness (--log_samples), one file, or folder, for each model: of two models on one "
        "document the higher score wins.",
        {"item": ("model", "model_name", "folder", "file"), "score": _SCORED,
         "context": ("doc_hash+filter", "doc_hash", "doc_id+filter", "doc_id")},
        options={"metric": Option("the score, such as acc", free={"score": "{metric}"})},
    ),
    "inspect": Recipe(
        "Logs of Inspect as json, one for each model: of two models on one sample the higher score wins; C, P and I "
        "are 1, 1/2 and 0.",
        {"item": "eval.model", "score": "samples.scores.*.value", "context": ("samples.id+samples.epoch", "samples.id"),
         "score_labels": {"C": 1, "I": 0, "P": 0.5, "N": 0, "True": 1, "False": 0}},
        options={"scorer": Option("the scorer, of several", free={"score": "samples.scores.{scorer}.value"})},
    ),
    "preflib": Recipe(
        "PrefLib orders (.soc, .soi, .toc, .toi) as rankings, and edges (.wmd) as wins on request.",
        {"answer": "order", "item": "alternative", "rank": "rank", "count": "count", "unranked": "ask"},
        instead={"order": {"answer": None, "item": None, "rank": None, "unranked": None, "item_a": "from",
                           "item_b": "to", "outcome": "=a", "count": "weight"}},
        options={"edges": Option("what the weight of an edge (.wmd) is: how often the first beat the second",
                                 {"wins": {}}, needed_for="weight")},
    ),
}  # fmt: skip


def recipe(name: Any) -> Recipe:
    """Return the recipe of a format.

    Raises
    ------
    DataError
        If there is none of this name; it names the one that tells of it.
    """
    if isinstance(name, str) and name in FORMATS:
        return FORMATS[name]
    told = [each for each, about in FORMATS.items() if isinstance(name, str) and name and name in about.story]
    hint = f"; {told[0]} reads it" if told else ""
    raise DataError(f"there is no format {name!r}; there are {', '.join(FORMATS)}{hint}")

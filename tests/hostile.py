"""Hostile tables, made by code: each is to be refused in one sentence, or read as meant.

A case is a name, how to read it, and what is right: a pattern for the sentence of the refusal, or the rows (item_a,
item_b, outcome, annotator, count) of the table that was meant, perhaps with a pattern of a warning.
"""

import datetime
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from prefdensity import read
from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.ratings import with_ratings
from prefdensity.judged.units import Judged
from prefdensity.selection.candidates import candidate_pairs, with_items

RNG = np.random.default_rng(20)  # which row is spoiled, and what the tables hold
NBSP, ZERO = "\u00a0", "\u200b"


class Case(NamedTuple):
    """One hostile input: `run(folder)` reads it; right is a refusal that says so, or what is meant, or either."""

    name: str
    run: Callable[[Any], Any]
    refused: str | None
    meant: Any = None
    notes: str = ""  # of what was dropped on request
    warns: str | None = None
    shell: tuple[str, ...] | None = None  # the same input on the command line, {folder} for the folder of its file


def case(name: str, run: Callable[[Any], Any], right: Any, **more: Any) -> Case:
    """A case that is right in one way: a pattern of the refusal, or what is meant."""
    return Case(name, run, right, **more) if isinstance(right, str) else Case(name, run, None, right, **more)


def table(rows: int = 6) -> pd.DataFrame:
    """A clean table of plain labels, as objects so that any cell may hold anything."""
    sides = np.array([RNG.choice(4, 2, replace=False) for _ in range(rows)])
    names = np.array(["elm", "fir", "oak", "yew"], dtype=object)
    return pd.DataFrame({
        "item_a": names[sides[:, 0]], "item_b": names[sides[:, 1]],
        "outcome": RNG.choice(["a", "b", "tie"], rows).astype(object),
        "annotator": RNG.choice(["kim", "lou"], rows).astype(object),
        "context": RNG.choice(["p", "q"], rows).astype(object),
        "count": RNG.integers(1, 4, rows).astype(object), "length": RNG.normal(size=rows).astype(object),
        "strength": [1] * rows,
    }, dtype=object)  # fmt: skip


def rows(frame: pd.DataFrame) -> list[tuple]:
    """What a frame of plain cells means."""
    found = frame.reindex(columns=["item_a", "item_b", "outcome", "annotator", "count"])
    found["count"] = found["count"].fillna(1).astype(float)
    found = found.astype(object).where(found.notna(), None)
    return list(found.itertuples(index=False, name=None))


def spoiled(column: str, value: Any) -> tuple[pd.DataFrame, int]:
    """A table with one bad cell, and its row counted from 1."""
    frame, row = table(), int(RNG.integers(6))
    frame.at[row, column] = value
    return frame, row + 1


def labels() -> list[Case]:
    """Cells that are no label, in every role; missing ones also dropped on request."""
    missing = {"none": None, "nan": np.nan, "nat": pd.NaT, "pdna": pd.NA, "text": "", "blank": " ", "tab": "\t\n",
               "nbsp": NBSP, "width": ZERO, "ideographic": "\u3000 "}  # fmt: skip
    wrong = {"nul": "e\0lm", "escape": "\x1b[31melm", "unit": "elm\x1f", "c1": "elm\x9b", "half": "elm\ud800",
             "bytes": b"elm", "complex": 1 + 2j, "fraction": 2.5, "infinite": np.inf, "longid": 2.0**60,
             "list": ["elm"], "dict": {"a": 1}, "set": {"elm"}, "tuple": ("elm",), "delta": pd.Timedelta(1, "D"),
             "period": pd.Period("2024"), "object": object(), "class": int, "interval": pd.Interval(0, 1)}  # fmt: skip
    cases = []
    for role in ("item_a", "item_b", "annotator", "context"):
        for name, value in missing.items():
            frame, row = spoiled(role, value)
            cases.append(case(
                f"missing {name} in {role}", lambda _, f=frame: Comparisons.from_frame(f),
                rf"'{role}' \({role}\) is empty in 1 rows, first in row {row};",
            ))  # fmt: skip
            kept = frame.drop(index=row - 1)
            cases.append(case(
                f"missing {name} in {role}, dropped", lambda _, f=frame: Comparisons.from_frame(f, missing="drop"),
                rows(kept), notes="1 rows with an empty",
            ))  # fmt: skip
        for name, value in wrong.items():
            frame, row = spoiled(role, value)
            cases.append(case(
                f"{name} in {role}", lambda _, f=frame: Comparisons.from_frame(f, missing="drop"),
                rf"column '{role}' holds a (list|dict|set) in row {row}|row {row} of column '{role}' holds",
            ))  # fmt: skip
    return cases


def kinds_of_labels() -> list[Case]:
    """Labels of every kind a frame can hold are the text that a person would write."""
    day = datetime.date(2024, 2, 29)
    given = {
        "whole floats": ([101.0, 7.0], ["101", "7"]), "long ids": ([2**63, 2**64 + 1], [str(2**63), str(2**64 + 1)]),
        "unsigned": (np.array([2**63, 2**63 + 1], np.uint64), [str(2**63), str(2**63 + 1)]),
        "zeros": (["007", "070"], ["007", "070"]), "booleans": ([True, False], ["True", "False"]),
        "one and true": ([1, True], ["1", "True"]), "one twice": ([1, "1"], None), "zero and -0": ([0.0, -0.0], None),
        "decimals": ([Decimal("3"), Decimal("4")], ["3", "4"]), "dates": ([day, "x"], ["2024-02-29", "x"]),
        "uuids": ([uuid.UUID(int=1), uuid.UUID(int=2)], [str(uuid.UUID(int=k)) for k in (1, 2)]),
        "categories": (pd.Categorical(["u", "v"]), ["u", "v"]), "codes": (pd.Categorical([3, 1]), ["3", "1"]),
        "nullable": (pd.array([5, 6], dtype="Int64"), ["5", "6"]), "strings": (pd.array(["m", "n"], "string"), "mn"),
        "sparse": (pd.arrays.SparseArray([0, 1]), ["0", "1"]), "int8": (np.array([-1, 1], np.int8), ["-1", "1"]),
        "emoji": (["👩‍🚀", "🚀"], ["👩‍🚀", "🚀"]), "right to left": (["שלום", "سلام"], ["שלום", "سلام"]),
        "markup": (["<b>x</b>", "[red]y"], ["<b>x</b>", "[red]y"]), "formula": (["=1+1", "@x"], ["=1+1", "@x"]),
        "separators": (['a,"b"', "c;d\te"], ['a,"b"', "c;d\te"]), "long": (["x" * 5000, "y"], ["x" * 5000, "y"]),
        "words": (["tie", "drop"], ["tie", "drop"]), "names": (["outcome", "item_a"], ["outcome", "item_a"]),
        "nearly text": (["1e5", "0x10"], ["1e5", "0x10"]), "percent": (["%s", "{0}"], ["%s", "{0}"]),
    }  # fmt: skip
    cases = []
    for name, (values, meant) in given.items():
        frame = pd.DataFrame({"item_a": values, "item_b": ["elm", "fir"], "outcome": ["a", "b"]})
        if meant is None:
            right = rows(frame.assign(item_a="0" if name == "zero and -0" else "1"))
        else:
            right = rows(frame.assign(item_a=list(meant)))
        cases.append(case(f"labels: {name}", lambda _, f=frame: Comparisons.from_frame(f), right))
        people = frame.assign(annotator=frame["item_a"], item_a="oak")
        right = [("oak", b, o, a, n) for (a, b, o, _, n) in right]
        cases.append(case(f"annotators: {name}", lambda _, f=people: Comparisons.from_frame(f), right))
    return cases


def look_alike_labels() -> list[Case]:
    """Labels that a reader takes for one another stay apart, and the warning names them."""
    pairs = [("Larch", "larch"), ("Larch", "Larch "), ("Larch", NBSP + "Larch"), ("Larch", "Larch\t"), ("101", "101.0"),
             ("7", "007"), ("1000", "1e3"), ("ﬁr", "fir"), ("Ｌarch", "Larch"), ("Lärch", "La\u0308rch"),
             ("new  york", "new york"), (f"La{ZERO}rch", "Larch"), ("straße", "STRASSE"), ("½", "1⁄2"), ("x²", "x2"),
             ("-0", "0"), ("+5", "5"), ("5.", "5"), ("İx", "i̇x"), ("①", "1"),
             ("gpt-4", "gpt\u20114"), ("gpt-4", "gpt\u20134"), ("O'Neil", "O’Neil"), ("☃", "☃\ufe0f"),
             ("a-1", "a\u22121"), ("Larch", "L\u0430rch"), ("PEAR", "\u0420EAR")]  # fmt: skip
    cases = []
    for one, other in pairs:
        frame = pd.DataFrame({"item_a": [one, other], "item_b": ["oak", "oak"], "outcome": ["a", "b"]})
        frame = frame.assign(annotator=["kim", "lou"])
        warned = "items look like 1: .*differ only in"
        cases.append(case(
            f"{one!r} {other!r}", lambda _, f=frame: Comparisons.from_frame(f), rows(frame), warns=warned
        ))  # fmt: skip
        people = frame.assign(item_a=["elm", "fir"], annotator=[one, other])
        warned = "annotators look like 1: .*differ only in"
        cases.append(case(
            f"annotators {one!r} {other!r}", lambda _, f=people: Comparisons.from_frame(f), rows(people), warns=warned
        ))  # fmt: skip
    for word in ("NA", "None", "nan", "null", "N/A", "<NA>", "#N/A", "?"):
        frame = pd.DataFrame({"item_a": [word, "elm"], "item_b": ["oak", "oak"], "outcome": ["a", "b"]})
        cases.append(case(
            f"an item called {word}", lambda _, f=frame: Comparisons.from_frame(f), rows(frame),
            warns="items are called",
        ))  # fmt: skip
    return cases


NO_NUMBERS = {
    "date": pd.Timestamp("2024-01-01"), "day": datetime.date(2024, 1, 1), "delta": pd.Timedelta(1, "D"),
    "complex": 1 + 2j, "text": "many", "hex": "0x10", "underscore": "1_000", "comma": "1,5", "infinite": "inf",
    "huge": "1e400", "digits": 10**400, "nothing": None, "blank": " ", "bytes": b"1", "list": [1], "full": "１２",
    "dict": {"x": 1}, "roman": "Ⅷ", "unit": "5 kg", "class": float,
}  # fmt: skip


def numbers() -> list[Case]:
    """Cells that are no number, where a number is read."""
    cases = []
    for name, value in NO_NUMBERS.items():
        frame, row = spoiled("count", value)
        bad = rf"column 'count' (must hold finite numbers, and holds .* in|holds a (list|dict) in) row {row}"
        cases.append(case(f"count {name}", lambda _, f=frame: Comparisons.from_frame(f), bad))
        frame, row = spoiled("length", value)
        bad = rf"column 'length' must hold finite numbers, and holds .* in row {row}"
        cases.append(case(
            f"covariate {name}", lambda _, f=frame: Comparisons.from_frame(f, covariates=["length"]), bad
        ))  # fmt: skip
        frame = table()
        frame["outcome"] = "a"
        frame.at[2, "strength"] = value
        bad = r"column 'strength'.* holds .* in row 3"
        cases.append(case(
            f"strength {name}", lambda _, f=frame: Comparisons.from_frame(f, strength="strength"), bad
        ))  # fmt: skip
        features = pd.DataFrame({"f": [1, value, 3, 4]}, index=["elm", "fir", "oak", "yew"], dtype=object)
        clean = pd.DataFrame({"item_a": ["elm", "oak"], "item_b": ["fir", "yew"], "outcome": ["a", "b"]})
        cases.append(case(
            f"feature {name}", lambda _, f=features, c=clean: Comparisons.from_frame(c, item_features=f),
            "item_features: column 'f' must hold finite numbers, and holds .* for item 'fir'",
        ))  # fmt: skip
        units = pd.DataFrame({"w1": [0.0, 1.0], "w2": [1, value], "label": 0.5, "preference": "a"}, dtype=object)
        cases.append(
            case(f"output {name}", lambda _, f=units: Judged.from_frame(f), "column 'w2' must hold .* in row 2")
        )
        if name not in ("nothing", "blank"):
            ranks = pd.DataFrame({"answer": [1, 1], "item": ["elm", "fir"], "rank": [1, value]}, dtype=object)
            cases.append(case(
                f"rank {name}", lambda _, f=ranks: Choices.from_rankings(f, answer="answer"),
                "column 'rank' must hold ranks, .* in row 2",
            ))  # fmt: skip
    return cases


def other_tables() -> list[Case]:
    """Rankings, best-worst answers, ratings, judged units and counts with something missing, or in a strange shape."""
    votes = Comparisons.from_frame(pd.DataFrame({"item_a": ["elm"], "item_b": ["fir"], "outcome": ["a"]}))
    ranks = pd.DataFrame({"answer": ["r", "r", "s", "s"], "item": ["elm", "fir"] * 2, "rank": [1, 2, 2, 1],
                          "who": ["kim", "kim", "lou", "lou"], "pick": ["best",
                          "worst"] * 2}, dtype=object)  # fmt: skip
    scores = pd.DataFrame({"item": ["elm", "fir"], "rating": [1, 2], "who": ["kim", "lou"]}, dtype=object)
    cases = []
    for name, value in {"none": None, "nan": np.nan, "blank": " ", "width": ZERO, "nul": "\0", "bytes": b"r"}.items():
        for column in ("answer", "item", "who"):
            frame = ranks.copy()
            frame.at[1, column] = value
            bad = rf"column '{column}' .* is empty in 1 .*, first in row 2|row 2 of column '{column}' (is blank|holds)"
            ways = {"rankings": Choices.from_rankings, "best-worst": Choices.from_best_worst}
            cases += [
                case(f"{way}: {column} {name}", lambda _, f=frame, r=way_: r(f, answer="answer", annotator="who"), bad)
                for way, way_ in ways.items()
            ]
        for column in ("item", "who", "rating"):
            frame = scores.copy()
            frame.at[1, column] = value
            cases.append(case(
                f"ratings: {column} {name}", lambda _, f=frame: with_ratings(votes, f, annotator="who"),
                rf"'{column}' .* is empty in 1 rows, first in row 2|row 2 .*'{column}'|'rating' does not hold numbers",
            ))  # fmt: skip
        units = pd.DataFrame(
            {"w1": [0.0, 1.0], "w2": [1, 1], "label": 0.5, "preference": "a", "site": "s"}, dtype=object
        )
        units.at[1, "site"] = value
        cases.append(case(
            f"cluster {name}", lambda _, f=units: Judged.from_frame(f, cluster="site"),
            r"'site' (is empty in row 2|holds)"
        ))  # fmt: skip
    words = scores.assign(rating=["good", "bad"])
    cases += [
        case("ratings in words", lambda _: with_ratings(votes, words), "its order is unknown; give it, worst first"),
        case("ratings spelled twice", lambda _: with_ratings(votes, scores.assign(rating=["1", "1.0"])), "in two ways"),
        case("a sum of counts", lambda _: Comparisons.from_frame(table().assign(count=1e99)), "so many judgements"),
        case("counts of 2**52", lambda _: Comparisons.from_frame(table().assign(count=2**52)), "so many judgements"),
        case("features, no column", lambda _: Comparisons.from_frame(
            table(), item_features=pd.DataFrame(index=["elm", "fir", "oak", "yew"])), "no column of numbers"),
        case("features by number", lambda _: Comparisons.from_frame(
            pd.DataFrame({"item_a": [1], "item_b": [2], "outcome": ["a"]}),
            item_features=pd.DataFrame({"f": [0.5, 0.7]}, index=[1.0, 2.0])), [("1", "2", "a", None, 1.0)]),
        case("covariate beyond squares", lambda _: Comparisons.from_frame(
            table().assign(length=1e200), covariates=["length"]), "of a size below 1e.100"),
        case("covariate twice", lambda _: Comparisons.from_frame(table(), covariates=["length", "length"]),
        "more than"),
        case("signed column called outcome", lambda _: Comparisons.from_frame(
            pd.DataFrame({"item_a": ["x", "y"], "item_b": ["y", "z"], "outcome": [2, -1]}), outcome=None,
            strength="outcome"), [("x", "y", "a", None, 1.0), ("y", "z", "b", None, 1.0)]),
    ]  # fmt: skip
    return cases


def outcomes() -> list[Case]:
    """Outcome words that also name items, and words that are no outcome."""

    def pairs(*rows_: tuple[str, str, Any]) -> pd.DataFrame:
        return pd.DataFrame(rows_, columns=["item_a", "item_b", "outcome"])

    same = {"a": "a", "b": "b", "tie": "tie"}
    letters = pairs(("b", "a", "a"), ("a", "b", "b"))
    many = pairs(("b", "a", "a"), ("c", "d", "b"), ("d", "a", "a"))
    named = pairs(("Larch", "Fir", "Fir"), ("Fir", "Larch", "Fir"))
    ids = pairs(("3", "1", 1), ("3", "2", 0), ("1", "0", 0))
    drawn = pairs(("tie", "x", "tie"), ("x", "tie", "tie"))
    cases = [
        case("sides or items", lambda _: Comparisons.from_frame(letters), "read as the side a and also names an item"),
        case("sides, said", lambda _: Comparisons.from_frame(letters, labels=same), rows(letters)),
        case("sides beside items", lambda _: Comparisons.from_frame(many), rows(many)),
        case("a tie or an item", lambda _: Comparisons.from_frame(drawn), "read as a tie and also names an item"),
        case("a tie, said", lambda _: Comparisons.from_frame(drawn, labels=same), rows(drawn)),
        case("winners by name", lambda _: Comparisons.from_frame(named), "They name items, so the column says who won"),
        case("winners by name, mapped", lambda _: Comparisons.from_frame(named, labels={"Fir": "a"}),
        "rename the item"),
        case("codes beside ids", lambda _: Comparisons.from_frame(ids, labels={1: "a", 0: "b"}),
             rows(ids.assign(outcome=["a", "b", "b"]))),
        case("names that are sides", lambda _: Comparisons.from_frame(
            pairs(("base", "x", "base"), ("base", "y", "other")), labels={"base": "a", "other": "b"}),
            [("base", "x", "a", None, 1.0), ("base", "y", "b", None, 1.0)]),
    ]  # fmt: skip
    words = ["A", "a ", " b", "B", "Tie", "draw", "0", 0, 1, 1.0, True, "both", "a,b", "а", "ａ", "TIE", "none", 0.5,
             "model_a", "left", pd.Timestamp("2024"), 1j, b"a", "a\n", "", "\ufeffa"]  # fmt: skip
    for word in words:
        frame = table()
        frame.at[2, "outcome"] = word
        cases.append(case(
            f"outcome {word!r} {type(word).__name__}", lambda _, f=frame: Comparisons.from_frame(f),
            "unknown outcomes: "
        ))  # fmt: skip
    for name, word in {"none": None, "nan": np.nan, "na": pd.NA, "list": ["a"], "set": {"a"}}.items():
        frame = table()
        frame.at[2, "outcome"] = word
        cases.append(case(
            f"outcome {name}", lambda _, f=frame: Comparisons.from_frame(f), "'outcome'.* (is empty in 1|holds a)"
        ))  # fmt: skip
    return cases


def scales() -> list[Case]:
    """Signed strengths: a scale without negative values is refused, and read as meant once its middle is said."""
    cases = []
    for low, high, centre in [(1, 7, 4), (0, 100, 50), (1, 5, 3), (1, 6, 3.5), (0, 10, 5), (0, 1, 0.5), (-7, -1, -4),
                              (1, 9, 5), (1, 4, 2.5), (10, 90, 50), (1, 2, 1.5), (100, 200, 150)]:  # fmt: skip
        score = RNG.integers(low, high + 1, 12)
        score[:3] = low, high, high
        frame = pd.DataFrame({"item_a": ["elm"] * 12, "item_b": ["fir", "oak", "yew"] * 4, "score": score})
        options = {"outcome": None, "strength": "score"}
        cases.append(case(
            f"scale {low}..{high}", lambda _, f=frame, o=options: Comparisons.from_frame(f, **o),
            r"column 'score' is never negative, or never positive, .*strength_centre=4 and higher='b'",
        ))  # fmt: skip
        cases.append(case(
            f"scale {low}..{high}, no side",
            lambda _, f=frame, o=options, c=centre: Comparisons.from_frame(f, strength_centre=c, **o),
            "needs higher='a'",
        ))  # fmt: skip
        for side in "ab":
            towards = np.sign(score - centre) * (1 if side == "a" else -1)
            meant = rows(frame.assign(outcome=np.array(["tie", "a", "b"])[towards.astype(int)]))
            cases.append(case(
                f"scale {low}..{high}, high for {side}",
                lambda _, f=frame, o=options, c=centre, s=side: Comparisons.from_frame(
                    f, strength_centre=c, higher=s, **o
                ), meant,
            ))  # fmt: skip
    return cases


def arguments() -> list[Case]:
    """Arguments of another type than they should have, and values that only look right."""
    clean = table().drop(columns="strength")
    signed = pd.DataFrame({"item_a": ["x", "y"], "item_b": ["y", "z"], "s": [1, 7]})
    big = clean.assign(s=[10**18 + k for k in range(6)], outcome="a")
    votes = Comparisons.from_frame(clean)
    marks = pd.DataFrame({"item": ["elm", "fir"], "rating": [1, 2]})
    names = ("x", "y")

    def centre(value: Any) -> Callable[[Any], Any]:
        return lambda _: Comparisons.from_frame(signed, outcome=None, strength="s", strength_centre=value, higher="a")

    given = {
        "a list for a column": (lambda _: Comparisons.from_frame(clean, item_a=["item_a"]), "has no column"),
        "a list for labels": (lambda _: Comparisons.from_frame(clean, labels=["a"]), "labels=.* must say what each"),
        "a word for ordered": (lambda _: Comparisons.from_frame(clean, ordered="no"), "ordered='no' is unknown"),
        "None for missing": (lambda _: Comparisons.from_frame(clean, missing=None), "missing=None is unknown"),
        "a series of features": (
            lambda _: Comparisons.from_frame(clean, item_features=pd.Series([1])), "must be a data frame indexed"),
        "a dict of features": (
            lambda _: Comparisons.from_frame(clean, item_measures={"x": 1}), "must be a data frame indexed"),
        "a list for a format": (lambda _: read(clean, format=["arena"]), "there is no format"),
        "centre in words": (centre("4"), "strength_centre='4' must be a value"),
        "centre nan": (centre(float("nan")), "strength_centre=nan must be"),
        "centre .3": (centre(0.3), "half-way between"),
        "centre infinite": (centre(float("inf")), "strength_centre=inf must be"),
        "strengths too large": (lambda _: Comparisons.from_frame(big, strength="s"), "strengths of preference, whole"),
        "infinite rating": (lambda _: with_ratings(votes, marks.assign(rating=[1, np.inf])), "levels that say"),
        "a level of None": (lambda _: with_ratings(votes, marks, levels=[1, 2, None]), "levels that say something"),
        "a pair of three": (lambda _: candidate_pairs(names, [("x", "y", "z")]), "is not a pair of two items"),
        "a pair in a word": (lambda _: candidate_pairs(names, ["xy"]), "is not a pair of two items"),
        "a cost of None": (lambda _: candidate_pairs(names, cost={"x": None, "y": 1}), "cost.*positive.* for item 'x'"),
        "a cost in words": (lambda _: candidate_pairs(names, cost={"x": "a", "y": 1}), "cost.*holds 'a' for item 'x'"),
        "a cost of 0": (lambda _: candidate_pairs(names, cost={"x": 0, "y": 1}), "holds 0 for item 'x'"),
        "a missing candidate": (lambda _: candidate_pairs(("x", "nan"), pd.DataFrame(
            {"item_a": ["x"], "item_b": [np.nan]})), "is empty in row 1"),
        "an item of a blank": (lambda _: with_items(votes, [" "]), "row 1 of column 'item' is blank"),
        "an item of None": (lambda _: with_items(votes, [None]), "is empty in row 1"),
    }  # fmt: skip
    return [case(name, run, right) for name, (run, right) in given.items()]

"""Worlds with one thing wrong, and programs that are right: what `benchmarks.diagnosis` draws tables of.

Utilities are those of no prior here: two clusters and one item far ahead. Annotators are few or many, busy or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import prefdensity
from prefdensity import Comparisons
from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import TIE
from prefdensity.data.grades import columns
from prefdensity.programs.running import run
from prefdensity.programs.tabulate import cells_of

Array = NDArray[Any]

ITEMS, PEOPLE, EACH = 8, 40, 60


def worths(rng: np.random.Generator) -> Array:
    """Return utilities [item] of two clusters and one item far ahead, in any order."""
    return rng.permutation(np.r_[-0.9, -0.7, -0.8, -0.6, 0.4, 0.5, 0.6, 1.6] + rng.normal(0, 0.1, ITEMS))


def asked(rng: np.random.Generator, people: int = PEOPLE, each: int = EACH) -> pd.DataFrame:
    """Return who (`who`, in sessions of `each`, the `trial`-th time) is asked about which two items (`a`, `b`)."""
    who = np.repeat(np.arange(people), each)
    a = rng.integers(ITEMS, size=len(who))
    b = (a + rng.integers(1, ITEMS, size=len(who))) % ITEMS
    return pd.DataFrame({"who": who, "trial": np.tile(np.arange(each), people), "a": a, "b": b})


def answered(rng: np.random.Generator, rows: pd.DataFrame, margin: Array, lapse: Array | float = 0.0) -> pd.DataFrame:
    """Return the rows with answers of logistic annotators, some of which are blind guesses."""
    chance = (1 - lapse) / (1 + np.exp(-margin)) + lapse / 2
    return rows.assign(outcome=np.where(rng.random(len(rows)) < chance, "a", "b"))


def read(rows: pd.DataFrame, **more: Any) -> Comparisons:
    """Return the table of rows with items by number, under names."""
    frame = rows.assign(
        item_a=[f"item {k}" for k in rows["a"]], item_b=[f"item {k}" for k in rows["b"]],
        annotator=[name if isinstance(name, str) else f"p{name:03d}" for name in rows["who"]],
    ).drop(columns=["a", "b", "who"])  # fmt: skip
    return Comparisons.from_frame(frame.reset_index(drop=True), annotator="annotator", **more)


def people_of(data_people: int, **columns: Array) -> dict[str, pd.DataFrame]:
    """Return attributes of annotators."""
    return {"annotator": pd.DataFrame(columns, index=[f"p{k:03d}" for k in range(data_people)])}


def swapped(rng: np.random.Generator) -> Comparisons:
    """In one category of four the items have changed places."""
    rows, u = asked(rng), worths(rng)
    category = rng.integers(4, size=len(rows))
    own = np.where(category[:, None] == 3, rng.permutation(u), u)
    rows = rows.assign(context=np.array(["chat", "law", "maths", "code"], object)[category])
    at = np.arange(len(rows))
    return read(answered(rng, rows, own[at, rows["a"]] - own[at, rows["b"]]), context="context")


def fatigue(rng: np.random.Generator) -> Comparisons:
    """Blind guesses grow from none to 8 in 10 through a session."""
    rows, u = asked(rng), worths(rng)
    return read(answered(rng, rows, u[rows["a"]] - u[rows["b"]], 0.8 * rows["trial"] / EACH), numbers=["trial"])


def drift(rng: np.random.Generator) -> Comparisons:
    """Two items change places in the course of a year, most of it in summer."""
    rows, u = asked(rng), worths(rng)
    day = rng.integers(365, size=len(rows))
    away = np.zeros(ITEMS)
    away[rng.permutation(ITEMS)[:2]] = 0.9, -0.9
    walk = np.tanh((day - 180) / 60)
    margin = u[rows["a"]] - u[rows["b"]] + walk * (away[rows["a"]] - away[rows["b"]])
    date = pd.Timestamp("2024-01-01") + pd.to_timedelta(day, unit="D")
    return read(answered(rng, rows, margin).assign(date=date.strftime("%Y-%m-%d")), numbers=["date"])


def _honest(rng: np.random.Generator) -> tuple[pd.DataFrame, Array]:
    rows, u = asked(rng, people=200, each=1), worths(rng)  # many vote once
    rows = pd.concat([rows, asked(rng, people=PEOPLE, each=EACH).assign(who=lambda t: t["who"] + 1000)])
    return answered(rng, rows, u[rows["a"]] - u[rows["b"]]), u


def _votes(rng: np.random.Generator, winner: Array, names: list[str]) -> pd.DataFrame:
    other = (winner + rng.integers(1, ITEMS, len(winner))) % ITEMS
    left = rng.random(len(winner)) < 0.5
    return pd.DataFrame({
        "who": names, "a": np.where(left, winner, other), "b": np.where(left, other, winner),
        "outcome": np.where(left, "a", "b"),
    })  # fmt: skip


def campaign(rng: np.random.Generator) -> Comparisons:
    """2 % of the votes are for one item of the lower half, of new accounts with one vote, of five, or of one."""
    rows, u = _honest(rng)
    size = len(rows) // 50
    accounts = (size, 5, 1)[int(rng.integers(3))]
    item = np.full(size, np.argsort(u)[rng.integers(ITEMS // 2)])
    return read(pd.concat([rows, _votes(rng, item, [f"new{k % accounts}" for k in range(size)])]))


def agreeing(rng: np.random.Generator) -> Comparisons:
    """120 accounts cast one vote each, always for the better item."""
    rows, u = _honest(rng)
    new = asked(rng, people=120, each=1)
    new = new.assign(outcome=np.where(u[new["a"]] > u[new["b"]], "a", "b"), who=[f"new{k}" for k in range(120)])
    return read(pd.concat([rows, new]))


def clones(rng: np.random.Generator) -> Comparisons:
    """Item 0 is entered twice: 7 to 9 in 10 of the answers to the two of them are ties, as few others are."""
    rows, u = asked(rng), worths(rng)
    u[1] = u[0]
    margin = u[rows["a"]] - u[rows["b"]]
    between = (rows["a"] < 2) & (rows["b"] < 2)
    tie = np.where(between, rng.uniform(0.7, 0.9), 0.25 * np.exp(-np.abs(margin)))
    rows = answered(rng, rows, margin)
    return read(rows.assign(outcome=np.where(rng.random(len(rows)) < tie, "tie", rows["outcome"])))


def clones_of_taste(rng: np.random.Generator, people: int = 160) -> Comparisons:
    """Item 0 is entered twice: there are no ties, but everybody's own view of it is the same under both names."""
    rows = asked(rng, people=people)
    own = worths(rng) + 0.9 * rng.standard_t(4, (people, ITEMS))
    own[:, 1] = own[:, 0]
    return read(answered(rng, rows, own[rows["who"], rows["a"]] - own[rows["who"], rows["b"]]))


def clones_in_sets(rng: np.random.Generator) -> Choices:
    """Of four items shown the best is named; two good ones are one, and are chosen as one, by the toss of a coin."""
    u, rows = worths(rng), []
    u[:2] = 0.5
    for answer in range(1500):
        shown = rng.permutation(ITEMS)[:4]
        one = shown[~((shown == 1) & (0 in shown))]
        best = one[np.argmax(u[one] + rng.gumbel(size=len(one)))]
        if best == 0 and 1 in shown:
            best = rng.integers(2)
        rows += [(answer, f"item {k}", 1 if k == best else None) for k in shown]
    return Choices.from_rankings(pd.DataFrame(rows, columns=["answer", "item", "rank"]), answer="answer")


def adversaries(rng: np.random.Generator) -> Comparisons:
    """1 in 20 of the annotators answers the other way round."""
    rows, u = asked(rng), worths(rng)
    side = np.where(rng.permutation(PEOPLE) < PEOPLE // 20, -1.0, 1.0)[rows["who"]]
    return read(answered(rng, rows, side * (u[rows["a"]] - u[rows["b"]])))


def turned_round(rng: np.random.Generator) -> Comparisons:
    """1 in 20 accounts answers the other way round: of many with few votes or few with many, of items of any spread."""
    people, each = ((PEOPLE, EACH), (160, 12), (100, 25))[int(rng.integers(3))]
    rows = asked(rng, people, each)
    far = rng.permutation(np.r_[3.0, 1.0, 0.2, 0.0, -0.1, -0.2, -0.3, -0.4])
    u = (worths(rng), far, 1.5 * rng.standard_t(4, ITEMS))[int(rng.integers(3))]
    own = u + rng.choice([0.0, 0.5]) * rng.normal(size=(people, ITEMS))
    side = np.where(rng.permutation(people) < people // 20, -1.0, 1.0)[rows["who"]]
    return read(answered(rng, rows, side * (own[rows["who"], rows["a"]] - own[rows["who"], rows["b"]])))


def own_family(rng: np.random.Generator) -> Comparisons:
    """Judges of four families favour the two items of their own."""
    rows, u = asked(rng, people=12, each=200), worths(rng)
    family, house = np.arange(12) % 4, rng.permutation(np.arange(ITEMS) % 4)
    own = [(house[rows[side]] == family[rows["who"]]).astype(float) for side in "ab"]
    words = np.array(["oak", "elm", "ash", "yew"], object)
    attributes = people_of(12, family=words[family])
    attributes["item"] = pd.DataFrame({"maker": words[house]}, index=[f"item {k}" for k in range(ITEMS)])
    return read(answered(rng, rows, u[rows["a"]] - u[rows["b"]] + 0.8 * (own[0] - own[1])), attributes=attributes)


def attributes(rng: np.random.Generator) -> Comparisons:
    """The old like two items more and two less than the young do; their region has nothing to do with it."""
    rows, u = asked(rng), worths(rng)
    age, region = rng.integers(18, 80, PEOPLE), rng.integers(3, size=PEOPLE)
    slope = rng.permutation(np.r_[0.5, 0.5, -0.5, -0.5, np.zeros(ITEMS - 4)])
    own = u + (age[:, None] - 49) / 18 * slope
    who = rows["who"]
    known = people_of(PEOPLE, age=age, region=np.array(["north", "south", "west"], object)[region])
    return read(answered(rng, rows, own[who, rows["a"]] - own[who, rows["b"]]), attributes=known)


@dataclass(frozen=True)
class World:
    """A world with one thing wrong.

    Attributes
    ----------
    draw
        Generator -> table.
    causes
        What `check` or `audit` may call it: a part of the name, check or advice of the first cause or finding.
    program
        What is fitted.
    door
        Which of the two names it.
    """

    draw: Callable[[np.random.Generator], Comparisons | Choices]
    causes: tuple[str, ...]
    program: str = "bradley_terry"
    door: str = "check"


CARE = "annotators are not equally reliable"
WORLDS = {
    "swapped": World(swapped, ("tastes(by='context')",)),
    "fatigue": World(fatigue, ("lapse(over='trial')", "reliability(over='trial')")),
    "drift": World(drift, ("drift(over='date')",)),
    "campaign": World(campaign, ("favour an item", "favours an item"), door="audit"),
    "agreeing": World(agreeing, ("accounts with one vote agree too well",), door="audit"),
    "clones": World(clones, ("clones",), "davidson", "audit"),
    "clones in sets": World(clones_in_sets, ("clones",), "plackett_luce", "audit"),
    "adversaries": World(adversaries, (CARE,)),
    "turned round": World(turned_round, ("answer the other way round",), door="audit"),
    "own family": World(own_family, ("judges favour their own kind",), door="audit"),
    "attributes": World(attributes, ("tastes(on='annotator.age')",)),
}

RIGHT = (
    "bradley_terry", "davidson+position_bias", "tastes", "reliability", "crowd_bt", "annotator_types",
    "reliability+tastes", "davidson+position_bias(by='annotator')", "ties(by='annotator')+davidson",
    "bradley_terry+lapse(by='annotator')", "davidson+position_bias+reliability", "tastes(by='context')",
    "tastes(by=['annotator','context'])", "tastes(on='annotator.age')", "bradley_terry+drift(over='date')",
    "bradley_terry+reliability(over='trial')", "annotator_factors",
)  # fmt: skip


def drawn(name: str, rng: np.random.Generator) -> Comparisons:
    """Return a table of a program that is right: utilities of no prior, all else from its own."""
    program = prefdensity.load_program(name)
    rows = asked(rng)
    context = np.array(["chat", "law", "maths", "code"], object)[rng.integers(4, size=len(rows))]
    frame = rows.assign(outcome="a", context=context, date=rng.integers(365, size=len(rows)),
                        first=rng.choice(["a", "b"], len(rows)))  # fmt: skip
    known = people_of(PEOPLE, age=rng.integers(18, 80, PEOPLE))
    data = read(frame, context="context", first="first", numbers=["trial", "date"], attributes=known)
    oriented = data.swapped(data.item_a > data.item_b)
    if "tie" in program.outcomes:  # a table without ties has no cells for them
        oriented = replace(oriented, outcome=np.where(np.arange(len(data)) == 0, TIE, oriented.outcome).astype(np.int8))
    cells = cells_of(oriented, program.outcomes, (*program.needs, "annotator", "first", "context", "trial", "date"))
    assert cells.term is not None
    rows_of = np.unique(cells.term.numpy() // len(cells.outcomes), return_index=True)[1]
    blank, seed = cells.without_outcomes(), int(rng.integers(2**31))
    known = run(program, blank, {}, 1, seed=seed).met["utility"]["value"]
    utility = torch.as_tensor(np.broadcast_to(worths(rng), known.shape).copy())
    if known.numel() > ITEMS:  # each type has an order of its own
        utility = torch.as_tensor(rng.permuted(utility.numpy(), axis=-1))
    met = run(program, blank, {"utility": utility}, 1, seed=seed).met
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        count = met["outcome"]["fn"].sample().reshape(len(cells), -1).numpy()
    row, outcome = np.nonzero(count)
    return replace(oriented.take(rows_of[row]), count=count[row, outcome], **columns(cells.outcomes, outcome))

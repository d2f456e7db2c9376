"""Programs of comparisons, with contexts, attributes and time, as measures of units on a ladder."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from typer.testing import CliRunner

import prefdensity
from prefdensity.cli.main import app
from prefdensity.errors import DataError, ProgramError
from prefdensity.judged.measured import Measured
from prefdensity.pcal import expect_verdicts, ladder
from prefdensity.pcal.allocation import draw

PEOPLE = 40
P = np.array([0.15, 0.6])  # of a label, of a verdict


class World:
    """System s0 against others: an expert's label and a crowd's verdicts, which depend on what programs may read."""

    def __init__(self, kind, seed=0, items=6):
        rng = np.random.default_rng(seed)
        self.kind, self.items = kind, items
        self.utility, self.other = rng.normal(size=items), 1.5 * rng.normal(size=(2, items))
        self.age = rng.normal(size=PEOPLE)
        camp = (rng.random(PEOPLE) < expit(2 * self.age)).astype(int)
        self.camp = camp
        self.ages = pd.DataFrame({"age": self.age}, index=[f"p{k}" for k in range(PEOPLE)])

    def margin(self, a, b, category, day, person):
        """Return how much a person prefers a to b; an expert, person -1, is of the age 0 and of a camp by chance."""
        apart = self.other[:, a] - self.other[:, b]
        base = self.utility[a] - self.utility[b]
        age = np.where(person < 0, 0.0, self.age[person])
        if self.kind == "context":
            return base + np.where(category == "code", apart[0], apart[1])
        if self.kind == "attribute":
            return base + age * apart[0]
        if self.kind == "time":
            return base + (day / 50 - 1) * apart[0]
        camp = np.where(person < 0, np.random.default_rng(len(a)).integers(2, size=len(a)), self.camp[person])
        return np.where(camp == 1, apart[0], apart[1])

    def draw(self, n, rng):
        """Return units, all measured; the first item is the system of the win rate in half of the units."""
        a = np.zeros(n, int)
        b = rng.integers(1, self.items, n)
        category, day, person = rng.choice(["code", "prose"], n), rng.uniform(0, 100, n), rng.integers(PEOPLE, size=n)
        said = rng.random(n) < expit(1.5 * self.margin(a, b, category, day, person))
        label = rng.random(n) < expit(1.5 * self.margin(a, b, category, day, np.full(n, -1)))
        return pd.DataFrame(
            {
                "item_a": [f"s{k}" for k in a], "item_b": [f"s{k}" for k in b], "category": category, "day": day,
                "outcome": np.where(said, "a", "b"), "annotator": [f"p{k}" for k in person],
                "label": label.astype(float), "vote": said.astype(float),
            }
        )  # fmt: skip

    @property
    def columns(self):
        """Return what reads the columns."""
        return {"groups": ["category"], "numbers": ["day"], "attributes": {"annotator": self.ages}}


PROGRAMS = {
    "context": "bradley_terry+tastes(by='category')",
    "attribute": "bradley_terry+tastes(on=['age'])",
    "time": "bradley_terry+drift(over='day')",
    "camps": "bradley_terry+annotator_types(2, on=['age'])",
}


def bought(frame, rng):
    """Return how far the ladder was climbed for each unit, and the frame with what was not bought left empty."""
    reached = 2 - draw(np.tile(P, (len(frame), 1)), rng)
    out = frame.copy()
    out.loc[reached == 0, ["outcome", "annotator"]] = None
    out.loc[reached == 0, "vote"] = np.nan
    out.loc[reached < 2, "label"] = np.nan
    return out.assign(crowd_probability=P[1], label_probability=P[0])


def estimated(frame, expected=None):
    """Return the row of the win rate: with what a program expects, or of verdicts as they are."""
    more, free = ([], []) if expected is None else (["expected_of"], ["expected"])
    table = Measured.from_frame(
        frame if expected is None else pd.concat([frame, expected], axis=1), ladder={"crowd": ["vote", *more]},
        free=free, probabilities={"crowd": "crowd_probability", "label": "label_probability"},
    )  # fmt: skip
    return ladder(table).summary().iloc[0]


@pytest.mark.slow
def test_no_unit_s_own_verdict_is_in_what_is_expected_of_it():
    world = World("context")
    frame = bought(world.draw(300, np.random.default_rng(1)), np.random.default_rng(2))
    found = expect_verdicts(PROGRAMS["context"], frame, folds=2, **world.columns)
    one = int(np.flatnonzero(frame["outcome"] == "a")[0])
    other = frame.copy()
    other.loc[one, "outcome"] = "b"
    again = expect_verdicts(PROGRAMS["context"], other, folds=2, **world.columns)
    assert again.loc[one].tolist() == found.loc[one].tolist()
    assert not np.allclose(again["expected"], found["expected"])
    assert found["expected_of"].isna().tolist() == frame["outcome"].isna().tolist()
    assert found["expected"].between(0, 1).all()
    same = found[frame["item_b"] == "s1"].groupby(frame["category"])["expected"].nunique()
    assert same.tolist() == [2, 2]  # of the same pair in the same category, one in each fold
    assert estimated(frame, found)["se"] > 0


def test_a_posterior_of_earlier_verdicts_is_taken_as_it_is():
    world = World("attribute")
    earlier = world.draw(800, np.random.default_rng(3))
    post = prefdensity.fit(PROGRAMS["attribute"], prefdensity.read(earlier, **world.columns), draws=200)
    frame = bought(world.draw(200, np.random.default_rng(4)), np.random.default_rng(5))
    found = expect_verdicts(post, frame, **world.columns)
    one = frame.dropna(subset=["annotator"]).iloc[0]
    pair = [(one["item_a"], one["item_b"])]
    mine = post.predict(pair, annotator=one["annotator"])["p_a"][0]
    assert found["expected_of"].dropna().iloc[0] == pytest.approx(mine, abs=1e-6)
    assert found["expected"][one.name] == pytest.approx(post.predict(pair)["p_a"][0], abs=0.02)
    strange = frame.assign(item_b="never seen")
    assert (expect_verdicts(post, strange, **world.columns)["expected"] == 0.5).all()


def test_what_cannot_be_asked_is_refused():
    world = World("context")
    frame = bought(world.draw(60, np.random.default_rng(1)), np.random.default_rng(2))
    with pytest.raises(DataError, match="holds no verdict in column 'outcome'"):
        expect_verdicts("bradley_terry", frame.assign(outcome=None))
    with pytest.raises(DataError, match="column 'category' is empty in row 1"):
        expect_verdicts("bradley_terry", frame.assign(category=None), groups=["category"])
    with pytest.raises(DataError, match="folds=1 must lie between 2"):
        expect_verdicts("bradley_terry", frame, folds=1)
    with pytest.raises(ProgramError, match="free measures of units as they are"):
        expect_verdicts("bradley_terry+covariate", frame.assign(words=1.0 * frame["day"]), covariates=["words"])


def test_the_command_line_writes_what_is_expected(tmp_path):
    world = World("attribute")
    frame = bought(world.draw(200, np.random.default_rng(10)), np.random.default_rng(11))
    frame.to_csv(tmp_path / "units.csv", index=False)
    ages = world.ages[world.ages.index.isin(frame["annotator"].dropna())]
    ages.rename_axis("annotator").to_csv(tmp_path / "people.csv")
    words = ["pcal", "expect", str(tmp_path / "units.csv"), "--program", PROGRAMS["attribute"], "--annotator"]
    words += ["annotator", "--folds", "2", "--attributes", f"annotator={tmp_path / 'people.csv'}"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    found = pd.read_csv(tmp_path / "out" / "units.csv")
    assert found["expected"].between(0, 1).all()
    assert found["expected_of"].notna().tolist() == frame["outcome"].notna().tolist()
    done = CliRunner().invoke(app, [*words, "--attributes", "people.csv"])
    assert "--attributes people.csv must be WHOM=FILE" in done.output


@pytest.mark.slow
@pytest.mark.parametrize("kind", PROGRAMS)
def test_estimates_with_every_kind_of_program_cover_and_are_no_longer(kind):
    """A program of a log of 2,000 earlier verdicts; 300 replicates of 500 units, 75 labels: standard error .017.

    Shorter by much where the pair, with its context or date, tells the label; where it is who judged that matters
    (attributes, camps) a verdict that is read rightly gains little, and never loses.
    """
    world = World(kind)
    log = prefdensity.read(world.draw(2000, np.random.default_rng(6)), **world.columns)
    post = prefdensity.fit(PROGRAMS[kind], log, draws=100)
    truth = world.draw(400_000, np.random.default_rng(7))["label"].mean()
    inside, lengths = [], []
    for replicate in range(300):
        rng = np.random.default_rng([8, replicate])
        frame = bought(world.draw(500, rng), rng)
        row, bare = estimated(frame, expect_verdicts(post, frame, **world.columns)), estimated(frame)
        inside.append(row["lower"] <= truth <= row["upper"])
        lengths.append((row["upper"] - row["lower"], bare["upper"] - bare["lower"]))
    length, bare = np.mean(lengths, axis=0)
    print(kind, np.mean(inside), length / bare)
    assert abs(np.mean(inside) - 0.9) <= 0.05
    assert length < (0.95 if kind in ("context", "time") else 1.005) * bare


@pytest.mark.slow
def test_programs_fitted_fold_by_fold_cover():
    """Everything from the 400 units themselves: 150 replicates, standard error .024."""
    world = World("context")
    truth = world.draw(400_000, np.random.default_rng(7))["label"].mean()
    inside = []
    for replicate in range(150):
        rng = np.random.default_rng([9, replicate])
        frame = bought(world.draw(400, rng), rng)
        expected = expect_verdicts(PROGRAMS["context"], frame, folds=2, method="laplace", **world.columns)
        row = estimated(frame, expected)
        inside.append(row["lower"] <= truth <= row["upper"])
    print(np.mean(inside))
    assert abs(np.mean(inside) - 0.9) <= 0.07


def test_a_side_that_is_not_known_is_refused_also_where_no_verdict_was_bought():
    frame = pd.DataFrame({"item_a": ["x", "y"] * 4, "item_b": ["y", "x"] * 4, "outcome": ["a", "b"] * 3 + [None] * 2})
    frame["first"] = ["a", "b"] * 3 + ["", "left"]
    with pytest.raises(DataError, match="'left'"):
        expect_verdicts("bradley_terry", frame, folds=2)

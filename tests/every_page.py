"""A page of every kind that the package writes, each from small tables of simulated answers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from typer.testing import CliRunner

import prefdensity
from prefdensity.cli.main import app
from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import Comparisons
from prefdensity.judged.simulate import JudgedWorld

KINDS: dict[str, Callable[[Path], Path]] = {}  # each writes a page into an empty folder and returns where it is
NAMES = ("Alder of the riverbank", "Birch", "Cedar", "Dogwood", "Elm, old and tall", "Fir", "Gorse")
WORLD = """
import numpy as np
import pandas as pd

truth, ladder, prices = 1.0, {"judge": "said"}, {"judge": 0.5, "label": 10}


def draw(rng, n):
    y = 1 + rng.normal(size=n)
    return pd.DataFrame({"label": y, "said": y + 0.4 * rng.normal(size=n)})
"""


def kind(write):
    KINDS[write.__name__] = write
    return write


def command(*words):
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output


def votes(size=400, seed=0):
    """Votes of nine people, two of whom want the opposite, and some of whom like what is shown first."""
    rng = np.random.default_rng(seed)
    skill = np.linspace(1, -1, len(NAMES))
    a = rng.integers(len(NAMES), size=size)
    b = (a + rng.integers(1, len(NAMES), size=size)) % len(NAMES)
    who = rng.integers(9, size=size)
    margin = (skill[a] - skill[b]) * np.where(who < 2, -1, 1) + 0.3
    draw = rng.random(size) * (1 + np.exp(-margin) + 0.4)
    said = np.select([draw < 1, draw < 1.4], ["a", "tie"], "b")
    names = np.array(NAMES)
    frame = pd.DataFrame({"item_a": names[a], "item_b": names[b], "outcome": said})
    return frame.assign(
        annotator=[f"rater {k}" for k in who], prompt=[f"question {k}" for k in rng.integers(4, size=size)]
    )


@kind
def fit(folder):
    data = Comparisons.from_frame(votes(), ordered=True)
    return prefdensity.write_report(prefdensity.fit("davidson", data, draws=200), data, folder / "page.html")


@kind
def types(folder):
    data = Comparisons.from_frame(votes(), ordered=True)
    post = prefdensity.fit("annotator_types(k=2)+davidson+position_bias", data, draws=200)
    return prefdensity.write_report(post, data, folder / "page.html")


@kind
def rankings(folder):
    rng = np.random.default_rng(1)
    taste = np.linspace(1.5, -1.5, len(NAMES)) + rng.gumbel(size=(40, len(NAMES)))
    places = pd.DataFrame((-taste).argsort(1).argsort(1) + 1, columns=list(NAMES))
    long = places.assign(taster=[f"taster {k}" for k in range(40)]).melt("taster", var_name="item", value_name="rank")
    data = Choices.from_rankings(long, answer="taster", annotator="taster")
    return prefdensity.write_report(prefdensity.fit("plackett_luce", data, draws=200), data, folder / "page.html")


@kind
def ratings(folder):
    rng, size = np.random.default_rng(2), 200
    item = rng.integers(len(NAMES), size=size)
    grade = np.clip(np.round(3.5 - item / 3 + rng.normal(size=size)), 1, 5).astype(int)
    grades = pd.DataFrame({"item": np.array(NAMES)[item], "rating": grade,
                           "annotator": [f"rater {k}" for k in rng.integers(9, size=size)]})  # fmt: skip
    data = prefdensity.with_ratings(Comparisons.from_frame(votes()), grades, levels=(1, 2, 3, 4, 5))
    return prefdensity.write_report(prefdensity.fit("ratings+davidson", data, draws=200), data, folder / "page.html")


@kind
def ratio(folder):
    votes().to_csv(folder / "votes.csv", index=False)
    command("likelihood-ratio", folder / "votes.csv", "--ordered", "--models", "davidson", "davidson+position_bias",
            "--out", folder / "found")  # fmt: skip
    return folder / "found" / "report.html"


@kind
def selection(folder):
    votes().to_csv(folder / "votes.csv", index=False)
    people = ["--judge", "rater 1", "--judge", "rater 2"]
    command("select", folder / "votes.csv", "--model", "davidson", "--n", 15, "--again", *people, "--out",
            folder / "next.csv", "--report", folder / "page.html", "--quiet")  # fmt: skip
    return folder / "page.html"


@kind
def selection_study(folder):
    command(
        "select-study", "--world", "linear", "--rules", "d_optimal", "--seeds", 3, "--out", folder / "found", "--quiet"
    )
    return folder / "found" / "report.html"


@kind
def judge_study(folder):
    command("judge-study", "--truths", "noise_free,contrarian_40", "--nuisances", "oracle,useless", "--replicates", 10,
            "--pilots", 1, "--units", 500, "--out", folder / "found", "--quiet")  # fmt: skip
    return folder / "found" / "report.html"


@kind
def world_study(folder):
    (folder / "world.py").write_text(WORLD)
    command("pcal", "study", "--world", folder / "world.py", "--pilot", 40, "--money", 400, "--units", 500,
            "--replicates", 6, "--out", folder / "found", "--quiet")  # fmt: skip
    return folder / "found" / "report.html"


def purchases(folder):
    """Design a purchase, buy by it, and return the words by which what came back is read."""
    world, unknown = JudgedWorld.draw(0), ["label_probability", "preference_probability"]
    words = ["--covariate", "x1", "--covariate", "x2", "--preference", "judge", "--no-intercept"]
    world.units(800, 1).to_frame().drop(columns=unknown).to_csv(folder / "pilot.csv", index=False)
    truth = world.units(1000, 2).to_frame().drop(columns=unknown)
    truth.drop(columns=["judge", "label"]).to_csv(folder / "rest.csv", index=False)
    command("pcal", "design", folder / "pilot.csv", *words, "--budget", 3, "--cost", 10, "--units", folder / "rest.csv",
            "--criterion", "x1", "--out", folder / "design")  # fmt: skip
    units = pd.read_csv(folder / "design" / "units.csv", keep_default_na=False, na_values=[""])
    units["judge"] = truth["judge"].where(units["buy"] != "nothing")
    units["label"] = truth["label"].where(units["buy"] == "label")
    units.to_csv(folder / "collected.csv", index=False)
    return words


@kind
def design(folder):
    purchases(folder)
    return folder / "design" / "report.html"


@kind
def estimate(folder):
    command("pcal", "estimate", folder / "collected.csv", *purchases(folder), "--cost", 10, "--budget", 3, "--out",
            folder / "found")  # fmt: skip
    return folder / "found" / "report.html"


def ladder_of_rungs(folder):
    """Plan a ladder, buy by it, and return the words by which what came back is read."""
    rng, words = np.random.default_rng(3), ["--rung", "crowd=vote", "--rung", "judge=said"]
    y = rng.normal(size=1200)
    all_of_them = pd.DataFrame({"vote": y + rng.normal(size=1200), "said": y + 0.4 * rng.normal(size=1200), "label": y})
    all_of_them[:200].to_csv(folder / "pilot.csv", index=False)
    prices = ("crowd=0.2", "judge=1", "label=10")
    command("pcal", "plan", folder / "pilot.csv", *words, *(word for each in prices for word in ("--price", each)),
            "--money", 900, "--units", 1000, "--out", folder / "plan")  # fmt: skip
    orders, frame = pd.read_csv(folder / "plan" / "units.csv"), all_of_them[200:].reset_index(drop=True)
    frame = frame.assign(**{name: orders[name] for name in orders.columns[1:]})
    reached = orders["buy"].map({"nothing": 0, "crowd": 1, "judge": 2, "label": 3})
    for k, name in enumerate(("vote", "said", "label")):
        frame.loc[reached <= k, name] = np.nan
    frame.to_csv(folder / "collected.csv", index=False)
    return words


@kind
def plan(folder):
    ladder_of_rungs(folder)
    return folder / "plan" / "report.html"


@kind
def measure(folder):
    command("pcal", "measure", folder / "collected.csv", *ladder_of_rungs(folder), "--out", folder / "found")
    return folder / "found" / "report.html"


@kind
def policies(folder):
    data = Comparisons.from_frame(votes(), ordered=True)
    prefdensity.fit('davidson+tastes(by="annotator")', data, draws=100, method="laplace").save(folder / "fit.nc")
    votes().to_csv(folder / "votes.csv", index=False)
    command("policies", folder / "fit.nc", folder / "votes.csv", "--by", "annotator", "--ordered", "--out",
            folder / "policies.csv", "--report", folder / "page.html")  # fmt: skip
    return folder / "page.html"


@kind
def reward(folder):
    rng = np.random.default_rng(4)
    worth, one = rng.normal(size=60), 3 * rng.integers(20, size=300) + rng.integers(3, size=300)
    other = 3 * (one // 3) + (one % 3 + rng.integers(1, 3, size=300)) % 3
    wins = rng.random(300) < 1 / (1 + np.exp(worth[other] - worth[one]))
    best, worst = np.where(wins, one, other), np.where(wins, other, one)
    frame = pd.DataFrame({"prompt": [f"question {k // 3}" for k in one], "chosen": best, "rejected": worst})
    frame[["chosen", "rejected"]] = "Answer " + frame[["chosen", "rejected"]].astype(str) + ", at length"
    frame.to_json(folder / "pairs.jsonl", orient="records", lines=True)
    command("fit", folder / "pairs.jsonl", "--format", "chosen_rejected", "--model", "bradley_terry", "--out",
            folder / "fit", "--quiet")  # fmt: skip
    command("reward", folder / "fit" / "fit.nc", folder / "pairs.jsonl", "--format", "chosen_rejected", "--out",
            folder / "rewards.csv", "--report", folder / "page.html")  # fmt: skip
    return folder / "page.html"

"""Programs from users' files that read columns of their own: by category, by what is known of who judged, over time.

Worlds have truths that nobody drew from the programs' priors; each test's false-alarm rate is 1e-3.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
from scipy import stats

import prefdensity
from prefdensity import Comparisons, DataError, ProgramError, compose, layer
from prefdensity.comparison.elpd import loo
from prefdensity.inference.curvature import local_curvature
from prefdensity.inference.mode import first_guess
from prefdensity.inference.view import View
from prefdensity.programs.loading import load_program
from prefdensity.programs.tabulate import cells_of

PROGRAMS = Path(__file__).parents[1] / "examples" / "programs"
FITTED = {"utilities_by_category", "tastes_by_age", "drift"}  # here, each by a truth that it recovers
ITEMS = np.array(["ash", "elm", "fir", "oak", "yew"])
UTILITY = np.array([0.9, 0.3, 0.0, -0.4, -0.8])
CATEGORIES = np.array(["code", "maths", "prose"])
BY_CATEGORY = np.array([[0.8, -0.8, 0, 0.4, -0.4], [0, 0, 0, 0, 0], [-0.8, 0.8, 0, -0.4, 0.4]])
SLOPE = np.array([0.6, -0.3, 0.0, 0.3, -0.6])  # per standard deviation
PEOPLE, ROWS = 16, 1500
AGE = np.random.default_rng(1).integers(18, 80, PEOPLE)
COUNTRY = np.array(["de", "fr"])[np.arange(PEOPLE) % 2]


def judged(seed: int, effect) -> pd.DataFrame:
    """Votes with Davidson ties and unequal care; `effect` (category, who, day) -> utilities [row, item] to add."""
    rng = np.random.default_rng(seed)
    a = rng.integers(5, size=ROWS)
    b = (a + rng.integers(1, 5, size=ROWS)) % 5
    category, who, day = rng.integers(3, size=ROWS), rng.integers(PEOPLE, size=ROWS), rng.integers(400, size=ROWS)
    utility = UTILITY + effect(category, who, day)
    row = np.arange(ROWS)
    margin = np.linspace(0.6, 1.4, PEOPLE)[who] * (utility[row, a] - utility[row, b])
    weight = np.stack([np.exp(margin / 2), np.exp(-margin / 2), np.full(ROWS, 0.5)], 1)
    below = (weight / weight.sum(1, keepdims=True)).cumsum(1)[:, :-1]
    outcome = (rng.random((ROWS, 1)) > below).sum(1)
    return pd.DataFrame(
        {
            "item_a": ITEMS[a], "item_b": ITEMS[b], "outcome": np.array(["a", "b", "tie"])[outcome],
            "annotator": [f"p{k:02}" for k in who], "category": CATEGORIES[category],
            "date": (pd.Timestamp("2023-01-01") + pd.to_timedelta(day, unit="D")).strftime("%Y-%m-%d"),
        }
    )  # fmt: skip


JUDGES = pd.DataFrame({"age": AGE, "country": COUNTRY}, index=[f"p{k:02}" for k in range(PEOPLE)])


def read(frame: pd.DataFrame) -> Comparisons:
    return Comparisons.from_frame(frame, groups=["category"], numbers=["date"], attributes={"annotator": JUDGES})


def fitted(name: str, data: Comparisons):
    assert name in FITTED
    path = PROGRAMS / f"{name}.py"
    assert len(path.read_text().splitlines()) < 25
    program = load_program(path)
    view = View(program, cells_of(data, program.outcomes, program.needs))
    assert local_curvature(view, first_guess(view)) is not None  # exact
    return prefdensity.fit(program, data, method="laplace", draws=400, progress=False)


def test_programs_are_on_their_page():
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "writing-a-program.md").read_text()
    for path in PROGRAMS.glob("*.py"):
        assert f"{{literalinclude}} ../../examples/programs/{path.name}" in page
        assert path.stem in FITTED


def departure(draws: np.ndarray, truth: np.ndarray) -> float:
    """Squared distance of the truth from the mean of draws [draw, entry], in their covariance."""
    away = draws.mean(0) - truth
    return float(away @ np.linalg.solve(np.cov(draws.T), away))


def standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def test_utilities_by_category_are_recovered():
    data = read(judged(3, lambda category, who, day: BY_CATEGORY[category]))
    post = fitted("utilities_by_category", data)
    assert post.dims["category_offset"] == ("category", "item")
    assert post.labels("category", 3) == list(CATEGORIES)
    whole = post.draws["category_spread"].reshape(-1, 1, 1) * post.draws["category_offset"]
    found = post.draws["utility"][:, None] + whole
    found = (found[..., :-1] - found[..., -1:]).reshape(len(found), -1)
    truth = UTILITY + BY_CATEGORY
    truth = (truth[:, :-1] - truth[:, -1:]).ravel()
    assert departure(found, truth) < stats.chi2.ppf(1 - 1e-3, len(truth))
    code = post.predict([("ash", "elm")], annotator="p03", at={"category": "code"})
    prose = post.predict([("ash", "elm")], annotator="p03", at={"category": "prose"})
    new = post.predict([("ash", "elm")], annotator="p03")
    assert code["p_a"][0] > new["p_a"][0] > prose["p_a"][0]
    width = [float((each["p_a_upper"] - each["p_a_lower"])[0]) for each in (code, new)]
    assert width[1] > 2 * width[0]  # a category that nobody has met
    assert prefdensity.check(post, data, replicates=20).verdict != "contradicted"
    assert loo(post, data, unit="category").labels == tuple(CATEGORIES)
    with pytest.raises(DataError, match="at: 'cooking' is no category of the fit; there are code"):
        post.predict([("ash", "elm")], at={"category": "cooking"})


def test_what_is_known_of_annotators_is_read():
    age = standardised(AGE.astype(float))
    data = read(judged(4, lambda category, who, day: age[who][:, None] * SLOPE))
    post = fitted("tastes_by_age", data)
    contrast = post.draws["age_slope"][:, :-1] - post.draws["age_slope"][:, -1:]
    assert departure(contrast, SLOPE[:-1] - SLOPE[-1]) < stats.chi2.ppf(1 - 1e-3, 4)
    old, young = f"p{AGE.argmax():02}", f"p{AGE.argmin():02}"
    p = [post.predict([("ash", "yew")], annotator=who)["p_a"][0] for who in (old, young)]
    assert p[0] > p[1]


@layer("margin", needs=["annotator.country"], place="wants")
def home(margin, data):
    with pyro.plate("home", data.size("annotator.country"), dim=-2), pyro.plate("item", data.n_items, dim=-1):
        taste = pyro.sample("home_taste", dist.Normal(0.0, 1.0))
    return margin + data.contrast(taste, by="annotator.country")


@layer("margin", needs=["annotator"], hyper=["annotator_reliability_spread"], place="weight")
def care(margin, data):
    spread = pyro.sample("annotator_reliability_spread", dist.HalfNormal(0.5))
    with pyro.plate("people", data.n_annotators, dim=-1):
        offset = pyro.sample("annotator_reliability_offset", dist.Normal(0.0, 1.0))
    return margin * data.of("annotator", 1 + spread * offset)


def test_somebody_unknown_is_nobody_who_was_met_whatever_plates_are_called():
    towards = np.where(COUNTRY == "de", 1.0, -1.0)
    data = read(judged(8, lambda category, who, day: towards[who][:, None] * SLOPE))
    post = prefdensity.fit(compose("davidson", home), data, method="laplace", draws=400, progress=False)
    asked = [post.predict([("ash", "yew")], at=at) for at in ({}, *({"annotator.country": c} for c in ("de", "fr")))]
    low, high = (np.array([each[f"p_a_{end}"][0] for each in asked]) for end in ("lower", "upper"))
    assert (high - low)[0] > 2 * (high - low)[1:].max()
    german, french = (prefdensity.density.of(post, annotator=who).mean().p for who in ("p00", "p01"))
    assert german[0] / german[-1] > french[0] / french[-1]


def test_annotators_are_left_out_whatever_their_plate_is_called():
    data = read(judged(9, lambda category, who, day: np.zeros((ROWS, 5))))
    mine, shipped = (
        prefdensity.fit(compose("davidson", each), data, method="laplace", draws=100, progress=False)
        for each in (care, "reliability")
    )
    own, known = (post.predict([("ash", "yew")]).drop(columns=["item_a", "item_b"]) for post in (mine, shipped))
    np.testing.assert_allclose(own, known, rtol=1e-8)
    np.testing.assert_allclose(*(loo(post, data, unit="annotator").elpd_i for post in (mine, shipped)), rtol=1e-6)


def test_a_trend_over_time_is_found_and_saved(tmp_path):
    frame = judged(5, lambda category, who, day: standardised(day.astype(float))[:, None] * SLOPE)
    post = fitted("drift", read(frame))
    contrast = post.draws["drift"][:, :-1] - post.draws["drift"][:, -1:]
    assert departure(contrast, SLOPE[:-1] - SLOPE[-1]) < stats.chi2.ppf(1 - 1e-3, 4)
    path = post.save(tmp_path / "drift.nc")
    again = prefdensity.load_posterior(path, PROGRAMS / "drift.py")
    ask = {"annotator": "p01", "at": {"date": "2024-02-01"}}
    pd.testing.assert_frame_equal(again.predict([("ash", "yew")], **ask), post.predict([("ash", "yew")], **ask))
    middle = post.predict([("ash", "yew")], annotator="p01")["p_a"][0]
    assert post.predict([("ash", "yew")], **ask)["p_a"][0] > middle
    with pytest.raises(DataError, match="reads no column 'category' that could be asked about; it reads date"):
        post.predict([("ash", "yew")], at={"category": "code"})


def test_a_table_without_the_column_is_refused_with_what_to_give():
    plain = Comparisons.from_frame(judged(6, lambda category, who, day: np.zeros((ROWS, 5))))
    for name, said in (
        ("utilities_by_category", r"needs the column 'category', .* name it with groups=\['category'\]"),
        ("drift", r"needs the column 'date', .* or numbers=\['date'\] \(--number date\)"),
        ("tastes_by_age", r"needs to know 'age' of every annotator; .* attributes=\{'annotator': ...\}"),
    ):
        with pytest.raises(ProgramError, match=said):
            prefdensity.fit(load_program(PROGRAMS / f"{name}.py"), plain, progress=False)


def test_cells_collapse_over_what_the_program_does_not_read():
    data = read(judged(7, lambda category, who, day: np.zeros((ROWS, 5))))
    outcomes = ("a", "b", "tie")
    assert len(cells_of(data, outcomes, ())) == 10
    assert len(cells_of(data, outcomes, ("category",))) == 30
    by_country = cells_of(data, outcomes, ("annotator.country",))
    assert len(by_country) == 20
    assert by_country.size("annotator.country") == 2
    assert by_country.annotator is None
    with pytest.raises(ProgramError, match="asks for the labels of 'category', and has those of annotator.country"):
        by_country.of("category", by_country.total)
    whole = cells_of(data, outcomes, ("annotator", "annotator.age", "annotator.country"))
    age = whole.attribute("annotator", "age")
    np.testing.assert_allclose(age, standardised(AGE.astype(float)), atol=1e-12)
    np.testing.assert_allclose(whole.number("annotator.age"), whole.of("annotator", age))
    np.testing.assert_array_equal(COUNTRY == "fr", whole.attribute("annotator", "country"))

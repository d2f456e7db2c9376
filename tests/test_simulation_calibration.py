"""Ranks of truths are uniform where inference is right, and visibly not where it is wrong."""

from dataclasses import replace

import numpy as np
import pytest
from truths import table

import prefdensity
from prefdensity.checking import sbc
from prefdensity.errors import DataError, FitError, ProgramError

FALSE_ALARM = 1e-4


def design(rows=150, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.integers(5, size=rows)
    b = (a + rng.integers(1, 5, size=rows)) % 5
    first = rng.choice([-1, 1], size=rows).astype(np.int8)
    return replace(table(np.arange(rows) % 6, a, b, None), first=first)


def test_ranks_are_uniform_under_the_right_inference():
    report = prefdensity.sbc("davidson+position_bias", design(), replicates=100, seed=1)
    assert set(report.table["quantity"]) == {
        "first less last utility",
        "first less mean utility",
        "utility_scale",
        "tie_strength",
        "position_bias",
        "first chance",
    }
    assert report.ranks.shape == (100, 6)
    assert report.ranks.to_numpy().min() >= 0
    assert report.ranks.to_numpy().max() <= 199
    assert report.table["p_value"].min() > FALSE_ALARM
    assert "100 replicates" in str(report)


@pytest.mark.slow
def test_overconfident_inference_is_seen(monkeypatch):
    def too_sure(*args, **options):
        post = prefdensity.fit(*args, **options)
        u = post.draws["utility"]
        return replace(post, draws=post.draws | {"utility": u.mean(0) + 0.3 * (u - u.mean(0))})

    monkeypatch.setattr(sbc, "fit", too_sure)
    report = prefdensity.sbc("bradley_terry", design(), replicates=100, seed=1)
    told = report.table.set_index("quantity")["p_value"]
    assert told.filter(like="first less").max() < FALSE_ALARM


@pytest.mark.slow
def test_types_are_ranked_by_what_relabelling_leaves_alone():
    report = prefdensity.sbc("annotator_types", design(400), replicates=20)
    contrasts = ["first less last utility", "first less mean utility"]
    assert list(report.ranks) == ["largest type weight", *contrasts, "utility_scale", "first chance"]


def test_replicates_repeat_with_the_seed():
    one, same = (prefdensity.sbc("bradley_terry", design(), replicates=20, seed=3).ranks for _ in range(2))
    assert one.equals(same)


def test_refusals():
    with pytest.raises(DataError, match="replicates must be a whole number of at least 20, not 3"):
        prefdensity.sbc("bradley_terry", design(), replicates=3)
    with pytest.raises(FitError, match="method='map' gives no posterior"):
        prefdensity.sbc("bradley_terry", design(), method="map")
    with pytest.raises(ProgramError, match="needs comparison covariates"):
        prefdensity.sbc("covariate", design())

"""Contracts of every shipped program and of compositions: a new file of models/ is tested without writing one."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import reference
import reference_priors
import torch
from contract import (
    COMPOSITIONS,
    PROGRAMS,
    layers_of,
    relabelled,
    renumbered,
    sites_at,
    suited,
    table,
    vectors,
    view_of,
)
from scipy import stats

import prefdensity
from prefdensity.errors import ProgramError
from prefdensity.inference.curvature import LocalCurvature, dense_hessian
from prefdensity.inference.locality import agrees
from prefdensity.inference.mode import first_guess, prior_draws
from prefdensity.programs.compose import compose
from prefdensity.programs.layers import layer
from prefdensity.programs.listing import names
from prefdensity.programs.loading import load_program
from prefdensity.programs.running import Substitute, environment
from prefdensity.programs.shelf import find
from prefdensity.programs.tabulate import cells_of

PLATES = {"item", "annotator", "type", "feature", "covariate", "break", "comparison", "rating", "gap", "cut", "factor"}
PLATES |= {"axis", "wave", "hidden_weight", "unit"}
# its utilities are seen outside comparisons
_RATED = {"ratings"}
every_program = pytest.mark.parametrize("name", PROGRAMS)


def alone(view, cells):
    """Sites met when the program runs once, without a fit plate."""
    with Substitute({}) as seen:
        view.program(cells)
    return seen.met


def simulate(view, seed, z=None, fits=None):
    """Outcome counts drawn by the program itself, at z where given; [fit, comparison, outcome] with `fits`."""
    cells = view.cells.without_outcomes()
    with environment(torch.float64, seed=seed):
        if fits is None:
            return alone(view, cells)["outcome"]["value"]
        values = {} if z is None else view.values(z.expand(fits, -1))[0]
        counts = view.run(values, fits, cells).met["outcome"]["value"]
    return counts.reshape(fits, *counts.shape[-2:])


def log_table(view, z):
    """Log probabilities [fit, type or 1, comparison, outcome]."""
    return view.run(view.values(z)[0], len(z)).met["outcome"]["fn"].outcome_log_prob


@every_program
def test_without_outcomes_it_simulates(name):
    view, data = view_of(name)
    for counts in (simulate(view, seed=1), *simulate(view, seed=2, fits=3)):
        assert counts.shape == (len(view.cells), len(view.cells.outcomes))
        torch.testing.assert_close(counts.sum(-1), view.cells.total, atol=0, rtol=0)
        assert (counts >= 0).all()
        assert (counts == counts.round()).all()
    assert float(view.cells.total.sum()) == data.count.sum()


@every_program
def test_log_density_equals_the_numpy_twin(name):
    view, data = view_of(name)
    layers = layers_of(view.program)
    for z in vectors(view, 4, seed=3, scale=0.8):
        sites = sites_at(view, z)
        prior, likelihood = view.log_parts(z[None])
        assert float(likelihood) == pytest.approx(reference.log_likelihood(layers, sites, data), rel=1e-10)
        twin = reference_priors.log_prior(layers, sites) + reference_priors.log_jacobian(sites)
        assert float(prior) == pytest.approx(twin, rel=1e-10)


def test_every_layer_has_a_twin():
    layers = {each.name for name in names() for each in load_program(name).layers}
    assert layers <= set(reference_priors.PRIORS), "write the NumPy twin of a new layer in tests/reference*.py"


@every_program
def test_nothing_changes_when_sides_are_swapped(name):
    view, data = view_of(name)
    z = vectors(view, 3)
    other, _ = view_of(name, data.swapped())
    torch.testing.assert_close(other.log_joint(z), view.log_joint(z), atol=1e-10, rtol=0)
    # cells put the smaller item on side a; the program itself must not rely on that
    cells = view.cells
    exchanged = replace(
        cells,
        item_a=cells.item_b,
        item_b=cells.item_a,
        first=None if cells.first is None else -cells.first,
        covariates=None if cells.covariates is None else -cells.covariates,
        outcome=cells.outcome[:, cells.mirror],
    )
    met = view.run(view.values(z)[0], 3, exchanged).met
    observed = [met[name] for name in ("outcome", "rating") if name in met]
    likelihood = sum(site["fn"].log_prob(site["value"]).flatten(1).sum(1) for site in observed)
    torch.testing.assert_close(likelihood, view.log_likelihood(z), atol=1e-10, rtol=0)


@every_program
def test_the_order_shown_acts_through_the_position_bias_alone(name):
    view, data = view_of(name)
    z = vectors(view, 3)
    other, _ = view_of(name, replace(data, first=-data.first))
    turned = z.clone()
    for site in {"position_bias", "annotator_position_bias_offset"} & set(view.sites):
        at = view.sites[site].at
        turned[:, at] = -turned[:, at]
    if "position_bias" in view.sites:
        assert (other.log_likelihood(z) - view.log_likelihood(z)).abs().min() > 1e-3
    torch.testing.assert_close(other.log_likelihood(turned), view.log_likelihood(z), atol=1e-10, rtol=0)


@every_program
@pytest.mark.parametrize(("axis", "order"), [("item", [3, 0, 4, 1, 2]), ("annotator", [2, 3, 1, 0])])
def test_labels_mean_nothing(name, axis, order):
    view, data = view_of(name)
    z = vectors(view, 3)
    other, _ = view_of(name, relabelled(data, axis, order))
    moved = renumbered(view, z, axis, order)
    torch.testing.assert_close(other.log_joint(moved), view.log_joint(z), atol=1e-10, rtol=0)


@every_program
def test_rows_and_their_counts_say_the_same(name):
    view, data = view_of(name)
    spread = data.take(np.repeat(np.arange(len(data)), data.count.astype(int)))
    single, _ = view_of(name, replace(spread, count=np.ones(len(spread))))
    z = vectors(view, 3)
    torch.testing.assert_close(single.log_joint(z), view.log_joint(z), atol=1e-10, rtol=0)


@every_program
@pytest.mark.parametrize("size", [30.0, 300.0])
def test_gradients_are_finite_at_extreme_utilities(name, size):
    view, _ = view_of(name)
    z = torch.zeros(2, view.dimension, dtype=torch.float64)
    site = next(view.sites[n] for n in ("utility", "weight", "gp_offset", "neural_last_offset") if n in view.sites)
    width = site.at.stop - site.at.start
    z[:, site.at] = size * torch.linspace(-1, 1, width, dtype=torch.float64)
    z[1] = -z[1]
    z.requires_grad_()
    value = view.log_joint(z)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    log_prob = log_table(view, z.detach())
    torch.testing.assert_close(log_prob.exp().sum(-1), torch.ones_like(log_prob[..., 0]), atol=1e-12, rtol=0)


@every_program
def test_a_batch_of_densities_equals_separate_ones(name):
    view, _ = view_of(name)
    z = vectors(view, 5)
    together = view.log_joint(z)
    assert together.shape == (5,)
    assert together.dtype == torch.float64
    separate = torch.cat([view.log_joint(one[None]) for one in z])
    torch.testing.assert_close(together, separate, atol=1e-10, rtol=0)
    assert together.unique().numel() == 5


@every_program
def test_a_density_in_one_precision_is_close_to_the_other(name):
    view, data = view_of(name)
    program = view.program
    half = type(view)(program, cells_of(data, program.outcomes, program.needs, dtype=torch.float32))
    z = vectors(view, 3)
    torch.testing.assert_close(half.log_joint(z.float()), view.log_joint(z), atol=0, rtol=1e-5)


@layer("noise", needs=["annotator"])
def _centred_lapses(log_prob, data):
    """Shares of annotators around a mean that no judgement sees directly."""
    mean = pyro.sample("lapse_mean", dist.Beta(1.0, 9.0))
    with pyro.plate("annotator", data.n_annotators, dim=-1):
        share = pyro.sample("lapse_share", dist.Beta(10 * mean, 10 * (1 - mean)))
    rate = data.of("annotator", share).unsqueeze(-1)
    return ((1 - rate) * log_prob.exp() + rate / log_prob.shape[-1]).log()


def test_the_hessian_of_a_site_that_only_shapes_priors_agrees():
    view, _ = view_of(compose(_centred_lapses))
    for z in vectors(view, 2, seed=5, scale=0.5):
        exact = torch.autograd.functional.hessian(lambda x: view.log_joint(x[None])[0], z, vectorize=True)
        _, _, precision = LocalCurvature(view)(z)
        hessian = -precision.times(torch.eye(view.dimension, dtype=z.dtype))
        torch.testing.assert_close(hessian, exact, atol=1e-8, rtol=1e-8)


@every_program
def test_hessians_agree(name):
    view, _ = view_of(name)
    for z in vectors(view, 2, seed=5, scale=0.5):
        exact = torch.autograd.functional.hessian(lambda x: view.log_joint(x[None])[0], z, vectorize=True)
        _, dense = dense_hessian(view.log_joint, z[None], view.work)
        torch.testing.assert_close(dense[0], exact, atol=1e-9, rtol=1e-9)
        typed, layers = view.program.type_layer is not None, {each.name for each in view.program.layers}
        if typed or layers & (_RATED | {"neural"}):  # utilities of a network are made of two sites
            with pytest.raises(ProgramError):
                LocalCurvature(view)
            continue
        local = LocalCurvature(view)
        assert agrees(local, view, z) == ("length_normalised" not in layers)  # margins bend with its site
        if agrees(local, view, z):
            value, gradient, precision = local(z)
            hessian = -precision.times(torch.eye(view.dimension, dtype=z.dtype))
            free = z.clone().requires_grad_()
            (slope,) = torch.autograd.grad(view.log_joint(free[None]).sum(), free)
            assert value == pytest.approx(float(view.log_joint(z[None])), rel=1e-12)
            torch.testing.assert_close(hessian, exact, atol=1e-8, rtol=1e-8)
            torch.testing.assert_close(gradient, slope, atol=1e-8, rtol=1e-8)


@every_program
def test_plates_have_the_names_of_the_house(name):
    view, _ = view_of(name)
    with environment(torch.float64, seed=0):
        nodes = alone(view, view.cells)
    plates = {frame.name for node in nodes.values() for frame in node["cond_indep_stack"]}
    assert plates <= PLATES
    assert ("comparison" in plates) != view.program.annotators_have_types
    for site in view.sites.values():
        assert set(site.dims) <= PLATES
        assert len(site.dims) == len(site.batch) + len(site.event)


@every_program
def test_a_prior_draw_is_a_vector_of_the_view(name):
    view, _ = view_of(name)
    z = prior_draws(view, 50, seed=0)
    assert z.shape == (50, view.dimension)
    assert torch.isfinite(view.log_joint(z)).all()
    assert torch.equal(z, prior_draws(view, 50, seed=0))
    assert torch.isfinite(view.log_joint(first_guess(view)[None])).all()


@pytest.mark.parametrize("name", [*names(), *(pytest.param(each, marks=pytest.mark.slow) for each in COMPOSITIONS)])
def test_save_and_load_round_trip(name, tmp_path):
    view, data = view_of(name)
    post = prefdensity.fit(name, data, method="map", restarts=1)
    again = prefdensity.load_posterior(post.save(tmp_path / "fit.nc"))
    assert set(again.draws) == set(post.draws)
    for site, values in post.draws.items():
        np.testing.assert_array_equal(again.draws[site], values)
        assert again.dims[site] == post.dims[site]
    assert again.status == post.status
    pairs = [("i0", "i1"), ("i2", "i4")]
    annotator = "p1" if view.program.needs and "annotator" in view.program.needs else None
    assert again.predict(pairs, annotator=annotator).equals(post.predict(pairs, annotator=annotator))


@every_program
def test_all_tables_of_outcomes_together_have_probability_one(name):
    # and simulated tables appear as often as their density says: chi-square, false alarm 1e-5 per program
    data = replace(
        suited(load_program(name), n_items=4, n_annotators=2, rows=4, counts=False),
        item_a=np.array([0, 3, 0, 1]),
        item_b=np.array([1, 2, 2, 3]),
        annotator=np.array([0, 0, 1, 1]),
    )
    view, _ = view_of(name, data)
    z = vectors(view, 1, seed=8)
    shape = (len(view.cells.outcomes),) * len(data)
    eye = torch.eye(shape[0], dtype=torch.float64)
    tables = [eye[list(index)] for index in np.ndindex(*shape)]
    fn = view.run(view.values(z)[0], 1).met["outcome"]["fn"]
    probability = np.exp([float(fn.log_prob(each).sum()) for each in tables])
    assert probability.sum() == pytest.approx(1, abs=1e-12)
    drawn = simulate(view, seed=4, z=z, fits=20_000).argmax(-1).numpy()
    found = np.bincount(np.ravel_multi_index(drawn.T, shape), minlength=len(tables))
    rare = probability * len(drawn) < 5  # pooled: a chi-square needs expectations of a few
    expected = np.append(probability[~rare], probability[rare].sum()) * len(drawn)
    found = np.append(found[~rare], found[rare].sum())
    keep = expected > 1e-9
    assert stats.chisquare(found[keep], expected[keep] * found.sum() / expected[keep].sum()).pvalue > 1e-5


@pytest.mark.parametrize("name", names())
def test_a_model_file_tells_its_story(name):
    program = load_program(name)
    doc = find(name).doc
    assert "Reference:" in doc
    assert "Cannot express:" in doc
    assert "Identification" in doc or "exists if and only if" in doc or "composition" in doc
    own = {each.name for each in program.layers if each.name == name}
    view, _ = view_of(name)
    sites = {site for each in program.layers if each.name in own for site in each.meanings}
    assert sites <= set(view.sites) | set(view.derived)
    for site in sites:
        assert f"`{site}`" in doc
    assert len(program.summary) < 110


def test_meanings_cover_every_site():
    for name in PROGRAMS:
        view, _ = view_of(name)
        shown = {site for site in (*view.sites, *view.derived) if not site.endswith("_offset")} - {"utility"}
        assert shown <= set(view.program.meanings), name


def test_layers_mean_the_same_in_any_order():
    # reliability multiplies what is wanted, tastes included, and no bias, unless it says so
    margins = ("tastes", "reliability", "position_bias", "covariate")
    data = table(rows=60)
    seen = set()
    for order in permutations(margins):
        view, _ = view_of("+".join(order), data)
        names = [name for name, _ in layers_of(view.program)]
        assert names[:4] == ["utility_scale", "items", "tastes", "reliability"]
        assert set(names[4:6]) == {"position_bias", "covariate"}
        values = {name: torch.linspace(0.2, 0.9, view.sites[name].at.stop - view.sites[name].at.start) for name in
                  sorted(view.sites)}  # fmt: skip
        z = torch.cat([values[name] for name in view.sites]).double()
        seen.add(round(float(view.log_joint(z[None])), 8))
    assert len(seen) == 1


def test_reliability_multiplies_the_biases_where_it_says_so():
    data = table(rows=60)
    plain, everything = (view_of(f"position_bias+reliability{option}", data)[0] for option in ("", "(scales='margin')"))
    assert [name for name, _ in layers_of(everything.program)][1:] == ["items", "position_bias", "reliability", "logit"]
    assert [name for name, _ in layers_of(plain.program)][1:] == ["items", "reliability", "position_bias", "logit"]
    sites = {"utility_scale": torch.zeros(1), "utility": torch.zeros(5), "position_bias": torch.tensor([0.7])}
    sites |= {
        "annotator_reliability_spread": torch.tensor([-1.0]),
        "annotator_reliability_offset": torch.linspace(-3, 3, 4),
    }
    z = [torch.cat([sites[name] for name in view.sites]).double()[None] for view in (plain, everything)]
    beta = 1 + np.exp(-1.0) * np.linspace(-3, 3, 4)[data.annotator]
    sign = np.where(data.outcome == 0, 1, -1) * data.first
    for view, x, slope in ((plain, z[0], 0.7), (everything, z[1], 0.7 * beta)):
        expected = -(data.count * np.logaddexp(0, -sign * slope)).sum()
        assert float(view.log_likelihood(x)) == pytest.approx(expected, abs=1e-6)


def test_a_place_that_does_not_exist_is_refused():
    with pytest.raises(ProgramError, match=r"scales='bias'.*'wants' .*'margin'"):
        load_program("reliability(scales='bias')")
    with pytest.raises(ProgramError, match="no place 'first'; places are wants, weight, situation, whole"):
        layer("margin", place="first")(lambda margin, data: margin)


def test_compositions_are_the_same_however_spelled():
    data = table()
    z = vectors(view_of("bradley_terry", data)[0], 3)
    expected = view_of("bradley_terry", data)[0].log_joint(z)
    for name in ("items+logit", "logit", "items", "utility_scale"):
        assert torch.equal(view_of(name, data)[0].log_joint(z), expected)
    assert set(COMPOSITIONS).isdisjoint(names())

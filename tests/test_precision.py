"""Precision matrices kept apart or known by products: all as the full matrix has it, and programs that use them."""

import dataclasses

import numpy as np
import pytest
import torch

import prefdensity
from prefdensity.data.comparisons import Comparisons
from prefdensity.inference import curvature, krylov
from prefdensity.inference.arrow import Arrow
from prefdensity.inference.climber import Climber
from prefdensity.inference.krylov import Pattern, Sparse
from prefdensity.inference.laplace import laplace
from prefdensity.inference.mode import first_guess
from prefdensity.inference.precision import Dense
from prefdensity.inference.prior import log_prior
from prefdensity.inference.types_curvature import TypesCurvature
from prefdensity.inference.view import View
from prefdensity.programs.tabulate import cells_of

PEOPLE, OWN, REST = 40, 2, 12
SIZE = PEOPLE * OWN + REST


def matrix(seed=0):
    """A positive definite arrow of shuffled coordinates, and where its blocks are."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    order = torch.randperm(SIZE, generator=generator)
    blocks, corner = normal(PEOPLE, OWN, OWN), normal(REST, REST)
    blocks = blocks @ blocks.mT + 3 * torch.eye(OWN, dtype=torch.float64)
    corner = corner @ corner.T + 60 * torch.eye(REST, dtype=torch.float64)
    border = 0.3 * normal(PEOPLE, OWN, REST)
    return Arrow(blocks, border, corner, order[: PEOPLE * OWN].reshape(PEOPLE, OWN), order[PEOPLE * OWN :]), normal(
        5, SIZE
    )


def forms():
    arrow, x = matrix()
    full = arrow.dense()
    row, column = torch.triu_indices(SIZE, SIZE)
    return full, x, arrow, Pattern(row, column, SIZE).fill(full[row, column])


@pytest.mark.parametrize("which", ["arrow", "sparse"])
def test_a_form_is_its_matrix(which):
    full, x, *both = forms()
    form = both[which == "sparse"]
    torch.testing.assert_close(form.times(x), x @ full, atol=1e-12, rtol=1e-12)
    assert form.largest_diagonal() == float(full.diagonal().max())
    for damping in (0.0, 7.0):
        exact = torch.linalg.solve(full + damping * torch.eye(SIZE, dtype=full.dtype), x[0])
        torch.testing.assert_close(form.newton_step(x[0], damping), exact, atol=1e-9, rtol=1e-9)
    assert form.newton_step(x[0], -float(full.diagonal().min())) is None


@pytest.mark.parametrize("which", ["arrow", "sparse"])
def test_a_form_has_parts(which):
    full, x, *both = forms()
    held = both[0].rest_at[[3, 7]]
    free = torch.tensor([k for k in range(SIZE) if k not in held.tolist()])
    rest, cross = both[which == "sparse"].partition(free, held)
    torch.testing.assert_close(rest.times(x[:, free]), x[:, free] @ full[free][:, free], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(cross, full[free][:, held])


@pytest.mark.parametrize("columns", [[0], [1], [0, 1]])
@pytest.mark.parametrize("people", [slice(None), slice(2)])
def test_an_arrow_has_parts_without_what_annotators_have(columns, people):
    """One entry of each of them, all that they have, or that of some alone; beside it some of the rest."""
    full, x, arrow, _ = forms()
    own = arrow.own_at[people][:, [k for k in columns if k < arrow.own_at.shape[1]]].flatten()
    held = torch.cat([own, arrow.rest_at[[3, 7]]])
    free = torch.tensor([k for k in range(SIZE) if k not in held.tolist()])
    rest, cross = arrow.partition(free, held)
    torch.testing.assert_close(rest.times(x[:, free]), x[:, free] @ full[free][:, free], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(cross, full[free][:, held])


@pytest.mark.parametrize("which", ["arrow", "sparse"])
def test_the_gaussian_of_a_form(which):
    full, x, *both = forms()
    found, exact = both[which == "sparse"].gaussian(), Dense(full).gaussian()
    frame = found.scale(torch.eye(SIZE, dtype=torch.float64)).T
    torch.testing.assert_close(frame @ frame.T, torch.linalg.inv(full), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(found.square(x), exact.square(x), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(found.covariance(x[0]), exact.covariance(x[0]), atol=1e-9, rtol=1e-9)
    if which == "arrow":
        assert found.log_det == pytest.approx(exact.log_det, abs=1e-10)
        torch.testing.assert_close(found.frame() @ found.frame().T, torch.linalg.inv(full), atol=1e-9, rtol=1e-9)
    else:  # four standard errors: false alarm 6e-5
        assert 0 < found.log_det_error < 0.5
        assert found.log_det == pytest.approx(exact.log_det, abs=4 * found.log_det_error)
        torch.testing.assert_close(found.frame(), full.diagonal().rsqrt())


def test_dear_draws_come_in_single_precision_with_the_common_level_apart(monkeypatch):
    monkeypatch.setattr(krylov, "_DEAR", 0)
    generator = torch.Generator().manual_seed(0)
    met = torch.triu(torch.rand(SIZE, SIZE, dtype=torch.float64, generator=generator), 1)
    met = met + met.T
    level = torch.diag(met.sum(0)) - met + 0.01 * torch.eye(SIZE)  # the prior alone holds the sum of all
    row, column = torch.triu_indices(SIZE, SIZE)
    for full, apart in ((level, True), (forms()[0], False)):
        found = Pattern(row, column, SIZE).fill(full[row, column]).gaussian()
        frame = found.scale(torch.eye(SIZE, dtype=torch.float64)).T
        scale = torch.linalg.inv(full).diagonal().sqrt()
        gap = (frame @ frame.T - torch.linalg.inv(full)) / torch.outer(scale, scale)
        assert float(gap.abs().max()) < 1e-3
        assert (found._lowest is not None) == apart


def test_a_saddle_is_mended_or_refused():
    arrow, x = matrix()
    saddle = Arrow(arrow.blocks, arrow.border, arrow.corner - 100 * torch.eye(REST), arrow.own_at, arrow.rest_at)
    assert saddle.newton_step(x[0], 0.0) is None
    values = torch.linalg.eigvalsh(saddle.dense())
    mended = saddle.gaussian()
    assert mended.log_det == pytest.approx(-0.5 * float(torch.where(values > 1e-3, values, 1.0).log().sum()), abs=1e-9)
    full = saddle.dense()
    row, column = torch.triu_indices(SIZE, SIZE)
    assert Pattern(row, column, SIZE).fill(full[row, column]).gaussian() is None


def votes(items=30, people=60, rows=3000, seed=0):
    rng = np.random.default_rng(seed)
    utility, beta = rng.normal(size=items), 1 + 0.5 * rng.normal(size=people)
    a, who = rng.integers(items, size=rows), rng.integers(people, size=rows)
    b = (a + rng.integers(1, items, size=rows)) % items
    lost = rng.random(rows) > 1 / (1 + np.exp(-beta[who] * (utility[a] - utility[b])))
    names = [tuple(f"{stem}{k:03d}" for k in range(count)) for stem, count in (("i", items), ("j", people))]
    return Comparisons(
        items=names[0], item_a=a, item_b=b, outcome=lost.astype(np.int8), annotators=names[1], annotator=who,
        first=rng.choice([-1, 1], rows).astype(np.int8), count=np.ones(rows, np.int64),
    )  # fmt: skip


OWN_ENTRIES = ["reliability", "position_bias(by='annotator')+reliability", "tastes"]
FORMS = [(name, form) for form in (Arrow, Sparse) for name in OWN_ENTRIES]
FORMS += [("bradley_terry", Sparse), ("davidson+lapse", Sparse)]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_every_form_has_the_hessian_of_the_program(name, form, monkeypatch):
    program = prefdensity.load_program(name)
    view = View(program, cells_of(votes(), program.outcomes, program.needs))
    local = curvature.LocalCurvature(view)
    z = first_guess(view) + 0.1 * torch.randn(view.dimension, generator=torch.Generator().manual_seed(1)).double()
    _, slope, hessian = local.batch(z[None], log_prior(view, z[None]))
    monkeypatch.setattr(curvature.LocalCurvature, "form", form)
    _, gradient, found = curvature.LocalCurvature(view)(z)
    torch.testing.assert_close(gradient, slope[0], atol=1e-9, rtol=1e-9)
    assert isinstance(found, form)
    eye = torch.eye(view.dimension, dtype=z.dtype)
    torch.testing.assert_close(found.times(eye), -hessian[0], atol=1e-8, rtol=1e-9)


@pytest.mark.parametrize("form", [Arrow, Sparse])
def test_the_posterior_does_not_depend_on_the_form(form, monkeypatch):
    program = prefdensity.load_program("reliability")
    view = View(program, cells_of(votes(), program.outcomes, program.needs))
    plain = laplace(view)
    monkeypatch.setattr(curvature.LocalCurvature, "form", form)
    view = View(program, view.cells)
    assert isinstance(Climber(view).curvature(first_guess(view))[2], form)
    other = laplace(view)
    assert other.converged
    if form is Arrow:
        torch.testing.assert_close(other.mode.z, plain.mode.z, atol=1e-4, rtol=0)
        torch.testing.assert_close(other.base, plain.base, atol=2e-3, rtol=0)
        torch.testing.assert_close(other.weight, plain.weight, atol=1e-6, rtol=1e-4)
        z, log_q = other.draw(50, torch.Generator().manual_seed(0))
        torch.testing.assert_close(log_q, plain.log_density(z), atol=1e-4, rtol=0)
    else:  # an estimated determinant moves the spread's mode by a little of its sd
        scale = plain.main[1].norm(dim=1)
        assert ((other.mode.z - plain.mode.z).abs() / scale).max() < 0.1
        assert 0 < other.log_q_error < 1


def test_more_items_than_a_matrix_can_hold(monkeypatch):
    monkeypatch.setattr(curvature, "DENSE", 20)
    monkeypatch.setattr(curvature, "_SMALL", 10)
    data = votes()
    # at one scale for both: an estimated determinant moves the mode of a learned one, and the utilities with it
    program = "bradley_terry+utility_scale(fixed=1)"
    small = prefdensity.fit(program, data, method="laplace", draws=4000, progress=False)
    monkeypatch.undo()
    full = prefdensity.fit(program, data, method="laplace", draws=4000, progress=False)
    np.testing.assert_allclose(small.point["utility"], full.point["utility"], atol=1e-6)
    assert small.status.elbo == pytest.approx(full.status.elbo, abs=4 * small.status.elbo_se)
    assert small.status.elbo_se > full.status.elbo_se  # the determinant is an estimate
    ratio = small.draws["utility"].std(0) / full.draws["utility"].std(0)
    assert np.abs(ratio - 1).max() < 0.06  # sd of a ratio of two sds of 4,000 draws: .016


def over_features(items, rows):
    """The same table, with three features for every item: more items than rows, or fewer."""
    x = np.random.default_rng(5).normal(size=(items, 3))
    data = votes(items=items, people=12, rows=rows)
    return dataclasses.replace(data, item_features=x, feature_names=("x", "y", "z"))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("annotator_types(k=3)", votes(items=7, people=12, rows=80)),
        ("annotator_types+davidson+position_bias", votes(items=7, people=12, rows=80)),
        ("annotator_types+lapse", votes(items=7, people=12, rows=80)),
        ("linear+annotator_types", over_features(60, 40)),
        ("linear+annotator_types+davidson+position_bias", over_features(7, 80)),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_hidden_types_have_exact_derivatives(name, data, known):
    program = prefdensity.load_program(name)
    view = View(program, cells_of(data, program.outcomes, program.needs))
    generator = torch.Generator().manual_seed(2)
    z = 0.7 * torch.randn(view.dimension, generator=generator, dtype=torch.float64)
    responsibility = (
        torch.randn(1, view.n_types, 12, generator=generator, dtype=torch.float64).softmax(1) if known else None
    )
    local = TypesCurvature(view).knowing(responsibility)

    def density(x):
        return torch.stack(view.log_parts(x[None], responsibility)).sum()

    value, gradient, precision = local(z)
    assert value == pytest.approx(float(density(z)), rel=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.functional.jacobian(density, z), atol=1e-10, rtol=1e-10)
    exact = torch.autograd.functional.hessian(density, z)
    found = precision.times(torch.eye(view.dimension, dtype=z.dtype))
    torch.testing.assert_close(found, -exact, atol=1e-10, rtol=1e-10)


def test_camps_are_found_where_every_answer_is_judged_once():
    """Twelve features, and people who weigh them in two ways: 60 votes at two logits tell one from the other."""
    rng = np.random.default_rng(3)
    people, each, size = 24, 60, 12
    rows = people * each
    x, weights = rng.normal(size=(2 * rows, size)), rng.normal(size=(2, size))
    kind, who = rng.permutation(np.arange(people) % 2), np.repeat(np.arange(people), each)
    margin = ((x[:rows] - x[rows:]) * weights[kind[who]]).sum(1) * 2 / size**0.5
    data = Comparisons(
        items=tuple(f"{k:05d}" for k in range(2 * rows)), item_a=np.arange(rows), item_b=rows + np.arange(rows),
        outcome=(rng.random(rows) > 1 / (1 + np.exp(-margin))).astype(np.int8), count=np.ones(rows),
        annotators=tuple(f"{k:02d}" for k in range(people)), annotator=who,
        item_features=x, feature_names=tuple(f"x{k}" for k in range(size)),
    )  # fmt: skip
    post = prefdensity.fit("linear+annotator_types", data, method="laplace", draws=200, progress=False)
    said = post.draws["type_probability"].mean(0).argmax(1)
    assert (said == kind).all() or (said != kind).all()
    learned = post.draws["weight"].mean(0)
    order = [0, 1] if (said == kind).all() else [1, 0]
    for k in (0, 1):
        assert np.corrcoef(learned[k], weights[order[k]])[0, 1] > 0.95


def test_a_climb_with_hidden_types_ends_on_a_peak():
    program = prefdensity.load_program("annotator_types")
    view = View(program, cells_of(votes(items=7, people=12, rows=400), program.outcomes, program.needs))
    climber = Climber(view, fixed=view.hyper)
    assert isinstance(climber.local, TypesCurvature)
    start = 0.5 * torch.randn(view.dimension, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    mode = climber.climb(start)
    assert mode.converged
    slope = torch.autograd.functional.jacobian(lambda x: view.log_joint(x[None])[0], mode.z)
    assert float(slope[climber.free].abs().max()) < 1e-3
    assert (
        float(
            torch.linalg.eigvalsh(
                climber.curvature(mode.z)[2]
                .partition(climber.free, climber.held)[0]
                .times(torch.eye(view.dimension - len(view.hyper), dtype=mode.z.dtype))
            ).min()
        )
        > 0
    )


def test_the_derivative_of_a_product_is_the_product():
    full, x, _, form = forms()
    free = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((form.times(free) * x).sum() / 2, free, create_graph=True)
    torch.testing.assert_close(slope.detach(), x @ full / 2, atol=1e-12, rtol=1e-12)
    (again,) = torch.autograd.grad(slope.sum() + form.times(free).square().sum() / 2, free)
    torch.testing.assert_close(again, x @ full @ full, atol=1e-10, rtol=1e-12)


@pytest.mark.parametrize("curvature", [5e-5, 1e-8])
def test_a_direction_across_many_coordinates_that_has_no_curvature_is_noticed(curvature):
    """Its pivots are above what counts as none, and a Gaussian as wide as it says would be all over the place."""
    direction = torch.randn(SIZE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    direction /= direction.norm()
    rest = torch.eye(SIZE, dtype=torch.float64) - torch.outer(direction, direction)
    flat = rest @ forms()[0] @ rest + curvature * torch.outer(direction, direction)
    for found in (Dense(flat).gaussian(), _arrow_of(flat).gaussian()):
        assert torch.linalg.svdvals(found.frame())[0] < 1.1  # that of a unit prior
    steep = flat + 0.01 * torch.outer(direction, direction)
    widest = torch.linalg.svdvals(Dense(steep).gaussian().frame())[0]
    assert float(widest) == pytest.approx((0.01 + curvature) ** -0.5)


def _arrow_of(full):
    """The same matrix, of which one coordinate is an annotator's."""
    own, rest = torch.arange(1)[None], torch.arange(1, SIZE)
    return Arrow(full[:1, :1][None], full[:1, 1:][None], full[1:, 1:], own, rest)

"""Proposals bent to a skewed posterior: densities by differentiation, quantiles by quadrature."""

import numpy as np
import torch
from scipy import special, stats

from prefdensity import Comparisons, fit
from prefdensity.inference.bent import bend_of


def test_a_bend_is_monotone_and_its_density_follows():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 3, generator=generator, dtype=torch.float64)
    # weights of a target that is normal, long to the right, and short to the right
    tilt = stats.gumbel_r(0, 1).logpdf(z[:, 1]) + stats.gumbel_l(0.3, 0.7).logpdf(z[:, 2])
    log_weight = (torch.as_tensor(tilt) + 0.5 * (z[:, 1:] ** 2).sum(-1)).log_softmax(0)
    bend = bend_of(z, z, log_weight)
    assert bend.at.tolist() == [1, 2]
    assert bend.side.tolist() == [1.0, -1.0]

    def bent(here):
        image = here.clone()
        return image, bend.take(image)

    image, log_det = bent(z)
    for k in range(3):
        order = z[:, k].argsort()
        assert (image[order, k].diff() > 0).all()
    step = 1e-6
    apart = sum(
        ((bent(z + step * e)[0] - bent(z - step * e)[0])[:, k] / (2 * step)).log()
        for k, e in enumerate(torch.eye(3, dtype=torch.float64))
    )
    torch.testing.assert_close(log_det, apart, atol=1e-6, rtol=0)
    for k in (1, 2):
        order = z[:, k].argsort()
        wanted = np.interp([0.05, 0.5, 0.95], log_weight.exp()[order].cumsum(0).numpy(), z[order, k].numpy())
        np.testing.assert_allclose(
            np.quantile(image[:, k], [0.05, 0.5, 0.95]), wanted, atol=0.03
        )  # the gap between two heavy proposals


def test_an_item_that_never_lost_has_the_tail_of_its_prior():
    # Student utilities (df 2, scale 1); b and c met 40 times and won as often, a won each of 12 times against them
    data = Comparisons(
        items=("a", "b", "c"), item_a=np.array([0, 0, 1, 1]), item_b=np.array([1, 2, 2, 2]),
        outcome=np.array([0, 0, 0, 1], np.int8), count=np.array([6.0, 6.0, 20.0, 20.0]),
    )  # fmt: skip
    a, b = np.linspace(-10, 150, 641), np.linspace(-9, 9, 121)
    ahead = np.log(special.expit(a[:, None] - b)) * 6
    level = special.log_expit(b[:, None] - b) * 20
    prior_a, prior_b = stats.t.logpdf(a, 2), stats.t.logpdf(b, 2)
    apart = level + level.T + prior_b[:, None] + prior_b
    joint = np.exp(prior_a[:, None, None] + ahead[:, :, None] + ahead[:, None, :] + apart)
    post = fit("student_items+utility_scale(fixed=1)", data, method="laplace", draws=4000, seed=0)
    below = np.cumsum(joint.sum((1, 2))) / joint.sum()
    for value in (2.0, 4.0, 8.0, 12.0):
        share = np.interp(value, a, below)
        # resampled from 16,000 weighed proposals: four errors of 1,500 effective draws
        assert abs((post.draws["utility"][:, 0] < value).mean() - share) < 4 * np.sqrt(share * (1 - share) / 1500)

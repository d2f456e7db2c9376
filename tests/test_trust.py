"""Which numbers of a fit are safe: weights, chains and marks against closed forms and against long chains."""

from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import table

import prefdensity
from prefdensity.inference import methods, safety
from prefdensity.inference.quality import check_guide, systematic
from prefdensity.inference.safety import Quantities, errors_of_chains, errors_of_weighed
from prefdensity.posterior.psis import effective_size, k_hat_error, smooth, tempered
from prefdensity.posterior.status import approximates


def test_tempered_weights_leave_as_many_draws_as_asked_and_no_more():
    log_weight = 3 * torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert effective_size(log_weight) < 100
    power, flatter = tempered(log_weight, 1500)
    assert effective_size(flatter) == pytest.approx(1500, rel=1e-3)
    assert 0 < power < 1
    # weights exp(s e) have the effective share exp(-s^2): closed form in the limit
    assert 4000 * np.exp(-((3 * power) ** 2)) == pytest.approx(1500, rel=0.1)
    assert tempered(0.1 * log_weight, 200)[0] == 1.0


def whole(z):
    """Say that quantities are at every proposal."""
    return torch.arange(len(z)), torch.ones(len(z), dtype=torch.float64)


def shifted(delta, draws=4000, seed=0):
    """Proposals from N(0, I) for a posterior N(delta, I): the marks of every coordinate, their errors, k-hat."""
    z = torch.randn(draws, len(delta), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gap = z @ delta - 0.5 * delta @ delta
    log_weight, k_hat = smooth(gap)
    _, used = tempered(log_weight, 500)
    error = errors_of_weighed([Quantities({"u": z})], gap, log_weight, used, float(k_hat), 1000, whole(z))["u"]
    off = ((used.exp()[:, None] * z).sum(0) - delta).abs()
    return error, off, float(k_hat)


def test_single_rows_are_safe_where_the_joint_weights_have_failed():
    # 3,000 coordinates each hardly off: no weight serves (k-hat over .7), every mean is right
    error, off, k_hat = shifted(torch.full((3000,), 0.05, dtype=torch.float64))
    assert k_hat > 0.7
    assert (off < error + 0.05).double().mean() > 0.95
    assert (error < 0.25).double().mean() > 0.95


def test_rows_that_are_off_are_not_safe_though_others_are():
    delta = torch.zeros(60, dtype=torch.float64)
    delta[:4] = 2.0
    error, off, k_hat = shifted(delta)
    assert k_hat > 0.7
    assert (off[:4] > 0.1).all()
    assert (error[:4] > 0.1).all()


def test_the_verdict_does_not_hang_on_one_k_hat():
    # log-normal weights whose k-hat lies about .7: by the plain border seeds disagree
    verdicts, plain = [], []
    for seed in range(40):
        gap = 2.1 * torch.randn(4000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        k_hat = float(smooth(gap)[1])
        verdicts.append(approximates(k_hat, float(gap.std()), 4000))
        plain.append(k_hat < 0.7)
    assert 0 < np.mean(plain) < 1
    assert np.mean(verdicts) > 0.95
    assert k_hat_error(0.7, 4000) == pytest.approx(1.7 / np.sqrt(190), rel=1e-2)


def test_proposals_move_to_where_the_weights_find_the_mean():
    class Beside:
        """N(0, I) as an approximation of N(.5, I) in 20 dimensions."""

        log_q_error = 0.0
        matched = False

        def draw(self, draws, generator):
            z = torch.randn(draws, 20, generator=generator, dtype=torch.float64)
            return z, -0.5 * (z**2).sum(-1)

    class Target:
        work = 1.0
        sizes: ClassVar = {"u": 20}

        def log_joint_of(self, z):
            return -0.5 * ((z - 0.5) ** 2).sum(-1)

        def constrain(self, z):
            return {"u": z}, {"u": ("item",)}

    found = check_guide(Target(), Beside(), 1000, torch.Generator().manual_seed(0))
    # weights exp(sqrt(20 / 4) e) leave exp(-5) of the proposals where nothing moves: .007
    assert found.effective > 0.3 * found.proposals
    assert found.tempering == 1
    assert found.k_hat < 0.7
    # twenty errors of sd below .05: one is beyond .25 less than once in 10,000 times
    assert (found.z.mean(0) - 0.5).abs().max() < 0.25


def test_weights_without_a_mean_make_no_row_safe():
    z = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gap = 1.5 * z[:, 0] ** 2  # of exp(3/2 z^2) times exp(-z^2 / 2) there is no integral
    log_weight, k_hat = smooth(gap)
    assert k_hat > 1
    used = tempered(log_weight, 500)[1]
    error = errors_of_weighed([Quantities({"u": z})], gap, log_weight, used, float(k_hat), 1000, whole(z))
    assert (error["u"] > 0.1).all()


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.5])
def test_errors_are_much_the_same_where_few_proposals_are_looked_at(spread, monkeypatch):
    """500 places of 4,000 tell a standard deviation to one part in 15 (weights count), of 200 entries all to four."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 200, generator=generator, dtype=torch.float64)
    view = SimpleNamespace(sizes={"u": 200})
    gap = spread * z[:, 0]
    log_weight, k_hat = smooth(gap)
    used = tempered(log_weight, 500)[1]
    monkeypatch.setattr(safety, "_NUMBERS", 500 * 200)
    at, times = safety.looked_at(view, z, log_weight, used, generator)
    assert len(at) == 500
    every = errors_of_weighed([Quantities({"u": z})], gap, log_weight, used, float(k_hat), 1000, whole(z))["u"]
    some = errors_of_weighed([Quantities({"u": z[at]})], gap, log_weight, used, float(k_hat), 1000, (at, times))["u"]
    assert 0.75 < float(some[0] / every[0]) < 1.33
    assert float((some / every).log().abs().quantile(0.95)) < (0.3 if float(k_hat) < 0.7 else 1.0)


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.2])
def test_the_error_of_resampled_means_is_what_repeats_show(spread):
    # 300 repeats: their spread is known to one part in 24, three such parts are no news
    generator = torch.Generator().manual_seed(0)
    shift = torch.tensor([spread, 0.0, 0.0], dtype=torch.float64)
    off, said = [], []
    for _ in range(300):
        z = torch.randn(4000, 3, generator=generator, dtype=torch.float64)
        log_weight = (z @ shift).log_softmax(0)
        keep = systematic(log_weight.exp(), 1000, generator)
        error = errors_of_weighed([Quantities({"u": z})], z @ shift, log_weight, log_weight, 0.1, 1000, whole(z))
        off.append(z[keep].mean(0) - shift)
        said.append(error["u"])
    seen, known = torch.stack(off).square().mean(0).sqrt(), torch.stack(said).mean(0) / 1.96
    assert float(known[2]) < 1.05 / 1000**0.5 * np.exp(spread**2 / 2)  # nothing is counted twice
    torch.testing.assert_close(seen, known, rtol=0.13, atol=0)


def test_chains_that_agree_leave_their_noise_alone_and_others_are_told():
    z = torch.randn(4, 800, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    usual = 1.96 / 1000**0.5
    error = errors_of_chains(Quantities({"u": z.flatten(0, 1)}), 4, 1000, 16)["u"]
    assert float((error < 1.01 * usual).double().mean()) > 0.93  # of 500, one in twenty is called more, no clear news
    z[0] += 0.5  # one group of four is off: the mean by an eighth of a standard deviation
    assert float(errors_of_chains(Quantities({"u": z.flatten(0, 1)}), 4, 1000, 16)["u"].min()) > 0.125


def test_few_safe_rows_are_reason_enough_to_go_on():
    def found(*errors, draws=1000):
        answer = methods.Answer(torch.zeros(1), torch.zeros(1), {}, error={"u": torch.tensor(errors)})
        return methods._mostly_safe(answer, draws)

    assert found(0.05, 0.09, 0.1, 0.11, 0.4)  # .11 is for the number of draws alone
    assert not found(0.05, 0.09, 0.1, 0.2, 0.4)
    assert found(0.19, 0.19, draws=100)
    assert not found(0.3, 0.1, draws=100)


def test_a_small_program_has_the_best_gaussian_or_chains_where_there_is_none(shared_data, monkeypatch):
    # 46 listeners with thirty votes each: k-hat of the Laplace approximation is far above the border
    data = prefdensity.read(shared_data / "sounds.csv")
    best = prefdensity.fit("reliability", data)
    assert best.status.method == "variational"
    monkeypatch.setattr(methods, "improved", lambda view, first, settings: None)
    chains = prefdensity.fit("reliability", data)
    assert chains.status.method == "nuts"
    assert chains.status.r_hat < 1.01
    for post in (best, chains):
        assert post.status.trusted
        assert post.n_draws == 1000
        assert post.summary()["safe"].mean() > 0.8
        assert "marked safe" in " ".join(post.quality())
    # means from 200 effective draws and more
    off = best.utilities().mean(0) - chains.utilities().mean(0)
    assert (np.abs(off) < 0.3 * chains.utilities().std(0)).all()


@pytest.mark.slow
def test_a_larger_program_is_sampled_by_few_chains_from_the_best_gaussian(shared_data, monkeypatch):
    """Means of twelve utilities with 200 effective draws or more: differences of .4 sd come in one of 700 tables."""
    data = prefdensity.read(shared_data / "sounds.csv")
    many = prefdensity.fit("reliability", data)
    monkeypatch.setattr(methods, "_FEW_PARAMETERS", 0)
    monkeypatch.setattr(methods, "stands", lambda answer: False)  # where the best Gaussian does hold it
    post = prefdensity.fit("reliability", data)
    assert post.status.method == "nuts", post.status.message
    assert post.status.message.startswith("8 short chains")
    assert post.n_draws == 1000
    off = post.utilities().mean(0) - many.utilities().mean(0)
    assert (np.abs(off) < 0.4 * many.utilities().std(0)).all()
    spread = post.utilities().std(0) / many.utilities().std(0)
    assert ((spread > 0.75) & (spread < 1.33)).all()


def test_no_chains_start_from_stochastic_steps(monkeypatch):
    def steps(view, settings, report):
        answer = methods.by_laplace(view, settings, report)
        return replace(answer, found=(), facts=answer.facts | {"method": "svi", "elbo": 0.0})  # above any other

    monkeypatch.setattr(methods, "_FEW_PARAMETERS", 0)
    monkeypatch.setattr(methods, "stands", lambda answer: False)
    monkeypatch.setattr(methods, "improved", lambda view, first, settings: None)
    monkeypatch.setattr(methods, "by_svi", steps)
    monkeypatch.setattr(methods, "_is_doubted", lambda view: False)
    assert prefdensity.fit("reliability", table(rows=40, seed=1)).status.method == "svi"


def test_ctrl_c_in_the_chains_leaves_the_approximation(monkeypatch):
    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(methods, "walk", interrupted)
    monkeypatch.setattr(methods, "stands", lambda answer: False)
    post = prefdensity.fit("reliability", table(rows=40, seed=1))
    assert post.status.method == "laplace"
    assert "interrupted" in post.quality()[0]


def test_marks_tell_too_few_draws_from_enough():
    data = table(rows=40, seed=1)
    few, many = (prefdensity.fit("bradley_terry", data, method="laplace", draws=draws) for draws in (100, 2000))
    assert many.summary()["safe"].all()
    assert not many.summary()["note"].str.contains("may be off by").any()
    assert not few.summary()["safe"].any()  # a hundred draws are off by more than a tenth of an sd once in three
    assert few.summary()["note"].str.contains("may be off by").all()
    assert few.parameters()["safe"].dtype == bool


def test_an_approximation_few_of_whose_rows_are_safe_is_not_trusted():
    post = prefdensity.fit("bradley_terry", table(), seed=0, progress=False)
    error = np.concatenate([np.ravel(each) for each in post.error.values()])
    draws = len(post.draws["utility"])
    # what the noise of so few draws alone adds to a tenth of a standard deviation
    assert post.status.safe_share == (error <= np.hypot(0.1, 1.96 / draws**0.5)).mean() == 1
    assert post.status.trusted
    far = {name: np.full_like(each, 0.5) for name, each in post.error.items()}
    doubtful = replace(post, error=far, status=replace(post.status, safe_share=0.0, corrected=False))
    assert not doubtful.status.trusted
    assert any(said.startswith("0 of ") for said in doubtful.troubles())

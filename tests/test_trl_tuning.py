"""Lambda tuned by the trainers of prefdensity.trl: from gradients of the last layer, without a trace in training."""

import pytest
import torch

pytest.importorskip("trl")
import tiny_trl as tiny

from prefdensity.errors import DataError
from prefdensity.reward.trl import VROptions

pytestmark = tiny.QUIET
in_trainers = pytest.mark.parametrize("make", [tiny.dpo, tiny.scored], ids=["dpo", "reward"])


@in_trainers
def test_trainers_tune_and_then_train_as_with_that_number(make, tmp_path):
    auto = make(tmp_path / "auto", vr=VROptions(lambda_="auto"))
    assert auto.lambda_ == 0.5
    loss = auto.train().training_loss
    assert 0 < auto.lambda_ < 1
    assert auto.tuned.rows == 4
    assert auto.model.training
    given = make(tmp_path / "given", vr=VROptions(lambda_=auto.lambda_))
    assert given.train().training_loss == pytest.approx(loss, abs=1e-7)  # the same batches, in the same order
    logged = [entry for entry in auto.state.log_history if "vr/fresh" in entry]
    assert len(logged) == 2  # of steps of training, none of tuning
    for one, other in zip(auto.model.parameters(), given.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@in_trainers
def test_tuning_sees_the_gradients_of_the_last_layer(make, tmp_path):
    trainer = make(tmp_path, options={"per_device_train_batch_size": 4})
    found = trainer.tune()
    trainer.model.eval()
    last = [each for each in trainer.model.parameters() if each.requires_grad][-1]
    slopes = []
    for k in range(4):
        row = trainer.train_dataset.select([k])
        batch = trainer.data_collator(list(trainer._remove_unused_columns(row)))
        parts = []
        for lambda_ in (0.0, 1.0):
            trainer.tuned = type(found)(lambda_, 1.0, 1)
            (slope,) = torch.autograd.grad(trainer.compute_loss(trainer.model, dict(batch)), last)
            parts.append(slope.double().flatten())
        slopes.append(torch.stack([parts[0], parts[0] - parts[1]]))
    psi, c = torch.stack(slopes, 1)
    best = float((psi * c).sum() / (c * c).sum())
    assert found.lambda_ == pytest.approx(min(max(best, 0), 1), abs=1e-4)
    ratio = (psi - found.lambda_ * c).var(0, correction=0).sum() / psi.var(0, correction=0).sum()
    assert found.ratio == pytest.approx(float(ratio), abs=1e-4)


def test_words_for_lambda_are_auto_alone():
    with pytest.raises(DataError, match="'best' is neither a number nor 'auto'"):
        VROptions(lambda_="best")

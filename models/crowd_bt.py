"""Crowd-BT: each annotator reports his verdict, or with some probability its opposite.

    eta_j ~ Beta(8, 2)                                    j = 1..annotators
    P(a) <- eta_j P(a) + (1 - eta_j) P(b), and the same for b; a tie stays a tie, and a strength keeps its size

Site: eta `accuracy` (annotator); 1/2 is a coin-flipper, below it a contrarian. Identification: turning all utilities
and accuracies upside down (u -> -u, eta -> 1 - eta) leaves the likelihood alone; the prior, with mean 0.8, breaks
the mirror, and both modes may stand. Cannot express: annotators who err more on close pairs than on clear ones
(reliability does).
Reference: Chen, Bennett, Collins-Thompson and Horvitz (2013), WSDM, 193-202.
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.mends import Mend
from prefdensity.programs.mirrors import Mirror, Values


def _upside_down(values: Values, who: Tensor) -> dict[str, Tensor]:
    return {"accuracy": torch.where(who, 1 - values["accuracy"], values["accuracy"])}


@layer(
    "noise",
    needs=["annotator"],
    unimodal=False,
    mirror=Mirror(_upside_down, lambda values: values["accuracy"] < 0.5, "contrarian"),
    mends=Mend("care", rank=1),
    meanings={"accuracy": "share of this annotator's verdicts that are meant: 1/2 coin-flipper, < 1/2 contrarian"},
)
def crowd_bt(log_prob: Tensor, data: Cells) -> Tensor:
    with pyro.plate("annotator", data.n_annotators, dim=-1):
        accuracy = pyro.sample("accuracy", dist.Beta(8.0, 2.0))
    eta = data.of("annotator", accuracy).unsqueeze(-1)
    opposite = log_prob.index_select(-1, data.mirror)
    return torch.logaddexp(eta.log() + log_prob, (-eta).log1p() + opposite)

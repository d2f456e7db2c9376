"""Squared-distance judge: the margin is linear in the label, which gives closed forms under Gaussian labels.

    beta ~ LogNormal(1, 1.5)
    margin_i = beta * ((w_i2 - y_i)^2 - (w_i1 - y_i)^2)    distances in standard deviations of the labels

Site: beta `sharpness`. With gaussian labels and the probit rule, E[y | x, w, verdict] and P(verdict | x, w) are known
exactly, lapses included. Identification: as for distance. Cannot express: as for distance; far labels weigh more here.
Reference: Thurstone (1927), Psychological Review 34, 273-286, for the rule; Owen (1980), Communications in
Statistics B 9, 389-419, for the integral.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.judged_cells import JudgedCells
from prefdensity.programs.layers import layer


@layer("judge", meanings={"sharpness": "margin for one squared sd of labels by which one output is closer"})
def squared_distance(data: JudgedCells) -> Tensor:
    sharpness = pyro.sample("sharpness", dist.LogNormal(1.0, 1.5))
    return sharpness * data.closer_squared

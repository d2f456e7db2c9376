"""Distance judge: he knows the label, and tends to prefer the output that is closer to it.

    beta ~ LogNormal(1, 1.5)
    margin_i = beta * (|w_i2 - y_i| - |w_i1 - y_i|)        distances in standard deviations of the labels

Site: beta `sharpness`, logits (under the logit rule) for one sd of distance; beta = 0 guesses, beta -> infinity never
errs (noise_free). Choice rules, position biases, lapses and annotators of comparisons apply to this margin as they do
there. Identification: units with a label and a verdict; units with a verdict only add to it.
Cannot express: a judge who looks at anything but closeness, or who is sharper on some units.
Reference: Dong, Hou, Wu and Zhang (2026), arXiv 2601.13458, for the judge without noise.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.judged_cells import JudgedCells
from prefdensity.programs.layers import layer


@layer("judge", meanings={"sharpness": "logits for one sd of labels by which one output is closer"})
def distance(data: JudgedCells) -> Tensor:
    sharpness = pyro.sample("sharpness", dist.LogNormal(1.0, 1.5))
    return sharpness * data.closer

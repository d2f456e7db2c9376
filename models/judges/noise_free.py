"""Noise-free judge: he names the closer output, always; the limit of the distance judge.

    margin_i = +36 if |w_i1 - y_i| < |w_i2 - y_i|, -36 if the other way round, 0 if equal

No site; 36 logits leave a doubt of one rounding error. Identification: nothing to identify; a single verdict for the
farther output makes the data all but impossible, so compose it with lapse unless verdicts are computed.
Cannot express: any error of a judge.
Reference: Dong, Hou, Wu and Zhang (2026), arXiv 2601.13458.
"""

from torch import Tensor

from prefdensity.programs.judged_cells import JudgedCells
from prefdensity.programs.layers import layer


@layer("judge")
def noise_free(data: JudgedCells) -> Tensor:
    return 36.0 * data.closer.sign()

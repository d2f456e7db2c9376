"""Length-normalised behaviour: annotators compare log densities per unit of length, as of a word or a token.

    Omega_i = longest / length_i * log p_i,        log p_i = u_i - log sum_k exp(u_k)
    P(a preferred to b) = sigmoid(Omega_a - Omega_b)

The lengths are the item measure `length`; `longest` is the unit, by default the longest item's. The utilities are log p
up to a constant; p is normalised over the items, since here the constant tells: adding c to log p tilts Omega by
c longest / length. Identification: lengths are assumed to act so, never learned; with a utility for each item the
program predicts what Bradley-Terry predicts, and only the density that explains it differs. All lengths are positive,
so no second density gives the same preferences. Cannot express: a taste for length itself (covariate).
Reference: Dumoulin et al. (2024), TMLR, arXiv 2311.14115.
"""

from torch import Tensor

from prefdensity.errors import DataError, require_positive
from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


@layer("behaviour", needs=["measures"], unimodal=False)
def length_normalised(utility: Tensor, data: Cells, length: str = "length", longest: float | None = None) -> Tensor:
    size = data.measure(length)
    if not bool((size > 0).all()):
        raise DataError(f"{length!r} must be positive for every item: elsewhere the density is not identified")
    unit = float(size.max()) if longest is None else longest
    require_positive(longest=unit)
    return unit / size * utility.log_softmax(-1)

"""One utility per item, most of them alike and a few perhaps far outside: heavy tails.

    u_i ~ Student(df, 0, s)             i = 1..items

Site: u `utility` (item); s is the scale layer's, here a scale: with df 2 there is no standard deviation. An item at 6 s
stays where its judgements put it, while `items` would pull it in and widen s for all others. Identification: only
differences enter the likelihood; an item that never loses lies further out than under `items`, in a wider interval,
which is the tail's: df 2 covers more of what is far out than 3 or 4, and ten items do not tell df.
Cannot express: what an item's utility owes to its features, clusters of items.
Reference: Dawid (1973), Biometrika 60, 664-667; O'Hagan (1979), JRSS-B 41, 358-367, on outliers and heavy tails.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


@layer("utility", meanings={"utility": "log preference density of the item, up to a constant"})
def student_items(data: Cells, scale: Tensor, df: float = 2.0) -> Tensor:
    with pyro.plate("item", data.n_items, dim=-1):
        return pyro.sample("utility", dist.StudentT(df, 0.0, scale))

"""Running a program as it stands, with some of its sites given: for densities, prediction and checks alike."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from prefdensity.errors import ProgramError
from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import Program


class Substitute(Messenger):
    """Give latent sites their values and remember the distributions met.

    Entered outside all plates, it sees each site after the plates have shaped it.
    """

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values
        self.met: dict[str, dict[str, Any]] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if poutine.util.site_is_subsample(msg):
            return
        if msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]
            msg["done"] = True

    def _pyro_post_sample(self, msg: Any) -> None:
        if not poutine.util.site_is_subsample(msg):
            if msg["name"] in self.met:  # the two would silently share one value
                raise ProgramError(
                    f"two sites of the program are called {msg['name']!r}; leave one of their layers out"
                )
            self.met[msg["name"]] = {
                "fn": msg["fn"],
                "value": msg["value"],
                "is_observed": msg["is_observed"],
                "deterministic": msg["infer"].get("_deterministic", False),
                "cond_indep_stack": msg["cond_indep_stack"],
            }


class _Centred(Messenger):
    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names = names

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.names and not msg["done"]:
            msg["value"], msg["done"] = msg["fn"].mean, True


def centred(names: Collection[str]) -> Messenger:
    """Return a context in which runs give sites without a value the mean of their distribution, not a draw of it."""
    return _Centred(names)


@contextmanager
def environment(dtype: torch.dtype, seed: int | None = None, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run Pyro code in `dtype` on `device`, without validation, leaving every global as it was."""
    before = torch.get_default_dtype()
    # the device context intercepts every call of torch: not on the CPU, where it is the default anyway
    place = nullcontext() if torch.device(device).type == "cpu" else torch.device(device)
    with torch.random.fork_rng(enabled=seed is not None), pyro.validation_enabled(False), place:
        if seed is not None:
            torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def run(program: Program, cells: Cells, values: dict[str, Tensor], fits: int, seed: int | None = None) -> Substitute:
    """Run a program for `fits` sets of values at once, under a plate at dim -3.

    `values` are shaped [fit, ...] with the site's plates at dims -2 and -1; sites without a value are drawn
    from their prior (from the global generator, unless `seed` is given).
    """
    place = environment(cells.total.dtype, seed, cells.total.device)
    with place, Substitute(values) as seen, pyro.plate("fit", fits, dim=-3):
        program(cells)
    return seen


def require_drawn(met: Mapping[str, Any], drawn: Collection[str], program: Program) -> None:
    """Refuse a run in which a latent site took its value from its prior because nobody ever drew it.

    Parameters
    ----------
    met
        Sites of a run, as `Substitute` remembers them.
    drawn
        Latent sites that have draws, or are set; those left out of a question on purpose among them.
    program
        What was run, for the error.
    """
    for name, site in met.items():
        if not site["is_observed"] and not site["deterministic"] and name not in drawn:
            raise ProgramError(f"the site {name!r} of {program.name} has no draws: another program was fitted")

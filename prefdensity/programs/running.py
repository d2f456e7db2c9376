"""Running a program as it stands, with some of its sites given: for densities, prediction and checks alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.overrides import TorchFunctionMode

from prefdensity.errors import ProgramError
from prefdensity.programs.cells import Cells
from prefdensity.programs.tables import plain, plates, table

# The fewest and the most plates that a run has room for, that of fits included; outcomes are told with the fewest.
FEWEST, _MOST = 3, 6
_FITS = "fit"


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
            msg["value"] = _placed(self.values[msg["name"]], msg)
            msg["done"] = True

    def _pyro_post_sample(self, msg: Any) -> None:
        if not poutine.util.site_is_subsample(msg):
            if msg["name"] in self.met:  # the two would silently share one value
                raise ProgramError(
                    f"two sites of the program are called {msg['name']!r}; leave one of their layers out"
                )
            self.met[msg["name"]] = {
                "fn": msg["fn"],
                "value": plain(msg["value"]),
                "is_observed": msg["is_observed"],
                "deterministic": msg["infer"].get("_deterministic", False),
                "afresh": msg["infer"].get("afresh", False),
                "cond_indep_stack": msg["cond_indep_stack"],
            }
            if not msg["is_observed"] and _is_table(msg):
                msg["value"] = table(msg["value"])

    def last(self) -> dict[str, Tensor]:
        """Return the values of latent sites of the last fit, as they are without a plate of fits."""
        found = {}
        for name, node in self.met.items():
            if not node["is_observed"] and not node["deterministic"]:
                frames = [frame for frame in node["cond_indep_stack"] if frame.vectorized and frame.name != _FITS]
                axes = max([-frame.dim for frame in frames], default=0) + node["fn"].event_dim
                value = node["value"][-1]
                found[name] = value.reshape(value.shape[value.dim() - axes :])
        return found


def _fits(msg: Any) -> int:
    """Return how many plates a run has room for, from the plate of fits that a site is in; 0 without one."""
    return next((-frame.dim for frame in msg["cond_indep_stack"] if frame.name == _FITS), 0)


def _is_table(msg: Any) -> bool:
    """Whether a site has entries of its own in some plate, for many fits."""
    return _fits(msg) > 0 and any(frame.vectorized and frame.name != _FITS for frame in msg["cond_indep_stack"])


def _placed(value: Tensor, msg: Any) -> Tensor:
    """Return a value [fit, ...] with singletons where a run has room for more plates than it has axes."""
    known = msg["value"]  # of a deterministic site
    missing = (_fits(msg) + msg["fn"].event_dim if known is None else known.dim()) - value.dim()
    return value if missing <= 0 else value.reshape(len(value), *(1,) * missing, *value.shape[1:])


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


class _Numbers(TorchFunctionMode):
    """Fill numbers in where they are needed: copying them to a device would wait for it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See torch: every function comes here."""
        if func is torch.tensor and type(args[0]) in (bool, int, float):
            return torch.full((), *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


@contextmanager
def environment(dtype: torch.dtype, seed: int | None = None, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run Pyro code in `dtype` on `device`, without validation, leaving every global as it was."""
    before, device = torch.get_default_dtype(), torch.device(device)
    with ExitStack() as stack:
        stack.enter_context(_seeded(seed, device))
        stack.enter_context(pyro.validation_enabled(False))
        if device.type != "cpu":  # these intercept every call of torch
            stack.enter_context(device)
            stack.enter_context(_Numbers())
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


@contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Draw from generators with this seed, those of the CPU and of the device alone, and leave them as they were."""
    if seed is None:
        yield
        return
    beside = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(beside, device_type=device.type if beside else "cuda"):
        torch.default_generator.manual_seed(seed)
        for each in beside:
            of = torch.get_device_module(each)
            with of.device(each):  # a seed is that of the current device
                of.manual_seed(seed)
        yield


def run(
    program: Callable[[Cells], None], cells: Cells, values: dict[str, Tensor], fits: int, seed: int | None = None
) -> Substitute:
    """Run a program for `fits` sets of values at once, under a plate left of all that the program has.

    `values` are shaped [fit, ...] with the site's plates at dims -2 and -1 (and further left, if it has more); sites
    without a value are drawn from their prior (from the global generator, unless `seed` is given).
    """
    with environment(cells.total.dtype, seed, cells.total.device):
        seen, _ = for_fits(lambda: program(cells), values, torch.arange(fits, device=cells.total.device))
    return seen


def require_drawn(met: Mapping[str, Any], drawn: Collection[str], program: str) -> None:
    """Refuse a run in which a latent site took its value from its prior because nobody ever drew it.

    A site that says so (``infer={"afresh": True}``) is about what nobody can have seen, such as days to come.

    Parameters
    ----------
    met
        Sites of a run, as `Substitute` remembers them.
    drawn
        Latent sites that have draws, or are set; those left out of a question on purpose among them.
    program
        The name of what was run, for the error.
    """
    for name, site in met.items():
        if not site["is_observed"] and not site["deterministic"] and not site["afresh"] and name not in drawn:
            raise ProgramError(f"the site {name!r} of {program} has no draws: another program was fitted")


def for_fits(
    body: Callable[[], Any], values: dict[str, Tensor], fits: Tensor, least: int = FEWEST
) -> tuple[Substitute, Any]:
    """Run a part of a program for many sets of values; return what was met and what the part returns.

    `fits` are the numbers of the sets, `least` a number of plates, that of fits included, to have room for.
    """
    for depth in range(least, _MOST + 1):
        try:
            plate = pyro.plate(_FITS, len(fits), subsample=fits, dim=-depth)
            with plates(depth), Substitute(values) as seen, plate:
                left = body()
        except ValueError as error:
            if "collide at dim" not in str(error):
                raise
        else:
            if depth > FEWEST and hasattr(seen.met.get("outcome", {}).get("fn"), "without_plates"):
                seen.met["outcome"]["fn"] = seen.met["outcome"]["fn"].without_plates(depth - FEWEST)
            return seen, left
    raise ProgramError(f"the program has plates left of dim -{_MOST - 1}; there is room for {_MOST - 1} plates")

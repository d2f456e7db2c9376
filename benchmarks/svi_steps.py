"""Variational inference: milliseconds for a step, and CPU seconds to 0.3 nats of the optimum.

`python -m benchmarks.svi_steps METHOD TASK:PROGRAM:ITEMSxROWS`, where the task is "step" or "optimum". The guide has
independent coordinates for both, and both have as many particles. A step is all of it: the draw, the gradient over
every cell, Adam; ours works the cells of a large table out in single precision and sums them in double, NumPyro's scan
is in single precision throughout.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measuring import answer, peak_memory, versions
from benchmarks.results import markdown
from benchmarks.worlds import ANNOTATORS, annotated, counts, simulate
from prefdensity.programs.tabulate import cells_of

# "step" has the particles of ours; "pair" the fewest that ours can have, an antithetic pair
PARTICLES = {"step": 8, "pair": 2}
BLOCKS, EVALUATIONS, PRIOR_SD = 5, 2_000_000, 1.5
NATS, MOST = 0.3, 3000
SIZES = {
    "bradley_terry": {"20k": "1000x20000", "432k": "1000x1000000", "1M": "10000x1000000"},
    "reliability": {"20k": "1000x20000", "432k": "1000x432000", "1M": "1000x1000000"},
    "types": {"20k": "1000x20000", "432k": "1000x432000", "1M": "1000x1000000"},
}
OURS, PEER = "prefdensity", "NumPyro scan"


def table(program: str, size: str) -> dict[str, np.ndarray]:
    """Return the table of a task, of plain Bradley-Terry as counts."""
    n_items, n_rows = map(int, size.split("x"))
    if program != "bradley_terry":
        return annotated(program, n_items, n_rows, ANNOTATORS)
    utility, winner, loser = simulate(n_items, n_rows)
    i, j, won, lost = counts(n_items, winner, loser)
    return {"utility": utility, "item_a": i, "item_b": j, "won": won, "lost": lost}


def our_view(program: str, world: dict[str, np.ndarray]) -> Any:
    """Return the density of the table."""
    import prefdensity as pf
    from benchmarks.annotators import PROGRAMS, comparisons
    from prefdensity.inference.view import View

    if program != "bradley_terry":
        data, program = comparisons(world), PROGRAMS[program]
    else:
        cells, count = len(world["item_a"]), np.r_[world["won"], world["lost"]]
        data = pf.Comparisons(
            items=tuple(map(str, range(len(world["utility"])))), item_a=np.tile(world["item_a"], 2)[count > 0],
            item_b=np.tile(world["item_b"], 2)[count > 0],
            outcome=np.repeat([0, 1], cells).astype(np.int8)[count > 0], count=count[count > 0].astype(float),
        )  # fmt: skip
    loaded = pf.load_program(program)
    return View(loaded, cells_of(data, loaded.outcomes, loaded.needs))


def least(steps: Callable[[int], None], rows: int) -> float:
    """Return the CPU seconds of a step: the least of several blocks, since others may use the machine."""
    count, times = min(100, max(5, EVALUATIONS // rows)), []
    steps(count)
    for _ in range(BLOCKS):
        began = time.process_time()
        steps(count)
        times.append((time.process_time() - began) / count)
    return min(times)


def our_steps(program: str, world: dict[str, np.ndarray]) -> dict[str, float]:
    """Return seconds for a step, and for what it must at least move at the speed of a copy ("floor")."""
    import torch

    from prefdensity.inference import svi
    from prefdensity.inference.guide import Guide

    view, found = our_view(program, world), {}
    base = torch.zeros(1, view.dimension, dtype=torch.float64)
    for name, particles in PARTICLES.items():
        svi._PARTICLES = particles
        run = svi.Run(view, Guide.start(base, torch.full_like(base, 0.05), "mean_field"), seed=0)
        found[name] = least(lambda count, run=run: [run.take_step() for _ in range(count)], len(view.cells))
    cells = view.cells
    read = [cells.item_a, cells.item_b] + ([] if cells.annotator is None else [cells.annotator])
    bytes_read = sum(each.nbytes for each in read) + 4 * cells.outcome.numel()  # counts in single precision
    return found | {"bandwidth": bandwidth(), "floor": bytes_read / bandwidth()}


@functools.cache
def bandwidth() -> float:
    """Return the bytes per second, read and written, of copying 64 MB."""
    import torch

    there, here = torch.ones(2, 64_000_000, dtype=torch.uint8)
    return 2 * there.nbytes / least(lambda count: [here.copy_(there) for _ in range(count)], EVALUATIONS)


def peer_run(program: str, world: dict[str, np.ndarray], particles: int, rate: Any):
    """Return NumPyro's state after its start, and a scan over steps, compiled at its first use."""
    import jax
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal

    from benchmarks.annotators import _models

    if program == "bradley_terry":
        n_items = len(world["utility"])
        data = tuple(jax.numpy.asarray(world[name]) for name in ("item_a", "item_b", "won", "lost"))

        def model(i, j, won, lost):
            with numpyro.plate("item", n_items):
                u = numpyro.sample("utility", dist.Normal(0.0, PRIOR_SD))
            margin = u[i] - u[j]  # without the binomial coefficient: faster than its own distribution
            numpyro.factor("won", (won * margin + (won + lost) * jax.nn.log_sigmoid(-margin)).sum())
    else:
        data = tuple(jax.numpy.asarray(world[name]) for name in ("item_a", "item_b", "annotator", "wins"))
        model = _models(world["utility"].shape[-1], ANNOTATORS)[program]
    svi = SVI(model, AutoNormal(model), numpyro.optim.Adam(rate), Trace_ELBO(num_particles=particles))

    @functools.partial(jax.jit, static_argnums=1)
    def steps(state, count, *data):
        return jax.lax.scan(lambda s, _: svi.update(s, *data), state, None, length=count)[0]

    return (
        svi,
        svi.init(jax.random.PRNGKey(0), *data),
        lambda state, count: jax.block_until_ready(steps(state, count, *data)),
    )


def peer_steps(program: str, world: dict[str, np.ndarray]) -> dict[str, float]:
    """Return seconds for a step in the scan, compiled beforehand."""
    found = {}
    for name, particles in PARTICLES.items():
        _, state, steps = peer_run(program, world, particles, 0.01)
        state = steps(state, 1)  # of the types that steps return: the next call compiles for good
        found[name] = least(functools.partial(steps, state), len(world["item_a"]))
    return found


class MeanField:
    """The exact evidence lower bound of independent Gaussians over utilities, up to a constant (by quadrature)."""

    def __init__(self, world: dict[str, np.ndarray]) -> None:
        self.world = world
        self.node, weight = np.polynomial.hermite_e.hermegauss(8)
        self.weight = weight / weight.sum()

    def __call__(self, loc: np.ndarray, log_sd: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the bound and its gradient [2 items]."""
        i, j, won, lost = (self.world[name] for name in ("item_a", "item_b", "won", "lost"))
        total, variance = won + lost, np.exp(2 * log_sd)
        mean, sd = loc[i] - loc[j], np.sqrt(variance[i] + variance[j])
        value, first, second = won @ mean, won.astype(float), np.zeros(len(i))
        for x, w in zip(self.node, self.weight, strict=True):
            eta = mean + sd * x
            p = 1 / (1 + np.exp(-eta))
            value -= w * (total @ np.logaddexp(0, eta))
            first -= w * total * p
            second -= w * total * p * (1 - p)
        size = len(loc)
        sums = [np.bincount(k, each, size) for k, each in ((i, first), (j, first), (i, second), (j, second))]
        value += log_sd.sum() - 0.5 * ((loc**2 + variance) / PRIOR_SD**2).sum()
        slope = np.r_[sums[0] - sums[1] - loc / PRIOR_SD**2, 1 + variance * (sums[2] + sums[3] - PRIOR_SD**-2)]
        return float(value), slope

    def optimum(self) -> float:
        """Return the largest bound."""
        from scipy.optimize import minimize

        size, total = len(self.world["utility"]), self.world["won"] + self.world["lost"]
        seen = sum(np.bincount(self.world[name], total, size) for name in ("item_a", "item_b"))
        unit = (0.17 * seen + PRIOR_SD**-2) ** -0.5  # about the posterior's standard deviations

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = self(x[:size] * unit, x[size:] + np.log(unit))
            return -value, -slope * np.r_[unit, np.ones(size)]

        options = {"maxiter": 200, "ftol": 1e-11, "gtol": 1e-3}
        return -float(minimize(loss, np.zeros(2 * size), jac=True, method="L-BFGS-B", options=options).fun)


def our_way(world: dict[str, np.ndarray]):
    """Yield (CPU seconds so far, loc, log sd) after the start, and after each window."""
    import torch

    from prefdensity.inference import svi
    from prefdensity.inference.guide import Guide
    from prefdensity.inference.laplace import laplace

    view = our_view("bradley_terry", world)
    began, aside = time.process_time(), 0.0
    base, frame = laplace(view).main
    scale = frame if frame.dim() == 1 else torch.linalg.inv(frame @ frame.T).diagonal().rsqrt()
    run = svi.Run(view, Guide.start(base[None], scale[None], "mean_field"), seed=0)
    while run.step < MOST:
        guide = run.fitted()
        loc, sd = (guide.base + guide.frame * guide.loc)[0], (guide.frame * guide.log_diagonal.exp())[0]
        stopped = time.process_time()
        yield stopped - began - aside, run.step, loc.detach().numpy(), sd.detach().log().numpy()
        aside += time.process_time() - stopped
        run.advance()


def peer_way(world: dict[str, np.ndarray]):
    """The same of NumPyro, compiled beforehand.

    Adam at .05 that falls to a hundredth over 2,000 steps: of 12 settings (1, 2 or 8 particles, .05 or .02, over 2,000
    or 6,000 steps) the one that was soonest within `NATS` of the optimum for 20,000 comparisons of 1,000 items.
    """
    from jax.numpy import minimum

    particles = PARTICLES["step"]
    svi, state, steps = peer_run(
        "bradley_terry", world, particles, lambda step: 0.05 * 0.01 ** minimum(step / 2000, 1.0)
    )
    steps(state, 100)
    spent = 0.0
    for k in range(MOST // 100):
        began = time.process_time()
        state = steps(state, 100)
        spent += time.process_time() - began
        params = svi.get_params(state)
        sd = np.asarray(params["utility_auto_scale"], float)
        yield spent, 100 * (k + 1), np.asarray(params["utility_auto_loc"], float), np.log(sd)


def way(method: str, world: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the CPU seconds and steps to `NATS` of the optimum, and the least gap seen on the way."""
    bound = MeanField(world)
    best, gap, found = bound.optimum(), np.inf, {}
    for seconds, step, loc, log_sd in (our_way if method == OURS else peer_way)(world):
        gap = min(gap, float(best - bound(loc, log_sd)[0]))
        found = {"seconds": seconds, "steps": step, "gap": gap}
        if gap < NATS:
            break
    return found


def measure(method: str, setting: str) -> dict[str, Any]:
    """Run one task in this process."""
    task, program, size = setting.split(":")
    world = table(program, size)
    packages = ("prefdensity", "torch") if method == OURS else ("numpyro", "jax")
    if task == "optimum":
        found = way(method, world)
    else:
        found = (our_steps if method == OURS else peer_steps)(program, world)
    return found | {"memory": peak_memory(), "version": versions(*packages)}


def report(run: Any) -> str:
    """Return the section: a table of steps and one of ways to the optimum."""

    def both(setting: str) -> tuple[dict[str, Any], dict[str, Any]]:
        ours = run.measure("svi_steps", OURS, setting)
        return ours, run.measure("svi_steps", PEER, setting, package="numpyro")

    steps, ways, speed = [], [], ""
    for program, sizes in SIZES.items():
        for name, size in sizes.items():
            ours, peer = both(f"step:{program}:{size}")
            cells = [each for key in PARTICLES for each in (_ms(ours, key), _ms(peer, key), _ratio(ours, peer, key))]
            steps.append([program, name, *cells, _ms(ours, "floor")])
            speed = f"{ours['bandwidth'] / 1e9:.0f} GB/s" if "bandwidth" in ours else speed
    for name, size in SIZES["bradley_terry"].items():
        ours, peer = both(f"optimum:bradley_terry:{size}")
        ways.append([name, _way(ours), _way(peer), _ratio(ours, peer, "seconds")])
    header = [f"{who}, {count} particles{unit}" for count in PARTICLES.values()
              for who, unit in (("ours", ", ms"), ("NumPyro", ", ms"), ("ratio", ""))]  # fmt: skip
    first = markdown(("program", "cells", *header, "floor, ms"), steps)
    second = markdown(("cells", "ours: CPU s, steps, gap", "NumPyro: CPU s, steps, gap", "ratio"), ways)
    return (
        "CPU milliseconds for a step with independent coordinates; NumPyro's scan is compiled beforehand. The floor is "
        "the time to read every cell once, its items (and annotator) in 8 bytes each and its counts in 4, at the speed "
        f"of copying 64 MB ({speed}, read and written).\n\n{first}\n\nPlain Bradley-Terry: CPU seconds to {NATS} nats "
        "of the best guide with independent coordinates (exact bound by quadrature, not timed, nor are imports, cells "
        "and NumPyro's compilation), in at most "
        f"{MOST} steps; ours starts with its Laplace approximation, which is timed.\n\n{second}"
    )


def _ms(found: dict[str, Any], key: str) -> str:
    return f"{1e3 * found[key]:.2f}" if key in found else found["skipped"]


def _way(found: dict[str, Any]) -> str:
    if "skipped" in found:
        return str(found["skipped"])
    return f"{found['seconds']:.2f}, {found['steps']}, {found['gap']:.2f}"


def _ratio(ours: dict[str, Any], peer: dict[str, Any], key: str) -> str:
    return f"{ours[key] / peer[key]:.2f}" if key in ours and key in peer else ""


if __name__ == "__main__":
    answer(measure)

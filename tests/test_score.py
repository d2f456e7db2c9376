"""Score tests of what could be added: null points of all layers, closed forms, tails, gains."""

import contract
import numpy as np
import pytest
import torch

import prefdensity
from prefdensity.errors import ProgramError
from prefdensity.inference.view import View
from prefdensity.programs.compose import compose
from prefdensity.programs.layers import Layer
from prefdensity.programs.loading import load_program
from prefdensity.programs.shelf import find
from prefdensity.programs.tabulate import cells_of

LAYERS = [find(name) for name in prefdensity.names() if isinstance(find(name), Layer)]
NULLED = [layer.name for layer in LAYERS if layer.null or layer.spread]


def likelihood(program, data, values):
    view = View(program, cells_of(data, program.outcomes, program.needs))
    drawn = view.values(contract.vectors(view, 3, seed=1))[0]
    met = view.run({name: values.get(name, drawn[name]) for name in drawn}, 3).met["outcome"]
    return drawn, met["fn"].log_prob(met["value"]).reshape(3, -1).sum(-1)


@pytest.mark.parametrize("name", NULLED)
@pytest.mark.parametrize("where", ["no spread", "no offsets"])
def test_at_its_null_point_a_layer_says_nothing(name, where):
    """The program with the layer has the likelihood of one without, whatever the rest is."""
    layer, program = find(name), load_program(name)
    data = contract.suited(program)
    drawn, _ = likelihood(program, data, {})
    silent = {site: torch.full_like(drawn[site], level) for site, level in layer.null.items()}
    for spread, offsets in layer.spread.items():
        zero = spread if where == "no spread" else offsets
        silent[zero] = torch.zeros_like(drawn[zero])
    drawn, found = likelihood(program, data, {**drawn, **silent})
    kept = [each for each in program.layers if each.name != name]
    others = [[]] if layer.stage != "choice" else [[find(each)] for each in ("logit", "probit", "davidson")]
    fits = []
    for other in others:
        try:
            fits.append(likelihood(compose(*kept, *other), data, {**drawn, **silent})[1])
        except ProgramError:
            continue
    assert min(float((each - found).abs().max()) for each in fits) < 1e-9
    steps = {site: torch.linspace(0.1, 0.3, value.numel()).reshape(value.shape) for site, value in silent.items()}
    moved = {site: value + steps[site] for site, value in silent.items()}
    assert float((likelihood(program, data, {**drawn, **moved})[1] - found).abs().min()) > 1e-6


def test_what_says_nothing_names_its_own_sites():
    for name in NULLED:
        layer, program = find(name), load_program(name)
        view = View(program, cells_of(contract.suited(program), program.outcomes, program.needs))
        assert {*layer.null, *layer.spread, *layer.spread.values()} <= set(view.sites)
        for spread, offsets in layer.spread.items():
            assert view.sites[spread].is_scalar
            fn = view.run(view.values(contract.vectors(view, 1))[0], 1).met[offsets]["fn"]
            assert (np.asarray(fn.mean) == 0).all()
            assert (np.asarray(fn.variance) == 1).all()

"""What the contract and recovery tests share: programs under test, tables that suit them, vectors to try."""

from dataclasses import replace

import numpy as np
import pandas as pd
import reference
import torch

from prefdensity.data.comparisons import Comparisons
from prefdensity.data.declared import Column, Held
from prefdensity.data.rating_table import Ratings
from prefdensity.data.strengths import grade_codes
from prefdensity.inference.view import View
from prefdensity.programs.listing import names
from prefdensity.programs.loading import load_program
from prefdensity.programs.tabulate import cells_of

# Beside every name of models/: compositions of each pair of stages that meet.
COMPOSITIONS = [
    "probit+position_bias",
    "davidson+position_bias",
    "rao_kupper+position_bias",
    "davidson+position_bias+reliability",
    "reliability(scales='margin')+position_bias+lapse",
    "rao_kupper+lapse",
    "davidson+lapse",
    "reliability+lapse",
    "linear+probit",
    "linear+davidson+reliability",
    "utility_scale(fixed=3.0)+rao_kupper+reliability",
    "annotator_types(k=1)",
    "annotator_types(k=3)+davidson+position_bias",
    "annotator_types+linear",
    "annotator_types+gp(lengthscale=2.0)+utility_scale(fixed=1.0)",
    "gp+davidson+reliability",
    "annotator_types+reliability+lapse",
    "position_bias(by='annotator')+reliability",
    "tastes+davidson+position_bias",
    "linear+feature_tastes+davidson",
    "linear+feature_factors(rank=2)+davidson",
    "covariate+rao_kupper+lapse",
    "covariate('c', by='annotator')+davidson",
    "lapse(by='annotator')+davidson",
    "crowd_bt+davidson",
    "dirichlet_types(most=3)+davidson",
    "comparison_types(k=3)+davidson+position_bias",
    "intransitive+reliability",
    "ratings+davidson+reliability",
    "ties+rao_kupper+position_bias",
    "annotator_types+ties",
    "annotator_factors(rank=2)+davidson",
    "ideal_points(dim=2)+davidson",
    "drift(waves=2)+davidson+reliability",
    "reliability(over='date')+davidson+position_bias",
    "reliability(by='annotator', over='date')+lapse(over='date')",
    "thurstone_case3+reliability",
    "annotator_types+neural(width=3, depth=3)",
    "graded+position_bias+lapse",
    "graded+reliability+ties",
    "strengths+adjacent_categories+ties",
    "adjacent_categories+position_bias+lapse",
    "annotator_types+graded+crowd_bt",
    "tempered(beta=0.5)+davidson+position_bias",
    "length_normalised(longest=2.0)+linear+reliability",
    "annotator_types+length_normalised",
    "dpo(beta=0.2)+reliability+lapse",
    "geometric(alpha=0.3)+linear+rao_kupper",
]
PROGRAMS = [*names(), *COMPOSITIONS]


def table(outcomes=("a", "b"), seed=0, n_items=5, n_annotators=4, rows=40, counts=True):
    """A table with everything that a program may need; sides, orders and outcomes at random."""
    rng = np.random.default_rng(seed)
    item_a = rng.integers(n_items, size=rows)
    item_b = (item_a + rng.integers(1, n_items, size=rows)) % n_items
    return Comparisons(
        items=tuple(f"i{k}" for k in range(n_items)),
        item_a=item_a,
        item_b=item_b,
        outcome=rng.integers(len(outcomes), size=rows).astype(np.int8),
        count=rng.integers(1, 4, size=rows).astype(float) if counts else np.ones(rows),
        annotators=tuple(f"p{k}" for k in range(n_annotators)),
        annotator=np.r_[np.arange(n_annotators), rng.integers(n_annotators, size=rows - n_annotators)],
        first=rng.integers(-1, 2, size=rows).astype(np.int8),
        feature_names=("f", "g"),
        item_features=rng.normal(size=(n_items, 2)),
        covariate_names=("c", "d"),
        covariates=rng.integers(-1, 2, size=(rows, 2)).astype(float),
        measure_names=("length", "log_reference"),
        item_measures=np.stack([rng.integers(1, 9, n_items) / 2.0, -rng.exponential(2, n_items)], 1),
        more=(Held(Column("date", "number"), rng.integers(100, size=rows).astype(float)),),
        ratings=Ratings((1, 2, 3, 4), *(rng.integers(k, size=15) for k in (n_items, 4, n_annotators))),
    )


def suited(program, **sizes):
    """A table that suits the program: graded, in two strengths, where it reads grades."""
    data = table(program.outcomes, **sizes)
    if "grades" not in program.needs:
        return data
    strength = 1 + np.random.default_rng(9).integers(2, size=len(data))
    strength[:2], data.outcome[:3] = (1, 2), (0, 1, 2)
    grades, grade = grade_codes(pd.Series(np.where(data.outcome == 2, 0, strength)), data.outcome, "table")
    return replace(data, grades=grades, grade=grade)


def view_of(name, data=None, **sizes):
    """The view of a program on `data`, or on a table that suits it."""
    program = load_program(name)
    data = suited(program, **sizes) if data is None else data
    return View(program, cells_of(data, program.outcomes, program.needs)), data


def vectors(view, fits, seed=0, scale=1.0):
    """Random vectors [fit, dimension] about the middle of the prior."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(fits, view.dimension, generator=generator, dtype=torch.float64)


def sites_at(view, z):
    """The value of every latent site at z [dimension], as NumPy arrays."""
    values, _ = view.values(z[None])
    return {name: values[name].reshape(site.batch + site.event).numpy() for name, site in view.sites.items()}


def layers_of(program):
    """The layers as (name, options)."""
    return [(each.name, dict(each.options)) for each in program.layers]


def relabelled(data, axis, order):
    """The same judgements with items or annotators renumbered: old label k becomes order[k]."""
    order = np.asarray(order)
    if axis == "annotator":
        rated = replace(data.ratings, annotator=order[data.ratings.annotator])
        return replace(data, annotator=order[data.annotator], ratings=rated)
    features, measures = np.empty_like(data.item_features), np.empty_like(data.item_measures)
    features[order], measures[order] = data.item_features, data.item_measures
    rated = replace(data.ratings, item=order[data.ratings.item])
    return replace(
        data,
        item_a=order[data.item_a],
        item_b=order[data.item_b],
        item_features=features,
        item_measures=measures,
        ratings=rated,
    )


def renumbered(view, z, axis, order):
    """The vectors z [fit, dimension] with the entries of `axis` renumbered alike."""
    out = z.clone()
    for site in view.sites.values():
        if axis in site.dims[: len(site.batch)]:
            raw = z[:, site.at].reshape(len(z), *site.batch, *site.raw_event)
            whiten, colour = whitening(view, order) if site.name == "gp_offset" else (None, None)
            raw = raw if colour is None else raw @ colour.T
            where = 1 + site.dims.index(axis)
            moved = torch.empty_like(raw).index_copy(where, torch.as_tensor(order), raw)
            out[:, site.at] = (moved if whiten is None else moved @ whiten.T).flatten(1)
    return out


def whitening(view, order):
    """From utilities of the renumbered items to their Gaussian-process offsets, and from offsets to utilities."""
    options = dict(layers_of(view.program))["gp"]
    features = view.cells.features.numpy()
    turned = np.empty_like(features)
    turned[np.asarray(order)] = features
    whiten = np.linalg.inv(reference.gaussian_process(turned, **options))
    return torch.tensor(whiten), torch.tensor(reference.gaussian_process(features, **options))

"""A program with some of its sites known: what is left is a program of the others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from prefdensity.errors import ProgramError
from prefdensity.programs.compose import compose
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.tables import room, table


def given(program: Program, values: Mapping[str, Tensor]) -> Program:
    """Return a program of layers as it is where some of its sites are known: these are no sites of it.

    A layer that has its several modes in such sites alone has one given them.

    Parameters
    ----------
    program
        What is known is sampled by its layers.
    values
        Site -> its value, with an axis for each of its plates and then its own.

    Raises
    ------
    ProgramError
        When it is run where such a site is of another size.
    """
    layers = [_given(each, values) if set(each.at_mode) & values.keys() else each for each in program.layers]
    return compose(*layers, name=program.name, story=program.doc)


def _given(layer: Layer, values: Mapping[str, Tensor]) -> Layer:
    @functools.wraps(layer.function)
    def function(*args: Any, **options: Any) -> Any:
        with _Known(values):
            return layer.function(*args, **options)

    own: Callable[..., Any] = function
    return replace(layer, function=own, at_mode=(), rules=layer.rules | {"at_mode": tuple}, unimodal=True)


class _Known(Messenger):
    """Give sites their values, the same for all fits, and show them to nobody else."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        value = self.values.get(msg["name"])
        if value is None:
            return
        shape = msg["fn"].shape()
        if shape != value.shape[value.dim() - len(shape) :]:  # such as of other annotators
            raise ProgramError(f"what is known of {msg['name']} is {tuple(value.shape)}, and here it is {tuple(shape)}")
        depth, axes = room(), value.dim() - msg["fn"].event_dim
        value = value.to(torch.get_default_device())  # where the program is run
        whole = value.reshape(*(1,) * (depth - axes), *value.shape)
        msg["value"] = table(whole) if depth and axes else whole
        msg["done"] = msg["stop"] = True

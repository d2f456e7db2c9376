"""`fit`: one door to all inference methods."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import prefdensity
from prefdensity.cells import standardised
from prefdensity.comparisons import Comparisons
from prefdensity.errors import FitError
from prefdensity.inference import nuts, svi
from prefdensity.inference.checkpoint import Checkpoint
from prefdensity.inference.guide import KINDS, Guide
from prefdensity.inference.laplace import Mixture, laplace
from prefdensity.inference.maximum import maximum_likelihood
from prefdensity.inference.mode import DENSE, Climber, centre
from prefdensity.inference.quality import USABLE, Approximation, Checked, check_guide
from prefdensity.inference.starts import Search, search
from prefdensity.inference.view import View
from prefdensity.posterior import FitStatus, Posterior
from prefdensity.programs import Layer, Program, load_program
from prefdensity.progress import Report, progress
from prefdensity.suitability import suit

METHODS = ("auto", "laplace", "svi", "nuts", "map", "mle")
# Guides with a full covariance have dimension^2 / 2 parameters; beyond this their noise costs more than it buys.
_FULL = 300

"""Pairwise human preferences as density estimation.

A table of comparisons (`read`, `Comparisons`) and an annotator model (`load_program`, the files of
`prefdensity.models`) give a `Posterior` (`fit`). Public names load on first use, so that
``import prefdensity`` costs nothing.

>>> import prefdensity
>>> puddings = prefdensity.read("example:puddings")
>>> post = prefdensity.fit("davidson", puddings, method="mle")
>>> post.summary().round(2)[["item", "mean", "sd"]].head(2)
  item  mean    sd
0    6  0.20  0.13
1    2  0.04  0.12
"""

import sys as _sys
from importlib import import_module as _import_module
from importlib.util import spec_from_file_location as _spec_from_file
from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any

from prefdensity.version import __version__

# public name -> the module that defines it
_HOME = {
    "CheckReport": "checking.report",
    "Choices": "data.choices",
    "Comparison": "comparison.ranking",
    "Comparisons": "data.comparisons",
    "DataError": "errors",
    "FitError": "errors",
    "Posterior": "posterior.posterior",
    "PrefDensityError": "errors",
    "Program": "programs.layers",
    "ProgramError": "errors",
    "annotate": "reward.annotate",
    "annotator_table": "posterior.people",
    "as_one": "data.same",
    "audit": "checking.audit",
    "battle_design": "selection.battles",
    "bootstrap": "inference",
    "check": "checking.check",
    "compare": "comparison.compare",
    "cost": "reporting.cost",
    "describe": "data.report",
    "described": "posterior.described",
    "differences": "posterior.pairwise",
    "compose": "programs.compose",
    "fit": "inference",
    "fit_judge": "judged.fit",
    "fit_many": "inference",
    "item_table": "posterior.people",
    "judge_names": "programs.listing",
    "judge_study": "pcal.study",
    "kfold": "comparison.compare",
    "layer": "programs.layers",
    "leaderboard": "posterior.leaderboard",
    "likelihood_ratios": "comparison.likelihood_ratio",
    "load_judge": "judged.expectations",
    "load_posterior": "posterior.posterior",
    "load_program": "programs.loading",
    "loo": "comparison.elpd",
    "names": "programs.listing",
    "quasi_variances": "posterior.pairwise",
    "rater_study": "selection.rater_study",
    "read": "data.readers",
    "sbc": "checking.sbc",
    "select": "selection.select",
    "selection_study": "selection.study",
    "with_ratings": "data.ratings",
    "write_report": "reporting.report",
}
# public module -> where it lies, if not at the top
_MODULES = {
    "density": "density",
    "inference": "inference",
    "pcal": "pcal",
    "reward": "reward",
    "misspecified": "density.misspecified",
    "models": "models",
    "outcomes": "programs.outcomes",
    "plots": "reporting.plots",
    "policies": "density.policies",
    "readers": "data.readers",
    "simulate": "data.simulate",
    "toy": "density.toy",
}

__all__ = ["__version__", *_HOME, *_MODULES]

if TYPE_CHECKING:
    from prefdensity import density as density, inference as inference, pcal as pcal, reward as reward
    from prefdensity.checking.audit import audit as audit
    from prefdensity.checking.check import check as check
    from prefdensity.checking.report import CheckReport as CheckReport
    from prefdensity.checking.sbc import sbc as sbc
    from prefdensity.comparison.compare import compare as compare, kfold as kfold
    from prefdensity.comparison.elpd import loo as loo
    from prefdensity.comparison.likelihood_ratio import likelihood_ratios as likelihood_ratios
    from prefdensity.comparison.ranking import Comparison as Comparison
    from prefdensity.data import readers as readers, simulate as simulate
    from prefdensity.data.choices import Choices as Choices
    from prefdensity.data.comparisons import Comparisons as Comparisons
    from prefdensity.data.ratings import with_ratings as with_ratings
    from prefdensity.data.readers import read as read
    from prefdensity.data.report import describe as describe
    from prefdensity.data.same import as_one as as_one
    from prefdensity.density import misspecified as misspecified, policies as policies, toy as toy
    from prefdensity.errors import (
        DataError as DataError,
        FitError as FitError,
        PrefDensityError as PrefDensityError,
        ProgramError as ProgramError,
    )
    from prefdensity.inference import bootstrap as bootstrap, fit as fit, fit_many as fit_many
    from prefdensity.judged.expectations import load_judge as load_judge
    from prefdensity.judged.fit import fit_judge as fit_judge
    from prefdensity.pcal.study import judge_study as judge_study
    from prefdensity.posterior.described import described as described
    from prefdensity.posterior.leaderboard import leaderboard as leaderboard
    from prefdensity.posterior.pairwise import differences as differences, quasi_variances as quasi_variances
    from prefdensity.posterior.people import annotator_table as annotator_table, item_table as item_table
    from prefdensity.posterior.posterior import Posterior as Posterior, load_posterior as load_posterior
    from prefdensity.programs import outcomes as outcomes
    from prefdensity.programs.compose import compose as compose
    from prefdensity.programs.layers import Program as Program, layer as layer
    from prefdensity.programs.listing import judge_names as judge_names, names as names
    from prefdensity.programs.loading import load_program as load_program
    from prefdensity.reporting import plots as plots
    from prefdensity.reporting.cost import cost as cost
    from prefdensity.reporting.report import write_report as write_report
    from prefdensity.reward.annotate import annotate as annotate
    from prefdensity.selection.battles import battle_design as battle_design
    from prefdensity.selection.rater_study import rater_study as rater_study
    from prefdensity.selection.select import select as select
    from prefdensity.selection.study import selection_study as selection_study


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(_import_module(f"prefdensity.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = _import_module(f"prefdensity.{_MODULES[name]}")
    else:
        raise AttributeError(f"module 'prefdensity' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Beside:
    """Finder of the Pyro programs beside the package, and of nothing else that lies there.

    A wheel carries them as prefdensity/models, a checkout keeps them in models/; one name serves both.
    """

    path = str(_Path(__file__).parents[1] / "prefdensity.models")  # names this finder; no such folder need exist

    def __init__(self, path: str) -> None:
        if path != self.path:
            raise ImportError

    def find_spec(self, name: str, target: Any = None) -> Any:
        where = _Path(__file__).parents[1] / "models"
        if name != f"{__name__}.models":
            return None
        return _spec_from_file(name, where / "__init__.py", submodule_search_locations=[str(where)])

    def iter_modules(self, prefix: str = "") -> list[tuple[str, bool]]:
        return [(f"{prefix}models", True)]


if not (_Path(__file__).parent / "models").is_dir():
    _sys.path_hooks.append(_Beside)
    __path__.append(_Beside.path)

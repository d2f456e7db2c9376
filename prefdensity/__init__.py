"""Pairwise human preferences as density estimation.

A table of comparisons (`read`, `Comparisons`) and an annotator model (`load_program`, the files of
`prefdensity.models`) give a `Posterior` (`fit`). Public names load on first use, so that
``import prefdensity`` costs nothing.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# public name -> the module that defines it
_HOME = {
    "CheckReport": "checks",
    "Choices": "choices",
    "Comparison": "model_comparison",
    "Comparisons": "comparisons",
    "DataError": "errors",
    "FitError": "errors",
    "Posterior": "posterior",
    "PrefDensityError": "errors",
    "Program": "programs",
    "ProgramError": "errors",
    "bootstrap": "inference",
    "check": "checks",
    "compare": "model_comparison",
    "compose": "programs",
    "fit": "inference",
    "fit_judge": "judge_fits",
    "fit_many": "inference",
    "judge_names": "programs",
    "kfold": "model_comparison",
    "layer": "programs",
    "load_judge": "judge_posterior",
    "load_posterior": "posterior",
    "load_program": "programs",
    "loo": "elpd",
    "names": "programs",
    "read": "readers",
    "sbc": "simulation_calibration",
    "select": "selection",
    "with_ratings": "ratings",
    "write_report": "report",
}
_MODULES = (
    "checks",
    "density",
    "estimators",
    "misspecified",
    "outcomes",
    "plots",
    "policies",
    "readers",
    "selection_study",
    "simulate",
    "study",
    "toy",
)

__all__ = ["__version__", *_HOME, *_MODULES]

if TYPE_CHECKING:
    from prefdensity import (
        checks as checks,
        density as density,
        estimators as estimators,
        misspecified as misspecified,
        outcomes as outcomes,
        plots as plots,
        policies as policies,
        readers as readers,
        selection_study as selection_study,
        simulate as simulate,
        study as study,
        toy as toy,
    )
    from prefdensity.checks import CheckReport as CheckReport, check as check
    from prefdensity.choices import Choices as Choices
    from prefdensity.comparisons import Comparisons as Comparisons
    from prefdensity.elpd import loo as loo
    from prefdensity.errors import (
        DataError as DataError,
        FitError as FitError,
        PrefDensityError as PrefDensityError,
        ProgramError as ProgramError,
    )
    from prefdensity.inference import bootstrap as bootstrap, fit as fit, fit_many as fit_many
    from prefdensity.judge_fits import fit_judge as fit_judge
    from prefdensity.judge_posterior import load_judge as load_judge
    from prefdensity.model_comparison import Comparison as Comparison, compare as compare, kfold as kfold
    from prefdensity.posterior import Posterior as Posterior, load_posterior as load_posterior
    from prefdensity.programs import (
        Program as Program,
        compose as compose,
        judge_names as judge_names,
        layer as layer,
        load_program as load_program,
        names as names,
    )
    from prefdensity.ratings import with_ratings as with_ratings
    from prefdensity.readers import read as read
    from prefdensity.report import write_report as write_report
    from prefdensity.selection import select as select
    from prefdensity.simulation_calibration import sbc as sbc


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(_import_module(f"prefdensity.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = _import_module(f"prefdensity.{name}")
    else:
        raise AttributeError(f"module 'prefdensity' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


# A wheel carries the Pyro programs as prefdensity/models; a checkout keeps them beside the
# package, in models/. One import name, prefdensity.models, serves both.
_here = _Path(__file__).parent
if not (_here / "models").is_dir():
    __path__.append(str(_here.parent))
